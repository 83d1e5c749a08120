//! Who may deliver and who may ask: enrolment tokens, names of hosts and analysts and their certificates, in tables beside the evidence.
//!
//! They are in the store, not in a server's directory, so that several servers on one store agree: a token is good once, whichever of them
//! it is shown to, and a revocation holds for all of them at once. They are no tables of the schema: hosts cannot deliver rows of them, and those who ask the
//! history cannot read them.
//!
//! The SQL is plain enough for every engine; what differs between them is behind [`RegistrySql`].

mod analyst;

use std::fmt;

use luarm_schema::Time;

pub use self::analyst::{Scope, analyst_id};
use crate::{
    StoreError, StoreUrl, mysql::Mysql, postgres::Postgres, remote::RemoteRegistry, sqlite::SqliteRegistry,
};

/// The tables, without what an engine adds to each. A host keeps its name for ever, because its history stands under it.
pub(crate) const TABLES: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS luarm_token (id VARCHAR(64) NOT NULL PRIMARY KEY, hash VARCHAR(64) NOT NULL, expires BIGINT NOT NULL, \
     name VARCHAR(255), usedby VARCHAR(64))",
    "CREATE TABLE IF NOT EXISTS luarm_enrolled (machineid VARCHAR(64) NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS luarm_certificate (fingerprint VARCHAR(64) NOT NULL PRIMARY KEY, machineid VARCHAR(64) NOT NULL, \
     publickey VARCHAR(64) NOT NULL, issued BIGINT NOT NULL, expires BIGINT NOT NULL, revoked BIGINT)",
    "CREATE TABLE IF NOT EXISTS luarm_scope (subject VARCHAR(64) NOT NULL, host VARCHAR(64) NOT NULL, PRIMARY KEY (subject, host))",
];

/// What a server's account needs of each.
pub(crate) const RIGHTS: [(&str, &str); 4] = [
    ("luarm_token", "SELECT, INSERT, UPDATE (usedby), DELETE"),
    ("luarm_enrolled", "SELECT, INSERT, DELETE"),
    ("luarm_certificate", "SELECT, INSERT, UPDATE (revoked)"),
    ("luarm_scope", "SELECT, INSERT, DELETE"),
];

/// What an engine has to do for the registry. Placeholders are `?`.
pub(crate) trait RegistrySql: Send {
    /// Runs a statement that changes rows. It is durable on return.
    fn change(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<(), StoreError>;

    /// Inserts a row, unless one with the same unique value is there. Gives whether it did.
    fn insert(
        &mut self,
        table: &str,
        columns: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<bool, StoreError>;

    /// Asks; every value comes as text, NULL as `None`.
    fn ask(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Vec<Option<String>>>, StoreError>;
}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parameter<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Time(Time),
}

use Parameter::{Int, Text};

/// A token as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public part.
    pub id: String,
    /// Digest of the secret part, in hexadecimal.
    pub hash: String,
    /// Until when it is good.
    pub expires: Time,
    /// The one host that may use it, where it is for one, or the [`analyst_id`] of an analyst.
    pub name: Option<String>,
}

/// A certificate as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// SHA-256 of the certificate in DER, in hexadecimal.
    pub fingerprint: String,
    /// The host's machine id, or the [`analyst_id`] of an analyst.
    pub machine_id: String,
    /// The host's name; again that id of an analyst.
    pub name: String,
    /// SHA-256 of its public key, in hexadecimal.
    pub public_key: String,
    /// Until when it is good.
    pub expires: Time,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// What became of a host's wish for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It has it, and had none before.
    Granted,
    /// It has had it before.
    Had,
    /// The machine has another name.
    Known {
        /// That one.
        name: String,
    },
    /// Another machine has the name.
    Taken,
}

/// The tokens, hosts and certificates of a store.
pub struct Registry {
    sql: Box<dyn RegistrySql>,
}

