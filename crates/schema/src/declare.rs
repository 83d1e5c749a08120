//! The macro that declares a table, and what a declaration is at run time.

use crate::value::Kind;

/// A table as the rest of luarm sees it.
#[derive(Debug)]
pub struct TableDef {
    /// Its name in every store.
    pub name: &'static str,
    /// What a row is, one paragraph.
    pub doc: &'static str,
    /// The column that, with `host`, is the primary key.
    pub key: &'static str,
    /// Every column, in the order in which stores declare and bind them; derived columns stand last.
    pub columns: &'static [Column],
    /// The secondary indexes.
    pub indexes: &'static [Index],
}

/// One secondary index: its columns.
pub type Index = &'static [&'static str];

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name in every store.
    pub name: &'static str,
    /// What it holds, with unit and source.
    pub doc: &'static str,
    /// What it holds, for the engine.
    pub kind: Kind,
    /// Whether it may be NULL.
    pub null: bool,
    /// When its value is set.
    pub role: Role,
}

/// When the value of a column is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role {
    /// By the store: the number of the host that the row belongs to.
    Host,
    /// When the row is created, and never after.
    Begin,
    /// NULL until the row ends, and set once.
    End,
    /// By the schema: MD5 of the canonical bytes of the `Begin` columns.
    Md5,
    /// By the store: the batch that created the row.
    Batch,
    /// By the store: the batch that ended the row.
    EndBatch,
    /// Never stored: computed from other columns.
    Derived(Derivation),
}

/// How a derived column is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Derivation {
    /// A part of an instant.
    Part(Part, &'static str),
    /// What follows the first member of a list column, with blanks for the separators.
    Arguments(&'static str),
}

/// A part of an instant, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The year, four digits.
    Year,
    /// 1 to 12.
    Month,
    /// 1 to 31.
    Day,
    /// 0 to 23.
    Hour,
    /// 0 to 59.
    Minute,
    /// 0 to 59.
    Second,
}

impl TableDef {
    /// The columns that a store binds when it inserts a row, in order.
    pub fn stored(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().filter(|c| !matches!(c.role, Role::Derived(_)))
    }

    /// The columns that are set when a row ends, in order.
    pub fn ends(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().filter(|c| c.role == Role::End)
    }

