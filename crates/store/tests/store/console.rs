//! The seed's session, word for word, in MariaDB's own client.

use luarm_schema::{
    Batch, HostName, Row, Time,
    tables::{BatchInfo, HostInfo, NetInfo, PsInfo},
};
use luarm_store::{HostIdentity, Writer};
use luarm_testbed::{Mariadb, run_with};

use crate::{append::process, fixture::*, servers::parsed};

/// 2011-05-05 07:12:00 UTC.
const INCIDENT: i64 = 1_304_579_520_000_000;
const MINUTE: i64 = 60_000_000;

/// What the seed's author typed. The blank before the quote and the `\G;` are his.
const SESSION: &str = "\
show tables;
describe netinfo;
select COUNT(*) from netinfo where destfqdn='undernet.irc.justedge.net' ;
select COUNT(*) from netinfo where destfqdn='dana.basefreak.nl ' ;
select application,username,pid from netinfo where destfqdn='dana.basefreak.nl' LIMIT 5;
select application,username,pid from netinfo where destfqdn='undernet.irc.justedge.net' LIMIT 10;
describe psinfo;
select COUNT(*) from psinfo where username='nobody' ;
select command,username,arguments,pid,ppid from psinfo where username='nobody' \\G;
select sourceport,destport,cday,chour,cmin from netinfo where username='nobody' AND pid='29312' \\G;
";

fn connection(key: i64, name: &str, pid: u32, at: i64) -> NetInfo {
    NetInfo {
        destfqdn: Some(HostName(name.to_owned())),
        destip: "85.121.125.74".to_owned(),
        sourceport: 32767,
        destport: 6670,
        pid,
        created: Time(at),
        ..endpoint(key)
    }
}

/// The incident as the seed counts it: 963 and 1408 connections, 57 processes, 525 endpoints of the last of them.
fn incident() -> Batch {
    let mut rows: Vec<Row> = Vec::new();
    let Row::HostInfo(host) = host(MACHINE, "panoitpsl", 1) else { panic!("no host") };
    rows.push(HostInfo { hostname: "panoitpsl".to_owned(), ..*host }.into());
    rows.extend((1..=1408).map(|n| connection(n, "dana.basefreak.nl", 7371, INCIDENT - MINUTE).into()));
    let undernet = "undernet.irc.justedge.net";
    rows.extend((2001..=2439).map(|n| connection(n, undernet, 21995, INCIDENT - MINUTE).into()));
    rows.extend((2440..=2963).map(|n| {
        let minute = if n == 2963 { MINUTE } else { 0 };
        connection(n, undernet, 29312, INCIDENT + minute).into()
    }));
    // The last one is a socket that was never connected.
    let mut last = connection(2964, "", 29312, INCIDENT + (11 * 60 + 48) * MINUTE);
    (last.sourceport, last.destport, last.destfqdn) = (0, 0, None);
    rows.push(last.into());
    rows.extend((1..=55).map(|n| process(n, "/usr/sbin/httpd", Some("httpd\n-k\nstart".to_owned())).into()));
    let bot = |key, server: &str, pid| -> Row {
        PsInfo { pid, ..process(key, "/usr/bin/perl", Some(format!("crond\n./x\n{server}\n0\n0"))) }.into()
    };
    rows.extend([bot(56, "79.125.109.171", 9253), bot(57, "85.121.125.74", 29312)]);
    rows.push(PsInfo { username: "root".into(), ..process(58, "/sbin/init", None) }.into());
    let info = BatchInfo {
        batchid: 1,
        run: 1,
        rowcount: rows.len() as i64,
        endcount: 0,
        firstevent: Time(INCIDENT),
        lastevent: Time(INCIDENT),
        created: Time(INCIDENT),
        publickey: None,
        nextkey: None,
        digest: None,
        signature: None,
        end: None,
    };
    rows.push(info.into());
    Batch { id: 1, rows, ends: Vec::new(), ..Batch::default() }
}

/// One answer of the client: the names or values in its box, and what it counted.
fn boxed(text: &str) -> (Vec<Vec<String>>, &str) {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows = text.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    let summary = text.lines().find(|line| line.contains(" in set")).unwrap_or_default();
    (rows, summary)
}

