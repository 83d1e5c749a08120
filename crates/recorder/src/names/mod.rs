//! Which name stood for which address, for whom.
//!
//! A name is taken from an answer only where the same socket asked the question. And it is used only for who could have used it: the image that
//! asked, else its user, else everyone where a resolver of the system asked. What another user asks is never used, because he may have answered
//! it himself: he could make the connections of others look as if they went elsewhere. What he can do is crowd out names of others, and see to
//! it that an address has no name; nameinfo still has it.

pub mod dns;
mod hosts;
mod stream;
mod table;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use luarm_schema::{HostName, Word, escape::escape, tables::NameInfo};
use luarm_sensor::{
    BootNs,
    observation::{Actor, Dns, EndpointId, Transport},
};

use self::{
    dns::{Data, Message, Question},
    hosts::Hosts,
    stream::Stream,
    table::{Fact, Table},
};
use crate::{
    bounded::Generations,
    context::{Context, UNKNOWN_ID},
    process::Processes,
};

const QUESTIONS: usize = 16_384;
const STREAMS: usize = 512;
const TOLD: usize = 32_768;
/// A question without answer is forgotten after this.
const PATIENCE: BootNs = 30_000_000_000;
/// How many aliases are followed.
const CHAIN: usize = 16;

/// Users as which resolvers run that answer for the whole host.
const RESOLVERS: [&str; 12] = [
    "systemd-resolve",
    "systemd-network",
    "unbound",
    "_unbound",
    "dnsmasq",
    "named",
    "bind",
    "nscd",
    "dns",
    "pdns-recursor",
    "knot-resolver",
    "dnscrypt-proxy",
];

/// Who wants to know, or wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) psentity: Option<i64>,
    pub(crate) euid: u32,
    /// `None` for the host's own.
    pub(crate) netns: Option<u32>,
}

struct Asked {
    at: BootNs,
    asker: Asker,
    actor: Option<Actor>,
}

/// What went wrong with messages since it was told last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wrong {
    pub(crate) malformed: u64,
    pub(crate) gaps: u64,
    pub(crate) more: u64,
}

type Told = (Arc<str>, IpAddr, Option<u32>, Option<i64>);

pub(crate) struct Names {
    table: Table,
    hosts: Hosts,
    questions: Generations<(u64, u16, Question), Asked>,
    streams: Generations<(u64, bool), Stream>,
    told: Generations<Told, ()>,
    pub(crate) wrong: Wrong,
    pub(crate) answers: u64,
    pub(crate) unasked: u64,
    pub(crate) malformed: u64,
}

impl Names {
    pub(crate) fn new(hosts: Option<PathBuf>) -> Self {
        Self {
            table: Table::new(),
            hosts: Hosts::new(hosts),
            questions: Generations::new(QUESTIONS),
            streams: Generations::new(STREAMS),
            told: Generations::new(TOLD),
            wrong: Wrong::default(),
            answers: 0,
            unasked: 0,
            malformed: 0,
        }
    }

    /// What the asker would call an address of someone else.
    pub(crate) fn lookup(&mut self, address: IpAddr, asker: Asker) -> Option<Arc<str>> {
        self.table.lookup(address.to_canonical(), asker).or_else(|| self.local(address, asker.netns))
    }

    /// What the hosts file calls an address; it speaks for the host's own network only.
    pub(crate) fn local(&self, address: IpAddr, netns: Option<u32>) -> Option<Arc<str>> {
        if netns.is_none() { self.hosts.name(address) } else { None }
    }

    /// How many addresses have names.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Reads the hosts file anew if it changed.
    pub(crate) fn refresh(&mut self, ctx: &mut Context, now: BootNs) {
        for (address, name) in self.hosts.refresh(now) {
            let created = ctx.clock.now();
            let row = NameInfo {
                nameid: ctx.numbers.next(created),
                name: HostName(name.as_ref().to_owned()),
                address: address.to_string(),
                origin: Word::Borrowed("hosts"),
                chain: None,
                ttl: None,
                server: None,
                psentity: None,
                username: None,
                pid: None,
                application: None,
                netns: None,
                created,
                end: None,
            };
            ctx.draft.push(row);
        }
    }

    pub(crate) fn socket_closed(&mut self, id: EndpointId) {
        if id.transport == Transport::Tcp {
            self.streams.remove(&(id.socket, true));
            self.streams.remove(&(id.socket, false));
        }
    }

