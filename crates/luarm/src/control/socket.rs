//! A socket in the file system: opened for its owner alone; whoever connects has a thread, of which there are few.

use std::{
    fs,
    io::{self, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::Context;

/// For the question to arrive, and for the answer to be taken.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);
/// Connections at once.
const MOST: usize = 16;

/// Takes the socket away when it is dropped.
pub(crate) struct Server {
    path: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Left behind it does no harm: whoever connects is refused, and the next one replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// The connections that there are.
#[derive(Default)]
pub(super) struct Places(AtomicUsize);

impl Places {
    fn take(&self) -> bool {
        let has = self.0.fetch_add(1, Relaxed) < MOST;
        if !has {
            self.give_back();
        }
        has
    }

    fn give_back(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Does what may last while the place is free for others.
    pub(super) fn without<T>(&self, lasting: impl FnOnce() -> T) -> T {
        self.give_back();
        let result = lasting();
        self.0.fetch_add(1, Relaxed);
        result
    }
}

/// Opens a socket and answers there until the process ends. `name` is its threads'; `converse` gives the last line of an answer, or why there is none.
pub(super) fn open(
    path: PathBuf,
    name: &'static str,
    converse: impl Fn(&UnixStream, &Places) -> io::Result<String> + Send + Sync + 'static,
) -> anyhow::Result<Server> {
    let cannot = || format!("cannot open the socket {}", path.display());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(cannot)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(cannot)?;
    let room = Arc::new((converse, Places::default()));
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            loop {
                accept(&listener, name, &room);
            }
        })
        .context("cannot start the socket's thread")?;
    Ok(Server { path })
}

fn accept<C>(listener: &UnixListener, name: &str, room: &Arc<(C, Places)>)
where
    C: Fn(&UnixStream, &Places) -> io::Result<String> + Send + Sync + 'static,
{
    let Ok((stream, _)) = listener.accept() else {
        // Out of file descriptors, most likely: that passes.
        return thread::sleep(AGAIN);
    };
    if !room.1.take() {
        return answer(&stream, "error too many connections");
    }
    let inside = Arc::clone(room);
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let (converse, places) = &*inside;
        let set = stream.set_read_timeout(Some(PATIENCE));
        let reply = set.and_then(|()| converse(&stream, places));
        answer(&stream, &reply.unwrap_or_else(|error| format!("error {error}")));
        places.give_back();
    });
    if spawned.is_err() {
        room.1.give_back();
    }
}

/// Writes a line.
pub(super) fn answer(mut stream: &UnixStream, reply: &str) {
    // Whoever asked may be gone.
    let _ = stream
        .set_write_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(format!("{reply}\n").as_bytes()));
}
