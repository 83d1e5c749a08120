//! Programs and modules for the kernel.

use std::path::Path;

use super::{EPERM, Scene, errors, row, text};
use crate::support::NOBODY;

#[test]
fn programs_for_the_kernel_are_told_with_type_and_name() {
    let Some(scene) = Scene::set(&[]) else { return };
    // 17: raw tracepoint, 2: kprobe.
    let done = scene.act(0, "load 17 , bpf_attach");
    assert_eq!(errors(&done), [0, 0]);
    let detail = format!("raw_tracepoint nothing id {}", done.acts[0].1);
    assert_eq!(scene.told(&done), [row("bpf-load", 0, &detail, None), row("bpf-attach", 0, &detail, None)]);
    let refused = scene.act(NOBODY, "load 2");
    assert_eq!(errors(&refused), [EPERM]);
    assert_eq!(scene.told(&refused), [row("bpf-load", EPERM, "kprobe nothing", None)]);
    scene.end();
}

#[test]
fn a_module_that_is_refused_is_told_or_the_kernel_has_none() {
    let Some(scene) = Scene::set(&[]) else { return };
    let refused = scene.act(NOBODY, "finit_module /proc/self/exe");
    if Path::new("/proc/modules").exists() {
        assert_eq!(errors(&refused), [EPERM]);
        assert_eq!(scene.told(&refused), [row("finit_module", EPERM, "actor", None)]);
    } else {
        let said = scene
            .recording
            .sql("select state, reason from coverageinfo where class = 'kernel-code' and destroyed is null");
        assert_eq!((said.len(), text(&said[0], "state")), (1, "watched"));
        assert!(text(&said[0], "reason").contains("this kernel has no loadable modules"), "{said:?}");
    }
    scene.end();
}
