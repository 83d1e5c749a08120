//! Loading and attaching the programs: all that this kernel takes, and for each class that it does not, why.
#![expect(unsafe_code, reason = "the kernel tells of skipped runs only through a raw call")]

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
};

use libbpf_rs::{
    Link, MapCore, MapFlags, Object, ObjectBuilder, OpenObject, PrintLevel, ProgramMut, libbpf_sys,
};

use super::{
    EbpfConfig, EbpfError,
    hooks::{self, Attach, CLASSES, Class, DISPATCHERS, ESSENTIAL, FILES, Hook},
    kernel::Kernel,
    mounts::{Tracepoints, cgroup_root},
    names, own,
    places::Places,
    quiet::Quiet,
    syscalls,
};
use crate::observation::{Coverage, Watch};

/// The programs at their hooks, for as long as this lives.
pub(super) struct Attached {
    pub(super) object: Object,
    links: HashMap<&'static str, Link>,
    kernel: Kernel,
    pub(super) coverage: Vec<Coverage>,
    /// Bytes of the largest file that is digested.
    pub(super) digest_limit: u64,
    /// For whoever keeps them up to date.
    pub(super) places: Cell<Option<Places>>,
}

/// What libbpf said last, to find the program that the kernel refused and its reason.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// libbpf's way of printing is one for the whole process.
static LOADING: Mutex<()> = Mutex::new(());

fn listen(_: PrintLevel, message: String) {
    tracing::debug!(target: "libbpf", "{}", message.trim_end());
    SAID.lock().unwrap_or_else(PoisonError::into_inner).push(message);
}

impl Attached {
    /// Loads and attaches what can be; fails when processes cannot be watched.
    pub(super) fn new(config: &EbpfConfig) -> Result<Self, EbpfError> {
        let mut refused = names::unusable();
        let kernel = Kernel::running();
        let object = load(config, &kernel, &mut refused)?;
        let mut attached = Attached {
            object,
            links: HashMap::new(),
            kernel,
            coverage: Vec::new(),
            digest_limit: config.digest_limit,
            places: Cell::default(),
        };
        attached.attach_all(&mut refused);
        if let Some(flag) = attached.kernel.request_creds {
            let table = attached.map("request_creds")?;
            table
                .update(&0u32.to_ne_bytes(), &flag.to_ne_bytes(), MapFlags::ANY)
                .map_err(|e| EbpfError::Refused(format!("cannot set a flag for the programs: {e:#}")))?;
        }
        if let Err(error) = own::tell(&attached.map("own_objects")?, &attached.object, &attached.links) {
            tracing::warn!("who reaches for the recorder's own programs will not be told: {error:#}");
        }
        let quiet =
            Quiet::new(attached.program("be_quiet").map_err(EbpfError::Refused)?.as_fd(), &config.quiet)
                .map_err(|e| EbpfError::System("keep a program", e))?;
        let places = Places::new(&attached.map("places")?, quiet, &config.digested)?;
        let [quiet, digested] = places.there();
        attached.places.set(Some(places));
        for class in CLASSES {
            let mut coverage = attached.coverage_of(class, &refused);
            if class.name == FILES && coverage.watch == Watch::Watched {
                let origin = names::origin(&refused);
                coverage.reason = coverage
                    .reason
                    .map(|limits| format!("{limits}; {origin}; reads below {quiet} by policy"));
                for hook in names::standing(&refused).filter_map(|hook| attached.name_of(hook)) {
                    coverage.hook = format!("{}, {hook}", coverage.hook);
                }
            }
            if class.name == FILES {
                attached.coverage.push(digest_of_files(&coverage, &digested, config.digest_limit));
            }
            if class.name == ESSENTIAL && coverage.watch == Watch::Unwatched {
                return Err(EbpfError::Refused(coverage.reason.unwrap_or_default()));
            }
            attached.coverage.push(coverage);
        }
        attached.coverage.push(Coverage {
            class: "image-digest",
            watch: Watch::Watched,
            sensor: "ebpf",
            hook: "sched_process_exec".to_owned(),
            reason: Some(format!(
                "an image that is gone or changed when it is to be read, on a network file system or FUSE, or larger than {} bytes has none: see lossinfo",
                config.digest_limit
            )),
        });
        Ok(attached)
    }

