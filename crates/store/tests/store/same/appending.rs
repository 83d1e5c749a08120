//! What is appended is there, once, as it was given; and what is refused.

use luarm_schema::{
    End, Row,
    escape::escape,
    tables::{CoverageInfo, GroupInfo, RetentionInfo},
};
use luarm_store::{HostIdentity, Reader, StoreError, StoreUrl, Writer};

use super::{asked, opened, with};
use crate::{append::process, fixture::*};

fn group(key: i64, name: &str) -> Row {
    GroupInfo {
        groupentity: key,
        groupname: name.to_owned(),
        gid: 7,
        members: "a,b\\x0a".to_owned(),
        origin: "found".into(),
        created: at(key),
        end: None,
    }
    .into()
}

pub(super) fn remembered(url: &StoreUrl) -> Vec<String> {
    let (mut writer, resume) = Writer::open_for(url, &HostIdentity::own(MACHINE, "alpha")).unwrap();
    assert_eq!(resume, luarm_schema::Resume::default());
    assert_eq!(writer.last_batch().unwrap(), 0);
    let mut inward = endpoint(12);
    inward.direction = "in".into();
    let mut over = endpoint(14);
    over.end = Some(endpoint_end(at(20)));
    let coverage = CoverageInfo {
        coverageid: 5,
        class: "process".into(),
        state: "watched".into(),
        sensor: "ebpf".into(),
        hook: None,
        reason: None,
        created: at(0),
        end: None,
    };
    let rows = vec![
        host(MACHINE, "alpha", 1),
        process(7, "/usr/bin/perl", None).into(),
        endpoint(11).into(),
        inward.into(),
        over.into(),
        coverage.into(),
        group(3, "w\u{1f427}\u{e9}"),
    ];
    writer.append(&batch(1, rows, Vec::new())).unwrap();
    writer
        .append(&batch(2, vec![endpoint(15).into()], vec![(11, End::NetInfo(endpoint_end(at(30))))]))
        .unwrap();
    let appended = format!("{:?}", writer.appended());
    drop(writer);
    let (mut writer, resume) = Writer::open(url, MACHINE).unwrap();
    assert_eq!(writer.last_batch().unwrap(), 2);
    assert_eq!(resume.last_batch, Some((2, at(3))));
    assert_eq!(resume.conditions, [group(3, "w\u{1f427}\u{e9}")]);
    vec![appended, format!("{resume:?}")]
}

pub(super) fn once(url: &StoreUrl) -> Vec<String> {
    let mut writer = with(url, Vec::new());
    let second = endpoints(2, 1..=3);
    writer.append(&second).unwrap();
    writer.append(&second).unwrap();
    let mut unsigned = endpoints(3, 4..=5);
    unsigned.rows.pop();
    let other = host("another machine", "alpha", 2);
    let wrong = [
        endpoints(4, 4..=5),
        endpoints(2, 1..=2),
        unsigned,
        batch(3, vec![other], Vec::new()),
        endpoints(1 << 40, [1]),
        endpoints(0, [1]),
        endpoints(-1, [1]),
    ];
    let mut said: Vec<String> = wrong
        .iter()
        .map(|batch| {
            let error = writer.append(batch).unwrap_err();
            assert!(!error.is_transient(), "{error}");
            error.to_string()
        })
        .collect();
    let mut second_writer = opened(url);
    second_writer.append(&second).unwrap();
    second_writer.append(&endpoints(3, 7..=9)).unwrap();
    assert!(matches!(writer.append(&endpoints(3, 10..=13)), Err(StoreError::Conflict { id: 3 })));
    writer.append(&endpoints(4, 10..=12)).unwrap();
    assert_eq!(writer.appended().batches, 3);
    said.extend(asked(url, &["SELECT count(*), max(batch) FROM netinfo", "SELECT count(*) FROM batchinfo"]));
    said
}

