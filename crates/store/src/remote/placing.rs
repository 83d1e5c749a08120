//! The routine `make_place` in the store, with which a host gets its place: made by the owner, run with the owner's rights, called by whoever appends.
//!
//! So the account of a server, which may make no database, schema or view, has them made for a host that enrols later, and can have nothing else made
//! by it: all it hands over is the number of a host. Which name is used and what is made is decided in here, and a name is quoted wherever it is
//! used. Whoever may read the rows of all hosts, and add none, may read what is made.

use luarm_schema::{Dialect, TABLES, TableDef};

/// The tables that the seed's console shows.
const SEED: [&str; 8] =
    ["fileinfo", "groupinfo", "hostinfo", "hwinfo", "netinfo", "netint", "netroute", "psinfo"];

/// What stands behind the name of the place with all tables.
pub(crate) const ALL: &str = "_all";

/// Bytes of a name that every engine takes, with [`ALL`] behind it.
const LONGEST: usize = 59;

/// Names that belong to the engines or to luarm itself, in small letters.
const TAKEN: [&str; 9] = [
    "mysql",
    "information_schema",
    "performance_schema",
    "sys",
    "test",
    "public",
    "luarm",
    "lost+found",
    "mariadb",
];

/// How names begin that belong to the engines or to luarm itself. MariaDB lets everybody change what is in a database `test_…`, unless somebody has forbidden it.
const TAKEN_BEGINNINGS: [&str; 3] = ["pg_", "host_", "test_"];

/// The name of the routine, as its caller writes it.
pub(crate) const fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Mysql => "make_place",
        _ => "luarm.make_place",
    }
}

/// The statement that calls the routine for a host.
pub(crate) fn call(dialect: Dialect, host: i64) -> String {
    let verb = if dialect == Dialect::Mysql { "CALL" } else { "SELECT" };
    format!("{verb} {}({host})", name(dialect))
}

/// The statements that make the routine. `store` is the database that luarm's tables are in.
pub(crate) fn create(dialect: Dialect, store: &str) -> Vec<String> {
    match dialect {
        Dialect::Mysql => vec![mysql(store)],
        _ => vec![
            postgres(),
            format!("REVOKE ALL ON FUNCTION {}(integer) FROM PUBLIC", name(Dialect::Postgres)),
        ],
    }
}

/// The condition that `wanted`, of which `long` gives the bytes, can name a place, as far as both engines put it alike.
fn fits(long: &str) -> String {
    let taken: Vec<String> = TAKEN.iter().map(|name| format!("'{name}'")).collect();
    let begins = TAKEN_BEGINNINGS.iter().map(|b| format!(" AND left(lower(wanted), {}) <> '{b}'", b.len()));
    let begins: String = begins.collect();
    format!(
        "wanted <> '' AND {long} <= {LONGEST} AND lower(wanted) NOT IN ({}){begins} \
         AND right(lower(wanted), {}) <> '{ALL}'",
        taken.join(", "),
        ALL.len()
    )
}

fn tables(all: bool) -> impl Iterator<Item = &'static TableDef> {
    TABLES.iter().copied().filter(move |table| all || SEED.contains(&table.name))
}

fn columns(table: &TableDef) -> String {
    table.columns.iter().map(|c| c.name).collect::<Vec<_>>().join(", ")
}