    fn coverage_of(&self, class: &Class, refused: &BTreeMap<String, String>) -> Coverage {
        let failed: Vec<String> = class
            .hooks
            .iter()
            .filter_map(|h| refused.get(h.program).map(|why| format!("{}: {why}", h.program)))
            .collect();
        let watched = failed.is_empty();
        Coverage {
            class: class.name,
            watch: if watched { Watch::Watched } else { Watch::Unwatched },
            sensor: if watched { "ebpf" } else { "none" },
            hook: class
                .hooks
                .iter()
                .filter(|h| !self.kernel.lacking.contains_key(h.program))
                .filter_map(|h| self.name_of(h))
                .collect::<Vec<_>>()
                .join(", "),
            reason: if watched { self.limits(class) } else { Some(failed.join("; ")) },
        }
    }

    /// Whether a class is watched.
    pub(super) fn watches(&self, class: &str) -> bool {
        self.coverage.iter().any(|coverage| coverage.class == class && coverage.watch == Watch::Watched)
    }

    /// The kernel's name for a hook; none for calls that this architecture does not have.
    fn name_of(&self, hook: &Hook) -> Option<String> {
        let (at, calls) = match &hook.attach {
            Attach::Entry(calls) => ("sys_enter", *calls),
            Attach::Exit(calls) => ("sys_exit", *calls),
            Attach::Feature(call, _) => ("sys_exit", std::slice::from_ref(call)),
            Attach::Next(_) | Attach::Run => return None,
            Attach::Traced(names, _) => {
                let name = self.kernel.renamed.get(hook.program).or(names.first())?;
                return Some(format!("tp_btf/{name}"));
            }
            _ => {
                let program = self.object.progs().find(|p| p.name() == hook.program)?;
                return Some(program.section().to_string_lossy().into_owned());
            }
        };
        let there: Vec<&str> = calls.iter().copied().filter(|name| syscalls::named(name).is_some()).collect();
        (!there.is_empty()).then(|| format!("{at}({})", there.join(" ")))
    }

    /// What a class that is watched does not see.
    fn limits(&self, class: &Class) -> Option<String> {
        let lacking: BTreeSet<&str> =
            class.hooks.iter().filter_map(|h| self.kernel.lacking.get(h.program).copied()).collect();
        let lacking = lacking.into_iter().map(|feature| format!("this kernel has no {feature}"));
        let all: Vec<String> = lacking.chain(class.limits.map(str::to_owned)).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn attach_all(&mut self, refused: &mut BTreeMap<String, String>) {
        let tracepoints = Tracepoints::open();
        let cgroup = cgroup_root();
        for hook in hooks::all() {
            if refused.contains_key(hook.program)
                || self.links.contains_key(hook.program)
                || matches!(hook.attach, Attach::Iterator | Attach::Run)
                || self.kernel.lacking.contains_key(hook.program)
            {
                continue;
            }
            if let Ok(tracepoints) = &tracepoints
                && let Some(feature) = lacking(tracepoints, hook.attach)
            {
                self.kernel.lacking.insert(hook.program, feature);
                continue;
            }
            match self.attach(hook.program, hook.attach, &tracepoints, &cgroup) {
                Ok(Some(link)) => {
                    self.links.insert(hook.program, link);
                }
                Ok(None) => {}
                Err(reason) => {
                    refused.insert(hook.program.to_owned(), reason);
                }
            }
        }
        self.dispatch(refused);
    }

    /// Has the kernel ask for the programs of system calls; without that none of them sees anything.
    fn dispatch(&mut self, refused: &mut BTreeMap<String, String>) {
        for dispatcher in DISPATCHERS {
            let reason = match refused.get(dispatcher.program) {
                Some(reason) => reason.clone(),
                None => match self.program(dispatcher.program).and_then(|p| trace(&p)) {
                    Ok(link) => {
                        self.links.insert(dispatcher.program, link);
                        continue;
                    }
                    Err(reason) => reason,
                },
            };
            for hook in hooks::all().filter(|h| dispatcher.serves(h.attach)) {
                refused.entry(hook.program.to_owned()).or_insert_with(|| reason.clone());
            }
        }
    }

    fn program(&self, name: &str) -> Result<ProgramMut<'_>, String> {
        self.object.progs_mut().find(|p| p.name() == name).ok_or_else(|| "not in the object".to_owned())
    }

