//! What is beneath the servers: a file, a database server, a cluster of them, and the network in between.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use luarm_testbed::{Cable, Galera, Mariadb, NODES, Place, Postgres, Weather};

/// Two free ports.
fn ports() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// The store beneath the servers, and what can be done to it.
pub(crate) trait Beneath {
    /// Where servers find it now.
    fn store(&self) -> String;

    /// Where each copy of the data is asked, once everything is as it was at the beginning.
    fn copies(&self) -> Vec<String> {
        vec![self.store()]
    }

    /// Whether it can be killed by itself.
    fn is_server(&self) -> bool {
        true
    }

    /// Kills it and starts it again, or does one of both to a part of it, or to the network above it.
    fn kill(&mut self) {}

    /// Where the servers listen.
    fn listen(&self) -> [SocketAddr; 2] {
        ports()
    }

    /// What runs a command where the servers are, and where the agent is.
    fn places(&self) -> [Vec<String>; 2] {
        [Vec::new(), Vec::new()]
    }

    /// Has it as it was at the beginning.
    fn mend(&mut self) {}
}

/// What is killed neither by itself nor in part.
pub(crate) struct File(pub(crate) String);

impl Beneath for File {
    fn store(&self) -> String {
        self.0.clone()
    }

    fn is_server(&self) -> bool {
        false
    }
}

impl Beneath for Mariadb {
    fn store(&self) -> String {
        self.url("root", "audit")
    }

    fn kill(&mut self) {
        Mariadb::kill(self);
        self.run(&[]);
    }
}

impl Beneath for Postgres {
    fn store(&self) -> String {
        self.url("luarm", "audit")
    }

    fn kill(&mut self) {
        Postgres::kill(self);
        self.run(&[]);
    }
}

/// A cluster of which one node after the other is killed, and comes back.
pub(crate) struct Cluster {
    pub(crate) galera: Galera,
    pub(crate) killed: usize,
    pub(crate) away: Option<usize>,
}

impl Beneath for Cluster {
    fn store(&self) -> String {
        let here: Vec<usize> = (0..NODES).filter(|n| Some(*n) != self.away).collect();
        self.galera.url(&here, "audit")
    }

    fn copies(&self) -> Vec<String> {
        (0..NODES).map(|n| self.galera.url(&[n], "audit")).collect()
    }

    fn kill(&mut self) {
        if let Some(away) = self.away.take() {
            self.galera.run(away);
            return self.galera.wait_for(NODES);
        }
        // The first one first: it is the one that the servers are connected with.
        let node = self.killed % NODES;
        self.galera.kill(node);
        (self.killed, self.away) = (self.killed + 1, Some(node));
        self.galera.wait_for(NODES - 1);
    }

    fn mend(&mut self) {
        if self.away.is_some() {
            self.kill();
        }
    }
}

/// A file behind a bad network: what is killed is the network.
pub(crate) struct Distant {
    store: String,
    places: [Place; 2],
    pub(crate) cable: Cable,
    cuts: usize,
}

const SERVER: &str = "10.77.0.1";
const AGENT: &str = "10.77.0.2";
/// Each packet is late, some are lost and some overtake others.
const BAD: Weather = Weather { delay: Duration::from_millis(10), lost: 10, early: 10, cut: [false, false] };

impl Distant {
    /// Servers and agent in network namespaces of their own.
    pub(crate) fn new(test: &str, store: String) -> Option<Self> {
        let places = [Place::new(test)?, Place::new(test)?];
        let cable = Cable::between([places[0].pid(), places[1].pid()], [SERVER, AGENT]);
        cable.set(BAD);
        Some(Distant { store, places, cable, cuts: 0 })
    }
}

impl Beneath for Distant {
    fn store(&self) -> String {
        self.store.clone()
    }

    /// Cuts the cable for a while: one way, the other way, or both ways.
    fn kill(&mut self) {
        let cut = [[true, false], [false, true], [true, true]][self.cuts % 3];
        self.cuts += 1;
        self.cable.set(Weather { cut, ..BAD });
        thread::sleep(Duration::from_millis(1500));
        self.cable.set(BAD);
    }

    fn listen(&self) -> [SocketAddr; 2] {
        [7467, 7468].map(|port| (SERVER.parse::<IpAddr>().unwrap(), port).into())
    }

    fn places(&self) -> [Vec<String>; 2] {
        [0, 1].map(|n| self.places[n].prefix().to_vec())
    }
}
