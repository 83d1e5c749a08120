//! From where a login came, where no record says so: a service accepts a connection and forks a process that serves it, in which the login takes place.

use std::net::IpAddr;

use luarm_sensor::{
    BootNs,
    observation::{Direction, Endpoint, ImageId, Origin, Task, Transport},
};

use crate::bounded::Generations;

/// How many of either kind are remembered.
const REMEMBERED: usize = 4096;

type Process = (u32, BootNs);

fn process(image: ImageId) -> Process {
    (image.pid, image.start)
}

/// Which process serves which peer.
pub(super) struct Peers {
    /// The peer that a process accepted last, until it forks.
    accepted: Generations<Process, IpAddr>,
    /// The peer for which a process was forked, and the session in which its creator was: a process that belongs to another has seen a login since, and
    /// what logs in below it comes from elsewhere.
    served: Generations<Process, (IpAddr, Option<u32>)>,
}

impl Peers {
    pub(super) fn new() -> Self {
        Self { accepted: Generations::new(REMEMBERED), served: Generations::new(REMEMBERED) }
    }

    pub(super) fn accepted(&mut self, endpoint: &Endpoint) {
        let Endpoint { id, direction, remote, actor, origin, .. } = endpoint;
        if let (Transport::Tcp, Direction::In, Origin::Event, Some(remote), Some(actor)) =
            (id.transport, direction, origin, remote, actor)
        {
            self.accepted.insert(process(actor.image), remote.ip().to_canonical());
        }
    }

    pub(super) fn fork(&mut self, task: &Task) {
        if self.accepted.len() + self.served.len() == 0 {
            return;
        }
        let Some(creator) = task.creator.map(process) else { return };
        let peer = match self.accepted.remove(&creator) {
            Some(address) => Some((address, task.session)),
            None => self.served.get(&creator).copied().filter(|(_, session)| *session == task.session),
        };
        if let Some(peer) = peer {
            self.served.insert(process(task.image), peer);
        }
    }

    /// The peer for which the process was forked.
    pub(super) fn of(&self, image: ImageId) -> Option<IpAddr> {
        self.served.get(&process(image)).map(|(address, _)| *address)
    }
}
