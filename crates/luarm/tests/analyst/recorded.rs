//! Each question is written down before it is answered, and again when it has ended; what cannot be written down is not answered.

use std::process::Command;

use luarm_schema::{Time, canonical, tables::QueryInfo};
use luarm_testbed::{Mariadb, Postgres};

use crate::{
    limited::accounts,
    scene::{Engine, Scene, each},
    support::{Row, complaint, luarm},
};

/// Without what the console asks beside, of coverage.
const ALL: &str = "SELECT host, door, kind, username, address, certificate, limitedto, statement, statementbytes, statementsha256, ended, answerrows, \
     error, batch, dbatch FROM queryinfo WHERE kind = 'sql' AND door = 'server' \
     AND statement NOT LIKE '/* coverage of the answer before */%' ORDER BY queryid";

fn text<'r>(row: &'r Row, name: &str) -> &'r str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} in {row:?}"))
}

fn find<'r>(rows: &'r [Row], begin: &str) -> &'r Row {
    rows.iter().find(|row| text(row, "statement").starts_with(begin)).unwrap_or_else(|| panic!("{rows:?}"))
}

#[test]
fn each_question_is_a_row_before_it_is_answered() {
    each("each_question_is_a_row_before_it_is_answered", &[], |scene| {
        let wanted = "select count(*) as n from psinfo where username = 'nobody' -- \u{e4}'\\";
        assert!(scene.far("sql", &["-e", wanted]).status.success());
        assert!(scene.far("sql", &["--host", "other", "-e", "select pid from netinfo"]).status.success());
        assert!(!scene.far("sql", &["-e", "select nosuch from netinfo"]).status.success());
        let long = format!("select 7 as n -- {}", "x".repeat(70_000));
        assert!(scene.far("sql", &["-e", &long]).status.success());
        let rows = scene.site.sql(ALL);
        assert_eq!(rows.len(), 4, "{rows:?}");
        let own = rows[0]["host"].as_i64();
        for row in &rows {
            assert_eq!((text(row, "door"), text(row, "username")), ("server", "anna"));
            assert!(text(row, "address").starts_with("127.0.0.1:") && text(row, "certificate").len() == 64);
            // In batches of the server's own.
            assert_eq!((row["host"].as_i64(), own.is_some()), (own, true));
            let (begun, ended) = (row["batch"].as_i64().unwrap(), row["dbatch"].as_i64().unwrap());
            assert!(begun > 0 && ended >= begun, "{row:?}");
        }
        let audited = format!("SELECT count(*) FROM hostinfo WHERE host = {}", own.unwrap());
        assert_eq!(scene.site.count(&audited), 0);
        let whole = find(&rows, "select count");
        assert_eq!(text(whole, "statement"), wanted);
        assert_eq!((text(whole, "ended"), whole["answerrows"].as_i64()), ("answered", Some(1)));
        assert!(whole["error"].is_null() && whole["limitedto"].is_null(), "{whole:?}");
        let limited = find(&rows, "select pid");
        let machine = "fedcba9876543210fedcba9876543210";
        assert_eq!((text(limited, "limitedto"), limited["answerrows"].as_i64()), (machine, Some(236)));
        let wrong = find(&rows, "select nosuch");
        assert!(text(wrong, "ended") == "failed" && text(wrong, "error").contains("nosuch"), "{wrong:?}");
        let cut = find(&rows, "select 7");
        let length = |name| cut[name].as_i64().unwrap();
        assert_eq!((text(cut, "statement").len(), length("statementbytes")), (65_536, long.len() as i64));
        assert_eq!(text(cut, "statementsha256").len(), 64);

        // It is there while the answer is not, and is told how that ended.
        let open = "SELECT count(*) FROM queryinfo WHERE destroyed IS NULL AND door = 'server' AND statement LIKE '%netinfo d%'";
        let mut child = scene.endless();
        crate::support::http::wait_for(|| scene.site.count(open), |n| *n == 1, |n| format!("{n} open"));
        child.kill().unwrap();
        child.wait().unwrap();
        scene.server.wait_for("then the analyst ended it");
        crate::support::http::wait_for(|| scene.site.count(open), |n| *n == 0, |n| format!("{n} open"));
        let rows = scene.site.sql(ALL);
        assert_eq!(text(rows.last().unwrap(), "ended"), "interrupted");
    });
}

