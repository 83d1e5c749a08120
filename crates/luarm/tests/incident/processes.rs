//! Who ran, as whom, started by whom, and how it ended.

use std::fs;

use serde_json::Value;

use crate::{
    scene::{BOTS, Bot, Scene},
    support::Row,
    values::{expected, values},
};

/// From the image to the disguise.
pub fn disguise(scene: &Scene, bot: &Bot) {
    let pid = bot.pid(&scene.journal);
    let rows = scene.rows("psinfo", "*", &format!("pid = {pid}"));
    let columns =
        ["command", "arguments", "application", "script", "origin", "uid", "euid", "gid", "exitcode"];
    let image: [Value; 9] = [
        "/usr/bin/perl".into(),
        bot.arguments().into(),
        "x".into(),
        "./x".into(),
        "exec".into(),
        65534.into(),
        65534.into(),
        65534.into(),
        bot.code.into(),
    ];
    assert_eq!(values(&rows, &columns), expected([image]));
    assert_eq!(rows[0]["argv"], format!("/usr/bin/perl\n./x\n{}\n0\n0", bot.address));
    let renamed =
        scene.recording.sql(&format!("select * from renameinfo where psentity = {}", rows[0]["psentity"]));
    let columns = ["oldapplication", "application", "username", "pid"];
    assert_eq!(
        values(&renamed, &columns),
        expected([["x".into(), "crond".into(), "nobody".into(), pid.into()]])
    );
}

/// Each process that nobody ran, with its parent, its image and its end; and no other.
pub fn processes(scene: &Scene) {
    let image = |path: &str| fs::canonicalize(path).unwrap().to_str().unwrap().to_owned();
    let journal = &scene.journal;
    let httpd = journal.deeds("httpd", "started").map(|deed| {
        let (code, signal) = match &*deed.words[2] {
            "exit" => (deed.number(3).into(), Value::Null),
            _ => (Value::Null, deed.number(3).into()),
        };
        [deed.pid.into(), deed.number(0).into(), image(&deed.words[1]).into(), code, signal]
    });
    let starters = journal.deeds("shell", "started");
    let starters = starters
        .map(|deed| [deed.pid.into(), scene.driver.into(), image("/bin/sh").into(), 0.into(), Value::Null]);
    let bots = journal.deeds("x", "started").map(|deed| {
        let code = journal.of(deed.pid, "ended").next().unwrap().number(0);
        [deed.pid.into(), deed.number(0).into(), "/usr/bin/perl".into(), code.into(), Value::Null]
    });
    let wanted = expected(httpd.chain(starters).chain(bots));
    let rows = scene.rows("psinfo", "*", "username = 'nobody'");
    assert_eq!(values(&rows, &["pid", "ppid", "command", "exitcode", "exitsignal"]), wanted);
}

/// Up from the bots: their shell, which became nobody, the driver, and this test.
pub fn ancestry(scene: &Scene) {
    let started = scene.journal.deeds("shell", "started").next().unwrap().pid;
    let one = |which: String| -> Row {
        let mut rows = scene.rows("psinfo", "*", &which);
        assert_eq!(rows.len(), 1, "{which}: {rows:?}");
        rows.remove(0)
    };
    let shell = one(format!("pid = {started} and username = 'nobody'"));
    let before = one(format!("pid = {started} and username = 'root'"));
    let driver = one(format!("psentity = {}", shell["ppsentity"]));
    for bot in &BOTS {
        let row = one(format!("pid = {}", bot.pid(&scene.journal)));
        assert_eq!((&row["ppsentity"], &row["ppid"]), (&shell["psentity"], &started.into()));
    }
    assert_eq!(before["ppsentity"], shell["ppsentity"]);
    assert_eq!((&before["ended"], &shell["execs"]), (&"exec".into(), &2.into()), "{before:?}");
    let which = format!("psentity = {} and operation = 'setresuid'", before["psentity"]);
    let became = scene.recording.sql(&format!("select * from privinfo where {which}"));
    let columns = ["olduid", "oldeuid", "uid", "euid", "suid", "username"];
    let nobody: [Value; 6] = [0.into(), 0.into(), 65534.into(), 65534.into(), 65534.into(), "nobody".into()];
    assert_eq!(values(&became, &columns), expected([nobody]));

    let wanted: [Value; 3] = [scene.driver.into(), "/usr/bin/perl".into(), std::process::id().into()];
    assert_eq!(["pid", "command", "ppid"].map(|column| driver[column].clone()), wanted);
    let visits = BOTS.map(|bot| bot.visits.to_string()).join(" ");
    assert!(driver["arguments"].as_str().unwrap().ends_with(&format!("/incident {visits}")), "{driver:?}");
    let me = scene.recording.sql(&format!("select * from psinfo where psentity = {}", driver["ppsentity"]));
    assert_eq!(values(&me, &["pid"]), expected([[std::process::id().into()]]));
}
