//! The tables in a database: making them, and knowing their version.

use luarm_schema::{Dialect, SCHEMA_VERSION, TABLES, TableDef};

use super::{Class, Datum, Failure, Session, enrolment, lease, noting, places, placing, registry};
use crate::{error::Trouble, proof};

/// The version of the tables; `None` where there are none, or not all yet.
pub(crate) async fn version<S: Session>(session: &mut S) -> Result<Option<i64>, Failure> {
    match session.ask("SELECT max(version) FROM luarmversion", &[]).await {
        Ok(rows) => Ok(rows.first().and_then(|row| row.first()).and_then(Datum::int)),
        Err(failure) if failure.is(Trouble::Missing) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Makes what is missing of the tables. Several may try at once; what one of them left half done the next completes.
pub(crate) async fn create<S: Session>(session: &mut S) -> Result<(), Failure> {
    alone(session, async |session: &mut S| create_locked(session).await).await
}

/// Does something while nobody else changes the schema of this store.
pub(crate) async fn alone<S: Session, T>(
    session: &mut S,
    work: impl AsyncFnOnce(&mut S) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if session.is_clustered() {
        return lease::hold(session, work).await;
    }
    let (lock, unlock) = match S::DIALECT {
        // Both are the server's own functions; the lock is the store's, wherever the session looks.
        Dialect::Mysql => {
            ("SELECT get_lock(left(concat('luarm ', database()), 64), 100)", "SELECT release_all_locks()")
        }
        _ => ("SELECT pg_advisory_lock(hashtext('luarm'))::text", "SELECT pg_advisory_unlock_all()::text"),
    };
    session.ask(lock, &[]).await?;
    let result = work(session).await;
    if result.is_err() && S::TRANSACTIONAL_DDL {
        let _ = session.run("ROLLBACK").await;
    }
    // It ends with the connection in any case.
    let _ = session.ask(unlock, &[]).await;
    result
}

async fn create_locked<S: Session>(session: &mut S) -> Result<(), Failure> {
    if version(session).await?.is_some() {
        return Ok(());
    }
    if S::TRANSACTIONAL_DDL {
        session.run("BEGIN").await?;
        session.run("CREATE SCHEMA IF NOT EXISTS luarm").await?;
    }
    for statement in registry::create(S::DIALECT).into_iter().chain(enrolment::create(S::DIALECT)) {
        session.run(&statement).await?;
    }
    session.run(&proof::create(S::DIALECT)).await?;
    for table in TABLES {
        let statements = [vec![S::DIALECT.create_table(table)], S::DIALECT.create_rest(table)].concat();
        for statement in statements.into_iter().chain(guard(S::DIALECT, table)) {
            if S::TRANSACTIONAL_DDL {
                session.run("SAVEPOINT making").await?;
            }
            match session.run(&statement).await {
                Err(failure) if failure.class == Class::Exists && S::TRANSACTIONAL_DDL => {
                    session.run("ROLLBACK TO SAVEPOINT making").await?;
                }
                Err(failure) if failure.class == Class::Exists => {}
                other => _ = other?,
            }
        }
    }
    make_routine(session).await?;
    session.run(&format!("INSERT INTO luarmversion (version) VALUES ({SCHEMA_VERSION})")).await?;
    if S::TRANSACTIONAL_DDL {
        session.run("COMMIT").await?;
    }
    Ok(())
}

/// Makes the routines that make the places of hosts and write down questions, where there are none.
pub(crate) async fn make_routine<S: Session>(session: &mut S) -> Result<(), Failure> {
    if !is_routine(session, noting::ROUTINES[1]).await? {
        if S::DIALECT == Dialect::Mysql {
            // One that was left half done.
            session.run(&format!("DROP PROCEDURE IF EXISTS {}", noting::ROUTINES[0])).await?;
        }
        for statement in noting::create(S::DIALECT) {
            session.run(&statement).await?;
        }
    }
    if is_routine(session, "make_place").await? {
        return Ok(());
    }
    if S::DIALECT == Dialect::Mysql {
        session.run(lease::TABLE).await?;
    }
    let store = places::here(session).await?;
    for statement in placing::create(S::DIALECT, &store) {
        session.run(&statement).await?;
    }
    Ok(())
}

async fn is_routine<S: Session>(session: &mut S, name: &str) -> Result<bool, Failure> {
    let known = match S::DIALECT {
        Dialect::Mysql => {
            "SELECT count(*) FROM information_schema.routines WHERE routine_schema = database() AND routine_name = ?"
        }
        _ => {
            "SELECT count(*) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             WHERE n.nspname = 'luarm' AND p.proname = ?"
        }
    };
    let found = session.ask(known, &[name]).await?;
    Ok(found.first().and_then(|row| row.first()).and_then(Datum::int) != Some(0))
}

/// What keeps an end from being set twice, or taken back, by an account that may set ends.
fn guard(dialect: Dialect, table: &TableDef) -> Vec<String> {
    if !table.is_interval() {
        return Vec::new();
    }
    let (name, stored) = (table.name, dialect.stored_name(table));
    let said = format!("a row of {name} that has ended is not changed");
    match dialect {
        Dialect::Mysql => vec![format!(
            "CREATE TRIGGER {name}_ends BEFORE UPDATE ON {stored} FOR EACH ROW \
             IF OLD.destroyed IS NOT NULL OR NEW.destroyed IS NULL THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{said}'; END IF"
        )],
        _ => vec![
            format!(
                "CREATE OR REPLACE FUNCTION {name}_ends() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION '{said}'; END $$"
            ),
            format!(
                "CREATE TRIGGER {name}_ends BEFORE UPDATE ON {stored} FOR EACH ROW \
                 WHEN (OLD.destroyed IS NOT NULL OR NEW.destroyed IS NULL) EXECUTE FUNCTION {name}_ends()"
            ),
        ],
    }
}
