//! Analysts who may see some hosts only: the engine's own accounts keep them to it.

use luarm_store::{Account, Owner, StoreUrl};
use luarm_testbed::{Mariadb, Postgres};

use crate::{
    scene::{Engine, Scene},
    support::{complaint, luarm},
};

/// Accounts of the engine: one for each host.
pub(crate) fn accounts(url: &str) {
    let mut owner = Owner::open(&StoreUrl::parse(url).unwrap()).unwrap();
    owner.make_views().unwrap();
    for host in ["panoitpsl", "other"] {
        let (name, password, host) = (format!("{host}_reader"), "secret".to_owned(), Some(host.to_owned()));
        owner.grant(&Account::Analyst { name, password: Some(password), host }).unwrap();
    }
    let (name, password) = ("all_reader".to_owned(), "secret".to_owned());
    owner.grant(&Account::Analyst { name, password: Some(password), host: None }).unwrap();
}

fn check(scene: &Scene, elsewhere: &[&str]) {
    let far = |name: &str, arguments: &[&str]| {
        let data = scene.path(name);
        let place = ["sql", "--data", data.to_str().unwrap(), "--format", "csv"];
        luarm(&[&place[..], arguments].concat())
    };
    let out = |name: &str, arguments: &[&str]| {
        let output = far(name, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    scene.join_with("otto", &["--host", "other"]);
    scene.join_with("both", &["--host", "other", "--host", "panoitpsl"]);
    scene.join_with("stranger", &["--host", "third"]);
    scene.join_with("misled", &["--host", "wrong"]);
    let count = "select count(*) as n from netinfo";
    assert_eq!(out("otto", &["-e", count]), "n\n236\n");
    assert_eq!(out("otto", &["--host", "other", "-e", count]), "n\n236\n");
    assert_eq!(out("otto", &["-e", "show databases"]).lines().count(), 2);
    assert_eq!(
        out("otto", &["-e", "use fedcba9876543210fedcba9876543210; select count(*) as n from psinfo"]),
        "n\n0\n"
    );
    assert_eq!(out("otto", &["-e", "select hostname from hostinfo"]), "hostname\nother\n");
    // However he spells it.
    for sql in elsewhere {
        let output = far("otto", &["-e", sql]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            !said.contains("panoitpsl") && !said.contains("2371") && !said.contains("2607"),
            "{sql}: {said}"
        );
    }
    for wrong in ["panoitpsl", "0123456789abcdef0123456789abcdef", "third"] {
        let output = far("otto", &["--host", wrong, "-e", count]);
        assert!(
            complaint(&output).contains("no host") && !complaint(&output).contains("panoitpsl\" ("),
            "{output:?}"
        );
    }
    // With several he chooses one.
    assert!(complaint(&far("both", &["-e", count])).contains("use HOST: other, panoitpsl"));
    assert_eq!(
        out("both", &["-e", &format!("use other; {count}; use panoitpsl; {count}")]),
        "n\n236\nn\n2371\n"
    );
    assert_eq!(out("both", &["-e", "show databases"]).lines().count(), 3);
    assert!(complaint(&far("stranger", &["-e", count])).contains("may see third only"));
    // An account that sees more than one host is not taken for one of a host.
    assert!(complaint(&far("misled", &["-e", count])).contains("cannot read its store now"));
    scene.server.wait_for("may see something else than one host");
    let data = scene.path("otto");
    let status = luarm(&["status", "--data", data.to_str().unwrap(), "--format", "csv"]);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains(",rows,netinfo,236\n") && !status.contains("panoitpsl"), "{status}");
}

#[test]
fn mariadb_keeps_an_analyst_to_his_hosts() {
    let Some(mariadb) = Mariadb::start("mariadb_keeps_an_analyst_to_his_hosts") else { return };
    let scene = Scene::on(Engine::Mariadb(mariadb), |engine, url| {
        accounts(url);
        let Engine::Mariadb(mariadb) = engine else { panic!("no MariaDB") };
        let store = |host: &str, name: &str, place: &str| {
            [
                "--host-store".to_owned(),
                format!("{host}={}", mariadb.url(&format!("{name}_reader:secret"), place)),
            ]
        };
        let own = ["panoitpsl", "other"].map(|host| store(host, host, &format!("{host}_all")));
        own.into_iter().chain([store("wrong", "all", "audit")]).flatten().collect()
    });
    check(
        &scene,
        &[
            "select count(*) from audit.netinfo",
            "select count(*) from `panoitpsl`.netinfo",
            "select count(*) from panoitpsl_all.netinfo",
            "select schema_name from information_schema.schemata",
            "select table_schema from information_schema.tables",
            "select count(*) from audit.luarmhost",
            "use panoitpsl; select count(*) from netinfo",
        ],
    );
}

#[test]
fn postgres_keeps_an_analyst_to_his_hosts() {
    let Some(postgres) = Postgres::start("postgres_keeps_an_analyst_to_his_hosts") else { return };
    let scene = Scene::on(Engine::Postgres(postgres), |engine, url| {
        accounts(url);
        let Engine::Postgres(postgres) = engine else { panic!("no PostgreSQL") };
        let store = |host: &str, name: &str| {
            [
                "--host-store".to_owned(),
                format!("{host}={}", postgres.url(&format!("{name}_reader"), "audit")),
            ]
        };
        let own = ["panoitpsl", "other"].map(|host| store(host, host));
        own.into_iter().chain([store("wrong", "all")]).flatten().collect()
    });
    check(
        &scene,
        &[
            "select count(*) from luarm.netinfo",
            "select count(*) from luarm.netinfo_stored",
            "select count(*) from panoitpsl.netinfo",
            "select count(*) from panoitpsl_all.netinfo",
            "select query_to_xml('select count(*) from luarm.netinfo', true, true, '')::text",
            "select set_config('role', 'panoitpsl_reader', false), (select count(*) from panoitpsl.netinfo)",
            "select hostname from (select set_config('search_path', 'luarm', false)) as x, hostinfo",
            "select most_common_vals::text from pg_stats where tablename like 'hostinfo%'",
        ],
    );
}
