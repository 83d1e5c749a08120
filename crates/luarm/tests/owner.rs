//! What the owner of a database does by the program: accounts that may do what they are for, and rows that are kept for a time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use luarm_schema::{
    Batch, Row, Time, first_number,
    tables::{BatchInfo, RenameInfo},
};
use luarm_store::{HostIdentity, StoreUrl, Writer};
use luarm_testbed::{Mariadb, Postgres, printed, run_with};
use support::{Launch, complaint, luarm, program};

/// A server: the URL of an account (`USER:PASSWORD`), and its own client as that account.
struct Case<'a> {
    url: &'a dyn Fn(&str) -> String,
    client: &'a dyn Fn(&str) -> Command,
    /// How a printed statement holds the password `ann's-secret`.
    secret: &'a str,
}

#[test]
fn mariadb_has_its_accounts_and_keeps_rows_for_a_time() {
    if let Some(mariadb) = Mariadb::start("mariadb_has_its_accounts_and_keeps_rows_for_a_time") {
        let client = |account: &str| {
            let (user, password) = account.split_once(':').unwrap_or((account, ""));
            let mut client = mariadb.client();
            client.args([format!("--user={user}"), format!("--password={password}")]);
            client.args(["--batch", "--raw", "--skip-column-names", "luarm"]);
            client
        };
        check(&Case {
            url: &|account| mariadb.url(account, "luarm"),
            client: &client,
            secret: "IDENTIFIED BY 'ann''s-secret'",
        });
    }
}

#[test]
fn postgres_has_its_accounts_and_keeps_rows_for_a_time() {
    if let Some(postgres) = Postgres::start("postgres_has_its_accounts_and_keeps_rows_for_a_time") {
        // Who is on the socket needs no password; the others do.
        let file = postgres.directory().join("data/pg_hba.conf");
        fs::write(file, "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n").unwrap();
        postgres.ask("postgres", "SELECT pg_reload_conf()");
        let named = |account: &str| if account == "root" { "luarm".to_owned() } else { account.to_owned() };
        let client = |account: &str| {
            let mut client = postgres.client("postgres");
            client.arg(format!("--username={}", named(account).split(':').next().unwrap()));
            client.args(["--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1"]);
            client.env("PGOPTIONS", "-c search_path=luarm -c client_min_messages=error");
            client
        };
        let url = |account: &str| match account {
            "root" => postgres.url("luarm", "postgres"),
            _ => format!("postgres://{account}@127.0.0.1:{}/postgres", postgres.port()),
        };
        check(&Case { url: &url, client: &client, secret: "PASSWORD 'SCRAM-SHA-256$" });
    }
}

