//! Each question is written down before it is answered, and again when it has ended; what cannot be written down is not answered.

use luarm_testbed::Mariadb;

use crate::{
    scene::{Engine, Scene, each},
    support::{Row, complaint},
};

const ALL: &str = "SELECT host, door, kind, username, address, certificate, limitedto, statement, statementbytes, statementsha256, ended, answerrows, \
     error, batch, dbatch FROM queryinfo WHERE kind = 'sql' ORDER BY queryid";

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
        for row in &rows {
            assert_eq!((text(row, "door"), text(row, "username")), ("server", "anna"));
            assert!(text(row, "address").starts_with("127.0.0.1:") && text(row, "certificate").len() == 64);
            assert_eq!((row["batch"].as_i64(), row["dbatch"].as_i64()), (Some(0), Some(0)), "{row:?}");
        }
        let whole = find(&rows, "select count");
        assert_eq!(text(whole, "statement"), wanted);
        assert_eq!((text(whole, "ended"), whole["answerrows"].as_i64()), ("answered", Some(1)));
        assert_eq!((whole["host"].as_i64(), whole["error"].is_null()), (Some(0), true));
        let limited = find(&rows, "select pid");
        let machine = "fedcba9876543210fedcba9876543210";
        assert_eq!((text(limited, "limitedto"), limited["answerrows"].as_i64()), (machine, Some(236)));
        let other = scene.site.count("SELECT min(host) FROM hostinfo WHERE hostname = 'other'");
        assert_eq!(limited["host"].as_i64(), Some(other));
        let wrong = find(&rows, "select nosuch");
        assert!(text(wrong, "ended") == "failed" && text(wrong, "error").contains("nosuch"), "{wrong:?}");
        let cut = find(&rows, "select 7");
        let length = |name| cut[name].as_i64().unwrap();
        assert_eq!((text(cut, "statement").len(), length("statementbytes")), (65_536, long.len() as i64));
        assert_eq!(text(cut, "statementsha256").len(), 64);

        // It is there while the answer is not, and is told how that ended.
        let open = "SELECT count(*) FROM queryinfo WHERE destroyed IS NULL AND statement LIKE '%netinfo d%'";
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
