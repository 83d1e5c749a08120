//! Copies of the canary: a fork without an exec, whose rows are the canary's by descent.

use std::io::{self, Read, Write};

use super::{Group, NOBODY, Stage, call, is_root, network::Sockets};

/// Forks. Where the canary may, the copy becomes nobody, so that a signal to it is one across users.
pub(super) fn copy(stage: &mut Stage, sockets: &Sockets) {
    let strange = is_root();
    match fork(strange, sockets) {
        Ok(signalled) => {
            stage.did("fork");
            let relayed: Vec<_> = sockets.relayed().collect();
            relayed.into_iter().for_each(|name| stage.did(name));
            match signalled {
                Some(Ok(())) => stage.did("signal"),
                Some(Err(error)) => stage.not("signal", &error.to_string()),
                None => stage.not("signal", "the copy could not become another user"),
            }
        }
        Err(error) => stage.not("fork", &error.to_string()),
    }
}

/// Whether the copy could be signalled, if it became nobody.
fn fork(strange: bool, sockets: &Sockets) -> io::Result<Option<io::Result<()>>> {
    let (mut ready, mut says) = io::pipe()?;
    let (mut waits, done) = io::pipe()?;
    // SAFETY: this process has one thread. The child makes system calls, and exits without returning.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        drop(done);
        // Its saved user id stays the canary's, which may signal it for that.
        // SAFETY: ids.
        let is_nobody = strange && unsafe { call(libc::SYS_setresuid, &[NOBODY, NOBODY, 0]) }.is_ok();
        sockets.relay();
        let _ = says.write(&[u8::from(is_nobody)]);
        // Until the canary closes its end.
        let _ = waits.read(&mut [0]);
        // SAFETY: it ends here.
        unsafe { libc::_exit(0) }
    }
    drop(says);
    let mut is_nobody = [0];
    let heard = ready.read_exact(&mut is_nobody);
    let signalled = (heard.is_ok() && is_nobody == [1]).then(|| {
        // SAFETY: the child's number, which is not reaped yet, and a signal that nothing dies of.
        unsafe { call(libc::SYS_kill, &[pid as usize, libc::SIGWINCH as usize]) }.map(drop)
    });
    drop(done);
    // SAFETY: the child's number, and no place for its status.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    heard?;
    Ok(signalled)
}

/// A copy in a user namespace of its own, where the kernel lets nobody have one.
pub(super) fn clone(stage: &mut Stage) {
    if !stage.does(Group::Others) {
        return;
    }
    let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize;
    // SAFETY: as fork, of a process with one thread: without a stack of its own the child goes on with a copy of this one, and exits at once.
    match unsafe { call(libc::SYS_clone, &[flags, 0, 0, 0, 0]) } {
        // SAFETY: it ends here.
        Ok(0) => unsafe { libc::_exit(0) },
        Ok(pid) => {
            // SAFETY: the child's number, and no place for its status.
            unsafe { libc::waitpid(pid as i32, std::ptr::null_mut(), 0) };
            stage.did("clone of a user namespace");
        }
        Err(error) => stage.not("clone of a user namespace", &error.to_string()),
    }
}