    /// Whether rows of this table end.
    pub fn is_interval(&self) -> bool {
        self.ends().next().is_some()
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

macro_rules! column {
    ($name:ident, $ty:ty, $null:expr, $role:expr, $($doc:literal)+) => {
        $crate::Column {
            name: stringify!($name),
            doc: concat!($($doc, "\n"),+),
            kind: <$ty as $crate::Field>::KIND,
            null: $null || <$ty as $crate::Field>::NULL,
            role: $role,
        }
    };
}

macro_rules! part {
    ($name:literal, $part:ident, $of:literal, $null:literal, $doc:literal) => {
        $crate::Column {
            name: $name,
            doc: concat!($doc, " of `", $of, "`, derived."),
            kind: $crate::Kind::Small,
            null: $null,
            role: $crate::Role::Derived($crate::Derivation::Part($crate::Part::$part, $of)),
        }
    };
}

/// The columns that exist beside the declared ones, by the words after `with`.
macro_rules! implied {
    (created) => {
        [
            part!("cyear", Year, "created", false, "Year"),
            part!("cmonth", Month, "created", false, "Month"),
            part!("cday", Day, "created", false, "Day"),
            part!("chour", Hour, "created", false, "Hour"),
            part!("cmin", Minute, "created", false, "Minute"),
            part!("csec", Second, "created", false, "Second"),
        ]
    };
    (destroyed) => {
        [
            part!("dyear", Year, "destroyed", true, "Year"),
            part!("dmonth", Month, "destroyed", true, "Month"),
            part!("dday", Day, "destroyed", true, "Day"),
            part!("dhour", Hour, "destroyed", true, "Hour"),
            part!("dmin", Minute, "destroyed", true, "Minute"),
            part!("dsec", Second, "destroyed", true, "Second"),
        ]
    };
}

/// Declares a table: the struct of its rows, the struct of what ends them, and its [`TableDef`].
///
/// Every table has `host`, `created` and `batch`; `md5sum` is on all of them as in the seed. A table whose rows end
/// declares the columns under `end`, `destroyed` first.
macro_rules! table {
    (
        $(#[doc = $doc:literal])+
        $name:ident: $Row:ident, $End:ident, key $key:ident;
        begin { $($(#[doc = $bdoc:literal])+ $bcol:ident: $bty:ty,)+ }
        end { $($(#[doc = $edoc:literal])+ $ecol:ident: $ety:ty,)* }
        derived { $($(#[doc = $ddoc:literal])+ $dcol:ident = $derivation:expr,)* }
        index { $(($($icol:ident),+))* }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Row {
            $($(#[doc = $bdoc])+ pub $bcol: $bty,)+
            /// When and how the row ended, if it did.
            pub end: Option<$End>,
        }

        #[doc = concat!("What ends a row of `", stringify!($name), "`.")]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $End {
            $($(#[doc = $edoc])+ pub $ecol: $ety,)*
        }

        impl $Row {
            /// The declaration.
            pub const TABLE: &'static $crate::TableDef = &$crate::TableDef {
                name: stringify!($name),
                doc: concat!($($doc, "\n"),+),
                key: stringify!($key),
                columns: {
                    const DECLARED: &[$crate::Column] = &[
                        $crate::Column {
                            name: "host",
                            doc: "Number of the audited computer in this store: `hostinfo.host`.",
                            kind: $crate::Kind::Int,
                            null: false,
                            role: $crate::Role::Host,
                        },
                        $(column!($bcol, $bty, false, $crate::Role::Begin, $($bdoc)+),)+
                        $(column!($ecol, $ety, true, $crate::Role::End, $($edoc)+),)*
                        $crate::Column {
                            name: "md5sum",
                            doc: "MD5 over the values that the row was created with: tells rows apart and shows accidents; not evidence.",
                            kind: $crate::Kind::Text,
                            null: false,
                            role: $crate::Role::Md5,
                        },
                        $crate::Column {
                            name: "batch",
                            doc: "The batch that created the row: `batchinfo.batchid`.",
                            kind: $crate::Kind::Big,
                            null: false,
                            role: $crate::Role::Batch,
                        },
                    ];
                    const ENDS: &[$crate::Column] = &[
                        $crate::Column {
                            name: "dbatch",
                            doc: "The batch that ended the row: `batchinfo.batchid`.",
                            kind: $crate::Kind::Big,
                            null: true,
                            role: $crate::Role::EndBatch,
                        },
                    ];
                    const END_NAMES: &[&str] = &[$(stringify!($ecol)),*];
                    const DERIVED: &[$crate::Column] = &[
                        $($crate::Column {
                            name: stringify!($dcol),
                            doc: concat!($($ddoc, "\n"),+),
                            kind: $crate::Kind::Text,
                            null: true,
                            role: $crate::Role::Derived($derivation),
                        },)*
                    ];
                    const C: &[$crate::Column] = &implied!(created);
                    const D: &[$crate::Column] = &implied!(destroyed);
                    const PARTS: &[&[$crate::Column]] = if !END_NAMES.is_empty() {
                        &[DECLARED, ENDS, DERIVED, C, D]
                    } else {
                        &[DECLARED, DERIVED, C]
                    };
                    const N: usize = $crate::declare::total(PARTS);
                    const ALL: [$crate::Column; N] = $crate::declare::concat(PARTS);
                    &ALL
                },
                indexes: &[$(&[$(stringify!($icol)),+]),*],
            };

            /// The key: unique within the host.
            pub fn key(&self) -> i64 {
                self.$key
            }

            /// When it began.
            pub fn created(&self) -> $crate::Time {
                self.created
            }

            /// Gives the values of the `Begin` columns, in order.
            pub fn begin<S: $crate::Sink + ?Sized>(&self, sink: &mut S) {
                $(sink.put($crate::Field::value(&self.$bcol));)+
            }

            /// The row that has these values in its `Begin` columns and has not ended; `None` if none has.
            pub fn read<S: $crate::Source + ?Sized>(source: &mut S) -> Option<Self> {
                Some(Self { $($bcol: $crate::Field::read(source.take())?,)+ end: None })
            }
        }

        impl $End {
            /// Gives the values of the `End` columns, in order.
            pub fn put<S: $crate::Sink + ?Sized>(&self, sink: &mut S) {
                let _ = &sink;
                $(sink.put($crate::Field::value(&self.$ecol));)*
            }

            /// The end that has these values in its `End` columns; `None` if none has.
            pub fn read<S: $crate::Source + ?Sized>(source: &mut S) -> Option<Self> {
                let _ = &source;
                Some(Self { $($ecol: $crate::Field::read(source.take())?,)* })
            }
        }
    };
}

/// How many columns the parts have together.
pub(crate) const fn total(parts: &[&[Column]]) -> usize {
    let mut n = 0;
    let mut part = 0;
    while part < parts.len() {
        n += parts[part].len();
        part += 1;
    }
    n
}

/// The columns of the parts one after the other; `N` is their [`total`].
pub(crate) const fn concat<const N: usize>(parts: &[&[Column]]) -> [Column; N] {
    const EMPTY: Column = Column { name: "", doc: "", kind: Kind::Big, null: false, role: Role::Host };
    let mut all = [EMPTY; N];
    let (mut part, mut n) = (0, 0);
    while part < parts.len() {
        let mut at = 0;
        while at < parts[part].len() {
            let c = &parts[part][at];
            all[n] = Column { name: c.name, doc: c.doc, kind: c.kind, null: c.null, role: c.role };
            n += 1;
            at += 1;
        }
        part += 1;
    }
    all
}

/// Declares the enums over all tables, and the list of them.
macro_rules! tables {
    ($($Row:ident, $End:ident;)+) => {
        /// Every table, in the order in which they are created and documented.
        pub const TABLES: &[&$crate::TableDef] = &[$($Row::TABLE),+];

        /// A row of any table.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Row {
            $(#[doc = concat!("A row of [`", stringify!($Row), "`].")] $Row(Box<$Row>),)+
        }

        /// What ends a row of any table.
        #[derive(Debug, Clone, PartialEq)]
        pub enum End {
            $(#[doc = concat!("Ends a row of [`", stringify!($Row), "`].")] $Row($End),)+
        }

        #[derive(Clone, Copy)]
        enum Position { $($Row),+ }

        impl Row {
            /// The declaration of its table.
            pub fn table(&self) -> &'static $crate::TableDef {
                TABLES[self.position()]
            }

            /// Where its table stands in [`TABLES`].
            pub fn position(&self) -> usize {
                match self { $(Row::$Row(_) => Position::$Row as usize,)+ }
            }

            /// The key: unique within host and table.
            pub fn key(&self) -> i64 {
                match self { $(Row::$Row(row) => row.key(),)+ }
            }

            /// When it began.
            pub fn created(&self) -> $crate::Time {
                match self { $(Row::$Row(row) => row.created(),)+ }
            }

            /// Gives the values of the `Begin` columns, in order.
            pub fn begin<S: $crate::Sink + ?Sized>(&self, sink: &mut S) {
                match self { $(Row::$Row(row) => row.begin(sink),)+ }
            }

            /// Gives the values of the `End` columns, in order; NULL for each while the row lasts.
            pub fn end<S: $crate::Sink + ?Sized>(&self, sink: &mut S) -> bool {
                let table = self.table();
                match self {
                    $(Row::$Row(row) => if let Some(end) = &row.end {
                        end.put(sink);
                        return true;
                    },)+
                }
                for _ in table.ends() {
                    sink.put($crate::Value::Null);
                }
                false
            }

            /// Whether it has ended.
            pub fn is_ended(&self) -> bool {
                match self { $(Row::$Row(row) => row.end.is_some(),)+ }
            }

            /// The row of that table that has these values in its `Begin` columns and has not ended; `None` if none has.
            pub fn read<S: $crate::Source + ?Sized>(table: &$crate::TableDef, source: &mut S) -> Option<Self> {
                $(if table.name == $Row::TABLE.name {
                    return $Row::read(source).map(Row::from);
                })+
                None
            }

            /// Ends a row that is not stored yet. An end of another table is ignored and `false` returned.
            pub fn set_end(&mut self, end: End) -> bool {
                match (self, end) {
                    $((Row::$Row(row), End::$Row(end)) => { row.end = Some(end); true })+
                    _ => false,
                }
            }
        }

        impl End {
            /// The declaration of its table.
            pub fn table(&self) -> &'static $crate::TableDef {
                TABLES[self.position()]
            }

            /// Where its table stands in [`TABLES`].
            pub fn position(&self) -> usize {
                match self { $(End::$Row(_) => Position::$Row as usize,)+ }
            }

            /// Gives the values of the `End` columns, in order.
            pub fn put<S: $crate::Sink + ?Sized>(&self, sink: &mut S) {
                match self { $(End::$Row(end) => end.put(sink),)+ }
            }

            /// The end of a row of that table that has these values in its `End` columns; `None` if none has.
            pub fn read<S: $crate::Source + ?Sized>(table: &$crate::TableDef, source: &mut S) -> Option<Self> {
                $(if table.name == $Row::TABLE.name {
                    return $End::read(source).map(End::$Row);
                })+
                None
            }
        }

        $(impl From<$Row> for Row {
            fn from(row: $Row) -> Self {
                Row::$Row(Box::new(row))
            }
        })+
    };
}
