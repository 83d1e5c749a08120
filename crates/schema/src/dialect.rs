//! DDL in the three dialects. Names of tables and columns are ours, constants, and need no quoting.

use std::fmt::Write as _;

use crate::{Column, Derivation, Kind, Part, Role, TableDef};

/// An engine's way of saying things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite, 3.37 or newer (STRICT tables).
    Sqlite,
    /// MariaDB 10.5 or newer, MySQL 8.0.17 or newer. The two have different names for the collation that minds trailing blanks; each reads
    /// its own from a comment that the other ignores.
    Mysql,
    /// PostgreSQL 14 or newer. Text is ordered by its bytes, as everywhere else, whatever the locale of the database.
    Postgres,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Dialect; 3] = [Dialect::Sqlite, Dialect::Mysql, Dialect::Postgres];

    /// A column's type.
    pub fn type_name(self, column: &Column) -> &'static str {
        match (self, column.kind) {
            (Dialect::Sqlite, Kind::Big | Kind::Int | Kind::Small) => "INTEGER",
            (Dialect::Sqlite, Kind::Real) => "REAL",
            (Dialect::Sqlite, Kind::Text | Kind::Time) => "TEXT",
            (Dialect::Sqlite, Kind::Name) => "TEXT COLLATE RTRIM",
            (_, Kind::Big) => "bigint",
            (Dialect::Mysql, Kind::Int) => "int",
            (Dialect::Postgres, Kind::Int) => "integer",
            (_, Kind::Small) => "smallint",
            (Dialect::Mysql, Kind::Real) => "double",
            (Dialect::Postgres, Kind::Real) => "double precision",
            (Dialect::Mysql, Kind::Text) => "mediumtext",
            (Dialect::Postgres, Kind::Text) => "text COLLATE \"C\"",
            (Dialect::Mysql, Kind::Name) => "varchar(1024) COLLATE utf8mb4_bin",
            (Dialect::Postgres, Kind::Name) => "bpchar COLLATE \"C\"",
            (Dialect::Mysql, Kind::Time) => "datetime(6)",
            (Dialect::Postgres, Kind::Time) => "timestamp(6)",
        }
    }

    /// The statement that makes the table, its keys and derived columns.
    pub fn create_table(self, table: &TableDef) -> String {
        let mut columns = Vec::new();
        for c in table.columns {
            match c.role {
                Role::Derived(_) if self.derives_in_view() => {}
                Role::Derived(d) => columns.push(format!(
                    "{} {} GENERATED ALWAYS AS ({}) VIRTUAL",
                    c.name,
                    self.type_name(c),
                    self.derive(d)
                )),
                _ => {
                    let null = if c.null { "" } else { " NOT NULL" };
                    columns.push(format!("{} {}{null}", c.name, self.type_name(c)));
                }
            }
        }
        columns.push(format!("PRIMARY KEY (host, {})", table.key));
        let tail = match self {
            Dialect::Sqlite => " STRICT",
            Dialect::Mysql => {
                " CHARACTER SET utf8mb4 COLLATE /*M!100500 utf8mb4_nopad_bin */ /*!80017 utf8mb4_0900_bin */"
            }
            Dialect::Postgres => "",
        };
        let name = self.stored_name(table);
        let divided = self.division(table);
        format!("CREATE TABLE {name} (\n    {}\n){tail}{divided}", columns.join(",\n    "))
    }

    /// How a table of [`ACTIVITIES`](crate::ACTIVITIES) is divided by the time in its key, which the key itself allows to be unique, and a row that ends
    /// to be found in the one part that can hold it. At first all is in the part [`LATEST`](Self::LATEST); who retains divides that.
    fn division(self, table: &TableDef) -> String {
        match self {
            _ if !crate::tables::is_activity(table) => String::new(),
            Dialect::Sqlite => String::new(),
            Dialect::Mysql => format!(
                "\nPARTITION BY RANGE ({}) (PARTITION {} VALUES LESS THAN MAXVALUE)",
                table.key,
                Self::LATEST
            ),
            Dialect::Postgres => format!("\nPARTITION BY RANGE ({})", table.key),
        }
    }

    /// The name of the part of a divided table that takes the latest rows; on PostgreSQL the table's name and `_` stand before it.
    pub const LATEST: &str = "latest";

    /// The statements that make what stands beside the table: the indexes and, where needed, the view.
    pub fn create_rest(self, table: &TableDef) -> Vec<String> {
        let mut statements = Vec::new();
        let on = self.stored_name(table);
        if self == Dialect::Postgres && crate::tables::is_activity(table) {
            statements.push(format!(
                "CREATE TABLE {}_{} PARTITION OF {on} FOR VALUES FROM (MINVALUE) TO (MAXVALUE)",
                table.name,
                Self::LATEST
            ));
        }
        for index in table.indexes {
            let columns: Vec<String> = index
                .iter()
                .map(|name| match table.column(name) {
                    // A prefix is enough to find a name, and a key's length is limited.
                    Some(c) if self == Dialect::Mysql && matches!(c.kind, Kind::Text | Kind::Name) => {
                        format!("{name}(64)")
                    }
                    _ => (*name).to_owned(),
                })
                .collect();
            let mut statement = String::new();
            let _ = write!(
                statement,
                "CREATE INDEX {}_{} ON {on} ({})",
                table.name,
                index.join("_"),
                columns.join(", ")
            );
            statements.push(statement);
        }
        // A recorder that starts asks which rows have not ended: few among millions, and most rows are stored already ended.
        if table.is_interval() {
            let (columns, only) = match self {
                Dialect::Mysql => ("destroyed", ""),
                Dialect::Sqlite | Dialect::Postgres => (table.key, " WHERE destroyed IS NULL"),
            };
            statements.push(format!("CREATE INDEX {}_open ON {on} (host, {columns}){only}", table.name));
        }
        if self.derives_in_view() {
            let columns: Vec<String> = table
                .columns
                .iter()
                .map(|c| match c.role {
                    Role::Derived(d) => format!("{} AS {}", self.derive(d), c.name),
                    _ => c.name.to_owned(),
                })
                .collect();
            statements.push(format!(
                "CREATE VIEW {} AS SELECT\n    {}\nFROM {on}",
                table.name,
                columns.join(",\n    ")
            ));
        }
        statements
    }

    /// The expression behind a derived column.
    pub fn derive(self, derivation: Derivation) -> String {
        match (self, derivation) {
            (Dialect::Sqlite, Derivation::Part(part, of)) => {
                let (from, length) = match part {
                    Part::Year => (1, 4),
                    Part::Month => (6, 2),
                    Part::Day => (9, 2),
                    Part::Hour => (12, 2),
                    Part::Minute => (15, 2),
                    Part::Second => (18, 2),
                };
                format!("CAST(substr({of}, {from}, {length}) AS INTEGER)")
            }
            (Dialect::Mysql, Derivation::Part(part, of)) => format!("{}({of})", part.name()),
            (Dialect::Postgres, Derivation::Part(part, of)) => {
                format!("CAST(floor(extract({} FROM {of})) AS smallint)", part.name())
            }
            (Dialect::Sqlite, Derivation::Arguments(of)) => format!(
                "CASE instr({of}, char(10)) WHEN 0 THEN '' ELSE replace(substr({of}, instr({of}, char(10)) + 1), char(10), ' ') END"
            ),
            (Dialect::Mysql, Derivation::Arguments(of)) => format!(
                "CASE locate(char(10 using utf8mb4), {of}) WHEN 0 THEN '' ELSE replace(substr({of}, locate(char(10 using utf8mb4), {of}) + 1), char(10 using utf8mb4), ' ') END"
            ),
            (Dialect::Postgres, Derivation::Arguments(of)) => format!(
                "CASE strpos({of}, chr(10)) WHEN 0 THEN '' ELSE replace(substr({of}, strpos({of}, chr(10)) + 1), chr(10), ' ') END"
            ),
        }
    }

    /// The statement that inserts one row, with a parameter for each of [`TableDef::stored`].
    pub fn insert(self, table: &TableDef) -> String {
        let names: Vec<&str> = table.stored().map(|c| c.name).collect();
        let marks: Vec<String> = (1..=names.len()).map(|n| self.parameter(n)).collect();
        format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.stored_name(table),
            names.join(", "),
            marks.join(", ")
        )
    }

    /// The statement that ends one row: parameters are the `End` columns in order, `dbatch`, `host` and the key. A row that has
    /// ended is left alone. `None` for a table whose rows do not end.
    pub fn end(self, table: &TableDef) -> Option<String> {
        if !table.is_interval() {
            return None;
        }
        let mut n = 0;
        let mut next = || {
            n += 1;
            self.parameter(n)
        };
        let set: Vec<String> = table.ends().map(|c| format!("{} = {}", c.name, next())).collect();
        Some(format!(
            "UPDATE {} SET {}, dbatch = {} WHERE host = {} AND {} = {} AND destroyed IS NULL",
            self.stored_name(table),
            set.join(", "),
            next(),
            next(),
            table.key,
            next()
        ))
    }

    /// The name of the table that rows are stored in.
    pub fn stored_name(self, table: &TableDef) -> String {
        if self.derives_in_view() { format!("{}_stored", table.name) } else { table.name.to_owned() }
    }

    /// Whether the derived columns are those of a view over the stored table. PostgreSQL has no virtual columns; SQLite computes them at each
    /// insert, which takes a quarter of its time.
    fn derives_in_view(self) -> bool {
        match self {
            Dialect::Sqlite | Dialect::Postgres => true,
            Dialect::Mysql => false,
        }
    }

    fn parameter(self, n: usize) -> String {
        match self {
            Dialect::Postgres => format!("${n}"),
            _ => "?".to_owned(),
        }
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Year => "year",
            Part::Month => "month",
            Part::Day => "day",
            Part::Hour => "hour",
            Part::Minute => "minute",
            Part::Second => "second",
        }
    }
}