#[test]
fn the_seeds_session_runs_in_the_stock_client() {
    let Some(mariadb) = Mariadb::start("the_seeds_session_runs_in_the_stock_client") else {
        return;
    };
    let url = parsed(&mariadb.url("root", "luarm"));
    let (mut first, _) = Writer::open_for(&url, &HostIdentity::own("other", "elsewhere")).unwrap();
    let mut other = incident();
    other.rows.retain(|row| !matches!(row, Row::HostInfo(_)));
    first.append(&other).unwrap();
    let (mut writer, _) = Writer::open_for(&url, &HostIdentity::own(MACHINE, "panoitpsl")).unwrap();
    assert_eq!(writer.append(&incident()).unwrap(), []);

    let mut client = mariadb.client();
    // Tables and counts as at a terminal; `\G;` leaves an empty statement behind, which the client only remarks on.
    client.args(["--table", "-v", "-v", "-v", "--force", "panoitpsl"]);
    let output = run_with(&mut client, SESSION.as_bytes());
    let said = String::from_utf8(output.stdout).unwrap();
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(remarks.lines().all(|l| l.contains("No query specified")), "{remarks}");
    // The client repeats each statement between two lines.
    let answers: Vec<&str> = said.split("--------------\n").skip(2).step_by(2).collect();
    assert_eq!(answers.len(), SESSION.lines().count(), "{said}");
    let column =
        |text: &str| -> Vec<String> { boxed(text).0.into_iter().skip(1).map(|mut r| r.remove(0)).collect() };

    let (rows, summary) = boxed(answers[0]);
    assert_eq!(rows[0], ["Tables_in_panoitpsl"]);
    let tables = "fileinfo groupinfo hostinfo hwinfo netinfo netint netroute psinfo";
    assert_eq!(column(answers[0]).join(" "), tables);
    assert!(summary.starts_with("8 rows in set"), "{summary}");

    for (answer, columns) in [
        (
            answers[1],
            "endpointinfo cyear cmonth cday chour cmin csec transport sourceip sourcefqdn sourceport destip destfqdn destport \
             ipversion username pid application dyear dmonth dday dhour dmin dsec md5sum",
        ),
        (
            answers[6],
            "psentity md5sum username pid ppid pcpu pmem command arguments cyear cmonth cday cmin chour csec dyear dmonth dday \
             dhour dmin dsec",
        ),
    ] {
        assert_eq!(boxed(answer).0[0], ["Field", "Type", "Null", "Key", "Default", "Extra"]);
        let there = column(answer);
        for name in columns.split_whitespace() {
            assert_eq!(there.iter().filter(|c| *c == name).count(), 1, "{name} in {there:?}");
        }
    }

    for (answer, count) in [(answers[2], "963"), (answers[3], "1408"), (answers[7], "57")] {
        assert_eq!(boxed(answer).0, [["COUNT(*)"], [count]]);
        assert!(boxed(answer).1.starts_with("1 row in set"));
    }
    for (answer, pid, count) in [(answers[4], "7371", 5), (answers[5], "21995", 10)] {
        let mut wanted = vec![["application", "username", "pid"]];
        wanted.extend(vec![["crond", "nobody", pid]; count]);
        assert_eq!(boxed(answer).0, wanted);
        assert!(boxed(answer).1.starts_with(&format!("{count} rows in set")));
    }
    // As the seed prints them, but for the blanks before the names, which end at one column.
    let plain = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let bots = "\
*************************** 56. row ***************************
command: /usr/bin/perl
username: nobody
arguments: ./x 79.125.109.171 0 0
pid: 9253
ppid: 8343
*************************** 57. row ***************************
command: /usr/bin/perl
username: nobody
arguments: ./x 85.121.125.74 0 0
pid: 29312
ppid: 8343
57 rows in set";
    assert!(plain(answers[8]).contains(bots), "{}", answers[8]);
    let last = "\
*************************** 523. row ***************************
sourceport: 32767
destport: 6670
cday: 5
chour: 7
cmin: 12
*************************** 524. row ***************************
sourceport: 32767
destport: 6670
cday: 5
chour: 7
cmin: 13
*************************** 525. row ***************************
sourceport: 0
destport: 0
cday: 5
chour: 19
cmin: 0
525 rows in set";
    assert!(plain(answers[9]).contains(last), "{}", answers[9]);
}
