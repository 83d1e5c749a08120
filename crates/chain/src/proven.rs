//! An answer with what proves its rows: it is checked on another machine, with a public key and without the store.

mod build;
mod check;
mod coverage;

use std::collections::BTreeMap;

use luarm_schema::{Kind, Sink, TableDef, Time, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use self::{
    build::{Named, Unprovable, prove},
    check::Checked,
};

/// What the first member says.
const FORMAT: &str = "luarm proof 1";
/// Bytes of the longest file that is read.
pub const LONGEST: u64 = 1 << 30;

/// An answer, the rows that it names, and the batches that created and ended them.
///
/// Bytes are base64 without padding, instants `YYYY-MM-DD HH:MM:SS.ffffff` in UTC, doubles texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// `luarm proof 1`.
    format: String,
    /// What was asked.
    pub statement: String,
    /// When it was asked, by the clock of who asked.
    pub asked: String,
    /// Of which time coverage is told.
    pub span: Option<(String, String)>,
    /// Names of the answer's columns.
    pub columns: Vec<String>,
    /// The answer.
    pub answer: Vec<Vec<Json>>,
    hosts: Vec<HostPart>,
    rows: Vec<RowPart>,
}

/// A computer, and its batches in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostPart {
    number: i64,
    name: String,
    machineid: String,
    batches: Vec<BatchPart>,
}

/// A batch: its row in the ledger, and what is kept beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchPart {
    /// The values of its row in `batchinfo`, by column.
    ledger: BTreeMap<String, Json>,
    /// Digest of the batch before.
    previous: String,
    root: String,
    /// Where a row of the answer needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
}

/// A stored row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowPart {
    table: String,
    /// Its values, by column.
    values: BTreeMap<String, Json>,
}

/// Why a file is none.
#[derive(Debug, thiserror::Error)]
#[error("it is no proof of an answer: {0}")]
pub struct ProvenError(String);

impl Proven {
    /// As text.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// Reads what [`text`](Self::text) wrote. What it says is not checked yet.
    pub fn read(text: &str) -> Result<Self, ProvenError> {
        let proven: Proven = serde_json::from_str(text).map_err(|error| ProvenError(error.to_string()))?;
        if proven.format != FORMAT {
            return Err(ProvenError(format!("its format is {:?}, not {FORMAT:?}", proven.format)));
        }
        Ok(proven)
    }

    /// The table of that name, if answers may name rows of it.
    fn table(name: &str) -> Option<&'static TableDef> {
        luarm_schema::table(name).filter(|table| crate::verify::is_sealed(table))
    }
}

/// The values of the stored columns, by their names.
fn named(table: &TableDef, values: &[Value<'_>]) -> BTreeMap<String, Json> {
    table.stored().zip(values).map(|(column, value)| (column.name.to_owned(), json(*value))).collect()
}

fn json(value: Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Int(n) => n.into(),
        Value::Real(x) => format!("{x:?}").into(),
        Value::Text(text) => text.into(),
        Value::Time(time) => time.to_string().into(),
    }
}

/// The value that a column of that kind has.
fn value(kind: Kind, json: &Json) -> Option<Value<'_>> {
    match (kind, json) {
        (_, Json::Null) => Some(Value::Null),
        (Kind::Big | Kind::Int | Kind::Small, Json::Number(n)) => n.as_i64().map(Value::Int),
        (Kind::Real, Json::String(text)) => text.parse().ok().map(Value::Real),
        (Kind::Text | Kind::Name, Json::String(text)) => Some(Value::Text(text)),
        (Kind::Time, Json::String(text)) => Time::parse_exact(text.as_bytes()).map(Value::Time),
        _ => None,
    }
}

/// The values of the columns of a table, in the order of [`TableDef::stored`].
fn values<'a>(table: &TableDef, named: &'a BTreeMap<String, Json>) -> Option<Vec<Value<'a>>> {
    if table.stored().count() != named.len() {
        return None;
    }
    table.stored().map(|column| value(column.kind, named.get(column.name)?)).collect()
}

/// Gives values to a sink.
fn give(values: &[Value<'_>], sink: &mut impl Sink) {
    values.iter().for_each(|value| sink.put(*value));
}
