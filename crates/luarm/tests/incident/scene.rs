//! The incident, played while a recorder runs.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    journal::Journal,
    support::{Launch, Recording, Row, complaint},
};

/// The two bots.
pub const BOTS: [Bot; 2] = [
    Bot {
        address: "79.125.109.171",
        name: "undernet.irc.justedge.net",
        port: 6667,
        visits: 40,
        code: 0,
        chain: None,
    },
    Bot {
        address: "85.121.125.74",
        name: "dana.basefreak.nl",
        port: 6670,
        visits: 60,
        code: 3,
        chain: Some("hub.basefreak.nl leaf.basefreak.nl"),
    },
];

/// What the scripts in demo/ do, told once more.
pub struct Bot {
    pub address: &'static str,
    pub name: &'static str,
    pub port: i64,
    /// How often its server lets it in.
    pub visits: usize,
    pub code: i64,
    pub chain: Option<&'static str>,
}

impl Bot {
    pub fn arguments(&self) -> String {
        format!("./x {} 0 0", self.address)
    }

    pub fn pid(&self, journal: &Journal) -> i64 {
        let mut started = journal.deeds("x", "started").filter(|deed| deed.words[1] == self.address);
        let pid = started.next().unwrap().pid;
        assert!(started.next().is_none());
        pid
    }
}

/// The incident, recorded.
pub struct Scene {
    pub recording: Recording,
    pub journal: Journal,
    /// The driver's pid, and the network namespace.
    pub driver: i64,
    pub netns: i64,
    /// Goes last: the recorder's data are in it.
    _directory: tempfile::TempDir,
}

pub fn demo(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo").join(file).canonicalize().unwrap()
}

/// Held while an incident is played: the seed's questions ask for names, and each incident has the same.
pub fn alone() -> File {
    let file = File::open(demo("incident")).unwrap();
    file.lock().unwrap();
    file
}

impl Scene {
    pub fn play() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let recording = Launch::on(&directory.path().join("data")).start();
        let [first, second] = BOTS.map(|bot| bot.visits.to_string());
        let played =
            Command::new(demo("incident")).args([first, second]).stdin(Stdio::null()).output().unwrap();
        let complaints = String::from_utf8_lossy(&played.stderr);
        assert!(played.status.success() && complaints.is_empty(), "{complaints}");
        let journal = Journal::read(&String::from_utf8(played.stdout).unwrap());
        let inside = journal.deeds("incident", "inside").next().unwrap();
        let (driver, netns) = (inside.pid, inside.number(0));
        let scene = Self { recording, driver, netns, journal, _directory: directory };
        scene.wait_for_ends();
        scene
    }

    /// The last acknowledgement of a connection may take the kernel a moment.
    fn wait_for_ends(&self) {
        let patience = Instant::now() + Duration::from_secs(60);
        let open = format!("select * from netinfo where netns = {} and destroyed is null", self.netns);
        loop {
            self.recording.sync();
            let open = self.recording.sql(&open);
            if open.is_empty() {
                return;
            }
            assert!(Instant::now() < patience, "still open: {open:?}");
        }
    }

    /// The rows of a table, of this incident only: other tests run programs as nobody, too.
    pub fn rows(&self, table: &str, columns: &str, which: &str) -> Vec<Row> {
        self.recording.sql(&format!("select {columns} from {table} where netns = {} and {which}", self.netns))
    }

    pub fn answer(&self, statement: &str) -> String {
        let output = self.recording.ask("sql", &["-e", statement]);
        assert!(output.status.success(), "{statement}: {}", complaint(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}
