//! Loading and attaching the programs: all that this kernel takes, and for each class that it does not, why.
#![expect(unsafe_code, reason = "the kernel tells of skipped runs only through a raw call")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
};

use libbpf_rs::{Link, MapCore, MapFlags, Object, ObjectBuilder, OpenObject, PrintLevel, libbpf_sys};

use zerocopy::IntoBytes;

use super::{
    EbpfConfig, EbpfError,
    hooks::{Attach, CLASSES, Class, ESSENTIAL, FILES},
    mounts::{Tracepoints, cgroup_root},
    record,
};
use crate::observation::{Coverage, Watch};

/// The programs at their hooks, for as long as this lives.
pub(super) struct Attached {
    pub(super) object: Object,
    links: HashMap<&'static str, Link>,
    /// Programs for which this kernel has no event, by the feature that it lacks.
    lacking: HashMap<&'static str, &'static str>,
    pub(super) coverage: Vec<Coverage>,
}

/// What libbpf said last, to find the program that the kernel refused and its reason.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// libbpf's way of printing is one for the whole process.
static LOADING: Mutex<()> = Mutex::new(());

fn listen(_: PrintLevel, message: String) {
    tracing::debug!(target: "libbpf", "{}", message.trim_end());
    SAID.lock().unwrap_or_else(PoisonError::into_inner).push(message);
}

/// How many programs are detached at once.
const DETACHERS: usize = 32;

/// A link on its way to the thread that ends it.
struct Ending {
    _link: Link,
}

// SAFETY: a link shares nothing with other links or with the object; ending it is system calls on its own descriptors.
unsafe impl Send for Ending {}

/// For each system call's tracepoint the kernel waits until no processor is inside of it, 15 ms each: many at once wait together.
impl Drop for Attached {
    fn drop(&mut self) {
        let links: Vec<Ending> = self.links.drain().map(|(_, link)| Ending { _link: link }).collect();
        let mut shares: Vec<Vec<Ending>> = (0..DETACHERS).map(|_| Vec::new()).collect();
        for (n, link) in links.into_iter().enumerate() {
            shares[n % DETACHERS].push(link);
        }
        thread::scope(|scope| {
            for share in shares {
                // Without another thread this one ends them, with the closure that it was not given.
                drop(thread::Builder::new().spawn_scoped(scope, move || drop(share)));
            }
        });
    }
}

impl Attached {
    /// Loads and attaches what can be; fails when processes cannot be watched.
    pub(super) fn new(config: &EbpfConfig) -> Result<Self, EbpfError> {
        let mut refused = BTreeMap::new();
        let object = load(config, &mut refused)?;
        let mut attached =
            Attached { object, links: HashMap::new(), lacking: HashMap::new(), coverage: Vec::new() };
        attached.attach_all(&mut refused);
        for class in CLASSES {
            let mut coverage = attached.coverage_of(class, &refused);
            if class.name == FILES && coverage.watch == Watch::Watched {
                let quiet = attached.be_quiet(&config.quiet)?;
                coverage.reason =
                    coverage.reason.map(|limits| format!("{limits}; reads below {quiet} by policy"));
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
            reason: Some(
                "an image that is gone or changed when it is to be read has none: see lossinfo".to_owned(),
            ),
        });
        Ok(attached)
    }