    fn attach(
        &self,
        program: &str,
        how: Attach,
        tracepoints: &io::Result<Tracepoints>,
        cgroup: &io::Result<OwnedFd>,
    ) -> Result<Option<Link>, String> {
        let found = self.program(program)?;
        let link = match how {
            Attach::Trace | Attach::Traced(..) | Attach::Function => trace(&found)?,
            Attach::Cgroup => {
                let root =
                    cgroup.as_ref().map_err(|e| format!("cannot open the control group hierarchy: {e}"))?;
                found.attach_cgroup(root.as_raw_fd()).map_err(|e| format!("{e:#}"))?
            }
            Attach::Event(name, _) => {
                let tracepoints = tracepoints.as_ref().map_err(|e| format!("cannot open tracefs: {e}"))?;
                let event = tracepoints.event(name).map_err(|e| format!("tracepoint {name}: {e}"))?;
                let link = found.attach_perf_event(event.as_raw_fd()).map_err(|e| format!("{e:#}"))?;
                // The link owns the event from here on.
                std::mem::forget(event);
                link
            }
            Attach::Next(place) => return self.enter(&found, "nexts", place).map(|()| None),
            Attach::Entry(calls) => return self.serve(&found, ["entries", "compat_entries"], calls),
            Attach::Exit(calls) => return self.serve(&found, ["exits", "compat_exits"], calls),
            Attach::Feature(call, _) => return self.serve(&found, ["exits", "compat_exits"], &[call]),
            Attach::Iterator | Attach::Run => return Err("it is run, not attached".to_owned()),
        };
        Ok(Some(link))
    }

    /// Has the program found by the numbers of these calls, native and of 32-bit programs.
    fn serve(
        &self,
        program: &ProgramMut<'_>,
        [native, compat]: [&str; 2],
        calls: &[&str],
    ) -> Result<Option<Link>, String> {
        for call in calls.iter().filter_map(|name| syscalls::named(name)) {
            for (table, number) in [(native, call.native), (compat, call.compat)] {
                if let Some(number) = number {
                    self.enter(program, table, number)?;
                }
            }
        }
        Ok(None)
    }

    /// Puts the program into a table of programs.
    fn enter(&self, program: &ProgramMut<'_>, table: &str, place: u32) -> Result<(), String> {
        let fd = program.as_fd().as_raw_fd().to_ne_bytes();
        let table = self.map(table).map_err(|e| e.to_string())?;
        table.update(&place.to_ne_bytes(), &fd, MapFlags::ANY).map_err(|e| format!("{e:#}"))
    }

    /// Runs an iterator over everything that exists, and gives the bytes that it wrote.
    pub(super) fn iterate(&self, program: &str) -> io::Result<Vec<u8>> {
        let found = self.object.progs_mut().find(|p| p.name() == program).ok_or(io::ErrorKind::NotFound)?;
        let link = found.attach().map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        libbpf_rs::Iter::new(&link).map_err(io::Error::other)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A map of the object.
    pub(super) fn map(&self, name: &str) -> Result<libbpf_rs::Map<'_>, EbpfError> {
        self.object
            .maps()
            .find(|m| m.name() == name)
            .ok_or_else(|| EbpfError::Refused(format!("the object has no map {name}")))
    }

    /// How often the kernel skipped one of our programs because it was already running on that processor: events that nobody saw. Where a note is missing,
    /// the event is told with the process's words.
    pub(super) fn skipped(&self) -> u64 {
        let mut sum = 0;
        for program in self.object.progs().filter(|p| !names::notes(&p.name().to_string_lossy())) {
            sum += info_of(program.as_fd()).map_or(0, |info| info.recursion_misses);
        }
        sum
    }
}

/// What the kernel says of a program.
pub(super) fn info_of(program: BorrowedFd<'_>) -> Option<libbpf_sys::bpf_prog_info> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `len` bytes into `info`, which is plain data.
    let failed = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(program.as_raw_fd(), (&raw mut info).cast(), &raw mut len)
    };
    (failed == 0).then_some(info)
}

/// What is digested of files, if those are watched at all.
fn digest_of_files(files: &Coverage, places: &str, limit: u64) -> Coverage {
    let watched = files.watch == Watch::Watched && !places.is_empty();
    let limits = format!(
        "below {places} by policy, after a close, a rename or a link, files of up to {limit} bytes; what is gone or changed when it is to be read, or is on a network file system or FUSE, \
         has none: see lossinfo"
    );
    Coverage {
        class: "file-digest",
        watch: if watched { Watch::Watched } else { Watch::Unwatched },
        sensor: if watched { "ebpf" } else { "none" },
        hook: if watched { "sys_enter(close)".to_owned() } else { String::new() },
        reason: match files.watch {
            Watch::Watched if watched => Some(limits),
            Watch::Watched => Some("none of the directories of the policy is there".to_owned()),
            _ => files.reason.clone(),
        },
    }
}

