//! The sensor on another kernel than this machine's: a distribution's own, in a guest.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use support::{
    guest::{Guest, Kernel, Machine},
    programs,
};

#[test]
fn a_distributions_kernel_is_watched_by_ebpf_in_every_class() {
    let Some(kernel) = Kernel::fetched("stock") else { return };
    let modules = &["tcp_diag", "udp_diag"];
    let dir = tempfile::tempdir().unwrap();
    let ring = programs::ring_program(dir.path());
    let files: &[_] = &[(ring.as_path(), "/bin/ring")];
    let mut guest = Machine { kernel: &kernel, modules, files, arguments: &[] }.boot();
    guest.record("--sensor ebpf --log warn");
    let unwatched = guest.sql(
        "select class, reason from coverageinfo where state <> 'watched' and sensor not in ('files', 'recorder') and class <> 'host'",
    );
    assert_eq!(unwatched, Vec::<support::Row>::new());
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
    through_rings(&mut guest);
    guest.sh("luarm --version");
    let processes =
        guest.sql("select count(*) as n from psinfo where origin = 'exec' and arguments = '--version'");
    assert_eq!(processes[0]["n"], 1);
}

/// Through io_uring, in each way that there is.
fn through_rings(guest: &mut Guest) {
    let script = "open f 0101 0640\nwrite - 5\nfsetxattr - trusted.a x\nclose -\nsetxattr f trusted.b y\nlink f g\nsymlink f s\n\
                  rename g h\nmkdir d 0750\nunlink h\nunlink s\nrmdir d\nopen f 0\nclose -\nunlink f\nunlink none";
    for way in ["call", "ring", "async", "sqpoll", "defer", "overflow"] {
        // Nothing is linked to what fails, and `-` is known only when each result is awaited.
        let script = if way == "overflow" { "mkdir d 0750\nrmdir d" } else { script };
        guest.sh(&format!("mkdir /tmp/{way} && cd /tmp/{way} && ring {way} '{script}'"));
    }
    let rows = guest.sql(
        "select location, operation || ' ' || filename || ' ' || coalesce(detail, '') || ' ' || coalesce(sizeafter, '') || ' ' || result as line, via, application \
         from fileinfo where location like '/tmp/%' order by fileaccessid",
    );
    let told = |way: &str| -> Vec<&str> {
        let place = format!("/tmp/{way}");
        let rows: Vec<_> = rows.iter().filter(|row| row["location"] == *place).collect();
        assert!(
            rows.iter().all(|row| row["via"].is_string() == (way != "call") && row["application"] == "ring")
        );
        rows.iter().map(|row| row["line"].as_str().unwrap()).collect()
    };
    assert_eq!(told("call").len(), 12, "{rows:?}");
    for way in ["ring", "async", "sqpoll", "defer"] {
        assert_eq!(told(way), told("call"), "{way}");
    }
    assert_eq!(told("overflow"), ["mkdir d   0", "rmdir d   0"]);
}
