//! Everything about a process that is there.

use super::{Process, Reader, Stat};
use crate::observation::{ImageId, Program, Task};

const ATTEMPTS: u32 = 3;

impl Reader {
    /// A process and what it runs; `None` when it is gone, or over. `image.execs` is 0, `creator` is not known here.
    pub fn found(&self, pid: u32) -> Option<(Task, Program)> {
        self.process(pid)?.found().map(|(_, task, program)| (task, program))
    }
}

impl Process {
    /// Itself and what it runs, with the state that it was read in; `None` when it is gone, or over.
    pub fn found(&self) -> Option<(Stat, Task, Program)> {
        let mut before = self.stat()?;
        for _ in 1..ATTEMPTS {
            let (task, program) = (self.task(&before)?, self.program(&before));
            let after = self.stat()?;
            // An exec in between would mix two images.
            if (after.image, &after.comm) == (before.image, &before.comm) {
                return Some((after, task, program));
            }
            before = after;
        }
        Some((before.clone(), self.task(&before)?, self.program(&before)))
    }

    fn task(&self, stat: &Stat) -> Option<Task> {
        if stat.is_over() {
            return None;
        }
        Some(Task {
            image: ImageId { pid: self.pid(), start: stat.start, execs: 0 },
            ppid: stat.ppid,
            creator: None,
            comm: stat.comm.clone(),
            credentials: self.status()?.credentials,
            auid: self.auid(),
            session: self.login_session(),
            sid: Some(stat.session).filter(|session| *session != 0),
            tty: stat.tty_name(),
            namespaces: self.namespaces(),
            cgroup: self.cgroup(),
        })
    }

    fn program(&self, stat: &Stat) -> Program {
        if stat.is_kernel_thread() {
            return Program::default();
        }
        let (path, file) = self.image().unwrap_or_default();
        Program { path, script: None, file, arguments: self.arguments().unwrap_or_default(), cwd: self.cwd() }
    }
}
