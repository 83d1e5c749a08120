//! Processes: their images, the executions that failed, their changes of name, their acts of privilege.

use std::sync::Arc;

use crate::{Derivation, Time, Word};

table! {
    /// Process executions: one row per process image. A fork that is followed by an exec within a second is one row with it; a
    /// process that runs on as a copy of its parent has a row too, and each further exec of the same process has its own.
    psinfo: PsInfo, PsInfoEnd, key psentity;
    begin {
        /// Identity of the image, unique on its host and ordered by time: 51 bits of the process's start in microseconds since
        /// 2020-01-01, 6 bits of the pid, 6 bits counting the process's execs. The same however often the recorder restarts.
        psentity: i64,
        /// The image that created the process (`psentity` of the fork's caller); NULL where it was not seen.
        ppsentity: Option<i64>,
        /// How the row began: `exec`; `fork`, a copy of the parent that ran on without exec; `found`, it was there when the recorder started;
        /// `poll`, first met by the polling sensor, some time after it began.
        origin: Word,
        /// Name of the effective user when the image began; the number where the host knows no name.
        username: Arc<str>,
        /// Name of the user who logged in (`auid`), which su, sudo, cron and setuid do not change; NULL where no login stands behind it.
        loginname: Option<Arc<str>>,
        /// Process id in the host's own pid namespace (the kernel's tgid).
        pid: u32,
        /// Process id of the parent when the image began, in the same namespace. The parent may be another than the creator.
        ppid: u32,
        /// The task name when the image began (at most 15 bytes; the kernel's `comm`).
        application: String,
        /// Full path of the image that runs, symbolic links resolved by the kernel; for a script that of its interpreter; empty for a kernel thread.
        command: String,
        /// The script as it was named to exec, where the image is its interpreter.
        script: Option<String>,
        /// All arguments, `argv[0]` first, one per line; a line feed inside one is `\x0a`. NULL for a process without arguments (kernel threads).
        argv: Option<String>,
        /// How many arguments there were.
        argc: i32,
        /// NULL when `argv` is whole; else how many bytes all arguments had together, of which `argv` keeps the first part.
        argvlength: Option<i64>,
        /// Working directory when the image began. A path that is too long (beyond 4 KiB) begins with `/.../`, here and in `command`.
        cwd: Option<String>,
        /// Real user id.
        uid: u32,
        /// Effective user id.
        euid: u32,
        /// Saved user id.
        suid: u32,
        /// User id for file access.
        fsuid: u32,
        /// Real group id.
        gid: u32,
        /// Effective group id.
        egid: u32,
        /// Saved group id.
        sgid: u32,
        /// Group id for file access.
        fsgid: u32,
        /// Login user id: the uid that logged in; NULL where no login stands behind it.
        auid: Option<u32>,
        /// Login session id of kernel audit; NULL where no login stands behind it.
        session: Option<u32>,
        /// Process session id (the pid of the session's leader).
        sid: Option<u32>,
        /// Controlling terminal, for instance `pts0`.
        tty: Option<String>,
        /// Container id, from the control group.
        container: Option<String>,
        /// Path of the control group (version 2), NULL for the root.
        cgroup: Option<String>,
        /// Mount namespace (inode number); this and the six that follow are NULL where it is the host's own.
        mntns: Option<u32>,
        /// Network namespace.
        netns: Option<u32>,
        /// Pid namespace.
        pidns: Option<u32>,
        /// User namespace.
        userns: Option<u32>,
        /// UTS namespace.
        utsns: Option<u32>,
        /// IPC namespace.
        ipcns: Option<u32>,
        /// Control group namespace.
        cgroupns: Option<u32>,
        /// Device of the image file, as major * 2^20 + minor.
        imagedev: Option<u32>,
        /// Inode of the image file.
        imageinode: Option<u64>,
        /// Owner of the image file.
        imageowner: Option<u32>,
        /// Type and permissions of the image file, as in `st_mode`.
        imagemode: Option<u16>,
        /// `deleted` where the image file had no name any more, `memfd` where it never had one, else NULL.
        imagestate: Option<Word>,
        /// SHA-256 of the image file, hexadecimal. It is read once for each content of a file, beside the recording; the first row of an image waits for it for a second
        /// at most. NULL where that was not enough: `imageinfo` may have it then, under `imagedev` and `imageinode`.
        imagesha256: Option<Arc<str>>,
        /// How many execs the process had done, this image's included, since it was forked.
        execs: u32,
        /// The round of the canary (`canaryinfo.round`) that the recorder itself ran this image for; NULL for everything else. By descent from the recorder's process alone:
        /// no name or argument makes another process one.
        canary: Option<i64>,
        /// When the image began: at the fork for the first image of a process, else at the exec.
        created: Time,
    }
    end {
        /// When the image ended; NULL while it runs.
        destroyed: Time,
        /// How it ended: `exit`; `exec`, the process went on with another image; `unseen`, it ended while nothing watched, at the latest at
        /// `destroyed`; `boot`, it went down with the host.
        ended: Word,
        /// Exit code, where it exited.
        exitcode: Option<i32>,
        /// The signal that killed it, where one did.
        exitsignal: Option<i32>,
        /// CPU time in user mode, microseconds, of the whole process until then (the kernel's accounting).
        usercpu: Option<i64>,
        /// CPU time in kernel mode, microseconds.
        systemcpu: Option<i64>,
        /// Peak resident memory, bytes.
        maxrss: Option<i64>,
        /// Bytes that its system calls read (`rchar`).
        bytesread: Option<i64>,
        /// Bytes that its system calls wrote (`wchar`).
        byteswritten: Option<i64>,
        /// Bytes that were fetched from storage for it (`read_bytes`).
        diskread: Option<i64>,
        /// Bytes that it caused to be sent to storage (`write_bytes`).
        diskwritten: Option<i64>,
        /// CPU time over life time, percent.
        pcpu: Option<f64>,
        /// Peak resident memory over the host's memory, percent.
        pmem: Option<f64>,
    }
    derived {
        /// What follows `argv[0]`, separated by blanks; derived from `argv`, where the borders between arguments are kept.
        arguments = Derivation::Arguments("argv"),
    }
    index { (username) (pid) (ppsentity) }
}

