//! What accounts may do on a server, tried through its own client, and whose rows they see; host names are hostile.

use std::process::Command;

use luarm_schema::{End, Row};
use luarm_store::{Account, HostIdentity, Owner, Reader, StoreUrl, Writer};
use luarm_testbed::{Mariadb, Postgres, run_with};

use crate::{fixture::*, servers::parsed};

/// Names that are SQL, paths, or the engine's own.
pub(crate) const HOSTS: [&str; 10] = [
    "a_b",
    "axb",
    "web-1.example.org",
    "a`b\"c'; DROP TABLE luarmhost; --",
    "../../etc/passwd",
    "mysql",
    "pg_catalog",
    "luarm",
    "\u{1f427}",
    // Everybody may do everything there in a MariaDB as it is installed.
    "test_1",
];

/// Of these, so many may name a database as they are.
pub(crate) const PLAIN: usize = 5;

/// A server, and how an account (`USER:PASSWORD`) is used there.
pub(crate) struct Case<'a> {
    pub(crate) url: &'a dyn Fn(&str) -> StoreUrl,
    pub(crate) client: &'a dyn Fn(&str, &str) -> Command,
    /// The table that rows are stored in.
    pub(crate) stored: &'a str,
}

impl Case<'_> {
    pub(crate) fn on_mariadb(mariadb: &Mariadb, check: impl FnOnce(&Case<'_>)) {
        let client = |account: &str, database: &str| {
            let mut client = mariadb.client();
            let (user, password) = account.split_once(':').unwrap();
            client.args([format!("--user={user}"), format!("--password={password}")]);
            client.args(["--batch", "--raw", "--skip-column-names", database]);
            client
        };
        let url = |account: &str| parsed(&mariadb.url(account, "luarm"));
        check(&Case { url: &url, client: &client, stored: "netinfo" });
    }

    pub(crate) fn on_postgres(postgres: &Postgres, check: impl FnOnce(&Case<'_>)) {
        let client = |account: &str, _: &str| {
            let mut client = postgres.client("postgres");
            client.args([format!("--username={}", account.split(':').next().unwrap())]);
            client.args(["--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1"]);
            client.env("PGOPTIONS", "-c search_path=luarm");
            client
        };
        let url = |account: &str| {
            let account = if account == "root" { "luarm" } else { account };
            parsed(&postgres.url(account, "postgres"))
        };
        check(&Case { url: &url, client: &client, stored: "netinfo_stored" });
    }

    pub(crate) fn is_mysql(&self) -> bool {
        self.stored == "netinfo"
    }

    /// What the account is told, or `None` where it is refused.
    pub(crate) fn tell(&self, account: &str, database: &str, sql: &str) -> Option<String> {
        let output = run_with(&mut (self.client)(account, database), sql.as_bytes());
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    pub(crate) fn quoted(&self, name: &str) -> String {
        if self.is_mysql() {
            format!("`{}`", name.replace('`', "``"))
        } else {
            format!("\"{}\"", name.replace('"', "\"\""))
        }
    }
}

#[test]
fn accounts_of_mariadb_may_do_what_they_are_for() {
    let Some(mariadb) = Mariadb::start("accounts_of_mariadb_may_do_what_they_are_for") else {
        return;
    };
    Case::on_mariadb(&mariadb, check);
    let databases = mariadb.ask("SHOW DATABASES");
    for name in &HOSTS[..PLAIN] {
        assert!(databases.lines().any(|d| d == *name), "{name}: {databases}");
    }
    // What belongs to the engine has no views of ours in it.
    let own = "SELECT count(*) FROM information_schema.views WHERE table_schema = 'mysql' AND table_name = 'psinfo'";
    assert_eq!(mariadb.ask(own), "0\n");
}

#[test]
fn accounts_of_postgres_may_do_what_they_are_for() {
    let Some(postgres) = Postgres::start("accounts_of_postgres_may_do_what_they_are_for") else {
        return;
    };
    Case::on_postgres(&postgres, check);
    let schemas = postgres.ask("postgres", "SELECT nspname FROM pg_namespace");
    for name in &HOSTS[..PLAIN] {
        assert!(schemas.lines().any(|d| d == *name), "{name}: {schemas}");
    }
}

pub(crate) fn analyst(name: &str, host: Option<&str>) -> Account {
    let (name, password, host) = (name.to_owned(), Some("x".to_owned()), host.map(str::to_owned));
    Account::Analyst { name, password, host }
}

fn check(case: &Case<'_>) {
    let owner_url = (case.url)("root");
    let mut owner = Owner::open(&owner_url).unwrap();
    let server = |password: Option<&str>| {
        let (name, password) = ("luarm_server".to_owned(), password.map(str::to_owned));
        Account::Server { name, password }
    };
    // Who is not there gets nothing.
    let error = owner.grant(&server(None)).unwrap_err().to_string();
    assert!(error.contains("no account \"luarm_server\""), "{error}");
    assert!(!owner.is_account("luarm_server").unwrap());
    // May be repeated: with a password, which is the new one, and without.
    owner.grant(&server(Some("other"))).unwrap();
    owner.grant(&server(Some("it's"))).unwrap();
    owner.grant(&server(None)).unwrap();
    assert!(owner.is_account("luarm_server").unwrap());
    let server = server(Some("it's"));
    let printed = owner.grants(&server).unwrap();
    assert!(printed.iter().any(|s| s.contains("luarm_server")) && !format!("{server:?}").contains("it's"));

    // The server's account finds hosts, adds and ends rows.
    let server_url = (case.url)("luarm_server:it's");
    for (n, name) in (1..).zip(HOSTS) {
        let machine = format!("machine {n}");
        let mut writer = Writer::deliver_for(&server_url, &HostIdentity::enrolled(&machine, name)).unwrap();
        let rows: Vec<Row> = vec![host(&machine, name, 1), endpoint(n).into(), endpoint(100).into()];
        let mut first = batch(1, rows, Vec::new());
        first.manifest = luarm_chain::Manifest::of(&first).encode();
        assert_eq!(writer.append(&first).unwrap(), []);
        let end = vec![(n, End::NetInfo(endpoint_end(at(50))))];
        assert_eq!(writer.append(&batch(2, Vec::new(), end)).unwrap(), []);
        assert_eq!((writer.appended().ends, writer.last_batch().unwrap()), (1, 2));
    }
    // And nothing else.
    let stored = case.stored;
    for statement in [
        format!("DELETE FROM {stored}"),
        format!("TRUNCATE TABLE {stored}"),
        format!("DROP TABLE {stored}"),
        format!("ALTER TABLE {stored} ADD COLUMN x int"),
        format!("UPDATE {stored} SET username = 'root'"),
        format!("UPDATE {stored} SET host = 2"),
        format!("UPDATE {stored} SET md5sum = ''"),
        // It has ended, and stays so.
        format!("UPDATE {stored} SET destroyed = '2020-01-01' WHERE host = 1 AND endpointinfo = 1"),
        format!("UPDATE {stored} SET destroyed = NULL WHERE host = 1 AND endpointinfo = 1"),
        format!("UPDATE {stored} SET bytessent = 7 WHERE host = 1 AND endpointinfo = 1"),
        format!("UPDATE {stored} SET bytessent = 7 WHERE host = 1 AND endpointinfo = 100"),
        "DELETE FROM batchinfo".to_owned(),
        "DELETE FROM luarmproof".to_owned(),
        "UPDATE luarmproof SET manifest = NULL".to_owned(),
        "UPDATE luarmproof SET received = 1".to_owned(),
        "DELETE FROM luarmhost".to_owned(),
        "UPDATE luarmhost SET name = 'x'".to_owned(),
        "UPDATE luarmversion SET version = 9".to_owned(),
        "INSERT INTO retentioninfo SELECT * FROM retentioninfo".to_owned(),
        "INSERT INTO retentioninfo_stored SELECT * FROM retentioninfo_stored".to_owned(),
        "CREATE TABLE mine (x int)".to_owned(),
        "CREATE DATABASE mine".to_owned(),
        "DROP TRIGGER netinfo_ends".to_owned(),
        "DROP TRIGGER netinfo_ends ON netinfo_stored".to_owned(),
        "SET GLOBAL general_log = 1".to_owned(),
        "SELECT * FROM mysql.user".to_owned(),
        "SELECT * FROM pg_authid".to_owned(),
    ] {
        let output = run_with(&mut (case.client)("luarm_server:it's", "luarm"), statement.as_bytes());
        assert!(!output.status.success(), "{statement}");
    }

    // Each host has views of its own.
    let mut reader = Reader::open(&owner_url).unwrap();
    let places = owner.make_views().unwrap();
    assert_eq!(owner.make_views().unwrap(), places);
    for (n, name) in (1..).zip(HOSTS) {
        reader.use_host(name).unwrap();
        assert_eq!(ask(&mut reader, "SELECT hostname FROM hostinfo").unwrap(), [name]);
        assert_eq!(
            ask(&mut reader, "SELECT endpointinfo FROM netinfo WHERE destroyed IS NOT NULL").unwrap(),
            [n.to_string()]
        );
    }
    let mut all: Vec<&String> = places.iter().collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), HOSTS.len(), "{places:?}");

    // An analyst asks about all, or about one.
    owner.grant(&analyst("ann", None)).unwrap();
    owner.grant(&analyst("bob", Some("a_b"))).unwrap();
    assert!(owner.grant(&analyst("eve", Some("nobody's"))).is_err());
    assert!(owner.grant(&analyst("e\\ve", None)).is_err());
    let mut reader = Reader::open(&(case.url)("ann:x")).unwrap();
    assert_eq!(ask(&mut reader, "SELECT count(*) FROM netinfo").unwrap(), [(2 * HOSTS.len()).to_string()]);
    let proofs = "SELECT count(manifest) FROM luarmproof";
    assert_eq!(ask(&mut reader, proofs).unwrap(), [HOSTS.len().to_string()]);
    reader.use_host("axb").unwrap();
    assert_eq!(ask(&mut reader, "SELECT count(*) FROM netinfo").unwrap(), ["2"]);
    for account in ["ann:x", "bob:x"] {
        let quoted = if stored == "netinfo" { "`a_b`" } else { "\"a_b\"" };
        for statement in [
            format!("DELETE FROM {stored}"),
            format!("UPDATE {stored} SET destroyed = '2020-01-01' WHERE endpointinfo = 100"),
            format!("INSERT INTO {quoted}.hostinfo (host) VALUES (1)"),
            format!("DELETE FROM {quoted}.netinfo"),
            "INSERT INTO luarmversion VALUES (7)".to_owned(),
            "DELETE FROM luarmproof".to_owned(),
        ] {
            let output = run_with(
                &mut (case.client)(account, if account == "bob:x" { "a_b" } else { "luarm" }),
                statement.as_bytes(),
            );
            assert!(!output.status.success(), "{account}: {statement}");
        }
    }
    // The store's own database is closed to him.
    let sees = |place: &str| {
        case.tell("bob:x", "a_b", &format!("SELECT count(*) FROM {}.netinfo", case.quoted(place)))
    };
    assert_eq!(sees("a_b").as_deref(), Some("2"));
    assert_eq!(sees("a_b_all").as_deref(), Some("2"));
    for other in ["axb", "axb_all", "luarm", "web-1.example.org"] {
        assert_eq!(sees(other), None, "{other}");
    }
}