impl Registry {
    /// Opens the registry of a store.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let sql: Box<dyn RegistrySql> = match url {
            StoreUrl::Sqlite(path) => Box::new(SqliteRegistry::open(path)?),
            StoreUrl::Mysql(_) => Box::new(RemoteRegistry::<Mysql>::open(url)?),
            StoreUrl::Postgres(_) => Box::new(RemoteRegistry::<Postgres>::open(url)?),
        };
        Ok(Registry { sql })
    }

    /// Adds a token, and forgets those that expired long before `now`. A token that is there already is left alone.
    pub fn add_token(&mut self, token: &Token, now: Time) -> Result<(), StoreError> {
        const WEEK: i64 = 7 * 86_400_000_000;
        self.sql.change("DELETE FROM luarm_token WHERE expires < ?", &[Int(now.0 - WEEK)])?;
        self.forget_scopes()?;
        let name = token.name.as_deref().map_or(Parameter::Null, Text);
        let values = [Text(&token.id), Text(&token.hash), Int(token.expires.0), name];
        self.sql.insert("luarm_token", "id, hash, expires, name", &values).map(|_| ())
    }

    /// The token with that public part.
    pub fn token(&mut self, id: &str) -> Result<Option<Token>, StoreError> {
        let rows =
            self.sql.ask("SELECT id, hash, expires, name FROM luarm_token WHERE id = ?", &[Text(id)])?;
        Ok(rows.into_iter().next().and_then(|row| {
            let mut row = row.into_iter();
            let (id, hash) = (row.next()??, row.next()??);
            let expires = Time(row.next()??.parse().ok()?);
            Some(Token { id, hash, expires, name: row.next()? })
        }))
    }

    /// Uses a token up for the key of that digest. `false` if it is used up, unless by the same key: its owner may not have heard of it.
    pub fn use_token(&mut self, id: &str, key: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE luarm_token SET usedby = ? WHERE id = ? AND usedby IS NULL";
        self.sql.change(sql, &[Text(key), Text(id)])?;
        let sql = "SELECT id FROM luarm_token WHERE id = ? AND usedby = ?";
        Ok(!self.sql.ask(sql, &[Text(id), Text(key)])?.is_empty())
    }

    /// Claims a name for a machine.
    pub fn claim(&mut self, machine_id: &str, name: &str) -> Result<Claim, StoreError> {
        let values = [Text(machine_id), Text(name)];
        if self.sql.insert("luarm_enrolled", "machineid, name", &values)? {
            return Ok(Claim::Granted);
        }
        Ok(match self.name(machine_id)? {
            None => Claim::Taken,
            Some(known) if known == name => Claim::Had,
            Some(name) => Claim::Known { name },
        })
    }

    /// Takes back a claim that was granted, of a machine that got no certificate after all.
    pub fn unclaim(&mut self, machine_id: &str) -> Result<(), StoreError> {
        self.sql.change("DELETE FROM luarm_enrolled WHERE machineid = ?", &[Text(machine_id)])
    }

    /// Whether the machine has a certificate for that public key that was not revoked.
    pub fn has_key(&mut self, machine_id: &str, public_key: &str) -> Result<bool, StoreError> {
        let sql = "SELECT fingerprint FROM luarm_certificate WHERE machineid = ? AND publickey = ? AND revoked IS NULL";
        Ok(!self.sql.ask(sql, &[Text(machine_id), Text(public_key)])?.is_empty())
    }

    fn name(&mut self, machine_id: &str) -> Result<Option<String>, StoreError> {
        let rows =
            self.sql.ask("SELECT name FROM luarm_enrolled WHERE machineid = ?", &[Text(machine_id)])?;
        Ok(rows.into_iter().flatten().next().flatten())
    }

    /// Notes a certificate that was made for a host whose name is claimed.
    pub fn add_certificate(&mut self, certified: &Certified, now: Time) -> Result<(), StoreError> {
        let Certified { fingerprint, machine_id, public_key, expires, .. } = certified;
        let values = [Text(fingerprint), Text(machine_id), Text(public_key), Int(now.0), Int(expires.0)];
        let columns = "fingerprint, machineid, publickey, issued, expires";
        self.sql.insert("luarm_certificate", columns, &values).map(|_| ())
    }

    /// The certificate with that fingerprint.
    pub fn certificate(&mut self, fingerprint: &str) -> Result<Option<Certified>, StoreError> {
        let rows = self.sql.ask(
            "SELECT c.machineid, h.name, c.publickey, c.expires, c.revoked FROM luarm_certificate c JOIN luarm_enrolled h ON h.machineid = c.machineid \
             WHERE c.fingerprint = ?",
            &[Text(fingerprint)],
        )?;
        Ok(rows.into_iter().next().and_then(|row| {
            let mut row = row.into_iter();
            let (machine_id, name, public_key) = (row.next()??, row.next()??, row.next()??);
            let expires = Time(row.next()??.parse().ok()?);
            let revoked = row.next()?.is_some();
            let fingerprint = fingerprint.to_owned();
            Some(Certified { fingerprint, machine_id, name, public_key, expires, revoked })
        }))
    }

    /// Revokes every certificate of the host of that name or machine id. `None` if there is no such host, else how many were good.
    pub fn revoke(&mut self, host: &str, now: Time) -> Result<Option<u64>, StoreError> {
        let rows = self.sql.ask(
            "SELECT machineid FROM luarm_enrolled WHERE name = ? OR machineid = ?",
            &[Text(host), Text(host)],
        )?;
        let Some(machine_id) = rows.into_iter().flatten().next().flatten() else {
            return Ok(None);
        };
        let sql = "SELECT fingerprint FROM luarm_certificate WHERE machineid = ? AND revoked IS NULL";
        let good = self.sql.ask(sql, &[Text(&machine_id)])?.len();
        let sql = "UPDATE luarm_certificate SET revoked = ? WHERE machineid = ? AND revoked IS NULL";
        self.sql.change(sql, &[Int(now.0), Text(&machine_id)])?;
        Ok(Some(good as u64))
    }

    /// The names of all hosts that have a certificate that was not revoked, in order.
    pub fn trusted(&mut self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT DISTINCT h.name FROM luarm_enrolled h JOIN luarm_certificate c ON c.machineid = h.machineid WHERE c.revoked IS NULL AND h.machineid NOT LIKE 'analyst:%' ORDER BY h.name";
        Ok(self.sql.ask(sql, &[])?.into_iter().flatten().flatten().collect())
    }

    fn enrolled(&mut self) -> Result<Vec<String>, StoreError> {
        let rows = self.sql.ask("SELECT name FROM luarm_enrolled ORDER BY name", &[])?;
        Ok(rows.into_iter().flatten().flatten().collect())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}
