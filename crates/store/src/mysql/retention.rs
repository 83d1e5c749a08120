//! Parts of tables on MariaDB and MySQL.
//!
//! Each statement here commits by itself. Rows that have not ended therefore wait in a table `kept_…` while their part is dropped; what an act of
//! retention leaves there when it is ended half way, the next one brings back. The tables are locked meanwhile.

use luarm_schema::{TableDef, tables::RetentionInfo};

use super::Mysql;
use crate::{
    error::Trouble,
    remote::{
        Datum, Failure, Session,
        retention::{Act, Dividing, Part, columns, losses, records},
    },
    retention::{Bound, Loss},
};

impl Mysql {
    async fn bring_back(&mut self, table: &TableDef, kept: &str) -> Result<(), Failure> {
        let columns = columns(table);
        let sql = format!("INSERT IGNORE INTO {} ({columns}) SELECT {columns} FROM {kept}", table.name);
        self.run(&sql).await.map(drop)
    }

    async fn drop_locked(
        &mut self,
        table: &'static TableDef,
        parts: &str,
        act: &Act<'_>,
    ) -> Result<Vec<Loss>, Failure> {
        let (name, kept) = (table.name, kept(table));
        let from = format!("{name} PARTITION ({parts})");
        let losses = losses(self, table, &from).await?;
        for record in records(Self::DIALECT, table, &losses, act) {
            self.run(&record).await?;
        }
        if table.is_interval() {
            let columns = columns(table);
            self.run(&format!(
                "INSERT INTO {kept} ({columns}) SELECT {columns} FROM {from} WHERE destroyed IS NULL"
            ))
            .await?;
        }
        self.run(&format!("ALTER TABLE {name} DROP PARTITION {parts}")).await?;
        if table.is_interval() {
            self.bring_back(table, &kept).await?;
        }
        Ok(losses)
    }
}

fn kept(table: &TableDef) -> String {
    format!("kept_{}", table.name)
}

impl Dividing for Mysql {
    async fn finish(&mut self, table: &'static TableDef) -> Result<(), Failure> {
        let kept = kept(table);
        let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = database() AND table_name = ?";
        if !self.ask(sql, &[&kept]).await?.is_empty() {
            self.bring_back(table, &kept).await?;
            self.run(&format!("DROP TABLE {kept}")).await?;
        }
        Ok(())
    }

    async fn parts(&mut self, table: &'static TableDef) -> Result<Vec<Part>, Failure> {
        let sql = "SELECT partition_name, partition_description FROM information_schema.partitions WHERE table_schema = database() \
                   AND table_name = ? AND partition_name IS NOT NULL ORDER BY partition_ordinal_position";
        let rows = self.ask(sql, &[table.name]).await?;
        if rows.is_empty() {
            let detail = format!("{} is not divided into parts", table.name);
            return Err(Failure::trouble(Trouble::Missing, detail));
        }
        let part = |row: &Vec<Datum>| {
            let name = row.first()?.text()?.to_owned();
            Some(Part { name, below: row.get(1)?.text()?.parse().ok() })
        };
        Ok(rows.iter().filter_map(part).collect())
    }

    async fn divide(
        &mut self,
        table: &'static TableDef,
        _: Option<i64>,
        bounds: &[Bound],
    ) -> Result<(), Failure> {
        let parts: Vec<String> =
            bounds.iter().map(|b| format!("PARTITION {} VALUES LESS THAN ({})", b.name, b.number)).collect();
        let (name, parts) = (table.name, parts.join(", "));
        let sql = format!(
            "ALTER TABLE {name} REORGANIZE PARTITION latest INTO ({parts}, PARTITION latest VALUES LESS THAN MAXVALUE)"
        );
        self.run(&sql).await.map(drop)
    }

    async fn drop_parts(
        &mut self,
        table: &'static TableDef,
        parts: &[String],
        act: &Act<'_>,
    ) -> Result<Vec<Loss>, Failure> {
        let (name, kept) = (table.name, kept(table));
        self.run(&format!("CREATE TABLE {kept} LIKE {name}")).await?;
        self.run(&format!("ALTER TABLE {kept} REMOVE PARTITIONING")).await?;
        let record = Self::DIALECT.stored_name(RetentionInfo::TABLE);
        self.run(&format!("LOCK TABLES {name} WRITE, {kept} WRITE, {record} WRITE")).await?;
        let dropped = self.drop_locked(table, &parts.join(", "), act).await;
        self.run("UNLOCK TABLES").await?;
        let dropped = dropped?;
        self.run(&format!("DROP TABLE {kept}")).await?;
        Ok(dropped)
    }
}
