//! Endpoints and names, from both sides of each connection.

use serde_json::Value;

use crate::{
    scene::{Bot, Scene},
    values::{expected, values},
};

/// Each connection has its row, the refused ones too.
pub fn connections(scene: &Scene, bot: &Bot) {
    let pid = bot.pid(&scene.journal);
    let made = scene.journal.of(pid, "connected").map(|deed| {
        assert_eq!(deed.words[..3], [bot.name, bot.address, &bot.port.to_string()]);
        [deed.number(3), bot.port, 0, deed.number(4), deed.number(5)].map(Value::from)
    });
    let refused = scene.journal.of(pid, "refused").map(|deed| {
        let [closed, port, error] = [2, 3, 4].map(|at| deed.number(at));
        [port, closed, error, 0, 0].map(Value::from)
    });
    let wanted = expected(made.chain(refused));
    assert_eq!(scene.journal.of(pid, "connected").count(), bot.visits);
    assert!(scene.journal.of(pid, "refused").count() > 0);
    // The prototype's columns ended there.
    assert!(scene.journal.of(pid, "connected").any(|deed| deed.number(3) > 32767));

    let rows = scene.rows("netinfo", "*", &format!("destfqdn = '{}'", bot.name));
    let columns = ["sourceport", "destport", "result", "bytessent", "bytesreceived"];
    assert_eq!(values(&rows, &columns), wanted);
    for row in &rows {
        let who =
            ["pid", "username", "application", "direction", "transport", "ipversion", "sourceip", "destip"];
        let whose: [Value; 8] = [
            pid.into(),
            "nobody".into(),
            "crond".into(),
            "out".into(),
            "tcp".into(),
            4.into(),
            bot.address.into(),
            bot.address.into(),
        ];
        assert_eq!(who.map(|column| row[column].clone()), whose, "{row:?}");
        assert_eq!(row["ended"], if row["result"] == 0 { "close" } else { "refused" });
    }
}

/// The same connections from the other side, and the listener.
pub fn visits(scene: &Scene, bot: &Bot) {
    let port = bot.port.to_string();
    let listening = scene.journal.deeds("irc", "listening").find(|deed| deed.words == [bot.address, &port]);
    let pid = listening.unwrap().pid;
    let accepted = scene.journal.of(pid, "accepted").map(|deed| {
        assert_eq!(deed.words[..3], [bot.address, &port, bot.address]);
        // Bytes are counted from this host's side, which is the server's.
        let [peer, received, sent] = [3, 4, 5].map(|at| Value::from(deed.number(at)));
        [peer, "in".into(), bot.port.into(), sent, received]
    });
    let wanted = expected(accepted);
    let rows = scene.rows("netinfo", "*", &format!("pid = {pid} and direction = 'in'"));
    assert_eq!(values(&rows, &["sourceport", "direction", "destport", "bytessent", "bytesreceived"]), wanted);
    assert_eq!(rows.len(), bot.visits);
    for row in &rows {
        assert_eq!((&row["sourceip"], &row["destip"]), (&bot.address.into(), &bot.address.into()));
        assert_eq!((&row["username"], &row["application"]), (&"root".into(), &"perl".into()), "{row:?}");
    }
    let others = scene.rows("netinfo", "*", &format!("pid = {pid} and direction <> 'in'"));
    let columns = ["direction", "transport", "sourceip", "sourceport", "destip", "destport"];
    let listener = ["listen".into(), "tcp".into(), bot.address.into(), bot.port.into(), "".into(), 0.into()];
    assert_eq!(values(&others, &columns), expected([listener]));
}

/// What the bot asked of the name server, and what it was told: nothing of the name that is none.
pub fn questions(scene: &Scene, bot: &Bot) {
    let pid = bot.pid(&scene.journal);
    let asked = scene.journal.of(pid, "asked");
    let wanted =
        expected(asked.map(|deed| [Value::from(&*deed.words[0]), deed.number(1).into(), "out".into()]));
    let rows = scene.rows("netinfo", "*", &format!("pid = {pid} and destip = '127.0.0.1' and destport = 53"));
    assert_eq!(values(&rows, &["transport", "sourceport", "direction"]), wanted);
    assert!(scene.journal.of(pid, "asked").any(|deed| deed.words[0] == "tcp"));

    let facts = scene.rows("nameinfo", "*", &format!("pid = {pid}"));
    let columns = ["name", "address", "origin", "chain", "ttl", "server", "username", "application"];
    let fact: [Value; 8] = [
        bot.name.into(),
        bot.address.into(),
        "dns".into(),
        bot.chain.into(),
        60.into(),
        "127.0.0.1".into(),
        "nobody".into(),
        "crond".into(),
    ];
    assert_eq!(values(&facts, &columns), expected([fact]));
    let all = scene.rows("netinfo", "*", &format!("pid = {pid}"));
    assert_eq!(
        all.len(),
        wanted.len() + scene.rows("netinfo", "*", &format!("destfqdn = '{}'", bot.name)).len()
    );
}

/// The name server's side of it.
pub fn server(scene: &Scene) {
    let pid = scene.journal.deeds("dns", "answered").next().unwrap().pid;
    let answered = scene.journal.of(pid, "answered");
    let mut wanted =
        expected(answered.map(|deed| [Value::from(&*deed.words[0]), deed.number(1).into(), "in".into()]));
    // An exchange has one row, as long as it goes on: a source port that came again did not begin another.
    wanted.dedup();
    let rows = scene.rows("netinfo", "*", &format!("pid = {pid} and direction = 'in' and destport = 53"));
    assert_eq!(values(&rows, &["transport", "sourceport", "direction"]), wanted);
    let listeners = scene.rows("netinfo", "*", &format!("pid = {pid} and direction = 'listen'"));
    let columns = ["transport", "sourceip", "sourceport"];
    let both = ["tcp", "udp"].map(|transport| [transport.into(), "127.0.0.1".into(), 53.into()]);
    assert_eq!(values(&listeners, &columns), expected(both));
}