table! {
    /// Images that were executed, once for each content: a file that is changed or replaced is another image.
    imageinfo: ImageInfo, ImageInfoEnd, key imageid;
    begin {
        /// Number of the row, ordered by time.
        imageid: i64,
        /// Full path under which it ran first.
        command: String,
        /// Device of the file, as major * 2^20 + minor.
        imagedev: u32,
        /// Inode of the file.
        imageinode: u64,
        /// Size in bytes.
        size: u64,
        /// When its contents changed last.
        mtime: Time,
        /// When anything of it changed last: its contents, its name, its owner, its permissions.
        ctime: Time,
        /// SHA-256 of its contents, hexadecimal.
        sha256: Arc<str>,
        /// When it was read.
        created: Time,
    }
    end {}
    derived {}
    index { (sha256) (imageinode) }
}

table! {
    /// Executions that the kernel refused: who tried to run what, and the error. A file that does not exist (ENOENT) is not
    /// recorded: every search along PATH would be a row.
    execinfo: ExecInfo, ExecInfoEnd, key execid;
    begin {
        /// Number of the attempt, ordered by time.
        execid: i64,
        /// The image that tried.
        psentity: i64,
        /// Effective user.
        username: Arc<str>,
        /// User who logged in.
        loginname: Option<Arc<str>>,
        /// Process id.
        pid: u32,
        /// Task name of the process that tried.
        application: String,
        /// The path as it was given to exec.
        command: String,
        /// The arguments as they were given, one per line, as in `psinfo.argv`.
        argv: Option<String>,
        /// How many arguments are in `argv`.
        argc: i32,
        /// NULL when `argv` is whole; else how many bytes of arguments were there at least.
        argvlength: Option<i64>,
        /// The kernel's error number (13 EACCES, 1 EPERM, 8 ENOEXEC, 7 E2BIG…).
        result: i32,
        /// Login user id.
        auid: Option<u32>,
        /// Login session id.
        session: Option<u32>,
        /// When the kernel refused it.
        created: Time,
    }
    end {}
    derived {
        /// What follows `argv[0]`, separated by blanks.
        arguments = Derivation::Arguments("argv"),
    }
    index { (psentity) }
}

