//! Rows of `psinfo`, and what ends them.

use luarm_schema::{
    Time, Word,
    escape::escape,
    tables::{PsInfo, PsInfoEnd},
};
use luarm_sensor::{
    BootNs,
    observation::{ImageFile, ImageId, Usage},
};

use super::Process;
use crate::{
    container::container,
    context::{Context, foreign},
};

/// The row of a process as it is known now.
pub(crate) fn psinfo(ctx: &mut Context, process: &Process, origin: &'static str) -> PsInfo {
    let Process { image, psentity, ppsentity, task, program, began, .. } = process;
    let own = ctx.host.namespaces;
    let (ids, ns) = (task.credentials, task.namespaces);
    // A fork runs what its creator runs.
    let news = (origin != "fork").then_some(process.seen);
    let cgroup = task.cgroup.as_deref().filter(|path| !path.is_empty() && *path != b"/");
    PsInfo {
        psentity: *psentity,
        ppsentity: *ppsentity,
        origin: Word::Borrowed(origin),
        username: ctx.username(ids.euid),
        loginname: ctx.loginname(task.auid),
        pid: image.pid,
        ppid: task.ppid,
        application: escape(&task.comm),
        command: program.command.clone(),
        script: program.script.clone(),
        argv: program.argv.text.clone(),
        argc: program.argv.count,
        argvlength: program.argv.length,
        cwd: program.cwd.clone(),
        uid: ids.uid,
        euid: ids.euid,
        suid: ids.suid,
        fsuid: ids.fsuid,
        gid: ids.gid,
        egid: ids.egid,
        sgid: ids.sgid,
        fsgid: ids.fsgid,
        auid: task.auid,
        session: task.session,
        sid: task.sid,
        tty: task.tty.as_deref().map(escape),
        container: cgroup.and_then(container),
        cgroup: cgroup.map(escape),
        mntns: foreign(ns.mnt, own.mnt),
        netns: foreign(ns.net, own.net),
        pidns: foreign(ns.pid, own.pid),
        userns: foreign(ns.user, own.user),
        utsns: foreign(ns.uts, own.uts),
        ipcns: foreign(ns.ipc, own.ipc),
        cgroupns: foreign(ns.cgroup, own.cgroup),
        imagedev: program.file.map(|file| file.dev),
        imageinode: program.file.map(|file| file.inode),
        imageowner: program.file.map(|file| file.owner),
        imagemode: program.file.map(|file| file.mode),
        imagestate: program.file.and_then(state),
        imagesha256: program.file.and_then(|file| ctx.digests.of(*psentity, file, news)),
        execs: image.execs,
        canary: None,
        created: ctx.clock.time(*began),
        end: None,
    }
}

fn state(file: ImageFile) -> Option<Word> {
    match file {
        ImageFile { memfd: true, .. } => Some(Word::Borrowed("memfd")),
        ImageFile { deleted: true, .. } => Some(Word::Borrowed("deleted")),
        _ => None,
    }
}

/// An end of which no more is known than when and how.
pub(crate) fn plain_end(destroyed: Time, ended: &'static str) -> PsInfoEnd {
    PsInfoEnd {
        destroyed,
        ended: Word::Borrowed(ended),
        exitcode: None,
        exitsignal: None,
        usercpu: None,
        systemcpu: None,
        maxrss: None,
        bytesread: None,
        byteswritten: None,
        diskread: None,
        diskwritten: None,
        pcpu: None,
        pmem: None,
    }
}

/// The end of a process, with its status (wait(2)) and its accounts.
pub(crate) fn exit_end(
    ctx: &Context,
    image: ImageId,
    (began, at): (BootNs, BootNs),
    status: Option<i32>,
    usage: Option<&Usage>,
) -> PsInfoEnd {
    let mut end = plain_end(ctx.clock.time(at.max(began)), "exit");
    if let Some(status) = status {
        match status & 0x7f {
            0 => end.exitcode = Some(status >> 8 & 0xff),
            signal => end.exitsignal = Some(signal),
        }
    }
    if let Some(usage) = usage {
        let bytes = |n: u64| Some(i64::try_from(n).unwrap_or(i64::MAX));
        end.usercpu = bytes(usage.user / 1000);
        end.systemcpu = bytes(usage.system / 1000);
        end.maxrss = bytes(usage.maxrss);
        end.bytesread = bytes(usage.rchar);
        end.byteswritten = bytes(usage.wchar);
        end.diskread = bytes(usage.read_bytes);
        end.diskwritten = bytes(usage.write_bytes);
        end.pcpu = percent(usage.user.saturating_add(usage.system), at.saturating_sub(image.start));
        end.pmem = percent(usage.maxrss, ctx.host.memory);
    }
    end
}

/// Rounded to a tenth.
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 * 1000.0 / whole as f64).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_one_decimal() {
        assert_eq!(percent(1, 3), Some(33.3));
        assert_eq!(percent(2, 3), Some(66.7));
        assert_eq!(percent(3, 1), Some(300.0));
        assert_eq!(percent(3, 0), None);
    }
}