fn trace(program: &ProgramMut<'_>) -> Result<Link, String> {
    program.attach_trace().map_err(|e| format!("{e:#}"))
}

/// The feature that this kernel was built without, so that there is nothing to see at the hook.
fn lacking(tracepoints: &Tracepoints, hook: Attach) -> Option<&'static str> {
    match hook {
        Attach::Event(event, feature) => tracepoints.lacks(event).then_some(feature),
        Attach::Feature(call, feature) => {
            tracepoints.lacks(&format!("syscalls/sys_exit_{call}")).then_some(feature)
        }
        _ => None,
    }
}

fn open(
    config: &EbpfConfig,
    kernel: &Kernel,
    refused: &BTreeMap<String, String>,
) -> Result<OpenObject, EbpfError> {
    let mut object = ObjectBuilder::default()
        .open_memory(super::OBJECT)
        .map_err(|e| EbpfError::Refused(format!("{e:#}")))?;
    for mut program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        program.set_autoload(!refused.contains_key(&name) && !kernel.lacking.contains_key(&*name));
        if let Some(tracepoint) = kernel.renamed.get(&*name) {
            program
                .set_attach_target(0, Some((*tracepoint).to_owned()))
                .map_err(|e| EbpfError::Refused(format!("cannot name the tracepoint {tracepoint}: {e:#}")))?;
        }
    }
    for mut map in object.maps_mut() {
        let size = match map.name().to_str() {
            Some("events") => config.events,
            Some("bulk") => config.bulk,
            Some(".rodata.read") => {
                let can_cast = map.initial_value_mut().and_then(|value| value.first_mut());
                *can_cast
                    .ok_or_else(|| EbpfError::Refused("the object says nothing of casts".to_owned()))? =
                    kernel.can_cast.into();
                continue;
            }
            Some(".rodata.own") => {
                if let Some(value) = map.initial_value_mut().and_then(|value| value.first_chunk_mut()) {
                    *value = own::process().to_ne_bytes();
                }
                continue;
            }
            _ => continue,
        };
        map.set_max_entries(size).map_err(|e| EbpfError::Refused(format!("{e:#}")))?;
    }
    Ok(object)
}

/// Loads the object; as long as the kernel refuses a program, again without it.
fn load(
    config: &EbpfConfig,
    kernel: &Kernel,
    refused: &mut BTreeMap<String, String>,
) -> Result<Object, EbpfError> {
    let _alone = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    libbpf_rs::set_print(Some((PrintLevel::Debug, listen)));
    let programs = hooks::all().count() + DISPATCHERS.len();
    let mut last = String::new();
    for _ in 0..=programs {
        SAID.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let error = match open(config, kernel, refused)?.load() {
            Ok(object) => return Ok(object),
            Err(e) => format!("{e:#}"),
        };
        let said = std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner));
        match said.iter().find_map(|line| refused_program(line)) {
            Some((program, code)) => {
                tracing::debug!("the kernel refuses {program}: {code}");
                refused.insert(program, format!("the kernel refuses the program: {code}"));
            }
            None => return Err(EbpfError::Refused(error)),
        }
        last = error;
    }
    Err(EbpfError::Refused(last))
}

/// The program and the error in libbpf's `prog 'NAME': failed to load: -ERROR`. libbpf 1.6 began to name errors that used to be numbers.
fn refused_program(line: &str) -> Option<(String, String)> {
    let rest = line.split("prog '").nth(1)?;
    let (program, rest) = rest.split_once('\'')?;
    let error = rest.split("failed to load: ").nth(1)?.trim().trim_start_matches('-');
    let said =
        error.parse().map_or_else(|_| error.to_owned(), |n| io::Error::from_raw_os_error(n).to_string());
    Some((program.to_owned(), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_program_is_found_in_what_libbpf_says() {
        assert_eq!(
            refused_program("libbpf: prog 'on_exec': failed to load: -13\n"),
            Some(("on_exec".to_owned(), "Permission denied (os error 13)".to_owned()))
        );
        assert_eq!(
            refused_program("libbpf: prog 'on_exec': failed to load: -EACCES\n"),
            Some(("on_exec".to_owned(), "EACCES".to_owned()))
        );
        assert_eq!(refused_program("libbpf: loading object 'luarm'\n"), None);
    }
}
