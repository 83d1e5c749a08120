//! The seed's incident, played for real and recorded by the eBPF sensor: every count is compared with what those who took part wrote down.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(unreachable_pub, reason = "the modules are private to this test")]

mod answers;
mod demonstration;
mod journal;
mod network;
mod printed;
mod processes;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod values;

use scene::{BOTS, Scene, alone};
use support::{Row, has_ebpf};

#[test]
fn every_count_is_that_of_those_who_took_part() {
    if !has_ebpf() {
        return;
    }
    let _alone = alone();
    let scene = Scene::play();
    for bot in &BOTS {
        network::connections(&scene, bot);
        network::visits(&scene, bot);
        network::questions(&scene, bot);
        processes::disguise(&scene, bot);
    }
    network::server(&scene);
    processes::processes(&scene);
    processes::ancestry(&scene);
    answers::seed(&scene);
    answers::contradiction(&scene);
    assert_eq!(
        scene.recording.sql("select * from lossinfo where class not like '%-digest'"),
        Vec::<Row>::new()
    );
    assert!(scene.recording.stop().success());
}
