//! Names of users. Whoever records must never wait for them: NSS may ask a server somewhere.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use luarm_schema::escape::escape;
use luarm_sensor::condition::User;

use crate::bounded::Generations;

/// How many questions to NSS may wait; beyond that they are asked when the user is met again.
const QUESTIONS: usize = 64;
/// How many names beyond the file are remembered.
const ANSWERS: usize = 4096;
const RECHECK: Duration = Duration::from_secs(1);
/// An answer of NSS, also that there is none, is asked for anew after this.
const LASTS: Duration = Duration::from_secs(600);

/// Gives names to user ids, at once.
pub trait Users: Send {
    /// The user's name; the number as text where the host knows none, or does not know it yet.
    fn name(&mut self, uid: u32) -> Arc<str>;

    /// Users that are in no local file and were met since this was asked last; `None` for one that nobody knows, or knows any more.
    fn met(&mut self) -> Vec<(u32, Option<User>)> {
        Vec::new()
    }
}

/// Which content of a file was read.
pub(crate) type Fingerprint = (u64, u64, u64, i64, i64);

/// Tells whether a file is still the same, without reading it.
pub(crate) fn fingerprint(path: &Path) -> Option<Fingerprint> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

struct Answers {
    names: Generations<u32, (Option<Arc<str>>, Instant)>,
    /// Those that came since they were asked for last.
    met: Vec<(u32, Option<User>)>,
}

/// The users of this host: those of the passwd file at once, all others after a background thread asked NSS.
pub struct SystemUsers {
    passwd: PathBuf,
    read: Option<Fingerprint>,
    checked: Option<Instant>,
    names: HashMap<u32, Arc<str>>,
    numbers: Generations<u32, Arc<str>>,
    answers: Arc<Mutex<Answers>>,
    questions: Option<SyncSender<u32>>,
}

impl SystemUsers {
    /// Reads `passwd`, which is /etc/passwd or stands for it, whenever it changes.
    pub fn new(passwd: impl Into<PathBuf>) -> Self {
        let answers = Arc::new(Mutex::new(Answers { names: Generations::new(ANSWERS), met: Vec::new() }));
        Self {
            passwd: passwd.into(),
            read: None,
            checked: None,
            names: HashMap::new(),
            numbers: Generations::new(ANSWERS),
            questions: ask_nss(Arc::clone(&answers)),
            answers,
        }
    }

    fn refresh(&mut self) {
        if self.checked.is_some_and(|at| at.elapsed() < RECHECK) {
            return;
        }
        self.checked = Some(Instant::now());
        let found = fingerprint(&self.passwd);
        if found.is_some() && found == self.read {
            return;
        }
        if let Ok(content) = fs::read(&self.passwd) {
            self.names = parse(&content);
            self.read = found;
        }
    }

    fn number(&mut self, uid: u32) -> Arc<str> {
        if let Some(number) = self.numbers.touch(&uid) {
            return Arc::clone(number);
        }
        let number: Arc<str> = uid.to_string().into();
        self.numbers.insert(uid, Arc::clone(&number));
        number
    }
}

impl Users for SystemUsers {
    fn name(&mut self, uid: u32) -> Arc<str> {
        self.refresh();
        if let Some(name) = self.names.get(&uid) {
            return Arc::clone(name);
        }
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).names.touch(&uid).cloned();
        if answer.as_ref().is_none_or(|(_, at)| at.elapsed() > LASTS)
            && let Some(questions) = &self.questions
        {
            // A full queue is no harm: the question is asked when the user is met again.
            let _ = questions.try_send(uid);
        }
        match answer {
            Some((Some(name), _)) => name,
            _ => self.number(uid),
        }
    }

    fn met(&mut self) -> Vec<(u32, Option<User>)> {
        let mut met = std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner).met);
        if !met.is_empty() {
            // The user may have come into the file meanwhile.
            self.checked = None;
            self.refresh();
            met.retain(|(uid, _)| !self.names.contains_key(uid));
        }
        met
    }
}

fn ask_nss(answers: Arc<Mutex<Answers>>) -> Option<SyncSender<u32>> {
    let (sender, receiver) = sync_channel::<u32>(QUESTIONS);
    let answerer = move || {
        use std::os::unix::ffi::OsStrExt;

        use uzers::os::unix::UserExt;
        for uid in receiver {
            let fresh =
                |answers: &Answers| answers.names.get(&uid).is_some_and(|(_, at)| at.elapsed() < LASTS);
            if fresh(&answers.lock().unwrap_or_else(PoisonError::into_inner)) {
                continue;
            }
            let user = uzers::get_user_by_uid(uid).map(|user| User {
                name: user.name().as_bytes().to_vec(),
                uid,
                gid: user.primary_group_id(),
                gecos: user.gecos().as_bytes().to_vec(),
                home: user.home_dir().as_os_str().as_bytes().to_vec(),
                shell: user.shell().as_os_str().as_bytes().to_vec(),
                remote: true,
                ..User::default()
            });
            let name = user.as_ref().map(|user| escape(&user.name).into());
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            // While nobody takes them the answers are not kept either: the user is asked for again when it is met again.
            if answers.met.len() < ANSWERS {
                answers.names.insert(uid, (name, Instant::now()));
                answers.met.push((uid, user));
            }
        }
    };
    match thread::Builder::new().name("luarm-users".to_owned()).spawn(answerer) {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::warn!("users that are not in the passwd file will be shown as numbers: {error}");
            None
        }
    }
}

/// See passwd(5). Of two lines with one id the first counts, as in the C library; lines that are none are passed over.
fn parse(content: &[u8]) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in content.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b':');
        let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else { continue };
        let uid = std::str::from_utf8(uid).ok().and_then(|uid| uid.parse().ok());
        if let Some(uid) = uid
            && !name.is_empty()
            && !matches!(name[0], b'#' | b'+' | b'-')
        {
            names.entry(uid).or_insert_with(|| escape(name).into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_malformed_file_gives_what_is_sound_in_it() {
        let names = parse(b"root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\n:x:5:5\nbad:x:-1:0\nnone\n+::::\nb\xffd:x:7:7:::\nbig:x:4294967296:\nlast:x:9:9");
        let mut all: Vec<_> = names.iter().map(|(&uid, name)| (uid, &**name)).collect();
        all.sort_unstable();
        assert_eq!(all, [(0, "root"), (7, "b\\xffd"), (9, "last")]);
    }

    #[test]
    fn a_hundred_thousand_users_are_known_at_once() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for uid in 0..100_000 {
            writeln!(file, "user{uid}:x:{uid}:100::/:").unwrap();
        }
        let mut users = SystemUsers::new(file.path());
        assert_eq!(&*users.name(99_999), "user99999");
    }

    #[test]
    fn a_new_user_is_found_when_the_file_changes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut users = SystemUsers::new(file.path());
        assert_eq!(&*users.name(4_000_000_001), "4000000001");
        writeln!(file, "eve:x:4000000001:1::/:").unwrap();
        users.checked = None;
        assert_eq!(&*users.name(4_000_000_001), "eve");
    }

    #[test]
    fn users_beyond_the_file_come_from_nss() {
        let mut users = SystemUsers::new("/nonexistent/passwd");
        assert_eq!(&*users.name(0), "0");
        // The background thread answers when it can; the test waits for the answer, however long that takes.
        while &*users.name(0) != "root" {
            thread::yield_now();
        }
    }
}
