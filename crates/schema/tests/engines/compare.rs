//! Two engines, the same rows, the same questions.

use luarm_schema::{Column, Dialect, Kind, TABLES, TableDef};

use crate::{
    Engine,
    rows::{self, Rows},
    seed,
    sqlite::Sqlite,
};

/// Makes the tables in both, loads the same rows, and compares whatever can be asked.
pub(crate) fn with_sqlite(engine: &impl Engine) {
    let sqlite = Sqlite::start();
    create(&sqlite);
    create(engine);
    for table in TABLES {
        indexes(&sqlite, table);
        indexes(engine, table);
    }

    let load = |table, rows: &Rows| {
        sqlite.load(table, rows);
        engine.load(table, rows);
        contents(&sqlite, engine, table);
    };
    for table in TABLES {
        load(table, &rows::hostile(table));
        empty(&sqlite, table);
        empty(engine, table);
    }
    for rows in seed::rows() {
        let Rows::Real(real) = &rows else { panic!("made-up rows") };
        load(real[0].table(), &rows);
    }
    for (question, count) in seed::questions() {
        let sorted = |mut answer: Vec<String>| {
            if !question.contains("order by") {
                answer.sort();
            }
            answer
        };
        let answer = sorted(engine.ask(question));
        assert_eq!(answer, sorted(sqlite.ask(question)), "{question}");
        assert_eq!(answer.len(), count, "{question}: {answer:?}");
    }
    for (question, index) in seed::indexed() {
        let plan = engine.ask(&format!("{}{question}", engine.explain())).concat();
        // PostgreSQL names the index of the part that holds the rows.
        let plan = plan.replace("_latest_", "_");
        assert!(plan.contains(index), "{question} does not use {index}: {plan}");
    }
    assert_eq!(engine.ask(seed::LONG), sqlite.ask(seed::LONG));
}

fn create(engine: &impl Engine) {
    let mut script = String::new();
    for table in TABLES {
        let statements =
            [vec![engine.dialect().create_table(table)], engine.dialect().create_rest(table)].concat();
        script.extend(statements.iter().map(|s| format!("{s};\n")));
    }
    assert_eq!(engine.ask(&script), [""; 0]);
}

fn indexes(engine: &impl Engine, table: &TableDef) {
    let found = engine.indexes(table);
    let key: &[&str] = &["host", table.key];
    for wanted in table.indexes.iter().chain([&key]) {
        assert!(found.contains(&wanted.join(",")), "no index on {wanted:?} of {}: {found:?}", table.name);
    }
}

fn empty(engine: &impl Engine, table: &TableDef) {
    let name = engine.dialect().stored_name(table);
    engine.ask(&format!("DELETE FROM {name}"));
}

/// Every column of every row, the derived ones too.
fn contents(left: &impl Engine, right: &impl Engine, table: &TableDef) {
    let dump = |engine: &dyn Engine| {
        let columns: Vec<String> = table.columns.iter().map(|c| plain(engine.dialect(), c)).collect();
        engine.ask(&format!(
            "SELECT {} FROM {1} ORDER BY {1}.host, {1}.{2}",
            columns.join(", "),
            table.name,
            table.key
        ))
    };
    let (left, right) = (dump(left), dump(right));
    assert_eq!(left.len(), right.len(), "{}", table.name);
    for (row, (left, right)) in left.iter().zip(&right).enumerate() {
        let values = table.columns.len();
        assert_eq!((left.split('\t').count(), right.split('\t').count()), (values, values), "{}", table.name);
        for ((column, left), right) in table.columns.iter().zip(left.split('\t')).zip(right.split('\t')) {
            let same = match column.kind {
                Kind::Real if left != "-" => left.parse::<f64>().ok() == right.parse().ok(),
                _ => left == right,
            };
            assert!(same, "{}.{}, row {row}: {left:.300} and {right:.300}", table.name, column.name);
        }
    }
}

/// The column's value without characters that a client would change, `-` for NULL.
fn plain(dialect: Dialect, column: &Column) -> String {
    let name = column.name;
    let text = match (dialect, column.kind) {
        (Dialect::Postgres, Kind::Name) => format!("upper(encode(bpcharsend({name}), 'hex'))"),
        (Dialect::Postgres, Kind::Text) => format!("upper(encode(textsend({name}), 'hex'))"),
        (_, Kind::Name | Kind::Text) => format!("hex({name})"),
        (Dialect::Postgres, Kind::Time) => format!("to_char({name}, 'YYYY-MM-DD HH24:MI:SS.US')"),
        // SQLite's own text of a double has 15 digits only.
        (Dialect::Sqlite, Kind::Real) => format!("printf('%!.17g', {name})"),
        (Dialect::Mysql, _) => format!("CAST({name} AS char)"),
        _ => format!("CAST({name} AS text)"),
    };
    format!("CASE WHEN {name} IS NULL THEN '-' ELSE {text} END")
}
