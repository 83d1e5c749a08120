//! What is the recorder's own: its process, its program, configuration and data, and the room that these have.

use std::{
    env, fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use luarm_recorder::{Place, Protected, Role};
use luarm_store::StoreUrl;
use rustix::fs::{major, minor, statvfs};

use crate::size::Size;

/// Between two looks at the room that is left.
const LOOK: Duration = Duration::from_secs(10);
/// Less than this is told of, where nobody says otherwise.
const RESERVE: Size = Size(512 << 20);
/// Where units for systemd lie.
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Where a recorder has what it needs.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    data: PathBuf,
    /// The file of a store of SQLite.
    store: Option<PathBuf>,
    configuration: Option<PathBuf>,
    reserve: u64,
}

impl Own {
    /// Of a recorder with that data directory, store and configuration file.
    pub(crate) fn new(
        data: &Path,
        store: Option<&StoreUrl>,
        configuration: Option<&Path>,
        reserve: Option<Size>,
    ) -> Self {
        let store = match store {
            Some(StoreUrl::Sqlite(path)) => Some(path.clone()),
            _ => None,
        };
        Own {
            data: data.to_owned(),
            store,
            configuration: configuration.map(Path::to_owned),
            reserve: reserve.unwrap_or(RESERVE).0,
        }
    }

    /// What is aimed at one of these is told.
    pub(crate) fn protected(&self) -> Protected {
        let mut places = vec![place(&self.data, Role::Data, false)];
        // The spool of an agent is there only where it is one; what is not there is known by its path.
        places.extend(["luarm.db", "spool.db"].map(|name| place(&self.data.join(name), Role::Data, true)));
        places.extend(self.store.iter().map(|path| place(path, Role::Data, true)));
        places.extend(env::current_exe().ok().map(|path| place(&path, Role::Program, false)));
        places.push(place(Path::new("/etc/luarm"), Role::Configuration, false));
        places.extend(self.configuration.iter().map(|path| place(path, Role::Configuration, false)));
        places.extend(UNITS.map(|units| place(&Path::new(units).join("luarm"), Role::Configuration, true)));
        Protected { process: std::process::id(), places }
    }

    /// The room that its data have.
    pub(crate) fn room(&self) -> RoomLeft {
        let store = self.store.as_deref().and_then(Path::parent).filter(|path| !path.as_os_str().is_empty());
        let path = store.unwrap_or(&self.data).to_owned();
        RoomLeft { path, bound: self.reserve, looked: None, told: Told::Nothing }
    }
}

fn place(path: &Path, role: Role, begins: bool) -> Place {
    // What is not there yet may have a directory that is.
    let whole = path.canonicalize().or_else(|error| {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
        parent.canonicalize().map(|parent| parent.join(name))
    });
    let found = fs::metadata(path).ok().filter(fs::Metadata::is_file);
    // As the kernel packs it (MINORBITS of linux/kdev_t.h).
    let file = found.map(|found| (major(found.dev()) << 20 | minor(found.dev()), found.ino()));
    let path = whole.unwrap_or_else(|_| path.to_owned());
    Place { path: path.as_os_str().as_bytes().to_owned(), begins, role, file }
}

/// How much was told of the room that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Low,
    Critical,
}

/// The room that is left on a file system.
#[derive(Debug)]
pub(crate) struct RoomLeft {
    path: PathBuf,
    /// Less than this is told of, bytes.
    pub(crate) bound: u64,
    looked: Option<Instant>,
    told: Told,
}

impl RoomLeft {
    /// The directory.
    pub(crate) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Looks once in a while. Gives what is left if it is too little, and that is news.
    pub(crate) fn look(&mut self) -> Option<u64> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return None;
        }
        self.looked = Some(Instant::now());
        let left = statvfs(&self.path).ok()?;
        self.found(left.f_bavail.saturating_mul(left.f_frsize))
    }

    fn found(&mut self, left: u64) -> Option<u64> {
        let now = match left {
            left if left < self.bound / 4 => Told::Critical,
            left if left < self.bound => Told::Low,
            // A little more than the bound is no relief yet.
            left if left < self.bound.saturating_add(self.bound / 8) => self.told.min(Told::Low),
            _ => Told::Nothing,
        };
        let news = now > self.told;
        // What goes up and down about a bound is told once.
        self.told = if now == Told::Nothing { now } else { now.max(self.told) };
        news.then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told_once_until_there_is_enough_again() {
        let own = Own::new(Path::new("/"), None, None, Some(Size(800)));
        let mut room = own.room();
        let told = [1000, 799, 500, 850, 799, 199, 100, 300, 100, 850, 700, 901, 700, 0]
            .map(|left| room.found(left).is_some());
        assert_eq!(
            told,
            [false, true, false, false, false, true, false, false, false, false, false, false, true, true]
        );
        let mut never = Own::new(Path::new("/"), None, None, Some(Size(0))).room();
        assert_eq!(never.found(0), None);
    }

    #[test]
    fn places_are_where_their_links_lead() {
        let directory = tempfile::tempdir().unwrap();
        let (data, link) = (directory.path().join("data"), directory.path().join("link"));
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        fs::write(data.join("luarm.db"), "x").unwrap();
        let protected = Own::new(&link, None, None, None).protected();
        let data = data.canonicalize().unwrap();
        assert_eq!(protected.places[0].path, data.as_os_str().as_bytes());
        let database = &protected.places[1];
        assert_eq!(database.path, data.join("luarm.db").as_os_str().as_bytes());
        assert_eq!(database.file.unwrap().1, fs::metadata(data.join("luarm.db")).unwrap().ino());
    }
}