    pub(crate) fn observe(&mut self, ctx: &mut Context, processes: &mut Processes, dns: &Dns) {
        if dns.transport == Transport::Udp {
            self.message(
                ctx,
                processes,
                dns,
                &dns.payload,
                (dns.payload.len() as u64) < u64::from(dns.length),
            );
            return;
        }
        let key = (dns.socket, dns.sent);
        if self.streams.touch(&key).is_none() {
            self.streams.insert(key, Stream::default());
        }
        let Some(stream) = self.streams.touch(&key) else { return };
        match stream.push(dns.sequence, &dns.payload, dns.length) {
            Ok(messages) => {
                for message in messages {
                    self.message(ctx, processes, dns, &message, false);
                }
            }
            Err(stream::Gap) => self.wrong.gaps += 1,
        }
    }

    fn message(&mut self, ctx: &mut Context, processes: &mut Processes, dns: &Dns, bytes: &[u8], cut: bool) {
        let Ok(message) = dns::decode(bytes, cut) else {
            self.wrong.malformed += 1;
            self.malformed += 1;
            return;
        };
        match (dns.sent, message.response) {
            (true, false) => self.asked(ctx, processes, dns, message),
            (false, true) => self.answered(ctx, dns, &message),
            // This host is the server.
            _ => {}
        }
    }

    fn asked(&mut self, ctx: &mut Context, processes: &mut Processes, dns: &Dns, message: Message) {
        let Some(question) = message.question else { return };
        let asker = Asker {
            psentity: dns.actor.as_ref().map(|actor| processes.actor(ctx, actor, dns.at, true)),
            euid: dns.actor.as_ref().map_or(UNKNOWN_ID, |actor| actor.euid),
            netns: ctx.netns(dns.netns),
        };
        let asked = Asked { at: dns.at, asker, actor: dns.actor.clone() };
        self.questions.insert((dns.socket, message.id, question), asked);
    }

    fn answered(&mut self, ctx: &mut Context, dns: &Dns, message: &Message) {
        let Some(question) = &message.question else { return };
        let asked = self.questions.get(&(dns.socket, message.id, question.clone()));
        let Some(asked) = asked.filter(|asked| dns.at <= asked.at.saturating_add(PATIENCE)) else {
            self.unasked += 1;
            return;
        };
        self.answers += 1;
        self.wrong.more += message.more as u64;
        let resolver = asked.asker.euid == 0
            || asked.asker.euid != UNKNOWN_ID && RESOLVERS.contains(&&*ctx.username(asked.asker.euid));
        let name: Arc<str> = question.name.as_str().into();
        let chain = chain(message, &question.name);
        for record in &message.records {
            let Data::Address(address) = record.data else { continue };
            let Some(place) = chain.iter().position(|link| *link == record.owner) else { continue };
            let address = address.to_canonical();
            let Asker { psentity, euid, netns } = asked.asker;
            self.table.insert(address, netns, Fact { name: Arc::clone(&name), psentity, euid, resolver });
            let told = (Arc::clone(&name), address, netns, psentity);
            if self.told.touch(&told).is_some() {
                continue;
            }
            self.told.insert(told, ());
            let created = ctx.clock.time(dns.at);
            let row = NameInfo {
                nameid: ctx.numbers.next(created),
                name: HostName(question.name.clone()),
                address: address.to_string(),
                origin: Word::Borrowed("dns"),
                chain: (place > 0).then(|| chain[1..=place].join(" ")),
                ttl: Some(record.ttl),
                server: Some(dns.server.ip().to_canonical().to_string()),
                psentity,
                username: asked.actor.as_ref().map(|actor| ctx.username(actor.euid)),
                pid: asked.actor.as_ref().map(|actor| actor.image.pid),
                application: asked.actor.as_ref().map(|actor| escape(&actor.comm)),
                netns,
                created,
                end: None,
            };
            ctx.draft.push(row);
        }
    }
}

/// The names that the answer leads to from the one that was asked for, that one first.
fn chain<'a>(message: &'a Message, asked: &'a str) -> Vec<&'a str> {
    let mut chain = vec![asked];
    while chain.len() <= CHAIN {
        let alias = message.records.iter().find_map(|record| match &record.data {
            Data::Alias(alias) if chain.last() == Some(&record.owner.as_str()) => Some(alias.as_str()),
            _ => None,
        });
        match alias {
            Some(alias) if !chain.contains(&alias) => chain.push(alias),
            _ => break,
        }
    }
    chain
}