fn answer(output: &Output) -> String {
    assert!(output.status.success(), "{}", complaint(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], code: i32, wanted: &str) {
    let output = luarm(arguments);
    let said = complaint(&output);
    assert!(output.status.code() == Some(code) && said.contains(wanted), "{arguments:?} said: {said}");
    assert!(output.stdout.is_empty());
}

fn check(case: &Case<'_>) {
    let directory = tempfile::tempdir().unwrap();
    // The owner's URL is nobody's business: it stands in a file.
    let config = directory.path().join("owner.toml");
    fs::write(&config, format!("store = \"{}\"\n", (case.url)("root"))).unwrap();
    let config = config.to_str().unwrap();
    let grant = |arguments: &[&str]| luarm(&[&["server", "grant", "--config", config], arguments].concat());

    // Nothing is made to be printed.
    let output = grant(&["server", "--print"]);
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", complaint(&output));

    // A new account gets a password, once.
    let output = grant(&["server"]);
    let password = answer(&output).trim().to_owned();
    assert!(password.len() == 48 && password.bytes().all(|b| b.is_ascii_hexdigit()), "{password}");
    assert!(
        complaint(&output).contains("luarm_server may log in") && !complaint(&output).contains(&password)
    );
    let output = grant(&["server"]);
    assert_eq!(answer(&output), "");
    assert!(complaint(&output).contains("keeps its password"), "{}", complaint(&output));

    // The recorder does with it, on a new host, and the host has its views.
    let server = (case.url)(&format!("luarm_server:{password}"));
    let data = directory.path().join("data");
    let recording = Launch::on(&data).with(&["--sensor", "poll", "--store", &server]).start();
    recording.sync();
    let asked = |url: &str, arguments: &[&str]| {
        luarm(&[&["sql", "--store", url, "--format", "csv"], arguments].concat())
    };
    let answered = answer(&asked(&server, &["-e", "SELECT hostname FROM hostinfo"]));
    let name = answered.lines().nth(1).unwrap().to_owned();
    let owner = (case.url)("root");
    let mine = format!("use {name}; SELECT count(hostname) AS n FROM hostinfo");
    assert_eq!(answer(&asked(&owner, &["-e", &mine])), "n\n1\n");
    assert!(recording.stop().success());
    assert!(
        run_with(&mut (case.client)(&format!("luarm_server:{password}")), b"DELETE FROM hostinfo")
            .status
            .code()
            != Some(0)
    );

    // Analysts: a password of a file, of standard input, printed for somebody else to run.
    let file = directory.path().join("password");
    fs::write(&file, "ann's-secret\nand more\n").unwrap();
    let password_file = ["--password-file", file.to_str().unwrap()];
    assert_eq!(answer(&grant(&[&["analyst", "ann"][..], &password_file].concat())), "");
    let mut bob = Command::new(program());
    bob.args([
        "server",
        "grant",
        "--config",
        config,
        "analyst",
        "bob",
        "--host",
        &name,
        "--password-file",
        "-",
    ]);
    let mut bob = bob.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    bob.stdin.take().unwrap().write_all(b"hidden\n").unwrap();
    assert_eq!(answer(&bob.wait_with_output().unwrap()), "");
    let statements = answer(&grant(&[&["analyst", "eve", "--print"][..], &password_file].concat()));
    assert!(
        statements.contains(case.secret) && statements.lines().all(|line| line.ends_with(';')),
        "{statements}"
    );
    let query = "SELECT count(hostname) AS n FROM hostinfo";
    assert!(!asked(&(case.url)("eve:ann's-secret"), &["-e", query]).status.success());
    printed(&run_with(&mut (case.client)("root"), statements.as_bytes()), "the printed statements");
    for account in ["ann:ann's-secret", "eve:ann's-secret"] {
        let answered = asked(&(case.url)(account), &["-e", &format!("use {name}; {query}")]);
        assert_eq!(answer(&answered), "n\n1\n", "{account}");
        let output = run_with(&mut (case.client)(account), b"DELETE FROM hostinfo");
        assert!(!output.status.success(), "{account}");
    }
    assert!(!asked(&(case.url)("bob:hidden"), &["-e", query]).status.success());
    for account in ["ann:x", "ann:", "luarm_server:x", "bob:"] {
        assert!(!asked(&(case.url)(account), &["-e", query]).status.success(), "{account}");
    }
    for (arguments, said) in [
        (&["server", "grant", "--config", config, "analyst", "e've"][..], "cannot name an account"),
        (
            &["server", "grant", "--config", config, "analyst", "e", "--host", "nobody's"],
            "no host \"nobody's\"",
        ),
        (&["server", "grant", "--config", config, "analyst", "e", "--password-file", "/nowhere"], "/nowhere"),
        (
            &["server", "grant", "--config", config, "analyst", "e", "--password-file", "/dev/null"],
            "holds no password",
        ),
    ] {
        refused(arguments, 1, said);
    }

    retained(config, &owner);
}

/// Three changes of name years ago, in a store.
fn old_rows(url: &str) {
    let created = Time::parse("2021-03-04 05:06:07.000000").unwrap();
    let rename = |n: i64| {
        Row::RenameInfo(Box::new(RenameInfo {
            renameid: first_number(created) + n,
            psentity: 1,
            username: "nobody".into(),
            loginname: None,
            pid: 7,
            application: "crond".to_owned(),
            oldapplication: "perl".to_owned(),
            auid: None,
            session: None,
            created,
            end: None,
        }))
    };
    let info = BatchInfo {
        batchid: 1,
        run: 1,
        rowcount: 3,
        endcount: 0,
        firstevent: created,
        lastevent: created,
        created,
        publickey: None,
        nextkey: None,
        digest: None,
        signature: None,
        end: None,
    };
    let rows = (0..3).map(rename).chain([Row::BatchInfo(Box::new(info))]).collect();
    let identity = HostIdentity::enrolled("an old machine", "old");
    let mut writer = Writer::deliver_for(&StoreUrl::parse(url).unwrap(), &identity).unwrap();
    assert_eq!(writer.append(&Batch { id: 1, rows, ends: Vec::new(), ..Batch::default() }).unwrap(), []);
}

fn retained(config: &str, owner: &str) {
    old_rows(owner);
    let retain = |arguments: &[&str]| {
        let all = [&["server", "retain", "--config", config, "--format", "csv"], arguments].concat();
        answer(&luarm(&all))
    };
    let count = |table: &str| {
        let sql =
            format!("SELECT count(created) AS n FROM {table} WHERE created < '2022-01-01' OR rowcount = 3");
        let sql = if table == "renameinfo" { sql.replace(" OR rowcount = 3", "") } else { sql };
        answer(&luarm(&["sql", "--store", owner, "--host", "old", "--format", "csv", "-e", &sql]))
    };
    let day = Time(Time::now().0 - 90 * 86_400_000_000);
    let foreseen = retain(&["--keep", "90d", "--dry-run"]);
    let lines: Vec<&str> = foreseen.lines().collect();
    assert_eq!(lines[0], "host,table,before,dropped,kept");
    assert!(
        lines.len() == 2 && lines[1].starts_with("old,renameinfo,") && lines[1].ends_with(",3,0"),
        "{foreseen}"
    );
    assert!(lines[1].split(',').nth(2).unwrap() <= day.to_string().as_str(), "{foreseen}");
    assert_eq!((count("renameinfo"), count("retentioninfo")), ("n\n3\n".to_owned(), "n\n0\n".to_owned()));
    assert_eq!(retain(&["--keep", "90d"]).lines().nth(1).unwrap().split(',').nth(3), Some("3"));
    assert_eq!((count("renameinfo"), count("retentioninfo")), ("n\n0\n".to_owned(), "n\n1\n".to_owned()));
    assert_eq!(retain(&["--keep", "90d"]).lines().count(), 1);
    refused(&["server", "retain", "--config", config], 2, "--keep 90d");
    refused(
        &["server", "retain", "--config", config, "--keep", "12h"],
        2,
        "\"12h\" is not a time from 1d to 3650d",
    );
}

#[test]
fn files_have_no_accounts() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let none = "needs a MariaDB, MySQL or PostgreSQL store";
    refused(&["server", "grant", "server", "--data", data], 1, none);
    refused(&["server", "grant", "analyst", "ann", "--print", "--data", data], 1, none);
    assert!(!Path::new(data).join("luarm.db").exists());
}
