//! The socket at which a running server is told what is asked of its store on its own machine. It knows one word of the control socket's: `question`.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::unix::net::UnixStream,
};

use luarm_link::{authority, server::Scribe};
use luarm_recorder::{Asker, SystemUsers, Users};
use luarm_schema::{
    Time, Word,
    escape::escape,
    tables::{QueryInfo, QueryInfoEnd},
};
use rustix::net::sockopt::socket_peercred;

use super::{
    Asked,
    server::{LONGEST_LINE, asker, ending, is_same, may_ask, word},
    socket::{self, Server},
};

struct Desk {
    scribe: Scribe,
    store: String,
}

/// Opens the socket beside the server's authority and answers there until the process ends.
pub(crate) fn attend(data: &std::path::Path, store: String, scribe: Scribe) -> anyhow::Result<Server> {
    let desk = Desk { scribe, store };
    socket::open(authority::directory(data).join(super::DESK), "desk", move |stream, _| {
        converse(stream, &desk)
    })
}

fn converse(stream: &UnixStream, desk: &Desk) -> io::Result<String> {
    let peer = socket_peercred(stream)?;
    may_ask(&peer)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    (&mut reader).take(LONGEST_LINE).read_line(&mut line)?;
    let Some(asked) = line.strip_prefix("question ") else {
        return Err(io::Error::other("write: question, and what is asked"));
    };
    let asked: Asked = serde_json::from_str(asked)?;
    if !is_same(&asked.store, &desk.store) {
        return Err(io::Error::other(format!("this server writes {}", desk.store)));
    }
    let host = asked.host.clone();
    let number = desk.scribe.begin(host.as_deref(), row(asked, &asker(&peer))).map_err(io::Error::other)?;
    let ended = ending(&mut reader);
    let end = |ended: Word, rows: Option<u64>, error: Option<String>| QueryInfoEnd {
        destroyed: Time::now(),
        ended,
        answerrows: rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)),
        error: error.map(|error| escape(error.as_bytes())),
    };
    let told = ended.is_ok();
    let end = match ended {
        Ok(answered) => end(answered.ended, answered.rows, answered.error),
        Err(_) => end("gone".into(), None, None),
    };
    if let Err(error) = desk.scribe.end(number, &end) {
        tracing::error!("the end of a question cannot be recorded: {error}");
    }
    if told { Ok("ok".to_owned()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
}

fn row(asked: Asked, asker: &Asker) -> QueryInfo {
    let mut users = SystemUsers::new("/etc/passwd");
    QueryInfo {
        queryid: 0,
        door: Word::Borrowed("data"),
        kind: word(&asked.kind),
        username: users.name(asker.uid),
        uid: Some(asker.uid),
        loginname: asker.auid.map(|auid| users.name(auid)),
        auid: asker.auid,
        session: asker.session,
        // A process of the server's machine, which may be no audited host.
        psentity: None,
        pid: Some(asker.pid),
        application: asker.comm.as_deref().map(escape),
        address: None,
        certificate: None,
        limitedto: asked.host.map(|host| escape(host.as_bytes())),
        statement: escape(asked.statement.as_bytes()),
        statementbytes: i64::try_from(asked.bytes).unwrap_or(i64::MAX),
        statementsha256: asked.sha256.filter(|digest| digest.len() == 64),
        created: Time::now(),
        end: None,
    }
}
