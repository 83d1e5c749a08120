//! The routines `note_question` and `end_question` in the store, with which an analyst's account, which may only select, writes down what it asks: made by the
//! owner, run with the owner's rights.
//!
//! Who asks is whom the engine knows at the other end of the connection, and the row is always that account's own: all that is handed over are the words of the
//! question, and how it ended.

use std::fmt::Write as _;

use luarm_schema::{Column, Dialect, Kind, NUMBERS_EPOCH, Role, tables::QueryInfo};

use super::{Datum, Failure, Session};
use crate::{Note, NoteEnd, error::Trouble};

/// The names of the routines, as [`create`] makes them.
pub(crate) const ROUTINES: [&str; 2] = ["note_question", "end_question"];

/// What ends a question, beside an error.
const ENDS: &str = "'answered', 'interrupted', 'limit'";

/// The statements that make the routines.
pub(crate) fn create(dialect: Dialect) -> Vec<String> {
    match dialect {
        Dialect::Mysql => mysql(),
        _ => postgres(),
    }
}

/// The statements that let an account call them, in the store's database or schema; `account` is quoted.
pub(crate) fn grants(dialect: Dialect, store: &str, account: &str) -> Vec<String> {
    let grant = |routine: &str| match dialect {
        Dialect::Mysql => format!("GRANT EXECUTE ON PROCEDURE {store}.{routine} TO {account}"),
        _ => format!("GRANT EXECUTE ON FUNCTION luarm.{routine}{} TO {account}", arguments(routine)),
    };
    ROUTINES.map(grant).to_vec()
}

/// What tells the PostgreSQL function.
fn arguments(routine: &str) -> &'static str {
    if routine == "note_question" {
        "(text, text, text, bigint, text)"
    } else {
        "(bigint, text, text, bigint, text)"
    }
}

/// The columns of a question's beginning, each with the expression of its value. In both engines there are variables of these names.
fn values() -> Vec<(&'static Column, &'static str)> {
    let value = |name: &str| match name {
        "queryid" => "number",
        "door" => "'store'",
        "kind" => "sort",
        "username" => "who",
        "address" => "origin",
        "limitedto" => "limited",
        "statement" => "words",
        "statementbytes" => "many",
        "statementsha256" => "digest",
        "created" => "moment",
        _ => "NULL",
    };
    let begin = QueryInfo::TABLE.columns.iter().filter(|column| column.role == Role::Begin);
    begin.map(|column| (column, value(column.name))).collect()
}

/// The canonical bytes behind `md5sum`, as an expression.
fn canonical(dialect: Dialect) -> String {
    let mut parts = Vec::new();
    for (column, value) in values() {
        let bytes = match (dialect, column.kind) {
            (Dialect::Mysql, Kind::Time) => "'t', unhex(lpad(hex(instant), 16, '0'))".to_owned(),
            (Dialect::Mysql, Kind::Text | Kind::Name) => {
                format!("'s', unhex(lpad(hex(length({value})), 8, '0')), {value}")
            }
            (Dialect::Mysql, _) => format!("'i', unhex(lpad(hex({value}), 16, '0'))"),
            (_, Kind::Time) => "'t'::bytea || int8send(instant)".to_owned(),
            (_, Kind::Text | Kind::Name) => {
                format!("'s'::bytea || int4send(octet_length({value})) || convert_to({value}, 'UTF8')")
            }
            _ => format!("'i'::bytea || int8send({value})"),
        };
        parts.push(match (dialect, value) {
            (Dialect::Mysql, "NULL") => "'n'".to_owned(),
            (_, "NULL") => "'n'::bytea".to_owned(),
            (Dialect::Mysql, _) => format!("coalesce(concat({bytes}), 'n')"),
            _ => format!("coalesce({bytes}, 'n'::bytea)"),
        });
    }
    match dialect {
        Dialect::Mysql => format!("md5(concat({}))", parts.join(", ")),
        _ => format!("md5({})", parts.join(" || ")),
    }
}

fn insert(dialect: Dialect) -> String {
    let (mut columns, mut given) = (String::from("host"), String::from("about"));
    for (column, value) in values() {
        let _ = write!(columns, ", {}", column.name);
        let _ = write!(given, ", {value}");
    }
    let table = match dialect {
        Dialect::Mysql => QueryInfo::TABLE.name.to_owned(),
        _ => format!("luarm.{}", dialect.stored_name(QueryInfo::TABLE)),
    };
    format!("INSERT INTO {table} ({columns}, md5sum, batch) VALUES ({given}, {}, 0)", canonical(dialect))
}

