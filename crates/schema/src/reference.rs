//! What people read about the tables: the console's `describe` and `docs/tables.md`.

use std::fmt::Write as _;

use crate::{Column, Kind, Role, TABLES, TableDef, coverage};

/// One line of `describe`: the six columns that the seed's console shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Described {
    /// The column's name.
    pub field: &'static str,
    /// Its type, in the seed's words.
    pub type_name: &'static str,
    /// `YES` or `NO`.
    pub null: &'static str,
    /// `PRI` for the key, `MUL` for the first column of an index, or empty.
    pub key: &'static str,
    /// `VIRTUAL GENERATED` for a derived column.
    pub extra: &'static str,
}

/// The lines of `describe` for a table.
pub fn describe(table: &TableDef) -> Vec<Described> {
    table
        .columns
        .iter()
        .map(|c| Described {
            field: c.name,
            type_name: type_name(c),
            null: if c.null { "YES" } else { "NO" },
            key: if c.role == Role::Host || c.name == table.key {
                "PRI"
            } else if table.indexes.iter().any(|i| i.first() == Some(&c.name)) {
                "MUL"
            } else {
                ""
            },
            extra: if matches!(c.role, Role::Derived(_)) { "VIRTUAL GENERATED" } else { "" },
        })
        .collect()
}

fn type_name(column: &Column) -> &'static str {
    match column.kind {
        Kind::Big => "bigint",
        Kind::Int => "int",
        Kind::Small => "smallint",
        Kind::Real => "double",
        Kind::Text | Kind::Name => "text",
        Kind::Time => "datetime(6)",
    }
}

/// The whole of `docs/tables.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# The tables\n\n\
         Written by the schema crate from its declarations; a test keeps it fresh (`LUARM_RENEW=1 cargo test -p luarm-schema` writes it anew).\n\n\
         Instants are UTC with microseconds, `YYYY-MM-DD HH:MM:SS.ffffff`. A row is an interval: `destroyed` is NULL while it lasts.\n\
         Bytes that are no UTF-8 are written `\\xNN`, and a backslash before an `x` as `\\x5c`, so that nothing is lost.\n",
    );
    for table in TABLES {
        let _ = writeln!(out, "\n## {}\n\n{}\n", table.name, one_paragraph(table.doc));
        let classes: Vec<String> =
            coverage::classes(table).iter().map(|class| format!("`{class}`")).collect();
        if !classes.is_empty() {
            let _ = writeln!(
                out,
                "Filled by events of the classes (`coverageinfo.class`): {}.\n",
                classes.join(", ")
            );
        }
        if !table.indexes.is_empty() {
            let indexes: Vec<String> = table.indexes.iter().map(|i| format!("({})", i.join(", "))).collect();
            let _ = writeln!(out, "Indexes: {}.\n", indexes.join(", "));
        }
        out.push_str("| column | type | null | set | meaning |\n| --- | --- | --- | --- | --- |\n");
        for c in table.columns {
            let set = match c.role {
                _ if c.name == table.key => "key",
                Role::Host => "key, by the store",
                Role::Begin | Role::Md5 => "at the beginning",
                Role::End => "at the end",
                Role::Batch | Role::EndBatch => "by the store",
                Role::Derived(_) => "derived",
            };
            let null = if c.null { "yes" } else { "no" };
            let _ = writeln!(
                out,
                "| {} | {} | {null} | {set} | {} |",
                c.name,
                type_name(c),
                one_paragraph(c.doc)
            );
        }
    }
    out
}

fn one_paragraph(doc: &str) -> String {
    doc.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
