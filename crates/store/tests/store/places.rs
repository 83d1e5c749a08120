//! Hosts that enrol later get their views by the server's account, which can have nothing else made; names are hostile.

use luarm_store::{Account, HostIdentity, Owner, Reader, Writer};
use luarm_testbed::{Mariadb, Postgres};

use crate::{
    accounts::{Case, HOSTS, PLAIN, analyst},
    fixture::*,
};

const SERVER: &str = "luarm_server:x";

#[test]
fn mariadb_makes_views_of_hosts_that_enrol_later_and_nothing_else() {
    if let Some(mariadb) = Mariadb::start("mariadb_makes_views_of_hosts_that_enrol_later_and_nothing_else") {
        Case::on_mariadb(&mariadb, |case| {
            mariadb.ask("CREATE DATABASE precious; CREATE TABLE precious.psinfo (x int); INSERT INTO precious.psinfo VALUES (7)");
            later(case);
            compromised(case, &|| {
                mariadb.ask(
                    "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN \
                     ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY 1; \
                     SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema IN \
                     ('mysql', 'luarm', 'precious') ORDER BY 1, 2; \
                     SELECT routine_schema, routine_name FROM information_schema.routines WHERE routine_schema NOT IN ('mysql', 'sys') ORDER BY 1, 2; \
                     SELECT * FROM precious.psinfo; SELECT user, host FROM mysql.user ORDER BY 1, 2; \
                     SELECT user, db, table_name, table_priv, column_priv FROM mysql.tables_priv ORDER BY 1, 2, 3",
                )
            });
        });
    }
}

#[test]
fn postgres_makes_views_of_hosts_that_enrol_later_and_nothing_else() {
    if let Some(postgres) = Postgres::start("postgres_makes_views_of_hosts_that_enrol_later_and_nothing_else")
    {
        Case::on_postgres(&postgres, |case| {
            postgres.ask(
                "postgres",
                "CREATE SCHEMA precious; CREATE TABLE precious.psinfo (x int); INSERT INTO precious.psinfo VALUES (7)",
            );
            later(case);
            compromised(case, &|| {
                postgres.ask(
                    "postgres",
                    "SELECT nspname, nspacl FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_' ORDER BY 1; \
                     SELECT n.nspname, c.relname, c.relacl FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN \
                     ('luarm', 'precious', 'public', 'pg_catalog') ORDER BY 1, 2; \
                     SELECT proname, proacl FROM pg_proc WHERE pronamespace = 'luarm'::regnamespace ORDER BY 1; \
                     SELECT * FROM precious.psinfo; SELECT rolname, rolsuper FROM pg_roles ORDER BY 1",
                )
            });
        });
    }
}

/// An analyst of all hosts and the server's account are there before any host is.
fn later(case: &Case<'_>) {
    let mut owner = Owner::open(&(case.url)("root")).unwrap();
    let (name, password) = ("luarm_server".to_owned(), Some("x".to_owned()));
    owner.grant(&Account::Server { name, password }).unwrap();
    owner.grant(&analyst("ann", None)).unwrap();
    let mut reader = Reader::open(&(case.url)("ann:x")).unwrap();
    for (n, name) in (1..).zip(HOSTS) {
        let machine = format!("machine {n}");
        let identity = HostIdentity::enrolled(&machine, name);
        let mut writer = Writer::deliver_for(&(case.url)(SERVER), &identity).unwrap();
        assert_eq!(
            writer.append(&batch(1, vec![host(&machine, name, 1), endpoint(n).into()], Vec::new())).unwrap(),
            []
        );
        // At once, for whoever may read all hosts.
        let place = if usize::try_from(n).unwrap() <= PLAIN { name.to_owned() } else { format!("host_{n}") };
        for sql in ["SELECT hostname FROM {}.hostinfo", "SELECT hostname FROM {}_all.hostinfo"] {
            let sql = sql.replace("{}_all", &case.quoted(&format!("{place}_all")));
            let sql = sql.replace("{}", &case.quoted(&place));
            assert_eq!(case.tell("ann:x", "luarm", &sql).as_deref(), Some(name), "{sql}");
        }
        reader.use_host(name).unwrap();
        assert_eq!(ask(&mut reader, "SELECT endpointinfo FROM netinfo").unwrap(), [n.to_string()]);
    }
    // Eight tables, and no more.
    let shown = if case.is_mysql() {
        case.tell("ann:x", "a_b", "SHOW TABLES").unwrap()
    } else {
        let sql = "SELECT table_name FROM information_schema.views WHERE table_schema = 'a_b' ORDER BY 1";
        case.tell("ann:x", "", sql).unwrap()
    };
    let seed = ["fileinfo", "groupinfo", "hostinfo", "hwinfo", "netinfo", "netint", "netroute", "psinfo"];
    assert_eq!(shown.lines().collect::<Vec<_>>(), seed);
}