fn mysql() -> Vec<String> {
    let text = "text CHARACTER SET utf8mb4";
    // That of the tables, as each of the two engines calls it.
    let bytes = "COLLATE /*M!100500 utf8mb4_nopad_bin */ /*!80017 utf8mb4_0900_bin */";
    // The name may have an @ in it, the address has none.
    let who = "left(user(), char_length(user()) - char_length(substring_index(user(), '@', -1)) - 1)";
    let about = format!(
        "SELECT coalesce(min(host), 0) INTO about FROM luarmhost WHERE name = limited {bytes} OR machineid = limited {bytes}"
    );
    vec![
        format!(
            "CREATE PROCEDURE note_question(IN sort varchar(16) CHARACTER SET utf8mb4, IN limited {text}, IN said medium{text}, IN many bigint, \
             IN digest varchar(64) CHARACTER SET utf8mb4) SQL SECURITY DEFINER MODIFIES SQL DATA\n\
BEGIN\n\
DECLARE moment datetime(6) DEFAULT utc_timestamp(6);\n\
DECLARE instant, number bigint;\n\
DECLARE about int DEFAULT 0;\n\
DECLARE who, origin {text};\n\
DECLARE words medium{text};\n\
SET who = {who}, origin = substring_index(user(), '@', -1), words = left(said, 65536);\n\
SET instant = timestampdiff(MICROSECOND, '1970-01-01', moment);\n\
SET number = (instant - {NUMBERS_EPOCH}) * 4096 + floor(rand() * 4096);\n\
{about};\n\
{};\n\
SET @luarm_question = number;\n\
END",
            insert(Dialect::Mysql)
        ),
        format!(
            "CREATE PROCEDURE end_question(IN number bigint, IN limited {text}, IN how varchar(16) CHARACTER SET utf8mb4, IN many bigint, IN said {text}) \
             SQL SECURITY DEFINER MODIFIES SQL DATA\n\
BEGIN\n\
DECLARE about int DEFAULT 0;\n\
DECLARE who {text};\n\
SET who = {who};\n\
{about};\n\
UPDATE queryinfo SET destroyed = utc_timestamp(6), ended = CASE WHEN how IN ({ENDS}) THEN how ELSE 'failed' END, answerrows = many, error = left(said, 4096), \
dbatch = 0 WHERE host = about AND queryid = number AND batch = 0 AND door = 'store' AND username = who {bytes} AND destroyed IS NULL;\n\
END"
        ),
    ]
}

fn postgres() -> Vec<String> {
    let head = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $luarm$\nDECLARE";
    let about = "SELECT coalesce(min(h.host), 0) INTO about FROM luarm.luarmhost h WHERE h.name = limited OR h.machineid = limited";
    let stored = Dialect::Postgres.stored_name(QueryInfo::TABLE);
    let mut made = vec![
        format!(
            "CREATE OR REPLACE FUNCTION luarm.note_question(sort text, limited text, said text, many bigint, digest text) RETURNS bigint {head} \
moment timestamp := clock_timestamp() AT TIME ZONE 'UTC';\n\
instant bigint := (extract(epoch FROM moment) * 1000000)::bigint;\n\
number bigint := (instant - {NUMBERS_EPOCH}) * 4096 + floor(random() * 4096)::bigint;\n\
about integer;\n\
who text := session_user;\n\
origin text := host(inet_client_addr()) || ':' || inet_client_port();\n\
words text := left(said, 65536);\n\
BEGIN\n\
{about};\n\
{};\n\
RETURN number;\n\
END $luarm$",
            insert(Dialect::Postgres)
        ),
        format!(
            "CREATE OR REPLACE FUNCTION luarm.end_question(number bigint, limited text, how text, many bigint, said text) RETURNS void {head} \
about integer;\n\
BEGIN\n\
{about};\n\
UPDATE luarm.{stored} SET destroyed = clock_timestamp() AT TIME ZONE 'UTC', ended = CASE WHEN how IN ({ENDS}) THEN how ELSE 'failed' END, \
answerrows = many, error = left(said, 4096), dbatch = 0 \
WHERE host = about AND queryid = number AND batch = 0 AND door = 'store' AND username = session_user AND destroyed IS NULL;\n\
END $luarm$"
        ),
    ];
    made.extend(
        ROUTINES.map(|name| format!("REVOKE ALL ON FUNCTION luarm.{name}{} FROM PUBLIC", arguments(name))),
    );
    made
}

/// Writes down a question of this account's own. Gives its number.
pub(crate) async fn begin<S: Session>(session: &mut S, note: &Note<'_>) -> Result<i64, Failure> {
    let mut texts = vec![note.kind];
    let host = optional(note.host, &mut texts);
    texts.push(note.statement);
    let (bytes, digest) = (note.bytes.min(i64::MAX as u64), optional(note.sha256, &mut texts));
    let given = format!("(?, {host}, ?, {bytes}, {digest})");
    let rows = match S::DIALECT {
        Dialect::Mysql => {
            session.change(&format!("CALL note_question{given}"), &texts).await?;
            session.ask("SELECT @luarm_question", &[]).await?
        }
        _ => session.ask(&format!("SELECT luarm.note_question{given}"), &texts).await?,
    };
    let number = rows.first().and_then(|row| row.first()).and_then(Datum::int);
    number.ok_or_else(|| Failure::trouble(Trouble::Other, "it gave no number for the question"))
}

/// Writes down how it ended.
pub(crate) async fn end<S: Session>(
    session: &mut S,
    number: i64,
    host: Option<&str>,
    end: &NoteEnd<'_>,
) -> Result<(), Failure> {
    let mut texts = Vec::new();
    let host = optional(host, &mut texts);
    texts.push(end.ended);
    let (rows, error) = (end.rows.min(i64::MAX as u64), optional(end.error, &mut texts));
    let given = format!("({number}, {host}, ?, {rows}, {error})");
    match S::DIALECT {
        Dialect::Mysql => session.change(&format!("CALL end_question{given}"), &texts).await?,
        _ => session.change(&format!("SELECT luarm.end_question{given}"), &texts).await?,
    };
    Ok(())
}

/// A placeholder for a text, or NULL.
fn optional<'a>(text: Option<&'a str>, texts: &mut Vec<&'a str>) -> &'static str {
    match text {
        Some(text) => {
            texts.push(text);
            "?"
        }
        None => "NULL",
    }
}