    fn coverage_of(&self, class: &Class, refused: &BTreeMap<String, String>) -> Coverage {
        let section = |name: &str| {
            self.object.progs().find(|p| p.name() == name).map(|p| p.section().to_string_lossy().into_owned())
        };
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
                .filter(|h| !self.lacking.contains_key(h.program))
                .filter_map(|h| section(h.program))
                .collect::<Vec<_>>()
                .join(", "),
            reason: if watched { self.limits(class) } else { Some(failed.join("; ")) },
        }
    }

    /// Has reads below these places not told; gives those that are there.
    fn be_quiet(&self, places: &[PathBuf]) -> Result<String, EbpfError> {
        let table = self.map("quiet")?;
        let mut there = Vec::new();
        for place in places {
            let Ok(facts) = fs::metadata(place) else { continue };
            let (major, minor) = (rustix::fs::major(facts.dev()), rustix::fs::minor(facts.dev()));
            let key = record::Place { inode: facts.ino(), dev: major << 20 | minor, pad: 0 };
            table
                .update(key.as_bytes(), &[1], MapFlags::ANY)
                .map_err(|e| EbpfError::Refused(format!("cannot leave out {}: {e:#}", place.display())))?;
            there.push(place.display().to_string());
        }
        Ok(there.join(" "))
    }

    /// What a class that is watched does not see.
    fn limits(&self, class: &Class) -> Option<String> {
        let lacking: BTreeSet<&str> =
            class.hooks.iter().filter_map(|h| self.lacking.get(h.program).copied()).collect();
        let lacking = lacking.into_iter().map(|feature| format!("this kernel has no {feature}"));
        let all: Vec<String> = lacking.chain(class.limits.map(str::to_owned)).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn attach_all(&mut self, refused: &mut BTreeMap<String, String>) {
        let tracepoints = Tracepoints::open();
        let cgroup = cgroup_root();
        for hook in CLASSES.iter().flat_map(|c| c.hooks) {
            if refused.contains_key(hook.program)
                || self.links.contains_key(hook.program)
                || hook.attach == Attach::Iterator
            {
                continue;
            }
            if let (Attach::Feature(event, feature), Ok(tracepoints)) = (hook.attach, &tracepoints)
                && tracepoints.lacks(event)
            {
                self.lacking.insert(hook.program, feature);
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
    }

    fn attach(
        &self,
        program: &str,
        how: Attach,
        tracepoints: &io::Result<Tracepoints>,
        cgroup: &io::Result<OwnedFd>,
    ) -> Result<Option<Link>, String> {
        let found = self.object.progs_mut().find(|p| p.name() == program).ok_or("not in the object")?;
        let link = match how {
            Attach::Trace => found.attach_trace(),
            Attach::Cgroup => {
                let root =
                    cgroup.as_ref().map_err(|e| format!("cannot open the control group hierarchy: {e}"))?;
                found.attach_cgroup(root.as_raw_fd())
            }
            Attach::Syscall(name) | Attach::Perhaps(name) | Attach::Feature(name, _) => {
                let group = if matches!(how, Attach::Feature(..)) { "" } else { "syscalls/" };
                let tracepoints = tracepoints.as_ref().map_err(|e| format!("cannot open tracefs: {e}"))?;
                let event = match tracepoints.event(&format!("{group}{name}")) {
                    Ok(event) => event,
                    // What this kernel cannot do, nobody does.
                    Err(e) if e.kind() == io::ErrorKind::NotFound && matches!(how, Attach::Perhaps(_)) => {
                        return Ok(None);
                    }
                    Err(e) => return Err(format!("tracepoint {name}: {e}")),
                };
                let link = found.attach_perf_event(event.as_raw_fd());
                // The link owns the event from here on.
                if link.is_ok() {
                    std::mem::forget(event);
                }
                link
            }
            Attach::Iterator => return Err("an iterator is run, not attached".to_owned()),
        };
        link.map(Some).map_err(|e| format!("{e:#}"))
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

    /// How often the kernel skipped one of our programs because it was already running on that processor: events that nobody saw.
    pub(super) fn skipped(&self) -> u64 {
        let mut sum = 0;
        for program in self.object.progs() {
            let mut info = libbpf_sys::bpf_prog_info::default();
            let mut len = size_of_val(&info) as u32;
            // SAFETY: the kernel writes at most `len` bytes into `info`, which is plain data.
            let failed = unsafe {
                libbpf_sys::bpf_obj_get_info_by_fd(
                    program.as_fd().as_raw_fd(),
                    (&raw mut info).cast(),
                    &raw mut len,
                )
            };
            if failed == 0 {
                sum += info.recursion_misses;
            }
        }
        sum
    }
}

fn open(config: &EbpfConfig, refused: &BTreeMap<String, String>) -> Result<OpenObject, EbpfError> {
    let mut object = ObjectBuilder::default()
        .open_memory(super::OBJECT)
        .map_err(|e| EbpfError::Refused(format!("{e:#}")))?;
    for mut program in object.progs_mut() {
        program.set_autoload(!refused.contains_key(&*program.name().to_string_lossy()));
    }
    for mut map in object.maps_mut() {
        let size = match map.name().to_str() {
            Some("events") => config.events,
            Some("bulk") => config.bulk,
            _ => continue,
        };
        map.set_max_entries(size).map_err(|e| EbpfError::Refused(format!("{e:#}")))?;
    }
    Ok(object)
}

/// Loads the object; as long as the kernel refuses a program, again without it.
fn load(config: &EbpfConfig, refused: &mut BTreeMap<String, String>) -> Result<Object, EbpfError> {
    let _alone = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    libbpf_rs::set_print(Some((PrintLevel::Debug, listen)));
    let programs: usize = CLASSES.iter().map(|c| c.hooks.len()).sum();
    let mut last = String::new();
    for _ in 0..=programs {
        SAID.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let error = match open(config, refused)?.load() {
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
