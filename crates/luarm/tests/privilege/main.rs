//! Acts of privilege, really done and really refused, row by row: credentials and capabilities, signals, memory of others, namespaces, BPF, modules.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod credentials;
mod kernel;
mod namespaces;
mod others;
mod signals;
#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use support::{Launch, Recording, Row, has_ebpf, programs};

const EPERM: i64 = 1;
/// A signal that nothing dies of.
const SIGWINCH: &str = "28";

/// A recorder, and a program that both users can run.
struct Scene {
    recording: Recording,
    actor: PathBuf,
    _dir: tempfile::TempDir,
}

/// What an actor did: its pid, and for each act the error number and what else it said.
struct Done {
    pid: u32,
    acts: Vec<(i64, String)>,
}

/// A process that waits to be done something to.
struct Victim {
    child: Child,
    memory: String,
}

impl Victim {
    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Scene {
    fn set(arguments: &[&str]) -> Option<Self> {
        if !has_ebpf() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let actor = programs::acting_program(dir.path());
        let recording = Launch::on(&dir.path().join("data")).with(arguments).start();
        recording.sync();
        Some(Self { recording, actor, _dir: dir })
    }

    fn command(&self, user: u32) -> Command {
        let mut command = Command::new(&self.actor);
        command.uid(user).gid(user).current_dir("/").stdout(Stdio::piped());
        command
    }

    fn victim(&self, user: u32, group: i32) -> Victim {
        let mut child = self.command(user).arg("victim").process_group(group).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Victim { child, memory: line.trim().split_once(' ').unwrap().1.to_owned() }
    }

    /// Acts of one process, separated by commas.
    fn act(&self, user: u32, acts: &str) -> Done {
        finish(self.command(user).args(acts.split_whitespace()))
    }

    /// What the rows say that an actor did: act, error, detail, and to which pid.
    fn told(&self, done: &Done) -> Vec<(String, i64, String, Option<i64>)> {
        let told = self.rows(done).into_iter().map(|row| {
            (
                text(&row, "operation").to_owned(),
                row["result"].as_i64().unwrap(),
                row["detail"].as_str().unwrap_or_default().to_owned(),
                row["targetpid"].as_i64(),
            )
        });
        told.collect()
    }

    /// The rows of an actor from its exec on; each leads to its image, and to that of its target.
    fn rows(&self, done: &Done) -> Vec<Row> {
        self.recording.sync();
        let rows = self.recording.sql(&format!(
            "select v.*, p.command as own, t.pid as tpid, t.argv as targv from privinfo v
             join psinfo p on p.psentity = v.psentity left join psinfo t on t.psentity = v.targetentity
             where v.pid = {} and v.application = 'actor' and v.operation <> 'exec' order by privid",
            done.pid
        ));
        for row in &rows {
            assert_eq!(text(row, "own"), self.actor.to_str().unwrap(), "{row:?}");
            assert_eq!(row["tpid"], row["targetpid"], "{row:?}");
        }
        rows
    }

    fn end(self) {
        let lost = self.recording.sql("select * from lossinfo where class not like '%-digest'");
        assert!(lost.is_empty(), "{lost:?}");
        assert!(self.recording.stop().success());
    }
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{column} of {row:?}"))
}

fn finish(command: &mut Command) -> Done {
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    let acts = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let (error, more) = line.split_once(' ').unwrap();
            (error.parse().unwrap(), more.to_owned())
        })
        .collect();
    Done { pid, acts }
}

fn errors(done: &Done) -> Vec<i64> {
    done.acts.iter().map(|act| act.0).collect()
}

/// A row that is expected.
fn row(
    operation: &str,
    result: i64,
    detail: &str,
    target: Option<&Victim>,
) -> (String, i64, String, Option<i64>) {
    (operation.to_owned(), result, detail.to_owned(), target.map(|victim| victim.child.id().into()))
}