pub(super) fn refused(url: &StoreUrl) -> Vec<String> {
    let mut writer = with(url, Vec::new());
    writer.append(&endpoints(2, 1..=3)).unwrap();
    let mut said = Vec::new();
    // One key that is there, one twice, many at once; and a table that no host may write.
    said.push(format!("{:?}", writer.append(&endpoints(3, [4, 2, 5])).unwrap()));
    said.push(format!("{:?}", writer.append(&endpoints(4, [6, 7, 6, 8])).unwrap()));
    said.push(format!("{:?}", writer.append(&endpoints(5, (1..=8).chain(100..300).chain([3, 7]))).unwrap()));
    let forged = RetentionInfo {
        retentionid: 1,
        tablename: "psinfo".into(),
        beforekey: i64::MAX,
        beforetime: at(1),
        rowcount: 1,
        keptcount: 0,
        firstbatch: 1,
        lastbatch: 2,
        created: at(1),
        signer: None,
        signature: None,
        end: None,
    };
    said.push(format!(
        "{:?}",
        writer.append(&batch(6, vec![forged.into(), endpoint(400).into()], Vec::new())).unwrap()
    ));
    said.push(format!("{:?}", writer.appended()));
    said.extend(asked(
        url,
        &[
            "SELECT endpointinfo, batch FROM netinfo WHERE endpointinfo < 100 ORDER BY endpointinfo",
            "SELECT count(*), max(batch), count(DISTINCT endpointinfo) FROM netinfo",
            "SELECT count(*) FROM retentioninfo",
        ],
    ));
    said
}

pub(super) fn ends(url: &StoreUrl) -> Vec<String> {
    let mut writer = with(url, (1..=50).map(|n| endpoint(n).into()).collect());
    let end = |n| End::NetInfo(endpoint_end(at(n)));
    let mut hostile = endpoint_end(at(90));
    hostile.ended = "nul\0 'x'\t\\N\n".into();
    hostile.bytessent = Some(i64::MAX);
    hostile.result = None;
    let ends = vec![(1, end(50)), (1, end(60)), (99, end(70)), (2, End::NetInfo(hostile)), (60, end(80))];
    writer.append(&batch(2, vec![endpoint(60).into()], ends)).unwrap();
    let many = (1..=50).map(|n| (n, end(100 + n))).collect();
    writer.append(&batch(3, Vec::new(), many)).unwrap();
    let mut said = vec![format!("{:?}", writer.appended())];
    said.extend(asked(
        url,
        &[
            "SELECT destroyed, batch, dbatch, dhour FROM netinfo ORDER BY endpointinfo",
            "SELECT bytessent, packetssent, result FROM netinfo WHERE endpointinfo <= 3 ORDER BY endpointinfo",
        ],
    ));
    said.push(
        ask(&mut Reader::open(url).unwrap(), "SELECT ended FROM netinfo WHERE endpointinfo = 2").unwrap()[0]
            .replace('\0', "\\x00"),
    );
    said
}

pub(super) fn hostile(url: &StoreUrl) -> Vec<String> {
    let texts: Vec<Vec<u8>> = vec![
        b"'); DROP TABLE psinfo; --".to_vec(),
        b"a'b\"c`d;\n\t\r\x1b[2J\x1a\x08".to_vec(),
        b"\xff\xfe\x80 no utf-8 \xc3".to_vec(),
        b"nul\0inside".to_vec(),
        b"".to_vec(),
        b"\\N".to_vec(),
        b"\\".to_vec(),
        b"trailing  ".to_vec(),
        "\u{202e}gnp.exe \u{1f427}\u{10ffff}".as_bytes().to_vec(),
        vec![b'A'; 2 << 20],
    ];
    let rows = texts
        .iter()
        .zip(1..)
        .map(|(text, key)| process(key, &escape(text), Some(escape(text))).into())
        .collect();
    drop(with(url, rows));
    let mut reader = Reader::open(url).unwrap();
    for (text, key) in texts.iter().zip(1..) {
        let rows = ask(&mut reader, &format!("SELECT command FROM psinfo WHERE psentity = {key}")).unwrap();
        assert_eq!(luarm_schema::escape::unescape(&rows[0]), *text);
    }
    asked(
        url,
        &[
            "SELECT count(*) FROM psinfo",
            "SELECT DISTINCT imageinode FROM psinfo",
            "SELECT md5sum, created, destroyed, cyear, cmonth, cday, chour, cmin, csec, dyear, arguments FROM psinfo \
             WHERE psentity < 10 ORDER BY psentity",
        ],
    )
}
