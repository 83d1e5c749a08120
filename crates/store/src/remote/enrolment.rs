//! The registry of who may deliver, on a database server.

use std::time::Duration;

use luarm_schema::Dialect;

use super::{Class, Connection, Datum, Failure, Keeping, Session};
use crate::{
    StoreError, StoreUrl,
    registry::{Parameter, RegistrySql, TABLES},
};

/// How long one statement may take before the server counts as gone.
const LIMIT: Duration = Duration::from_secs(20);

/// The statements that make its tables.
pub(crate) fn create(dialect: Dialect) -> impl Iterator<Item = String> {
    // Names are compared byte by byte, as elsewhere.
    let tail = if dialect == Dialect::Mysql { " CHARACTER SET ascii COLLATE ascii_bin" } else { "" };
    TABLES.into_iter().map(move |table| format!("{table}{tail}"))
}

/// A connection for the registry.
pub(crate) struct RemoteRegistry<S: Session> {
    connection: Connection<S>,
}

impl<S: Session> RemoteRegistry<S> {
    /// Opens the store; makes its tables where there are none, if the account may.
    pub(crate) fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let mut connection = Connection::open(url, Keeping::Appending)?;
        let made = async |session: &mut S| {
            if session.ask("SELECT count(*) FROM luarm_scope", &[]).await.is_ok() {
                return Ok(());
            }
            for statement in create(S::DIALECT) {
                session.run(&statement).await?;
            }
            Ok::<_, Failure>(())
        };
        connection.with(Some(LIMIT), made).map_err(|f| f.of("make the registry of", url))?;
        Ok(RemoteRegistry { connection })
    }

    fn run(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Result<Vec<Vec<Datum>>, Failure>, StoreError> {
        let (sql, texts) = spelled(sql, parameters);
        let mut tries = 0;
        loop {
            tries += 1;
            let asked = async |session: &mut S| session.ask(&sql, &texts).await;
            match self.connection.with(Some(LIMIT), asked) {
                Ok(rows) => return Ok(Ok(rows)),
                Err(failure) if failure.class == Class::Doubled => return Ok(Err(failure)),
                // Once: the server may have been restarted since the last statement.
                Err(failure) if tries == 1 && failure.is(crate::error::Trouble::Lost) => {}
                Err(failure) => return Err(failure.of("use the registry of", &self.connection.url)),
            }
        }
    }
}

/// The statement with its numbers and NULLs written out, and its texts.
fn spelled<'a>(sql: &str, parameters: &[Parameter<'a>]) -> (String, Vec<&'a str>) {
    let mut out = String::with_capacity(sql.len() + 32);
    let mut texts = Vec::new();
    let mut parameters = parameters.iter();
    for c in sql.chars() {
        match (c, parameters.as_slice().first()) {
            ('?', Some(parameter)) => {
                match parameter {
                    Parameter::Null => out.push_str("NULL"),
                    Parameter::Int(n) => out.push_str(&n.to_string()),
                    // Of digits and signs only.
                    Parameter::Time(time) => {
                        out.push('\'');
                        out.push_str(&time.to_string());
                        out.push('\'');
                    }
                    Parameter::Text(text) => {
                        out.push('?');
                        texts.push(*text);
                    }
                }
                parameters.next();
            }
            (c, _) => out.push(c),
        }
    }
    (out, texts)
}

impl<S: Session> RegistrySql for RemoteRegistry<S>
where
    Connection<S>: Send,
{
    fn change(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<(), StoreError> {
        match self.run(sql, parameters)? {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.of("use the registry of", &self.connection.url)),
        }
    }

    fn insert(
        &mut self,
        table: &str,
        columns: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<bool, StoreError> {
        let marks = vec!["?"; parameters.len()].join(", ");
        Ok(self.run(&format!("INSERT INTO {table} ({columns}) VALUES ({marks})"), parameters)?.is_ok())
    }

    fn ask(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Vec<Option<String>>>, StoreError> {
        let text = |datum| match datum {
            Datum::Int(n) => Some(n.to_string()),
            Datum::Text(text) => Some(text),
            Datum::Null | Datum::Real(_) | Datum::Time(_) => None,
        };
        match self.run(sql, parameters)? {
            Ok(rows) => Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect()),
            Err(failure) => Err(failure.of("use the registry of", &self.connection.url)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_out_and_texts_are_not() {
        let parameters = [Parameter::Text("a'?"), Parameter::Int(-5), Parameter::Null, Parameter::Text("b")];
        let (sql, texts) = spelled("INSERT INTO t VALUES (?, ?, ?, ?)", &parameters);
        assert_eq!((sql.as_str(), texts), ("INSERT INTO t VALUES (?, -5, NULL, ?)", vec!["a'?", "b"]));
    }
}