/// Whoever has the server's account tries to have other things made, or to do something to what was made.
fn compromised(case: &Case<'_>, everything: &dyn Fn() -> String) {
    let call = |host: &str| match case.is_mysql() {
        true => format!("CALL make_place({host})"),
        false => format!("SELECT luarm.make_place({host})"),
    };
    let tell = |sql: &str| case.tell(SERVER, "luarm", sql);
    let before = everything();
    let place = case.quoted("a_b");
    for sql in [
        call("999"),
        call("-1"),
        call("NULL"),
        call("'1; DROP TABLE psinfo'"),
        "UPDATE luarmhost SET placed = 0".to_owned(),
        "UPDATE luarmhost SET place = 'precious'".to_owned(),
        "INSERT INTO luarmhost (name, machineid, place) VALUES ('e', 'e', 'precious')".to_owned(),
        format!("DELETE FROM {place}.netinfo"),
        format!("INSERT INTO {place}.netinfo (endpointinfo) VALUES (1)"),
        format!("DROP VIEW {place}.netinfo"),
        format!("DROP DATABASE {place}"),
        format!("DROP SCHEMA {place} CASCADE"),
        format!("CREATE VIEW {place}.mine AS SELECT 1"),
        "DROP PROCEDURE make_place".to_owned(),
        "ALTER PROCEDURE make_place SQL SECURITY INVOKER".to_owned(),
        "CREATE PROCEDURE mine() SELECT 1".to_owned(),
        "DROP FUNCTION luarm.make_place(integer)".to_owned(),
        "ALTER FUNCTION luarm.make_place(integer) SECURITY INVOKER".to_owned(),
        "CREATE FUNCTION luarm.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT 1'".to_owned(),
    ] {
        assert_eq!(tell(&sql), None, "{sql}");
    }
    // Again for one that has its views: nothing.
    tell(&call("1")).unwrap();
    assert_eq!(everything(), before);

    // Hosts of its own invention, in sessions of its own making.
    let names = [
        "precious",
        "PRECIOUS_ALL",
        "x` AS SELECT 1; DROP TABLE psinfo; -- ",
        "x\" AS SELECT 1; DROP TABLE psinfo; -- ",
        "x' || (SELECT 1) || '",
        "%s%I%1$L",
        "a%",
        "////////////////////////////////////////////////////////",
        "\u{bf}\u{5c}'",
        "information_schema",
    ];
    for name in names {
        let literal = name.replace('\'', "''");
        let literal = if case.is_mysql() { literal.replace('\\', "\\\\") } else { literal };
        tell(&format!("INSERT INTO luarmhost (name, machineid) VALUES ('{literal}', 'evil')")).unwrap();
        let host = tell(&format!("SELECT host FROM luarmhost WHERE name = '{literal}'")).unwrap();
        let strange = match case.is_mysql() {
            true => {
                "SET NAMES gbk; SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'; SET @luarm = 'DROP TABLE psinfo'; "
            }
            false => {
                "CREATE TEMPORARY TABLE luarmhost (host int, name text, place text, placed int); \
                 INSERT INTO pg_temp.luarmhost VALUES (1, 'mine', NULL, 0); \
                 CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'mine'; END $$; \
                 SET search_path = pg_temp, luarm, pg_catalog; SET standard_conforming_strings = off; SET escape_string_warning = off; "
            }
        };
        assert!(tell(&format!("{strange}{}", call(&host))).is_some(), "{name}");
        let place = tell(&format!("SELECT place FROM luarmhost WHERE host = {host}")).unwrap();
        // Either its own name, as it is, or none that anybody could have chosen.
        assert!(place == name || place == format!("host_{host}"), "{name}: {place}");
    }
    let after = everything();
    let kept = |all: &str| -> Vec<String> {
        let ours = ["precious", "luarm", "mysql", "7", "root", "ann", "luarm_server"];
        let of = |line: &&str| ours.iter().any(|name| line.split('\t').next() == Some(name));
        all.lines().filter(of).map(str::to_owned).collect()
    };
    assert_eq!(kept(&after), kept(&before));
    assert!(kept(&after).len() > 40, "{after}");
    // Nobody may do anything with what was made but read it, and nobody else may call the routine.
    assert_eq!(case.tell("ann:x", "luarm", &call("1")), None);
}
