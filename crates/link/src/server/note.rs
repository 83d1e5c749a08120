//! Questions are written down in the store before they are answered, and again when they have ended.

use std::sync::Arc;

use luarm_schema::{
    Time, Word,
    escape::escape,
    tables::{QueryInfo, QueryInfoEnd},
};
use luarm_store::{Asked, Scope};

use super::{desk::Place, inquiry::Asker, refusal::Refusal, service::Service};
use crate::{
    proto::{Question, question::What},
    statement::{self, Statement},
};

/// Writes a question down. `None` where it cannot be, and is answered nevertheless.
pub(super) async fn begin(
    service: &Arc<Service>,
    asker: &Asker,
    question: &Question,
    place: &Place,
) -> Result<Option<Asked>, Refusal> {
    let row = row(asker, question);
    match service.block(move |backend| backend.ask(row)).await {
        Ok(asked) => Ok(Some(asked)),
        Err(refusal) if service.desk.limits.unrecorded => {
            let why = refusal.inside.as_ref().unwrap_or(&refusal.message);
            tracing::error!("question {} is answered, but not recorded: {why}", place.number);
            Ok(None)
        }
        Err(refusal) => Err(refusal),
    }
}

/// Writes down how it ended.
pub(super) async fn end(
    service: &Arc<Service>,
    asked: Option<Asked>,
    (ended, error): (&'static str, Option<String>),
    rows: u64,
) {
    let Some(asked) = asked else { return };
    let end = QueryInfoEnd {
        destroyed: Time::now(),
        ended: Word::Borrowed(ended),
        answerrows: Some(i64::try_from(rows).unwrap_or(i64::MAX)),
        error: error.map(|error| escape(statement::error(&error).as_bytes())),
    };
    if let Err(refusal) = service.block(move |backend| backend.answered(asked, &end)).await {
        let why = refusal.inside.as_ref().unwrap_or(&refusal.message);
        tracing::error!("the end of question {} cannot be recorded: {why}", asked.queryid);
    }
}

fn row(asker: &Asker, question: &Question) -> QueryInfo {
    let (kind, sql) = match &question.what {
        Some(What::Sql(sql)) => ("sql", sql.as_str()),
        Some(What::Hosts(_)) => ("hosts", ""),
        Some(What::Use(name)) => ("use", name.as_str()),
        Some(What::Counts(_)) => ("counts", ""),
        Some(What::Size(_)) => ("size", ""),
        Some(What::Sync(_)) | None => ("unknown", ""),
    };
    let Statement { text, bytes, sha256 } = Statement::of(sql);
    let limited = match (question.host.as_str(), &asker.scope) {
        // He can see no other.
        ("", Scope::Hosts(hosts)) if hosts.len() == 1 => hosts.first().map(String::as_str),
        (host, _) => Some(host).filter(|host| !host.is_empty()),
    };
    QueryInfo {
        queryid: 0,
        door: Word::Borrowed("server"),
        kind: Word::Borrowed(kind),
        username: asker.name.as_str().into(),
        uid: None,
        loginname: None,
        auid: None,
        session: None,
        psentity: None,
        pid: None,
        application: None,
        address: Some(asker.address.to_string()),
        certificate: Some(asker.fingerprint.clone()),
        limitedto: limited.map(|host| escape(Statement::of(host).text.as_bytes())),
        statement: escape(text.as_bytes()),
        statementbytes: i64::try_from(bytes).unwrap_or(i64::MAX),
        statementsha256: sha256,
        created: Time::now(),
        end: None,
    }
}
