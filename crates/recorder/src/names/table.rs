//! The latest names of each address.

use std::{net::IpAddr, sync::Arc};

use super::Asker;
use crate::{bounded::Generations, context::UNKNOWN_ID};

const ADDRESSES: usize = 32_768;
/// How many names an address has at most, and how many of them by one user, so that nobody crowds out all others.
const NAMES: usize = 16;
const NAMES_OF_USER: usize = 4;

/// That a name stood for an address.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) name: Arc<str>,
    /// The image that asked, and as whom.
    pub(crate) psentity: Option<i64>,
    pub(crate) euid: u32,
    /// It asked for everyone.
    pub(crate) resolver: bool,
}

pub(crate) struct Table {
    /// By address and network namespace; the latest fact stands last.
    facts: Generations<(IpAddr, Option<u32>), Vec<Fact>>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { facts: Generations::new(ADDRESSES) }
    }

    pub(crate) fn len(&self) -> usize {
        self.facts.len()
    }

    pub(crate) fn insert(&mut self, address: IpAddr, netns: Option<u32>, fact: Fact) {
        let key = (address, netns);
        let Some(facts) = self.facts.touch(&key) else {
            self.facts.insert(key, vec![fact]);
            return;
        };
        facts.retain(|known| known.name != fact.name || known.psentity != fact.psentity);
        if facts.iter().filter(|known| known.euid == fact.euid).count() >= NAMES_OF_USER {
            if let Some(oldest) = facts.iter().position(|known| known.euid == fact.euid) {
                facts.remove(oldest);
            }
        } else if facts.len() >= NAMES {
            facts.remove(0);
        }
        facts.push(fact);
    }

    pub(crate) fn lookup(&mut self, address: IpAddr, asker: Asker) -> Option<Arc<str>> {
        let facts = self.facts.touch(&(address, asker.netns))?;
        let latest = |fits: &dyn Fn(&Fact) -> bool| facts.iter().rev().find(|fact| fits(fact));
        let own = latest(&|fact| asker.psentity.is_some() && fact.psentity == asker.psentity);
        own.or_else(|| latest(&|fact| asker.euid != UNKNOWN_ID && fact.euid == asker.euid))
            .or_else(|| latest(&|fact| fact.resolver))
            .map(|fact| Arc::clone(&fact.name))
    }
}
