//! The sensor on another kernel than this machine's: a distribution's own, in a guest.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use support::guest::{Kernel, Machine};

#[test]
fn a_distributions_kernel_is_watched_by_ebpf_in_every_class() {
    let Some(kernel) = Kernel::fetched("stock") else { return };
    let modules = &["tcp_diag", "udp_diag"];
    let mut guest = Machine { kernel: &kernel, modules, files: &[], arguments: &[] }.boot();
    guest.record("--sensor ebpf --log warn");
    let unwatched = guest.sql(
        "select class, reason from coverageinfo where state <> 'watched' and sensor <> 'files' and class not in ('host')",
    );
    assert!(unwatched.is_empty(), "{unwatched:?}");
    guest.sh("cd /tmp && echo four > f && cat f && mv f g && chmod 640 g && rm g");
    let rows = guest.sql(
        "select operation, filename, sizeafter, ended from fileinfo where location = '/tmp' and filename in ('f', 'g') order by fileaccessid",
    );
    let told: Vec<_> = rows
        .iter()
        .map(|row| format!("{} {}", row["operation"].as_str().unwrap(), row["filename"].as_str().unwrap()))
        .collect();
    assert_eq!(told, ["create f", "open f", "rename f", "chmod g", "unlink g"]);
    assert_eq!(rows[0]["sizeafter"], 5);
    guest.sh("luarm --version");
    let processes =
        guest.sql("select count(*) as n from psinfo where origin = 'exec' and arguments = '--version'");
    assert_eq!(processes[0]["n"], 1);
}
