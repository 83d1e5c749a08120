//! What a reading connection may do: read. Enforced while SQLite compiles a statement, whatever the statement's text.
//!
//! Beneath it stand two more walls: the file is opened read-only, and `query_only` is set.

use rusqlite::{
    Connection,
    config::DbConfig,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
};

/// Pragmas that tell about the tables, and take a table or nothing.
const PRAGMAS_ABOUT: [&str; 9] = [
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "foreign_key_list",
];

/// Pragmas that tell one value, and would set it if they were given one.
const PRAGMAS_VALUE: [&str; 11] = [
    "application_id",
    "collation_list",
    "compile_options",
    "database_list",
    "encoding",
    "freelist_count",
    "function_list",
    "page_count",
    "page_size",
    "schema_version",
    "user_version",
];

/// Functions that reach beyond the database, or take pointers.
const FUNCTIONS_DENIED: [&str; 5] = ["load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"];

/// Closes what a query never needs, and values of more than `longest` bytes.
pub(super) fn restrict(conn: &Connection, longest: usize) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, i32::try_from(longest).unwrap_or(i32::MAX)),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        conn.set_limit(limit, value)?;
    }
    Ok(())
}

/// From now on the connection only reads.
pub(super) fn arm(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "query_only", true)?;
    conn.authorizer(Some(|context: AuthContext<'_>| authorize(&context.action)))
}

/// Lets our own views be made; [`arm`] comes next.
pub(super) fn disarm(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    conn.pragma_update(None, "query_only", false)
}

fn authorize(action: &AuthAction<'_>) -> Authorization {
    let among = |names: &[&str], name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    let allowed = match action {
        // Who may deliver is not what happened.
        AuthAction::Read { table_name, .. } => !table_name.to_ascii_lowercase().starts_with("luarm_"),
        AuthAction::Select | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => !among(&FUNCTIONS_DENIED, function_name),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            among(&PRAGMAS_ABOUT, pragma_name)
                || (pragma_value.is_none() && among(&PRAGMAS_VALUE, pragma_name))
        }
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}
