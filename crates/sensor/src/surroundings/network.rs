//! Interfaces with their addresses, and routes: what rtnetlink tells of the network namespace that the recorder is in.
//!
//! One socket hears of both, so that their order is the kernel's. What it hears is applied to a picture of what is there (`interfaces`,
//! `routes`), and what that changes is told. When the socket overflows, the kernel says how many messages it dropped: that is a loss of both
//! classes, since nobody knows of which they were; then the kernel is asked for all, and what differs is told.

mod channel;
mod decode;
mod interfaces;
mod routes;

use std::os::fd::BorrowedFd;

use self::{
    channel::{Channel, Heard},
    decode::Message,
    interfaces::Interfaces,
    routes::Routes,
};
use super::Watcher;
use crate::{
    clock,
    condition::{Condition, ConditionKind},
    observation::{BootNs, Coverage, Inventory, Loss, Observation, Origin, Watch},
};

const INTERFACES: &str = "interfaces";
const ROUTES: &str = "routes";
const LIMITS: &str = "in the network namespace of the recorder; not in others, and without the routes that the kernel makes of each address in the table `local`";

/// What a datagram of rtnetlink says, for fuzzing.
#[cfg(any(test, fuzzing))]
pub fn try_datagram(bytes: &[u8]) {
    let mut left = bytes.len();
    for received in decode::datagram(bytes) {
        left = left.checked_sub(1).expect("more messages than bytes");
        match received.message {
            Ok(Message::Link(_, link)) => {
                let alias = link.alias.unwrap_or_default();
                assert!([&link.name, &link.kind, &link.mac, &alias].iter().all(|text| text.len() <= 256));
            }
            Ok(Message::Route(_, entry, _) | Message::RouteGone(_, entry)) => {
                assert!((1..=4096).contains(&entry.hops.len()), "{} next hops", entry.hops.len());
            }
            _ => {}
        }
    }
}

/// Watches interfaces, addresses and routes.
pub struct Network {
    channel: Channel,
    interfaces: Interfaces,
    routes: Routes,
    /// Until when everything that was there is known.
    known: BootNs,
    /// Since the socket was empty.
    round: Round,
}

/// Datagrams that are taken at once.
const STEP: u32 = 4096;
/// More than can wait: after so many, everything that waited at first was heard.
const MOST_STEPS: u32 = 32;

/// What was heard since the socket was empty.
#[derive(Default)]
struct Round {
    steps: u32,
    malformed: u64,
    overflowed: u64,
}

/// What is told, when, and how it came to be known.
struct Telling<'a> {
    out: &'a mut Vec<Observation>,
    at: BootNs,
    origin: Origin,
    /// For the names of the interfaces of routes.
    interfaces: Option<&'a Interfaces>,
}

impl Telling<'_> {
    fn begun(&mut self, condition: Condition) {
        let condition = Box::new(condition);
        self.out.push(Observation::Condition { at: self.at, condition, origin: self.origin });
    }

    fn ended(&mut self, condition: Condition) {
        let (at, condition) = (self.at, Box::new(condition));
        self.out.push(match self.origin {
            Origin::Event => Observation::ConditionEnd { at, condition },
            _ => Observation::ConditionGone { at, condition },
        });
    }

    fn name(&self, index: u32) -> Option<Vec<u8>> {
        self.interfaces?.name(index).map(<[u8]>::to_vec)
    }
}

impl Network {
    /// For the network namespace of the calling thread. Where there is no rtnetlink, says so for both classes.
    pub fn open() -> Result<Self, Vec<Coverage>> {
        match Channel::open() {
            Ok(channel) => Ok(Self {
                channel,
                interfaces: Interfaces::default(),
                routes: Routes::default(),
                known: clock::now(),
                round: Round::default(),
            }),
            Err(error) => Err([INTERFACES, ROUTES].map(|class| unwatched(class, &error)).into()),
        }
    }

    /// Hears and applies some of what waits; gives whether that was all.
    fn hear(&mut self, out: &mut Vec<Observation>) -> bool {
        for _ in 0..STEP {
            match self.channel.hear() {
                Heard::Messages(messages) => {
                    for message in messages {
                        match message {
                            Ok(message) => self.apply(message, out),
                            Err(error) => {
                                tracing::debug!("{error}");
                                self.round.malformed += 1;
                            }
                        }
                    }
                }
                Heard::Overflow(dropped) => self.round.overflowed += dropped.max(1),
                Heard::Nothing => return true,
            }
        }
        self.round.steps += 1;
        false
    }

