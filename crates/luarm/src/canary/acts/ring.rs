//! A request through io_uring: to open a file that is not there, or not to be reached.

use std::io;

use io_uring::{IoUring, opcode::OpenAt, types::Fd};

use super::Stage;

pub(super) fn act(stage: &mut Stage) {
    const ACTS: [&str; 2] = ["request of a ring", "answer of a ring"];
    let cannot = |stage: &mut Stage, error: &io::Error| {
        ACTS.into_iter().for_each(|name| stage.not(name, &error.to_string()));
    };
    match IoUring::new(1) {
        Ok(ring) => {
            stage.did("io_uring_setup");
            match ask(ring) {
                Ok(()) => ACTS.into_iter().for_each(|name| stage.did(name)),
                Err(error) => cannot(stage, &error),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            stage.did("io_uring_setup");
            cannot(stage, &error);
        }
        Err(error) => stage.not("io_uring_setup", &error.to_string()),
    }
}

fn ask(mut ring: IoUring) -> io::Result<()> {
    let request = OpenAt::new(Fd(libc::AT_FDCWD), c"canary.ring".as_ptr())
        .flags(libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC)
        .mode(0o600)
        .build();
    // SAFETY: the name lives as long as the program.
    unsafe { ring.submission().push(&request) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    Ok(())
}