table! {
    /// Changes of the task name by the process itself (`prctl(PR_SET_NAME)` or /proc/self/comm): how a program disguises itself.
    renameinfo: RenameInfo, RenameInfoEnd, key renameid;
    begin {
        /// Number of the change, ordered by time.
        renameid: i64,
        /// The image whose name changed.
        psentity: i64,
        /// Effective user.
        username: Arc<str>,
        /// User who logged in.
        loginname: Option<Arc<str>>,
        /// Process id.
        pid: u32,
        /// The new name.
        application: String,
        /// The name before.
        oldapplication: String,
        /// Login user id.
        auid: Option<u32>,
        /// Login session id.
        session: Option<u32>,
        /// When it changed.
        created: Time,
    }
    end {}
    derived {}
    index { (psentity) }
}

table! {
    /// Acts of privilege, done or refused: changes of credentials and capabilities (by setuid and its family, by capset, by executing a
    /// file that grants them), code loaded into the kernel, memory and descriptors of other processes, namespaces made and entered, signals to
    /// processes of other users, and all that are sent to the recorder.
    privinfo: PrivInfo, PrivInfoEnd, key privid;
    begin {
        /// Number of the act, ordered by time.
        privid: i64,
        /// The image that did it.
        psentity: i64,
        /// Effective user after it.
        username: Arc<str>,
        /// User who logged in.
        loginname: Option<Arc<str>>,
        /// Process id.
        pid: u32,
        /// Task name.
        application: String,
        /// What was done: mostly the system call (`setuid`, `setresgid`, `setgroups`, `capset`, `init_module`, `finit_module`, `delete_module`, `kexec_load`,
        /// `kexec_file_load`, `ptrace`, `process_vm_readv`, `process_vm_writev`, `pidfd_getfd`, `setns`, `unshare`, `clone`); `exec`, credentials
        /// changed by it; `bpf-load`, `bpf-attach`, a BPF program; `bpf-open`, somebody else got hold of a program, table or link of the recorder's own; `signal`, by whichever call; `observed`, the polling sensor found other
        /// credentials than before.
        operation: Word,
        /// The kernel's error number (1 EPERM, 13 EACCES…); 0 where it was done.
        result: i32,
        /// What it was about. Modules: the module's name, or that of the file where the kernel refused it. BPF: type, name and number of the
        /// program. `ptrace`: the request. `process_vm_*`: how many bytes, by the first such call. Namespaces: their kinds, each with
        /// its inode number where it was done. `signal`: its name. A refused change of ids: the ids that were asked for, -1 for one to keep.
        /// `setgroups`: the supplementary groups that it has now, or asked for in vain.
        detail: Option<String>,
        /// The image that it was done to, as of that moment. `clone`: the child.
        targetentity: Option<i64>,
        /// Its process id.
        targetpid: Option<u32>,
        /// Its effective user.
        targetusername: Option<Arc<str>>,
        /// Its task name.
        targetapplication: Option<String>,
        /// Real user id before. This and the others `before` are the same as after where the act does not change them.
        olduid: u32,
        /// Effective user id before.
        oldeuid: u32,
        /// Real group id before.
        oldgid: u32,
        /// Effective group id before.
        oldegid: u32,
        /// Inheritable capabilities before, 16 hexadecimal digits as in /proc/PID/status, bits as in capabilities(7); NULL where not known.
        oldcapinh: Option<String>,
        /// Permitted capabilities before.
        oldcapprm: Option<String>,
        /// Effective capabilities before.
        oldcapeff: Option<String>,
        /// Real user id after.
        uid: u32,
        /// Effective user id after.
        euid: u32,
        /// Saved user id after.
        suid: u32,
        /// User id for file access after.
        fsuid: u32,
        /// Real group id after.
        gid: u32,
        /// Effective group id after.
        egid: u32,
        /// Saved group id after.
        sgid: u32,
        /// Group id for file access after.
        fsgid: u32,
        /// Inheritable capabilities after. Capabilities count in the process's own user namespace.
        capinh: Option<String>,
        /// Permitted capabilities after.
        capprm: Option<String>,
        /// Effective capabilities after.
        capeff: Option<String>,
        /// Login user id.
        auid: Option<u32>,
        /// Login session id.
        session: Option<u32>,
        /// When it was done.
        created: Time,
    }
    end {}
    derived {}
    index { (psentity) (targetentity) }
}
