//! Parts of tables on PostgreSQL. What is done to one table is done in one transaction.

use luarm_schema::{Dialect, TableDef};

use super::Postgres;
use crate::{
    remote::{
        Datum, Failure, Session,
        retention::{Act, Dividing, Part, columns, losses, records},
    },
    retention::{Bound, Loss},
};

/// The part for rows that have not ended when theirs is dropped.
const KEPT: &str = "kept";

impl Postgres {
    async fn divide_locked(
        &mut self,
        table: &TableDef,
        last: Option<i64>,
        bounds: &[Bound],
    ) -> Result<(), Failure> {
        let (name, on) = (table.name, Self::DIALECT.stored_name(table));
        let (latest, split) = (format!("{name}_{}", Dialect::LATEST), format!("{name}_divided"));
        self.run(&format!("ALTER TABLE {on} DETACH PARTITION {latest}")).await?;
        self.run(&format!("ALTER TABLE {latest} RENAME TO {split}")).await?;
        let mut from = last.map_or("MINVALUE".to_owned(), |n| n.to_string());
        for bound in bounds {
            let (part, to) = (&bound.name, bound.number);
            self.run(&format!(
                "CREATE TABLE {name}_{part} PARTITION OF {on} FOR VALUES FROM ({from}) TO ({to})"
            ))
            .await?;
            from = to.to_string();
        }
        self.run(&format!("CREATE TABLE {latest} PARTITION OF {on} FOR VALUES FROM ({from}) TO (MAXVALUE)"))
            .await?;
        let columns = columns(table);
        self.run(&format!("INSERT INTO {on} ({columns}) SELECT {columns} FROM {split}")).await?;
        self.run(&format!("DROP TABLE {split}")).await.map(drop)
    }

    async fn drop_locked(
        &mut self,
        table: &'static TableDef,
        parts: &[String],
        act: &Act<'_>,
    ) -> Result<Vec<Loss>, Failure> {
        let (name, on, columns) = (table.name, Self::DIALECT.stored_name(table), columns(table));
        let (key, number) = (table.key, act.days.number());
        let below = format!("{on} WHERE {key} < {number}");
        let losses = losses(self, table, &below).await?;
        for record in records(Self::DIALECT, table, &losses, act) {
            self.run(&record).await?;
        }
        let open = if table.is_interval() { "AND destroyed IS NULL" } else { "AND false" };
        self.run(&format!(
            "CREATE TEMPORARY TABLE keeping ON COMMIT DROP AS SELECT {columns} FROM {below} {open}"
        ))
        .await?;
        for part in parts {
            self.run(&format!("DROP TABLE {name}_{part}")).await?;
        }
        self.run(&format!(
            "CREATE TABLE {name}_{KEPT} PARTITION OF {on} FOR VALUES FROM (MINVALUE) TO ({number})"
        ))
        .await?;
        self.run(&format!("INSERT INTO {on} ({columns}) SELECT {columns} FROM keeping")).await?;
        Ok(losses)
    }

    async fn lock(&mut self, table: &TableDef) -> Result<(), Failure> {
        // The first retention of a store that grew without one takes its time, and so may readers.
        self.run("BEGIN; SET LOCAL lock_timeout = '600s'; SET LOCAL enable_seqscan = on").await?;
        let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", Self::DIALECT.stored_name(table));
        self.run(&lock).await.map(drop)
    }
}

impl Dividing for Postgres {
    async fn finish(&mut self, _: &'static TableDef) -> Result<(), Failure> {
        Ok(())
    }

    async fn parts(&mut self, table: &'static TableDef) -> Result<Vec<Part>, Failure> {
        // No question mark in the pattern: it would be a parameter.
        let sql = "SELECT c.relname::text, substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \\(''*(-*\\d+)''*\\)') \
                   FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
                   WHERE i.inhparent = to_regclass('luarm.' || CAST(? AS text))";
        let stored = Self::DIALECT.stored_name(table);
        let rows = self.ask(sql, &[&stored]).await?;
        let part = |row: &Vec<Datum>| {
            let name = row.first()?.text()?.strip_prefix(table.name)?.strip_prefix('_')?.to_owned();
            Some(Part { name, below: row.get(1)?.text().and_then(|n| n.parse().ok()) })
        };
        Ok(rows.iter().filter_map(part).collect())
    }

    async fn divide(
        &mut self,
        table: &'static TableDef,
        last: Option<i64>,
        bounds: &[Bound],
    ) -> Result<(), Failure> {
        self.lock(table).await?;
        self.divide_locked(table, last, bounds).await?;
        self.run("COMMIT").await.map(drop)
    }

    async fn drop_parts(
        &mut self,
        table: &'static TableDef,
        parts: &[String],
        act: &Act<'_>,
    ) -> Result<Vec<Loss>, Failure> {
        self.lock(table).await?;
        let losses = self.drop_locked(table, parts, act).await?;
        self.run("COMMIT").await?;
        Ok(losses)
    }
}
