//! Answers look as in the seed. `LUARM_RENEW=1` writes the golden files anew.

use std::{fs, path::Path};

use luarm_hunt::Format;

use crate::fixture::*;

fn compare(file: &str, fresh: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("LUARM_RENEW").is_some() {
        fs::write(&path, fresh).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == fresh,
        "{file} is not fresh: run `LUARM_RENEW=1 cargo test -p luarm-hunt`; now it is\n{fresh}"
    );
}

/// The document of the seed has lost all but one of the blanks that stood together.
fn with_single_blanks(text: &str) -> String {
    text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn the_seeds_questions_have_its_answers() {
    let (mut console, _dir) = console(Format::Table, false);
    for (question, answer) in [
        (
            "select COUNT(*) from netinfo where destfqdn='undernet.irc.justedge.net' ;",
            "+----------+\n| COUNT(*) |\n+----------+\n| 963 |\n+----------+\n1 row in set (0.00 sec)\n",
        ),
        (
            "select COUNT(*) from netinfo where destfqdn='dana.basefreak.nl ' ;",
            "+----------+\n| COUNT(*) |\n+----------+\n| 1408 |\n+----------+\n1 row in set (0.00 sec)\n",
        ),
        (
            "select application,username,pid from netinfo where destfqdn='dana.basefreak.nl' LIMIT 5;",
            "+-------------+----------+------+\n| application | username | pid |\n+-------------+----------+------+\n\
             | crond | nobody | 7371 |\n| crond | nobody | 7371 |\n| crond | nobody | 7371 |\n| crond | nobody | 7371 |\n\
             | crond | nobody | 7371 |\n+-------------+----------+------+\n5 rows in set (0.00 sec)\n",
        ),
        (
            "select sourceport,destport,cday,chour,cmin from netinfo where username='nobody' AND pid='7371' LIMIT 2 \\G;",
            "*************************** 1. row ***************************\n\
             sourceport: 40000\ndestport: 6667\ncday: 5\nchour: 7\ncmin: 12\n\
             *************************** 2. row ***************************\n\
             sourceport: 40000\ndestport: 6667\ncday: 5\nchour: 7\ncmin: 12\n2 rows in set (0.00 sec)\n",
        ),
    ] {
        assert_eq!(with_single_blanks(&answers(&mut console, question).unwrap()), answer, "{question}");
    }
}

#[test]
fn tables_and_lines_are_drawn_as_the_mysql_client_draws_them() {
    let (mut console, _dir) = console(Format::Table, false);
    let session = "show tables; describe groupinfo; show columns from groupinfo\\G show databases;\
        select 1 AS n, 'left' AS text, NULL AS missing, 2.5 AS x, x'00ff' AS bytes \
            union all select 1000, '\u{65e5}\u{672c}', NULL, 1e300, NULL;\
        select 7 as n, 'text' as mixed union all select 'x', 3;\
        select pid, username from netinfo limit 2\\G\
        select * from netinfo where pid = 0; select * from netinfo where pid = 0\\G\
        select application, oldapplication from renameinfo; select application from renameinfo\\G";
    compare("looks.txt", &answers(&mut console, session).unwrap());
}

#[test]
fn rows_beyond_the_buffered_ones_keep_the_settled_widths() {
    let (mut console, _dir) = console(Format::Table, false);
    let rows = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10001)";
    let drawn = answers(
        &mut console,
        &format!("{rows} select i, iif(i = 10001, 'a long text', 'short') as t from n;"),
    )
    .unwrap();
    let lines: Vec<&str> = drawn.lines().collect();
    assert_eq!(lines.len(), 3 + 10_001 + 2);
    assert_eq!(lines[0], "+-------+-------+");
    assert_eq!(lines[3], "|     1 | short |");
    assert_eq!(lines[3 + 10_000], "| 10001 | a long text |");
    assert_eq!(lines[3 + 10_001], lines[0]);
    assert_eq!(lines[3 + 10_002], "10001 rows in set (0.00 sec)");
}

#[test]
fn nothing_captured_acts_on_a_terminal() {
    for format in [Format::Table, Format::Vertical, Format::Csv, Format::Json, Format::Jsonl] {
        let (mut console, _dir) = console(format, true);
        let drawn = answers(&mut console, "select * from renameinfo;").unwrap();
        assert!(
            drawn.contains("2J") && !drawn.contains('\x1b') && !drawn.contains('\u{202e}'),
            "{format}: {drawn}"
        );
    }
}

#[test]
fn programs_get_the_text_as_it_is() {
    let question = "select pid, oldapplication, auid, application from renameinfo";
    let (mut console, _dir) = console(Format::Csv, false);
    assert_eq!(
        answers(&mut console, question).unwrap(),
        "pid,oldapplication,auid,application\n7371,\"\",,\"a\x1b[2J\"\"b\"\",\n'c\u{202e}\"\n"
    );
    for (format, prefix) in [(Format::Json, "[\n"), (Format::Jsonl, "")] {
        let (mut console, _dir) = crate::fixture::console(format, false);
        let written = answers(&mut console, question).unwrap();
        assert!(written.starts_with(prefix) && written.is_ascii(), "{written}");
        let object: serde_json::Value = serde_json::from_str(&written).unwrap();
        let object = if format == Format::Json { &object[0] } else { &object };
        assert_eq!(
            *object,
            serde_json::json!({"pid": 7371, "oldapplication": "", "auid": null, "application": HOSTILE})
        );
    }
}
