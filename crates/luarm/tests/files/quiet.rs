//! Quiet places: reads below them are not told, on whatever file system they lie, and all others are.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{support, text};
use crate::support::{Launch, Recording, has_ebpf};

/// A shell in a mount namespace of its own, and a recorder in the same.
struct Place {
    shell: Child,
    dir: tempfile::TempDir,
    recording: Recording,
}

impl Place {
    /// The script makes the place, in a directory `work`; reads below those that are named, there, are quiet.
    fn start(make: &str, quiet: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().canonicalize().unwrap().join("work");
        fs::create_dir(&work).unwrap();
        let loop_ =
            format!("{make}\necho ready\nwhile read -r line; do eval \"$line\" || exit 1; echo ready; done");
        let mut shell = Command::new("unshare")
            .args(["--mount", "sh", "-ec", &loop_])
            .current_dir(&work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait(&mut shell);
        let quiet: Vec<_> =
            quiet.iter().map(|name| format!("--files-quiet={}", work.join(name).display())).collect();
        let mount = format!("--mount=/proc/{}/ns/mnt", shell.id());
        let recording = Launch::on(&dir.path().join("data"))
            .under(&["nsenter", &mount])
            .with(&quiet.iter().map(String::as_str).collect::<Vec<_>>())
            .start();
        Self { shell, dir, recording }
    }

    /// Runs a line in the shell.
    fn run(&mut self, line: &str) {
        self.shell.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
        wait(&mut self.shell);
    }

    /// Files that were read, by their paths below `work`.
    fn read(&self) -> Vec<String> {
        self.recording.sync();
        let work = self.dir.path().canonicalize().unwrap().join("work");
        let rows = self.recording.sql(&format!(
            "select location, filename from fileinfo where access = 'r' and location like '{}%' order by fileaccessid",
            work.display()
        ));
        let path = |row| Path::new(text(row, "location")).join(text(row, "filename"));
        rows.iter().map(|row| path(row).strip_prefix(&work).unwrap().display().to_string()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn wait(shell: &mut Child) {
    let mut line = String::new();
    BufReader::with_capacity(1, shell.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
}

#[test]
fn on_btrfs_a_quiet_subvolume_leaves_its_neighbours_and_snapshots_loud() {
    if !has_ebpf() {
        return;
    }
    if !Path::new("/usr/sbin/mkfs.btrfs").exists() && !Path::new("/sbin/mkfs.btrfs").exists() {
        support::skip("no mkfs.btrfs here (scripts/setup test installs it)");
        return;
    }
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("btrfs") {
        support::skip("this kernel has no btrfs");
        return;
    }
    // Directories and files in two subvolumes, and in the snapshot of one, have the same numbers.
    let make =
        "truncate -s 128M image && mkfs.btrfs -q image >&2 && mkdir mnt && mount -o loop image mnt && cd mnt
        for v in a b; do btrfs subvolume create $v >&2; mkdir $v/lib $v/lib/deep; echo x >$v/lib/deep/f; done
        btrfs subvolume snapshot a s >&2; cd ..
        test $(stat -c %i mnt/a/lib/deep/f) = $(stat -c %i mnt/b/lib/deep/f)
        test $(stat -c %i mnt/a/lib) = $(stat -c %i mnt/s/lib)";
    let mut place = Place::start(make, &["mnt/a/lib"]);
    place.run("cat mnt/a/lib/deep/f mnt/b/lib/deep/f mnt/s/lib/deep/f >/dev/null");
    // By another mount it is the same place.
    place.run("mkdir again; mount --bind mnt/a/lib again; cat again/deep/f >/dev/null");
    place.run("echo y >>mnt/a/lib/deep/f");
    assert_eq!(place.read(), ["mnt/b/lib/deep/f", "mnt/s/lib/deep/f"]);
    place.recording.sync();
    // Other tests write files of that name elsewhere.
    let written = place.recording.count(
        "select count(*) from fileinfo where filename = 'f' and access = 'w' and location like '%/mnt/a/lib/deep'",
    );
    assert_eq!(written, 1);
}

#[test]
fn on_overlayfs_the_quiet_place_is_what_the_processes_see() {
    if !has_ebpf() {
        return;
    }
    let make = "mount -t tmpfs layers . ; cd \"$PWD\"
        mkdir -p low/lib/deep up work merged; echo x >low/lib/deep/f; echo x >low/lib/g
        mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work merged";
    let mut place = Place::start(make, &["merged/lib", "no/such/place"]);
    place.run("cat merged/lib/deep/f merged/lib/g low/lib/deep/f >/dev/null");
    // Copied up, it is still there.
    place.run("echo y >>merged/lib/deep/f; echo z >merged/lib/new");
    place.run("cat merged/lib/deep/f merged/lib/new up/lib/new >/dev/null");
    assert_eq!(place.read(), ["low/lib/deep/f", "up/lib/new"]);
}

#[test]
fn a_directory_that_could_take_the_number_of_a_quiet_one_is_loud() {
    if !has_ebpf() {
        return;
    }
    let make = "truncate -s 128M image && mkfs.ext4 -q image && mkdir mnt && mount -o loop image mnt
        mkdir mnt/lib mnt/kept; echo x >mnt/lib/f; echo x >mnt/kept/f";
    let mut place = Place::start(make, &["mnt/lib", "mnt/kept"]);
    place.run("cat mnt/lib/f >/dev/null; rm -r mnt/lib");
    // ext4 gives the number of an inode that is gone to the next.
    place.run("mkdir mnt/other mnt/more; echo x >mnt/other/f; echo x >mnt/more/f; cat mnt/other/f mnt/more/f >/dev/null");
    // A name does not make the place.
    place.run("mv mnt/kept mnt/elsewhere; cat mnt/elsewhere/f >/dev/null; ln mnt/elsewhere/f mnt/link; cat mnt/link >/dev/null");
    assert_eq!(place.read(), ["mnt/other/f", "mnt/more/f", "mnt/link"]);
    // The policy stands with the data.
    let policy = "select count(*) from coverageinfo where class = 'file' and reason like '%/mnt/lib %/mnt/kept by policy%'";
    assert_eq!(place.recording.count(policy), 1);
}