/// Nobody else makes one meanwhile, at any node of a cluster (`lease`): whoever comes second is told that the row is there.
///
/// Text is put together with the environment that the routine was made in, whatever its caller has set (MariaDB, stored routine privileges and
/// `SHOW CREATE PROCEDURE`).
fn mysql(store: &str) -> String {
    let store = format!("`{}`", store.replace('`', "``")).replace('\\', "\\\\").replace('\'', "''");
    let run = |text: &str| {
        format!(
            "SET @luarm = concat({text}); PREPARE luarm FROM @luarm; EXECUTE luarm; DEALLOCATE PREPARE luarm;\n"
        )
    };
    let mut made = String::new();
    for (place, all) in [("quoted", false), ("quotedall", true)] {
        made.push_str(&run(&format!("'CREATE DATABASE IF NOT EXISTS ', {place}")));
        for table in tables(all) {
            let (table, columns) = (table.name, columns(table));
            made.push_str(&run(&format!(
                "'CREATE OR REPLACE SQL SECURITY DEFINER VIEW ', {place}, '.{table} AS SELECT {columns} FROM {store}.{table} WHERE host = ', number"
            )));
        }
    }
    // In a grant on a database these two stand for other characters.
    let pattern = |place: &str| {
        format!(
            "replace(replace({place}, '_', concat(char(92 USING utf8mb4), '_')), '%', concat(char(92 USING utf8mb4), '%'))"
        )
    };
    // An owner that may not hand on rights has the views made nevertheless.
    let granted: String = ["quoted", "quotedall"]
        .map(|place| run(&format!("'GRANT SELECT, SHOW VIEW ON ', {}, '.* TO ', account", pattern(place))))
        .concat();
    // A directory is named after it, in which most characters take five.
    let fits = fits("length(wanted)");
    let text = "text CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
    format!(
        "CREATE PROCEDURE make_place(IN number int) SQL SECURITY DEFINER MODIFIES SQL DATA\n\
BEGIN\n\
DECLARE wanted, chosen, quoted, quotedall, account {text};\n\
DECLARE isplaced, finished, leased int DEFAULT 0;\n\
DECLARE readers CURSOR FOR SELECT DISTINCT r.grantee FROM information_schema.table_privileges r \
WHERE r.table_schema = database() AND r.table_name = 'netinfo' AND r.privilege_type = 'SELECT' AND NOT EXISTS \
(SELECT 1 FROM information_schema.table_privileges w WHERE w.table_schema = r.table_schema AND w.table_name = r.table_name \
AND w.privilege_type = 'INSERT' AND w.grantee = r.grantee);\n\
DECLARE CONTINUE HANDLER FOR NOT FOUND SET finished = 1;\n\
DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN IF leased THEN DELETE FROM luarmlease WHERE name = 'place'; END IF; RESIGNAL; END;\n\
SELECT name, place, placed INTO wanted, chosen, isplaced FROM luarmhost WHERE host = number;\n\
IF wanted IS NULL THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'there is no such host'; END IF;\n\
IF isplaced = 0 THEN\n\
DELETE FROM luarmlease WHERE name = 'place' AND until < utc_timestamp(6);\n\
INSERT INTO luarmlease (name, holder, until) VALUES ('place', '', utc_timestamp(6) + INTERVAL 120 SECOND);\n\
SET leased = 1;\n\
SELECT place, placed INTO chosen, isplaced FROM luarmhost WHERE host = number;\n\
IF isplaced = 0 THEN\n\
IF chosen IS NULL THEN\n\
SET chosen = concat('host_', number);\n\
IF {fits} AND wanted NOT LIKE '%#%' AND hex(wanted) NOT REGEXP '^(..)*(0[0-9A-F]|1[0-9A-F]|7F|F[0-9A-F])' AND right(wanted, 1) <> ' ' \
AND char_length(wanted) + 4 * char_length(regexp_replace(wanted, '[A-Za-z0-9_]', '')) <= 240 \
AND NOT EXISTS (SELECT 1 FROM information_schema.schemata \
WHERE lower(schema_name) IN (lower(wanted), lower(concat(wanted, '{ALL}')))) THEN SET chosen = wanted; END IF;\n\
UPDATE luarmhost SET place = chosen WHERE host = number;\n\
END IF;\n\
SET quoted = concat('`', replace(chosen, '`', '``'), '`');\n\
SET quotedall = concat('`', replace(chosen, '`', '``'), '{ALL}`');\n\
{made}\
OPEN readers;\n\
SET finished = 0;\n\
granting: LOOP\n\
FETCH readers INTO account;\n\
IF finished THEN LEAVE granting; END IF;\n\
IF account REGEXP '^''[^'']*''@''[^'']*''$' AND account NOT LIKE concat('%', char(92 USING utf8mb4), char(92 USING utf8mb4), '%') THEN\n\
BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;\n\
{granted}\
END;\n\
END IF;\n\
END LOOP;\n\
CLOSE readers;\n\
UPDATE luarmhost SET placed = 1 WHERE host = number;\n\
END IF;\n\
DELETE FROM luarmlease WHERE name = 'place';\n\
END IF;\n\
END"
    )
}

/// Whatever is named without its schema is the engine's own: a temporary function or table of the caller is not found.
fn postgres() -> String {
    let mut made = String::new();
    for (place, all) in [("chosen", false), ("chosenall", true)] {
        made.push_str(&format!("EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', {place});\n"));
        for table in tables(all) {
            let (table, columns) = (table.name, columns(table));
            // What an analyst's own functions are shown are rows of this host only.
            made.push_str(&format!(
                "EXECUTE format('CREATE OR REPLACE VIEW %I.{table} WITH (security_barrier) AS \
                 SELECT {columns} FROM luarm.{table} WHERE host = %s', {place}, number);\n"
            ));
        }
    }
    let granted: String = ["chosen", "chosenall"]
        .map(|place| {
            format!(
                "EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', {place}, reader);\n\
                 EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', {place}, reader);\n"
            )
        })
        .concat();
    let fits = fits("octet_length(wanted)");
    format!(
        "CREATE OR REPLACE FUNCTION luarm.make_place(number integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER \
SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $luarm$\n\
DECLARE wanted text; chosen text; chosenall text; isplaced integer; reader name;\n\
BEGIN\n\
SELECT h.name, h.place, h.placed INTO wanted, chosen, isplaced FROM luarm.luarmhost h WHERE h.host = number;\n\
IF wanted IS NULL THEN RAISE EXCEPTION 'there is no such host'; END IF;\n\
IF isplaced <> 0 THEN RETURN; END IF;\n\
IF chosen IS NULL THEN\n\
chosen := 'host_' || number;\n\
IF {fits} AND wanted !~ '[[:cntrl:]#]' AND wanted !~ '[[:space:]]$' AND wanted !~ '[\\U00010000-\\U0010FFFF]' \
AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname IN (wanted, wanted || '{ALL}')) THEN chosen := wanted; END IF;\n\
UPDATE luarm.luarmhost h SET place = chosen WHERE h.host = number;\n\
END IF;\n\
chosenall := chosen || '{ALL}';\n\
{made}\
FOR reader IN SELECT r.rolname FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee \
WHERE c.oid = 'luarm.netinfo'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner \
AND NOT has_table_privilege(a.grantee, 'luarm.netinfo_stored'::regclass, 'INSERT') LOOP\n\
{granted}\
END LOOP;\n\
UPDATE luarm.luarmhost h SET placed = 1 WHERE h.host = number;\n\
END $luarm$"
    )
}
