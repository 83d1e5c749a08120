//! The decoder of batches against a corpus of sound and hostile ones.
//!
//! `LUARM_RENEW=1 cargo test -p luarm-schema --test wire` writes the corpus, which is also where the fuzz target starts.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use luarm_schema::{
    Batch, End, Row, Time,
    tables::{BatchInfo, CoverageInfo, CoverageInfoEnd, RenameInfo},
    wire::{self, WireError},
};

fn rename(key: i64, application: &str) -> Row {
    RenameInfo {
        renameid: key,
        psentity: 1,
        username: "nobody".into(),
        loginname: None,
        pid: 7,
        application: application.to_owned(),
        oldapplication: "sh".to_owned(),
        auid: Some(1000),
        session: None,
        created: Time(1_304_579_533_000_042_i64.saturating_add(key)),
        end: None,
    }
    .into()
}

fn watched(key: i64, end: Option<CoverageInfoEnd>) -> Row {
    CoverageInfo {
        coverageid: key,
        class: "process".into(),
        state: "watched".into(),
        sensor: "ebpf".into(),
        hook: Some("sched_process_exec".to_owned()),
        reason: None,
        created: Time(1),
        end,
    }
    .into()
}

fn closed(id: i64, mut rows: Vec<Row>, ends: Vec<(i64, End)>) -> Batch {
    let entry = BatchInfo {
        batchid: id,
        run: 1,
        rowcount: rows.len() as i64,
        endcount: ends.len() as i64,
        firstevent: Time(1),
        lastevent: Time(2),
        created: Time(3),
        publickey: None,
        nextkey: None,
        digest: None,
        signature: None,
        end: None,
    };
    rows.push(entry.into());
    Batch { id, rows, ends, ..Batch::default() }
}

/// What `bytes` say with `change` made to the bytes of a sound batch.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = wire::encode(&closed(1, vec![rename(1, "crond")], vec![]));
    change(&mut bytes);
    bytes
}

fn swap(bytes: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    let at = bytes.windows(old.len()).position(|w| w == old).unwrap();
    bytes.splice(at..at + old.len(), new.iter().copied());
}

/// Each batch of the corpus: its file, its bytes, and what is to come of it: how many rows and ends, or the error.
/// A message, and what is in it or what is wrong with it.
type Sample = (&'static str, Vec<u8>, Result<(usize, usize), String>);

fn corpus() -> Vec<Sample> {
    let end = CoverageInfoEnd { destroyed: Time(9), ended: "stop".into() };
    let ends = vec![(5, End::CoverageInfo(end.clone())), (-5, End::CoverageInfo(end.clone()))];
    let malformed = |what| Err(WireError::Malformed(what).to_string());
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    vec![
        ("empty", wire::encode(&Batch::default()), Ok((0, 0))),
        ("rows", wire::encode(&closed(7, (0..9).map(|n| rename(n, "x")).collect(), vec![])), Ok((10, 0))),
        ("ends", wire::encode(&closed(7, vec![watched(1, None), watched(2, Some(end))], ends)), Ok((3, 2))),
        ("text", wire::encode(&closed(7, vec![rename(1, "\0\n\u{10ffff}é'\"")], vec![])), Ok((2, 0))),
        (
            "extremes",
            wire::encode(&closed(i64::MIN, vec![rename(i64::MAX, ""), rename(i64::MIN, "")], vec![])),
            Ok((3, 0)),
        ),
        ("nothing", vec![], Err(WireError::Cut(0).to_string())),
        ("version", changed(|b| b[0] = 2), Err(WireError::Version(2).to_string())),
        ("trailing", changed(|b| b.push(0)), Err(WireError::Trailing(1).to_string())),
        (
            "cut",
            changed(|b| b.truncate(b.len() - 1)),
            Err(WireError::Cut(changed(|_| ()).len() - 1).to_string()),
        ),
        (
            "table",
            changed(|b| swap(b, b"renameinfo", b"rumourinfo")),
            Err(WireError::UnknownTable("rumourinfo".to_owned()).to_string()),
        ),
        (
            "column",
            changed(|b| swap(b, b"username", b"nickname")),
            Err(WireError::UnknownColumn { table: "renameinfo".to_owned(), column: "nickname".to_owned() }
                .to_string()),
        ),
        (
            "name",
            changed(|b| swap(b, b"username", b"user\"ame")),
            malformed("a name that no table or column has"),
        ),
        ("name-twice", changed(|b| swap(b, b"oldapplication", b"application")), Err(String::new())),
        ("kind", changed(|b| swap(b, b"usernames", b"usernamez")), malformed("a column of no known kind")),
        ("utf-8", changed(|b| swap(b, b"crond", b"cr\xffnd")), malformed("a text is not UTF-8")),
        ("many-tables", [&[1, 2][..], &huge].concat(), malformed("too many tables")),
        ("many-rows", [&[1, 2, 0][..], &huge].concat(), Err(WireError::Cut(13).to_string())),
        (
            "many-bits",
            vec![1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            malformed("a number of more than 64 bits"),
        ),
        ("place", vec![1, 2, 0, 1, 0, 0, 0], malformed("a row of no table")),
    ]
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/wire")
}

#[test]
fn each_batch_of_the_corpus_is_read_or_refused_as_it_should_be() {
    if std::env::var_os("LUARM_RENEW").is_some() {
        fs::create_dir_all(directory()).unwrap();
        for (name, bytes, _) in corpus() {
            fs::write(directory().join(name), bytes).unwrap();
        }
    }
    for (name, _, expected) in corpus() {
        let bytes = fs::read(directory().join(name)).unwrap();
        let read = wire::decode(&bytes);
        match (read, expected) {
            (Ok(batch), Ok(counts)) => {
                assert_eq!((batch.rows.len(), batch.ends.len()), counts, "{name}");
                assert_eq!(wire::decode(&wire::encode(&batch)), Ok(batch), "{name}");
            }
            (Err(error), Err(expected)) => {
                assert!(expected.is_empty() || error.to_string() == expected, "{name}: {error}");
            }
            (read, expected) => panic!("{name}: {read:?}, not {expected:?}"),
        }
    }
}

#[test]
fn the_corpus_has_these_files_and_no_others() {
    let files: BTreeSet<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = corpus().iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(files, expected);
}
