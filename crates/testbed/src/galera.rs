//! A private Galera cluster: three nodes of MariaDB that hold the same data.

use std::{
    collections::HashSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::server::{self, Server};

/// How many nodes it has.
pub const NODES: usize = 3;

/// Where distributions put the provider.
const PROVIDERS: [&str; 4] = [
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
    "/usr/lib64/galera/libgalera_smm.so",
    "/usr/lib/libgalera_smm.so",
];

/// Ports of a node: for clients, for the other nodes, for what it missed a little of, for what it missed all of.
const PORTS: u16 = 4;

/// Three nodes of the test's own, with the account `root`, without password.
#[derive(Debug)]
pub struct Galera {
    nodes: Vec<Node>,
    daemon: PathBuf,
    client: PathBuf,
    provider: &'static str,
    // Last: removed when the nodes are gone.
    directory: TempDir,
}

#[derive(Debug)]
struct Node {
    server: Server,
    directory: PathBuf,
    port: u16,
}

impl Galera {
    /// Starts one; `None` where MariaDB or Galera is not installed, which is said (and fails under CI).
    pub fn start(test: &str) -> Option<Self> {
        let places = [PathBuf::from("/usr/sbin")];
        let found = ["mariadbd", "mariadb-install-db", "mariadb"].map(|p| server::find(p, &places));
        let [Some(daemon), Some(install), Some(client)] = found else {
            server::skip(test, "MariaDB is not installed");
            return None;
        };
        let provider = PROVIDERS.into_iter().find(|provider| Path::new(provider).is_file());
        let transfer = ["wsrep_sst_rsync", "rsync"].map(|p| server::find(p, &places));
        let (Some(provider), [Some(_), Some(_)]) = (provider, transfer) else {
            server::skip(test, "Galera is not installed, or what it copies data with");
            return None;
        };
        let directory = server::directory();
        let nodes = (0..NODES).map(|n| {
            let own = server::directory_in(directory.path(), &n.to_string());
            Node { server: Server::new(&own), directory: own, port: ports() }
        });
        let mut galera = Galera { nodes: nodes.collect(), daemon, client, provider, directory };
        let first = &galera.nodes[0].directory;
        let installed = server::as_nobody(install, first)
            .arg(format!("--datadir={}", first.join("data").display()))
            .args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"])
            .args(["--auth-root-authentication-method=normal", "--innodb-log-file-size=16M"])
            .status()
            .unwrap();
        assert!(installed.success(), "{}", fs::read_to_string(first.join("log")).unwrap());
        galera.run_at(0, "gcomm://");
        for n in 1..NODES {
            // It gets all data from another one.
            server::directory_in(&galera.nodes[n].directory, "data");
            galera.run(n);
        }
        Some(galera)
    }

    /// Starts a stopped node again over its data, and waits until it has what it missed.
    pub fn run(&mut self, node: usize) {
        let peers: Vec<String> = self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port + 1)).collect();
        self.run_at(node, &format!("gcomm://{}", peers.join(",")));
    }

    fn run_at(&mut self, n: usize, cluster: &str) {
        let mut asking = self.client(n);
        // Only a node that takes part answers a question about data.
        asking.args(["-e", "SET wsrep_sync_wait = 1; SELECT count(*) FROM mysql.db"]);
        let Node { directory, port, .. } = &self.nodes[n];
        let mut command = server::as_nobody(&self.daemon, directory);
        command.args(["--no-defaults", "--skip-name-resolve", "--bind-address=127.0.0.1"]);
        command.arg(format!("--datadir={}", directory.join("data").display()));
        command.arg(format!("--socket={}", directory.join("socket").display()));
        command.arg(format!("--port={port}"));
        command.args(["--innodb-buffer-pool-size=128M", "--innodb-log-file-size=16M", "--debug-no-sync"]);
        command.args(["--character-set-server=latin1", "--default-time-zone=+05:30"]);
        command.args(["--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--wsrep-on=ON"]);
        command.arg(format!("--wsrep-provider={}", self.provider));
        command.arg(format!("--wsrep-cluster-address={cluster}"));
        command.args(["--wsrep-cluster-name=luarm", "--wsrep-node-address=127.0.0.1"]);
        command.arg(format!("--wsrep-node-name=node{n}"));
        command.arg("--wsrep-sst-method=rsync");
        command.arg(format!("--wsrep-sst-receive-address=127.0.0.1:{}", port + 3));
        command.arg(format!(
            "--wsrep-provider-options=base_host=127.0.0.1;base_port={0};gmcast.listen_addr=tcp://127.0.0.1:{0};ist.recv_addr=127.0.0.1:{1};\
             gcache.size=64M;evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT3S;evs.inactive_timeout=PT8S",
            port + 1,
            port + 2
        ));
        self.nodes[n].server.start(command, asking);
    }

    /// Ends a node as `kill -9` does.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].server.end(Signal::KILL);
    }

    /// Waits until the nodes that run take part in a cluster of so many.
    pub fn wait_for(&self, size: usize) {
        let running = || self.nodes.iter().enumerate().filter(|(_, node)| node.server.runs());
        let takes_part = |n: usize| {
            let said =
                self.try_ask(n, "SHOW STATUS WHERE variable_name IN ('wsrep_cluster_size', 'wsrep_ready')");
            said.is_some_and(|said| said == format!("wsrep_cluster_size\t{size}\nwsrep_ready\tON\n"))
        };
        for _ in 0..1200 {
            if running().count() > 0 && running().all(|(n, _)| takes_part(n)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("there is no cluster of {size} nodes");
    }

    /// The URL of a database for `root`, with these nodes in that order.
    pub fn url(&self, nodes: &[usize], database: &str) -> String {
        let places: Vec<String> =
            nodes.iter().map(|n| format!("127.0.0.1:{}", self.nodes[*n].port)).collect();
        format!("mysql://root@{}/{database}", places.join(","))
    }

    /// Its directory, with one for each node in it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn client(&self, node: usize) -> Command {
        let mut command = Command::new(&self.client);
        command.args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4", "--batch", "--raw"]);
        command.arg("--skip-column-names");
        command.arg(format!("--socket={}", self.nodes[node].directory.join("socket").display()));
        command
    }

    /// The answer of a node to statements: a row a line, values separated by tabs. Panics if the client complains.
    pub fn ask(&self, node: usize, sql: &str) -> String {
        server::printed(&server::run_with(&mut self.client(node), sql.as_bytes()), sql)
    }

    fn try_ask(&self, node: usize, sql: &str) -> Option<String> {
        let output = server::run_with(&mut self.client(node), sql.as_bytes());
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }
}

impl Drop for Galera {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.server.end(Signal::KILL);
            node.server.last_words();
        }
    }
}

/// The first of a node's ports on the loopback, all of which nobody listens on. A node that was killed must find them free again, so they are not among
/// those that the kernel gives to whoever asks for any.
fn ports() -> u16 {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut taken = TAKEN.lock().unwrap();
    let taken = taken.get_or_insert_default();
    let begin = u16::try_from(std::process::id() % 3000).unwrap();
    for n in 0..3000 {
        let first = 18_000 + (begin + n) % 3000 * PORTS;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if !taken.contains(&first) && (first..first + PORTS).all(free) {
            taken.insert(first);
            return first;
        }
    }
    panic!("no free ports from 18000 to 30000");
}
