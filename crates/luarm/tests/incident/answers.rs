//! The seed's questions, word for word, and what the console prints; and the question that the seed did not ask.

use std::fs;

use crate::{
    printed::{boxed, vertical},
    scene::{BOTS, Scene, demo},
    values::{expected, values},
};

/// The statements of a file in demo/, which stand in paragraphs below a comment.
fn statements(file: &str) -> Vec<String> {
    let text = fs::read_to_string(demo(file)).unwrap();
    text.split("\n\n").map(|paragraph| paragraph.split_once('\n').unwrap().1.trim_end().to_owned()).collect()
}

/// The seed's tables, and the columns that it shows.
const TABLES: &str = "fileinfo groupinfo hostinfo hwinfo netinfo netint netroute psinfo";
const NETINFO: &str = "endpointinfo cyear cmonth cday chour cmin csec transport sourceip sourcefqdn sourceport destip destfqdn destport \
                       ipversion username pid application dyear dmonth dday dhour dmin dsec md5sum";
const PSINFO: &str = "psentity md5sum username pid ppid pcpu pmem command arguments cyear cmonth cday cmin chour csec dyear dmonth dday \
                      dhour dmin dsec";

pub fn seed(scene: &Scene) {
    let statements = statements("seed.sql");
    let mut statements = statements.iter();
    let mut next = |beginning: &str| {
        let statement = statements.next().unwrap();
        assert!(statement.starts_with(beginning), "{statement}");
        statement
    };
    let [undernet, dana] = &BOTS;
    let [first, second] = BOTS.map(|bot| bot.pid(&scene.journal));
    let made = |pid| {
        let count = |deed| scene.journal.of(pid, deed).count();
        (count("connected") + count("refused"), count("asked"))
    };
    let row = |values: &[&str]| -> Vec<String> { values.iter().map(ToString::to_string).collect() };
    let lists_all = |text: &str, wanted: &str| {
        let (_, rows) = boxed(text);
        for name in wanted.split_whitespace() {
            assert_eq!(rows.iter().filter(|row| row[0] == name).count(), 1, "{name} in {text}");
        }
    };

    let tables = scene.answer(next("show tables"));
    assert!(boxed(&tables).0[0].starts_with("Tables_in_"));
    lists_all(&tables, TABLES);
    let netinfo = scene.answer(next("describe netinfo"));
    assert_eq!(boxed(&netinfo).0, ["Field", "Type", "Null", "Key", "Default", "Extra"]);
    lists_all(&netinfo, NETINFO);

    for (bot, pid) in [(undernet, first), (dana, second)] {
        let count = made(pid).0.to_string();
        let statement = next("select COUNT(*) from netinfo");
        assert!(statement.contains(bot.name));
        assert_eq!(boxed(&scene.answer(statement)), (row(&["COUNT(*)"]), vec![row(&[&count])]));
    }
    for (pid, limit) in [(second, 5), (first, 10)] {
        let names = row(&["application", "username", "pid"]);
        let rows = vec![row(&["crond", "nobody", &pid.to_string()]); limit];
        assert_eq!(boxed(&scene.answer(next("select application"))), (names, rows));
    }

    lists_all(&scene.answer(next("describe psinfo")), PSINFO);
    // Other tests may run programs as nobody at the same time.
    let strangers = format!("username = 'nobody' and (netns is null or netns <> {})", scene.netns);
    let strangers = scene.recording.count(&format!("select count(*) from psinfo where {strangers}"));
    let own = scene.rows("psinfo", "pid", "username = 'nobody'").len();
    let all = boxed(&scene.answer(next("select COUNT(*) from psinfo"))).1[0][0].parse::<usize>().unwrap();
    assert!(all >= own && (strangers > 0 || all == own), "{all} rows of nobody, {own} of them ours");
    let rows = vertical(&scene.answer(next("select command")));
    assert!(rows.len() >= own);
    let shell = scene.journal.deeds("shell", "started").next().unwrap().pid.to_string();
    for (bot, pid) in BOTS.iter().zip([first, second]) {
        let names = ["command", "username", "arguments", "pid", "ppid"];
        let (arguments, pid) = (bot.arguments(), pid.to_string());
        let values = ["/usr/bin/perl", "nobody", &arguments, &pid, &shell];
        let wanted: Vec<_> = names.iter().zip(values).map(|(n, v)| (n.to_string(), v.to_owned())).collect();
        assert_eq!(rows.iter().filter(|row| **row == wanted).count(), 1, "{rows:?}");
    }

    let rows = vertical(&scene.answer(&next("select sourceport").replace("29312", &second.to_string())));
    let (connections, questions) = made(second);
    assert_eq!(rows.len(), connections + questions);
    let shown = rows.iter().filter(|row| row[1].1 == dana.port.to_string());
    let mut shown: Vec<i64> = shown.map(|row| row[0].1.parse().unwrap()).collect();
    let mut used: Vec<i64> = scene.journal.of(second, "connected").map(|deed| deed.number(3)).collect();
    shown.sort_unstable();
    used.sort_unstable();
    assert_eq!(shown, used);
    let names: Vec<&str> = rows[0].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["sourceport", "destport", "cday", "chour", "cmin"]);
    assert!(statements.next().is_none());
}

/// Of all that took part only the bots go by another name than their image.
pub fn contradiction(scene: &Scene) {
    let [which, whose] = &statements("disguise.sql")[..] else { panic!("not two statements") };
    let shell = scene.journal.deeds("shell", "started").next().unwrap().pid;
    let took_part = scene.rows("psinfo", "pid", "true");
    let of_ours = |statement: &str| {
        let mut rows = scene.recording.sql(statement);
        rows.retain(|row| took_part.iter().any(|one| one["pid"] == row["pid"]));
        rows
    };
    let bots = BOTS.map(|bot| {
        let pid = bot.pid(&scene.journal);
        let connections = scene.journal.of(pid, "connected").chain(scene.journal.of(pid, "refused")).count();
        [
            "crond".into(),
            "/usr/bin/perl".into(),
            "nobody".into(),
            pid.into(),
            bot.arguments().into(),
            connections.into(),
        ]
    });
    let columns = ["application", "command", "username", "pid", "arguments", "connections"];
    assert_eq!(values(&of_ours(which), &columns), expected(bots));
    let [one, other] = BOTS.map(|bot| bot.arguments());
    let started = format!("-c {one} & {other} & wait");
    let starters = BOTS.map(|bot| {
        let pid = bot.pid(&scene.journal).into();
        let shell_image = fs::canonicalize("/bin/sh").unwrap().to_str().unwrap().into();
        ["crond".into(), pid, "nobody".into(), shell.into(), shell_image, started.as_str().into()]
    });
    let columns = ["application", "pid", "username", "ppid", "command", "arguments"];
    assert_eq!(values(&of_ours(whose), &columns), expected(starters));
}
