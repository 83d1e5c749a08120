//! The same batches into all three stores, and the same answers out of them: what SQLite says is what the others have to say.

mod appending;
mod asking;
mod many;
mod sealed;

use luarm_schema::Row;
use luarm_store::{HostIdentity, Reader, StoreUrl, Writer};

use crate::{fixture::*, servers::Stores};

type Case = fn(&StoreUrl) -> Vec<String>;

const CASES: [(&str, Case); 17] = [
    ("remembered", appending::remembered),
    ("once", appending::once),
    ("refused", appending::refused),
    ("ends", appending::ends),
    ("hostile", appending::hostile),
    ("tables", asking::tables),
    ("hosts", many::hosts),
    ("seed", asking::seed),
    ("kinds", asking::kinds),
    ("writes", asking::writes),
    ("interrupt", asking::interrupt),
    ("long", asking::long),
    ("deliveries", many::deliveries),
    ("at_once", many::at_once),
    ("registered", many::registered),
    ("proofs", sealed::proofs),
    ("chained", sealed::chained),
];

#[test]
fn three_stores_give_the_same_answers() {
    let Some(stores) = Stores::start("three_stores_give_the_same_answers") else {
        return;
    };
    for (name, case) in CASES {
        let mut wanted: Option<Vec<String>> = None;
        for (engine, url) in stores.each(&format!("case_{name}")) {
            eprintln!("{name} on {engine}");
            let said = case(&url);
            let wanted = wanted.get_or_insert_with(|| said.clone());
            assert_eq!(&said, wanted, "{name} on {engine}");
        }
    }
}

fn asked(url: &StoreUrl, questions: &[&str]) -> Vec<String> {
    let mut reader = Reader::open(url).unwrap();
    let all = questions.iter().flat_map(|question| {
        let rows = ask(&mut reader, question).unwrap_or_else(|e| panic!("{question}: {e}"));
        [vec![(*question).to_owned()], rows].concat()
    });
    all.collect()
}

fn opened(url: &StoreUrl) -> Writer {
    Writer::open_for(url, &HostIdentity::own(MACHINE, "alpha")).unwrap().0
}

/// A store with the host `alpha` and further rows in batch 1.
fn with(url: &StoreUrl, rows: Vec<Row>) -> Writer {
    let mut writer = opened(url);
    let rows = [vec![host(MACHINE, "alpha", 1)], rows].concat();
    assert_eq!(writer.append(&batch(1, rows, Vec::new())).unwrap(), []);
    writer
}
