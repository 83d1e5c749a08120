//! Analysts in the registry. They stand beside the hosts, under an id that begins in a way in which no machine id and no name of a host can.

use super::{Certified, Parameter::Text, Registry, Token};
use crate::StoreError;

/// What the id of an analyst begins with.
const ANALYST: &str = "analyst:";
/// What stands for all hosts.
const ALL: &str = "*";

/// Whose rows an analyst may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of all hosts, also of hosts that come later.
    All,
    /// Those of these hosts, by name. Of none where there are no names.
    Hosts(Vec<String>),
}

/// The id under which an analyst of that name stands where a host has its machine id and its name.
pub fn analyst_id(name: &str) -> String {
    format!("{ANALYST}{name}")
}

impl Token {
    /// The analyst that it is for, if it is for one.
    pub fn analyst(&self) -> Option<&str> {
        self.name.as_deref()?.strip_prefix(ANALYST)
    }
}

impl Certified {
    /// The analyst whose certificate it is; `None` if it is a host's.
    pub fn analyst(&self) -> Option<&str> {
        self.machine_id.strip_prefix(ANALYST)
    }
}

impl Registry {
    /// Forgets what was noted of tokens that are forgotten.
    pub(super) fn forget_scopes(&mut self) -> Result<(), StoreError> {
        let sql = "DELETE FROM luarm_scope WHERE subject NOT LIKE 'analyst:%' AND subject NOT IN (SELECT id FROM luarm_token)";
        self.sql.change(sql, &[])
    }

    /// From now on the one of that id (a token's, or [`analyst_id`]) may see these hosts' rows. If it fails half way, it may see fewer.
    pub fn set_scope(&mut self, id: &str, scope: &Scope) -> Result<(), StoreError> {
        self.sql.change("DELETE FROM luarm_scope WHERE subject = ?", &[Text(id)])?;
        let hosts = match scope {
            Scope::All => &[ALL.to_owned()],
            Scope::Hosts(hosts) => hosts.as_slice(),
        };
        for host in hosts {
            self.sql.insert("luarm_scope", "subject, host", &[Text(id), Text(host)])?;
        }
        Ok(())
    }

    /// Whose rows the one of that id may see; nobody's where nothing was said.
    pub fn scope(&mut self, id: &str) -> Result<Scope, StoreError> {
        let rows =
            self.sql.ask("SELECT host FROM luarm_scope WHERE subject = ? ORDER BY host", &[Text(id)])?;
        let hosts: Vec<String> = rows.into_iter().flatten().flatten().collect();
        Ok(if hosts.iter().any(|host| host == ALL) { Scope::All } else { Scope::Hosts(hosts) })
    }

    /// The names of all analysts that were enrolled, in order.
    pub fn analysts(&mut self) -> Result<Vec<String>, StoreError> {
        let names = self.enrolled()?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(ANALYST)).map(str::to_owned).collect())
    }

    /// The names of all hosts that were enrolled, in order.
    pub fn names(&mut self) -> Result<Vec<String>, StoreError> {
        Ok(self.enrolled()?.into_iter().filter(|name| !name.starts_with(ANALYST)).collect())
    }
}
