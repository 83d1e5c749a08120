//! Many operations at once, each with its row.

use std::{collections::HashMap, process::Command};

use super::{Scene, number, support, text};
use crate::support::has_ebpf;

const PROCESSES: usize = 8;
const ROUNDS: usize = 1250;

#[test]
fn fifty_thousand_operations_are_fifty_thousand_rows() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let program = support::programs::files_program(scene.work.parent().unwrap());
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| Command::new(&program).arg(&scene.work).arg(ROUNDS.to_string()).spawn().unwrap())
        .collect();
    let pids: Vec<i64> = children
        .into_iter()
        .map(|mut child| {
            assert!(child.wait().unwrap().success());
            i64::from(child.id())
        })
        .collect();
    let rows = scene.rows();
    let mut found = HashMap::new();
    for row in &rows {
        let key = (number(row, "pid"), text(row, "operation").to_owned(), text(row, "filename").to_owned());
        assert!(found.insert(key, row).is_none(), "twice: {row:?}");
    }
    assert_eq!(found.len(), PROCESSES * ROUNDS * 5);
    for pid in pids {
        for round in 0..ROUNDS {
            let name = format!("{pid}-{round}");
            let one = |operation: &str, name: &str| {
                let key = (pid, operation.to_owned(), name.to_owned());
                *found.get(&key).unwrap_or_else(|| panic!("no row for {key:?}"))
            };
            let size = i64::try_from(round % 97).unwrap();
            for operation in ["create", "open"] {
                let row = one(operation, &name);
                let facts = ["sizeafter", "position", "modified"].map(|column| number(row, column));
                let modified = i64::from(operation == "create" && size > 0);
                assert_eq!(facts, [size, size, modified], "{row:?}");
            }
            let changed = one("chmod", &name);
            assert_eq!(number(changed, "newmode"), i64::try_from(round % 512).unwrap());
            let target = scene.work.join(format!("{name}.new"));
            assert_eq!(text(one("rename", &name), "target"), target.to_str().unwrap());
            one("unlink", &format!("{name}.new"));
        }
    }
    assert_eq!(scene.recording.count("select count(*) from lossinfo where class not like '%-digest'"), 0);
}
