//! What is aimed at the recorder itself: rows of `alertinfo`, with the key of the row that is the evidence.

use luarm_schema::{Word, escape::escape, tables::AlertInfo};
use luarm_sensor::{
    BootNs,
    observation::{Actor, FileAccess, FileOperation, Privilege},
};

use crate::{bounded::Generations, context::Context, process::Processes};

/// The same from the same image is one alert for so long; its evidence is told each time.
const AGAIN: BootNs = 60_000_000_000;
/// So many go into the log in that time: whoever is refused can try again in another process.
const LINES: u32 = 60;
/// Alerts that are remembered for that.
const REMEMBERED: usize = 1024;

/// What a recorder watches over for its own sake.
#[derive(Debug, Clone, Default)]
pub struct Protected {
    /// Its process; 0 for none.
    pub process: u32,
    /// Its files and directories.
    pub places: Vec<Place>,
}

/// A file or a directory, with what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Absolute, without links.
    pub path: Vec<u8>,
    /// Whether the names that begin with the path are meant as well.
    pub begins: bool,
    /// What it is for.
    pub role: Role,
    /// Device (major * 2^20 + minor) and inode, where it is a file that is there: then it is known by any path.
    pub file: Option<(u32, u64)>,
}

/// What files of the recorder's are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What it records, and what it needs for that.
    Data,
    /// Its program.
    Program,
    /// Its configuration, and the units that start it.
    Configuration,
}

impl Role {
    fn words(self) -> &'static str {
        match self {
            Role::Data => "the recorder's data",
            Role::Program => "the recorder's program",
            Role::Configuration => "the recorder's configuration",
        }
    }
}

/// `alertinfo.severity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Critical,
    Warning,
    Notice,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        }
    }
}

