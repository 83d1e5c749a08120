//! The empty program at the hooks of the eBPF sensor. A test program of its own: it counts what the whole process holds.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use luarm_sensor::{
    ebpf::{self, EbpfConfig},
    queue,
};

/// Links of BPF programs to perf events that this process holds, by what the kernel says of its descriptors.
fn perf_links() -> usize {
    let infos = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
    texts.filter(|text| text.lines().any(|l| l.starts_with("link_type:") && l.contains("perf"))).count()
}

#[test]
fn it_stands_at_as_many_system_calls_as_the_sensor() {
    let (producer, _consumer) = queue::bounded(64 << 20);
    let sensor = match ebpf::start(EbpfConfig::default(), producer) {
        Ok(sensor) => sensor,
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "SKIPPED where it must not be: {e}");
            eprintln!("SKIPPED: no eBPF here: {e}");
            return;
        }
    };
    let of_the_sensor = perf_links();
    assert!(of_the_sensor > 0);
    let empty = ebpf::Empty::attach().unwrap();
    assert_eq!(perf_links(), 2 * of_the_sensor);
    drop(empty);
    assert_eq!(perf_links(), of_the_sensor);
    sensor.stop();
}