    /// Applies a message.
    fn apply(&mut self, message: Message, out: &mut Vec<Observation>) {
        let Self { interfaces, routes, .. } = self;
        let (at, origin) = (clock::now(), Origin::Event);
        let mut of_links = Telling { out, at, origin, interfaces: None };
        match message {
            Message::Link(index, link) => {
                let (went_down, renamed) = interfaces.set(index, link, &mut of_links);
                let mut of_routes = Telling { out, at, origin, interfaces: Some(interfaces) };
                if went_down {
                    routes.went_down(index, &mut of_routes);
                }
                if renamed {
                    routes.renamed(index, &mut of_routes);
                }
            }
            Message::LinkGone(index) => {
                // First, as long as its name is known.
                routes.went_down(index, &mut Telling { out, at, origin, interfaces: Some(interfaces) });
                interfaces.remove(index, &mut Telling { out, at, origin, interfaces: None });
            }
            Message::Address(index, address) => interfaces.add(index, address, &mut of_links),
            Message::AddressGone(index, address) => {
                interfaces.take(index, &address, &mut of_links);
                routes.lost_address(index, address.ip);
            }
            Message::Route(group, entry, place) => {
                routes.add(
                    &group,
                    entry,
                    place,
                    &mut Telling { out, at, origin, interfaces: Some(interfaces) },
                );
            }
            Message::RouteGone(group, entry) => {
                routes.remove(&group, entry, &mut Telling { out, at, origin, interfaces: Some(interfaces) });
            }
            Message::NextHop => routes.doubtful |= !routes.is_empty(),
            Message::Done(_) | Message::Other => {}
        }
    }

    /// Asks the kernel for everything; false when it does not say.
    fn look_at_interfaces(&mut self, out: &mut Vec<Observation>) -> bool {
        match self.channel.interfaces() {
            Ok(census) => {
                let mut telling = Telling { out, at: clock::now(), origin: Origin::Found, interfaces: None };
                self.interfaces.replace(census, &mut telling);
                true
            }
            Err(error) => {
                tracing::warn!("cannot list the interfaces: {error}");
                false
            }
        }
    }

    fn look_at_routes(&mut self, out: &mut Vec<Observation>) -> bool {
        match self.channel.routes() {
            Ok((census, refused)) => {
                let interfaces = Some(&self.interfaces);
                let mut telling = Telling { out, at: clock::now(), origin: Origin::Found, interfaces };
                self.routes.replace(census, &mut telling);
                self.routes.refused += refused;
                true
            }
            Err(error) => {
                tracing::warn!("cannot list the routes: {error}");
                false
            }
        }
    }

    fn lost(&self, class: &'static str, cause: &'static str, count: u64, out: &mut Vec<Observation>) {
        if count > 0 {
            out.push(Observation::Loss(Loss { class, cause, count, from: self.known, until: clock::now() }));
        }
    }
}

impl Watcher for Network {
    fn coverage(&self) -> Vec<Coverage> {
        let watched = |class, hook: &str| Coverage {
            class,
            watch: Watch::Watched,
            sensor: "netlink",
            hook: hook.to_owned(),
            reason: Some(LIMITS.to_owned()),
        };
        vec![
            watched(INTERFACES, "rtnetlink LINK, IPV4_IFADDR, IPV6_IFADDR"),
            watched(ROUTES, "rtnetlink IPV4_ROUTE, IPV6_ROUTE, NEXTHOP"),
        ]
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.channel.descriptor()]
    }

    fn inventory(&mut self, out: &mut Vec<Observation>) {
        // Where the kernel does not say, what the store remembers may still be so.
        if self.look_at_interfaces(out) {
            out.push(Observation::Complete(Inventory::Conditions(ConditionKind::Interface)));
        }
        if self.look_at_routes(out) {
            out.push(Observation::Complete(Inventory::Conditions(ConditionKind::Route)));
        }
        self.known = clock::now();
    }

    fn changes(&mut self, out: &mut Vec<Observation>) {
        let is_empty = self.hear(out);
        if !is_empty && self.round.steps < MOST_STEPS {
            return;
        }
        let Round { malformed, mut overflowed, .. } = std::mem::take(&mut self.round);
        if overflowed > 0 {
            // Once it drops one it drops all, until the socket is empty.
            overflowed += self.channel.newly_dropped();
        }
        // Nobody knows of which class they were.
        for class in [INTERFACES, ROUTES] {
            self.lost(class, "malformed", malformed, out);
            self.lost(class, "socket-full", overflowed, out);
        }
        if malformed + overflowed > 0 {
            self.look_at_interfaces(out);
            self.routes.doubtful = true;
        }
        let telling = &mut Telling { out, at: clock::now(), origin: Origin::Event, interfaces: None };
        self.interfaces.settle(telling);
        // What it heard is all applied: what differs now was not told, or is on its way and will be told again, which changes nothing.
        if self.routes.doubtful {
            self.look_at_routes(out);
        }
        let refused =
            [std::mem::take(&mut self.interfaces.refused), std::mem::take(&mut self.routes.refused)];
        self.lost(INTERFACES, "table-full", refused[0], out);
        self.lost(ROUTES, "table-full", refused[1], out);
        self.known = clock::now();
    }

    fn is_behind(&self) -> bool {
        self.round.steps > 0
    }
}

fn unwatched(class: &'static str, error: &std::io::Error) -> Coverage {
    let reason = Some(format!("no rtnetlink: {error}"));
    Coverage { class, watch: Watch::Unwatched, sensor: "none", hook: String::new(), reason }
}