/// What an alert tells.
struct Alert<'a> {
    at: BootNs,
    kind: &'static str,
    severity: Severity,
    summary: String,
    evidence: Option<(&'static str, i64)>,
    actor: Option<(i64, &'a Actor)>,
}

pub(crate) struct Protection {
    own: Protected,
    told: Generations<(i64, String), BootNs>,
    /// Since when lines of the log are counted, and how many there were.
    lines: (BootNs, u32),
}

impl Protection {
    pub(crate) fn new() -> Self {
        Self { own: Protected::default(), told: Generations::new(REMEMBERED), lines: (0, 0) }
    }

    pub(crate) fn protect(&mut self, own: Protected) {
        self.own = own;
    }

    /// An act of privilege that has become a row.
    pub(crate) fn privilege(&mut self, ctx: &mut Context, act: &Privilege, (privid, psentity): (i64, i64)) {
        let Privilege { at, actor, operation, result, target, detail, .. } = act;
        let aimed = target.as_ref().is_some_and(|target| target.image.pid == self.own.process);
        let own = self.own.process == 0 || actor.image.pid == self.own.process;
        if own || !(aimed || *operation == "bpf-open") {
            return;
        }
        let (kind, severity) = match *operation {
            "signal" => ("signal", signal(detail)),
            "ptrace" | "process_vm_writev" | "pidfd_getfd" => ("trace", Severity::Critical),
            "process_vm_readv" => ("trace", Severity::Warning),
            "bpf-open" => ("bpf", Severity::Critical),
            _ => return,
        };
        let what = escape(detail);
        let (summary, severity) = match (*result, kind) {
            (0, "signal") => (format!("{what} was sent to the recorder"), severity),
            (0, "bpf") => (format!("a descriptor of the recorder's {what} was taken"), severity),
            (0, _) => (format!("{operation} ({what}) reached into the recorder"), severity),
            (_, "signal") => (format!("{what} to the recorder was refused"), Severity::Notice),
            (_, "bpf") => (format!("a descriptor of the recorder's {what} was refused"), Severity::Notice),
            _ => (format!("{operation} ({what}) on the recorder was refused"), Severity::Notice),
        };
        let evidence = Some(("privinfo", privid));
        self.raise(ctx, Alert { at: *at, kind, severity, summary, evidence, actor: Some((psentity, actor)) });
    }

    /// Something that was done with a file, and has become a row.
    pub(crate) fn file(
        &mut self,
        ctx: &mut Context,
        processes: &Processes,
        access: &FileAccess,
        (fileaccessid, psentity): (i64, i64),
    ) {
        if self.own.process == 0 || access.actor.image.pid == self.own.process || !changes(access) {
            return;
        }
        let Some(what) = self.touched(ctx, access) else { return };
        if self.is_asking(processes, access) || self.is_canary(processes, access) {
            return;
        }
        let path = escape(&access.path.path);
        let done = verb(access.operation);
        let (mut summary, mut severity, kind) = match what {
            Touched::Process => {
                (format!("{path} was {done}: the recorder's process"), Severity::Critical, "trace")
            }
            Touched::Place(role) => {
                let configuration = role == Role::Configuration;
                let severity = if configuration { Severity::Warning } else { Severity::Critical };
                (format!("{path} was {done}: {}", role.words()), severity, "file")
            }
        };
        if access.result.is_some_and(|result| result != 0) {
            summary = summary.replacen(" was ", " was refused to be ", 1);
            severity = Severity::Notice;
        }
        let (evidence, actor) = (Some(("fileinfo", fileaccessid)), Some((psentity, &access.actor)));
        self.raise(ctx, Alert { at: access.at, kind, severity, summary, evidence, actor });
    }

    /// There is little room left where the recorder keeps its data.
    pub(crate) fn disk(&mut self, ctx: &mut Context, at: BootNs, path: &str, (free, bound): (u64, u64)) {
        let severity = if free < bound / 4 { Severity::Critical } else { Severity::Warning };
        let summary = format!(
            "{} MiB are left for the recorder's data in {path}, less than {} MiB",
            free >> 20,
            bound >> 20
        );
        self.raise(ctx, Alert { at, kind: "disk", severity, summary, evidence: None, actor: None });
    }

    /// Whether it is luarm itself that reads: whoever only reads a database of SQLite makes and owns its companions.
    fn is_asking(&self, processes: &Processes, access: &FileAccess) -> bool {
        let companion = [&b"-wal"[..], b"-shm"].iter().any(|tail| access.path.path.ends_with(tail));
        let program = self.own.places.iter().find(|place| place.role == Role::Program);
        // The kernel knows best which file it is: on overlayfs, for one, device and inode are others to a process.
        let file = processes.file_of(self.own.process).or_else(|| program.and_then(|program| program.file));
        let plain =
            matches!(access.operation, FileOperation::Open | FileOperation::Create | FileOperation::Chown);
        companion && plain && file.is_some() && processes.image_file(access.actor.image) == file
    }

    /// Whether it is the canary that the recorder has run, in the directory that it has for that: its rows are marked as the canary's.
    fn is_canary(&self, processes: &Processes, access: &FileAccess) -> bool {
        let Some(data) = self.own.places.iter().find(|place| place.role == Role::Data) else { return false };
        let inside = |path: &[u8]| {
            let rest = path.strip_prefix(&data.path[..]).and_then(|rest| rest.strip_prefix(b"/canary"));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        inside(&access.path.path)
            && access.target.as_ref().is_none_or(|target| inside(&target.path))
            && processes.is_descendant(access.actor.image, self.own.process)
    }

    /// What of the recorder's is touched.
    fn touched(&self, ctx: &Context, access: &FileAccess) -> Option<Touched> {
        let file = access.file.map(|file| (file.dev, file.inode));
        // In another mount namespace a path means something else.
        let here = access.mntns == 0 || access.mntns == ctx.host.namespaces.mnt;
        let target = access.target.as_ref().map(|target| &target.path[..]);
        let paths = [Some(&access.path.path[..]), target];
        let within = |place: &Place| {
            let below = |path: &[u8]| {
                path.strip_prefix(&place.path[..])
                    .is_some_and(|rest| place.begins || rest.is_empty() || rest.starts_with(b"/"))
            };
            here && paths.into_iter().flatten().any(below) || file.is_some() && place.file == file
        };
        let process = format!("/proc/{}/", self.own.process);
        if here && access.path.path.starts_with(process.as_bytes()) {
            return Some(Touched::Process);
        }
        self.own.places.iter().find(|place| within(place)).map(|place| Touched::Place(place.role))
    }

    fn raise(&mut self, ctx: &mut Context, alert: Alert<'_>) {
        let image = alert.actor.map_or(0, |(psentity, _)| psentity);
        let key = (image, alert.summary.clone());
        if self.told.get(&key).is_some_and(|told| alert.at < told.saturating_add(AGAIN)) {
            return;
        }
        self.told.insert(key, alert.at);
        let is_said = self.is_said(alert.at);
        raise(ctx, alert, is_said);
    }

    /// Whether the log has room for one more.
    fn is_said(&mut self, at: BootNs) -> bool {
        let (since, lines) = &mut self.lines;
        if at >= since.saturating_add(AGAIN) {
            (*since, *lines) = (at, 0);
        }
        *lines = lines.saturating_add(1);
        if *lines == LINES {
            tracing::warn!("more of this within the minute is in alertinfo only");
        }
        *lines < LINES
    }
}

enum Touched {
    Process,
    Place(Role),
}

/// The run before ended without a word.
pub(crate) fn killed(ctx: &mut Context, gap: i64) {
    let at = ctx.clock.latest();
    let summary =
        "the recorder's run before this one ended without a word: it was killed, or the host went down"
            .to_owned();
    let evidence = Some(("coverageinfo", gap));
    raise(
        ctx,
        Alert { at, kind: "killed", severity: Severity::Warning, summary, evidence, actor: None },
        true,
    );
}

fn raise(ctx: &mut Context, alert: Alert<'_>, is_said: bool) {
    let Alert { at, kind, severity, summary, evidence, actor } = alert;
    let created = ctx.clock.time(at);
    let alertid = ctx.numbers.next(created);
    let who = actor.map(|(_, actor)| (ctx.username(actor.euid), ctx.loginname(actor.auid), actor));
    let by = who.as_ref().map_or(String::new(), |(user, login, actor)| {
        let login = login.as_ref().filter(|login| *login != user);
        let login = login.map_or(String::new(), |login| format!(", logged in as {login}"));
        format!(", by {} (pid {}) of {user}{login}", escape(&actor.comm), actor.image.pid)
    });
    match severity {
        _ if !is_said => {}
        Severity::Critical => tracing::error!(target: "alert", "{summary}{by}"),
        Severity::Warning => tracing::warn!(target: "alert", "{summary}{by}"),
        Severity::Notice => tracing::info!(target: "alert", "{summary}{by}"),
    }
    let (username, loginname) =
        who.as_ref().map_or((None, None), |(user, login, _)| (Some(user.clone()), login.clone()));
    let row = AlertInfo {
        alertid,
        detector: Word::Borrowed("self-protection"),
        kind: Word::Borrowed(kind),
        severity: Word::Borrowed(severity.word()),
        summary,
        tablename: evidence.map(|(table, _)| Word::Borrowed(table)),
        rowkey: evidence.map(|(_, key)| key),
        psentity: actor.map(|(psentity, _)| psentity),
        username,
        loginname,
        pid: actor.map(|(_, actor)| actor.image.pid),
        application: actor.map(|(_, actor)| escape(&actor.comm)),
        created,
        end: None,
    };
    ctx.draft.push(row);
}

/// How bad a signal is: those that an operator stops a service with are no surprise; systemd has SIGCONT follow each SIGTERM, and nobody is held up by it.
fn signal(name: &[u8]) -> Severity {
    match name {
        b"SIGTERM" | b"SIGINT" | b"SIGHUP" | b"SIGCONT" => Severity::Notice,
        b"SIGWINCH" | b"SIGCHLD" | b"SIGURG" => Severity::Warning,
        _ => Severity::Critical,
    }
}

/// Whether it changes what it touches, or may.
fn changes(access: &FileAccess) -> bool {
    match access.operation {
        FileOperation::Map => false,
        FileOperation::Open => access.writes,
        _ => true,
    }
}

fn verb(operation: FileOperation) -> &'static str {
    match operation {
        FileOperation::Open => "opened for writing",
        FileOperation::Create | FileOperation::Mkdir | FileOperation::Mknod => "made",
        FileOperation::Truncate => "cut",
        FileOperation::Map => "mapped",
        FileOperation::Unlink | FileOperation::Rmdir => "removed",
        FileOperation::Rename => "renamed",
        FileOperation::Symlink | FileOperation::Link => "linked",
        FileOperation::Chmod | FileOperation::Chown => "given other rights",
        FileOperation::Xattr => "given other attributes",
        FileOperation::Utimes => "given other times",
        FileOperation::Mount | FileOperation::Umount => "mounted over or unmounted",
    }
}
