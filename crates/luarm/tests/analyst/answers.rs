//! The same answers through the server as out of the store itself.

use std::process::Output;

use crate::{
    scene::{Engine, Scene, each},
    support::{complaint, luarm},
};

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
select command,username,arguments,pid,ppid from psinfo where username='nobody' order by psentity \\G;
select sourceport,destport,cday,chour,cmin from netinfo where username='nobody' AND pid='29312' \\G;
";

/// An answer without the time that it took.
fn untimed(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| match line.split_once(" set (") {
            Some((count, time)) if time.ends_with(" sec)") => format!("{count} set\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

fn same(scene: &Scene, arguments: &[&str]) -> String {
    let (far, near) = (scene.far("sql", arguments), scene.near("sql", arguments));
    // No recorder can be told of what is asked near.
    let own = complaint(&near)
        .lines()
        .filter(|line| !line.contains("not recorded in queryinfo"))
        .fold(String::new(), |said, line| said + line + "\n");
    assert_eq!(
        (complaint(&far), far.status.code(), untimed(&far)),
        (own, near.status.code(), untimed(&near)),
        "{arguments:?}"
    );
    untimed(&far)
}

#[test]
fn the_seeds_session_gives_the_same_through_the_server() {
    each("the_seeds_session_gives_the_same_through_the_server", &[], |scene| {
        let whole = same(scene, &["--host", "panoitpsl", "-e", SESSION]);
        assert!(whole.contains("Tables_in_panoitpsl") && whole.contains("endpointinfo"), "{whole}");
        for count in [" 963 |", " 1408 |", " 57 |"] {
            assert!(whole.contains(count), "{count} in {whole}");
        }
        assert!(whole.contains("arguments: ./x 79.125.109.171 0 0") && whole.contains("524 rows in set"));
        for format in ["table", "vertical", "csv", "json", "jsonl"] {
            same(scene, &["--format", format, "-e", &format!("use panoitpsl; {SESSION}")]);
        }
        let question = "select count(*) as n from netinfo";
        let used = format!("{question}; use other; {question}; use *; {question}; show databases");
        let used = same(scene, &["--format", "csv", "-e", &used]);
        assert!(used.starts_with("n\n2607\nn\n236\nn\n2607\n"), "{used}");
        same(
            scene,
            &["--format", "jsonl", "-e", "select 1 as a, 2.5 as b, null as c, 'ä\u{1f427}' as d, '' as e"],
        );
        // What is wrong is said in the same words.
        for wrong in [
            "select nothing from netinfo",
            "select * from nowhere",
            "select 1 from",
            "use nobody",
            "describe nothing",
            "select * from luarm_token",
        ] {
            same(scene, &["-e", wrong]);
        }
        same(scene, &["--host", "nobody", "-e", "select 1"]);

        // The status of hosts and store, without that of a recorder, which is not the server's to know.
        let lines = |output: &Output| -> Vec<String> {
            assert!(output.status.success(), "{}", complaint(output));
            let text = String::from_utf8(output.stdout.clone()).unwrap();
            text.lines().filter(|line| !line.contains(",recorder,")).map(str::to_owned).collect()
        };
        let status = ["--format", "csv"];
        let (far, near) = (scene.far("status", &status), scene.near("status", &status));
        // The engines' own figures of their size come and go.
        let but_size = |output| -> Vec<String> {
            // So does time, and questions are rows themselves.
            let moves = [",store,bytes,", ",rows,queryinfo,", ",rows,batchinfo,", ",host,silent s,"];
            lines(output).into_iter().filter(|line| !moves.iter().any(|part| line.contains(part))).collect()
        };
        assert_eq!(but_size(&far), but_size(&near));
        assert!(
            lines(&far).iter().any(|line| line == "panoitpsl,host,system,Debian GNU/Linux 12"),
            "{far:?}"
        );
        assert!(lines(&far).iter().any(|line| line.starts_with(",store,bytes,")));

        // Who asked, from where, what, and how many rows there were.
        let log = scene.server.said();
        let asked = log.lines().find(|line| line.contains("use") || line.contains("undernet")).unwrap();
        assert!(asked.contains("of anna at 127.0.0.1:"), "{asked}");
        let told = log.lines().any(|line| line.contains("of anna: 57 rows in "));
        assert!(told && !log.contains("\u{1b}"), "{log}");
    });
}

#[test]
fn nothing_is_written_through_the_server() {
    each("nothing_is_written_through_the_server", &[], |scene| {
        let counts =
            "select (select count(*) from netinfo) as endpoints, (select count(*) from psinfo) as processes";
        let before = same(scene, &["--format", "csv", "-e", counts]);
        let common = [
            "delete from netinfo",
            "insert into netinfo (pid) values (1)",
            "update psinfo set pid = 1",
            "drop table netinfo",
            "create table mine (n int)",
            "begin",
            "commit",
            "with gone as (delete from netinfo returning *) select * from gone",
            "select 1; delete from netinfo",
        ];
        let own: &[&str] = match scene.engine {
            Engine::Sqlite => {
                &["attach 'x' as y", "pragma query_only = 0", "vacuum", "select load_extension('x')"]
            }
            Engine::Mariadb(_) => &[
                "set session transaction read write",
                "set statement tx_read_only=0 for delete from netinfo",
                "select 1 /*!50000 into outfile '/tmp/luarm-analyst-test' */",
                "select 1 into outfile '/tmp/luarm-analyst-test'",
                // Two dashes begin a comment here only before a blank.
                "select 1--1 into outfile '/tmp/luarm-analyst-test'",
                "load data infile '/etc/passwd' into table netinfo",
                "do sleep(1)",
            ],
            Engine::Postgres(_) => &[
                "set transaction read write",
                "select set_config('transaction_read_only', 'off', false), nextval('luarm.luarmhost_host_seq')",
                "select * into mine from luarm.netinfo",
                "copy (select 1) to '/tmp/luarm-analyst-test'",
                "do $$ begin delete from luarm.netinfo; end $$",
            ],
        };
        for sql in common.iter().chain(own) {
            let output = scene.far("sql", &["-e", sql]);
            assert_eq!(output.status.code(), Some(1), "{sql}: {output:?}");
        }
        assert!(!std::path::Path::new("/tmp/luarm-analyst-test").exists());
        assert_eq!(same(scene, &["--format", "csv", "-e", counts]), before);
    });
}

#[test]
fn an_account_that_can_only_select_is_enough() {
    use luarm_store::{Account, Owner, StoreUrl};
    use luarm_testbed::Mariadb;
    let Some(mariadb) = Mariadb::start("an_account_that_can_only_select_is_enough") else { return };
    let scene = Scene::on_mariadb(mariadb, |mariadb, url| {
        let mut owner = Owner::open(&StoreUrl::parse(url).unwrap()).unwrap();
        owner.make_views().unwrap();
        let (name, password) = ("reader".to_owned(), "secret".to_owned());
        owner.grant(&Account::Analyst { name, password: Some(password), host: None }).unwrap();
        vec!["--read-store".to_owned(), mariadb.url("reader:secret", "audit")]
    });
    let asked = |sql: &str| scene.far("sql", &["--format", "csv", "-e", sql]);
    let whole =
        asked("select count(*) as n from netinfo; select substring_index(current_user(), '@', 1) as who");
    assert_eq!(String::from_utf8_lossy(&whole.stdout), "n\n2607\nwho\nreader\n", "{whole:?}");
    assert_eq!(untimed(&asked("use panoitpsl; select count(*) as n from netinfo")), "n\n2371\n");
    // A wrong one says nothing about itself to the analyst, and all to the log.
    drop(scene);
    let mariadb = Mariadb::start("an_account_that_can_only_select_is_enough").unwrap();
    let scene = Scene::on_mariadb(mariadb, |mariadb, _| {
        vec!["--read-store".to_owned(), mariadb.url("nobody:wrong", "audit")]
    });
    let output = scene.far("sql", &["-e", "select 1"]);
    let said = complaint(&output);
    assert!(said.contains("cannot read its store now") && !said.contains("nobody"), "{said}");
    scene.server.wait_for("nobody");
}

#[test]
fn without_words_the_place_of_an_ordinary_user_is_taken() {
    let run = |scene: &Scene, arguments: &[&str]| {
        std::process::Command::new(crate::support::program())
            .args(arguments)
            .env("XDG_STATE_HOME", scene.path("state"))
            .output()
            .unwrap()
    };
    let scene = Scene::on_file(&[]);
    let token = scene.site.token(&["--analyst", "otto"]);
    let joined = run(&scene, &["enroll", "join", &scene.site.url(), "--token", &token]);
    assert!(complaint(&joined).contains("as the analyst otto. Next: luarm sql\n"), "{joined:?}");
    assert!(scene.path("state/luarm/analyst/analyst.pem").exists());
    let question = ["-e", "select count(*) as n from netinfo", "--format", "csv"];
    let url = scene.site.url();
    for place in [&[][..], &["--server", &url]] {
        let output = run(&scene, &[&["sql"], place, &question].concat());
        // A host that records itself has a store where the first one looks.
        if place.is_empty() && std::path::Path::new("/var/lib/luarm/luarm.db").exists() {
            continue;
        }
        assert_eq!(String::from_utf8_lossy(&output.stdout), "n\n2607\n", "{output:?}");
    }
    let output = run(&scene, &["sql", "--server", &url, "--store", "sqlite:x", "-e", "select 1"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output =
        luarm(&["sql", "--server", "https://127.0.0.1:1", "--data", "/nonexistent", "-e", "select 1"]);
    assert!(complaint(&output).contains("no analyst has joined"), "{output:?}");
}
