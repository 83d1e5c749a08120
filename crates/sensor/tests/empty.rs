//! The empty program at the hooks of the eBPF sensor. A test program of its own: it counts what the whole process holds.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use luarm_sensor::{
    ebpf::{self, EbpfConfig},
    queue,
};

/// The hooks of system calls at which programs of this process stand, by what the kernel says of its descriptors.
fn hooks() -> Vec<String> {
    let infos = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
    let names = texts.filter_map(|text| {
        text.lines().find_map(|line| line.strip_prefix("tp_name:").map(|name| name.trim().to_owned()))
    });
    let mut hooks: Vec<String> = names.filter(|name| name.starts_with("sys_")).collect();
    hooks.sort();
    hooks
}

#[test]
fn it_stands_where_the_sensor_stands() {
    let (producer, _consumer) = queue::bounded(64 << 20);
    let sensor = match ebpf::start(EbpfConfig::default(), producer) {
        Ok(sensor) => sensor,
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "SKIPPED where it must not be: {e}");
            eprintln!("SKIPPED: no eBPF here: {e}");
            return;
        }
    };
    assert_eq!(hooks(), ["sys_enter", "sys_exit"]);
    let empty = ebpf::Empty::attach().unwrap();
    assert_eq!(hooks(), ["sys_enter", "sys_enter", "sys_exit", "sys_exit"]);
    drop(empty);
    assert_eq!(hooks(), ["sys_enter", "sys_exit"]);
    sensor.stop();
}