#[test]
fn what_cannot_be_recorded_is_not_answered_unless_that_is_wanted() {
    let name = "what_cannot_be_recorded_is_not_answered_unless_that_is_wanted";
    let Some(mariadb) = Mariadb::start(name) else { return };
    let scene = Scene::on_mariadb(mariadb, |_, _| Vec::new());
    let Engine::Mariadb(mariadb) = &scene.engine else { return };
    assert!(scene.far("sql", &["-e", "select 1 as one"]).status.success());
    mariadb.ask(
        "CREATE TRIGGER audit.nothing BEFORE INSERT ON audit.queryinfo FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'full'",
    );
    let output = scene.far("sql", &["-e", "select 2 as two"]);
    let said = complaint(&output);
    assert!(output.status.code() == Some(1) && said.contains("cannot record the question now"), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    scene.server.wait_for("a question cannot be recorded");
    // Another server of the same store, with other rules.
    let lenient = scene.site.serve_at("127.0.0.1:0", &["--unrecorded", "answer"]);
    let url = format!("https://{}", lenient.address);
    let output = scene.far("sql", &["--server", &url, "-e", "select 3 as three"]);
    assert!(output.status.success(), "{}", complaint(&output));
    lenient.wait_for("is answered, but not recorded");
    let rows = scene.site.sql(ALL);
    assert_eq!(rows.len(), 1, "{rows:?}");
}

/// The digest that a row of the `store` door should have.
fn md5(row: &Row) -> String {
    let question = QueryInfo {
        queryid: row["queryid"].as_i64().unwrap(),
        door: "store".into(),
        kind: "sql".into(),
        username: text(row, "username").into(),
        uid: None,
        loginname: None,
        auid: None,
        session: None,
        psentity: None,
        pid: None,
        application: None,
        address: row["address"].as_str().map(str::to_owned),
        certificate: None,
        limitedto: row["limitedto"].as_str().map(str::to_owned),
        statement: text(row, "statement").to_owned(),
        statementbytes: row["statementbytes"].as_i64().unwrap(),
        statementsha256: row["statementsha256"].as_str().map(str::to_owned),
        created: Time::parse(text(row, "created")).unwrap(),
        end: None,
    };
    let mut bytes = canonical::Canonical::default();
    question.begin(&mut bytes);
    String::from_utf8(canonical::md5sum(&bytes.0).to_vec()).unwrap()
}

/// An account that only selects asks the database itself; `client` runs the engine's own client by that account.
fn account_writes_down(scene: &Scene, url: &str, client: &dyn Fn(&str) -> Command) {
    accounts(&scene.site.store());
    let nothing = scene.path("nothing here");
    let ask = |arguments: &[&str]| {
        luarm(&[&["sql", "--data", nothing.to_str().unwrap(), "--store", url][..], arguments].concat())
    };
    let output = ask(&["-e", "select count(*) as \u{e4} from netinfo"]);
    assert!(output.status.success() && complaint(&output).is_empty(), "{}", complaint(&output));
    let output = ask(&["--host", "other", "-e", "select pid from netinfo"]);
    assert!(output.status.success() && complaint(&output).is_empty(), "{}", complaint(&output));
    let long = format!("select nosuch from netinfo -- {}", "x".repeat(70_000));
    assert!(!ask(&["-e", &long]).status.success());
    let rows = scene
        .site
        .sql("SELECT * FROM queryinfo WHERE door = 'store' AND username = 'all_reader' AND statement NOT LIKE '%coverageinfo%' ORDER BY queryid");
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in &rows {
        assert_eq!(text(row, "md5sum"), md5(row), "{row:?}");
        assert_eq!((row["batch"].as_i64(), row["dbatch"].as_i64()), (Some(0), Some(0)));
    }
    let whole = find(&rows, "select count");
    assert_eq!(text(whole, "statement"), "select count(*) as \u{e4} from netinfo");
    let ended = |row: &Row| (text(row, "ended").to_owned(), row["answerrows"].as_i64());
    assert_eq!((ended(whole), whole["host"].as_i64()), (("answered".to_owned(), Some(1)), Some(0)));
    let limited = find(&rows, "select pid");
    let other = scene.site.count("SELECT min(host) FROM hostinfo WHERE hostname = 'other'");
    assert_eq!((ended(limited).1, limited["host"].as_i64()), (Some(236), Some(other)));
    let wrong = find(&rows, "select nosuch");
    assert!(text(wrong, "ended") == "failed" && text(wrong, "error").contains("nosuch"), "{wrong:?}");
    assert_eq!((text(wrong, "statement").len(), text(wrong, "statementsha256").len()), (65_536, 64));

    // By whichever client, it is his own name that is written down, and his own questions that end.
    let mut child = scene.endless();
    let open = "SELECT host, queryid FROM queryinfo WHERE destroyed IS NULL AND door = 'server'";
    let others = crate::support::http::wait_for(
        || scene.site.sql(open),
        |rows| rows.len() == 1,
        |rows| format!("{rows:?}"),
    );
    let number = others[0]["queryid"].as_i64().unwrap();
    let (table, call) = match scene.engine {
        Engine::Postgres(_) => ("luarm.queryinfo_stored", "SELECT luarm."),
        _ => ("queryinfo", "CALL "),
    };
    let run = |sql: &str| client(sql).output().unwrap();
    assert!(run(&format!("{call}end_question({number}, NULL, 'answered', 5, NULL)")).status.success());
    assert!(run(&format!("{call}note_question('sql', NULL, 'mine', 4, NULL)")).status.success());
    for sql in [
        format!("DELETE FROM {table}"),
        format!("UPDATE {table} SET username = 'x'"),
        format!("INSERT INTO {table} (host) VALUES (0)"),
    ] {
        assert!(!run(&sql).status.success(), "{sql}");
    }
    assert_eq!(scene.site.sql(open).len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let mine = scene.site.sql("SELECT username, door FROM queryinfo WHERE statement = 'mine'");
    assert_eq!((text(&mine[0], "username"), text(&mine[0], "door")), ("all_reader", "store"));
}

#[test]
fn an_account_that_only_selects_writes_down_what_it_asks_on_mariadb() {
    let name = "an_account_that_only_selects_writes_down_what_it_asks_on_mariadb";
    let Some(mariadb) = Mariadb::start(name) else { return };
    let scene = Scene::on_mariadb(mariadb, |_, _| Vec::new());
    let Engine::Mariadb(mariadb) = &scene.engine else { return };
    account_writes_down(&scene, &mariadb.url("all_reader:secret", "audit"), &|sql| {
        let mut client = mariadb.client();
        client.args(["--user=all_reader", "--password=secret", "audit", "-e", sql]);
        client
    });
}

#[test]
fn an_account_that_only_selects_writes_down_what_it_asks_on_postgres() {
    let name = "an_account_that_only_selects_writes_down_what_it_asks_on_postgres";
    let Some(postgres) = Postgres::start(name) else { return };
    let scene = Scene::on(Engine::Postgres(postgres), |_, _| Vec::new());
    let Engine::Postgres(postgres) = &scene.engine else { return };
    account_writes_down(&scene, &postgres.url("all_reader:secret", "audit"), &|sql| {
        let mut client = postgres.client("audit");
        client.args(["--username=all_reader", "--set=ON_ERROR_STOP=1", "-c", sql]);
        client
    });
}
