//! File systems that come and go, lie upon each other, or are somebody else's.

use std::{
    fs,
    io::Read,
    process::{Child, Command, Stdio},
};

use super::{Scene, number, support, text, told};
use crate::support::{Row, has_ebpf};

/// Whether a program that is gone again could be digested is another matter.
const LOST: &str = "select count(*) from lossinfo where class not like '%-digest'";

/// Starts a script in a mount namespace of its own, in the scene's directory.
fn apart(scene: &Scene, program: &str, script: &str) -> Child {
    let mut command = Command::new("unshare");
    command.args(["--mount", program, "-e"]);
    if program == "sh" {
        command.arg("-c");
    }
    command.arg(script).current_dir(&scene.work);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

fn finish(mut child: Child) -> String {
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    output
}

/// What a process did in the scene, or in a file system that is mounted nowhere any more.
fn of_process(scene: &Scene, pid: u32) -> Vec<Row> {
    scene.recording.sync();
    scene.recording.sql(&format!(
        "select * from fileinfo where pid = {pid} and (location like '{}%' or location like '/...%') order by fileaccessid",
        scene.work.display()
    ))
}

#[test]
fn a_file_system_unmounted_under_whoever_uses_it_is_told_of_to_the_end() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    fs::create_dir(scene.work.join("mnt")).unwrap();
    let made = Command::new("sh")
        .args(["-c", "truncate -s 64M image && mkfs.ext4 -q image"])
        .current_dir(&scene.work)
        .status();
    assert!(made.unwrap().success());
    // The mount is gone, then the device, and then what lay on it.
    let script = r#"
        system('mount', '-o', 'loop', 'image', 'mnt') == 0 or die;
        mkdir 'mnt/d' or die;
        open F, '>', 'mnt/d/open' or die; syswrite F, 'four';
        open H, '<', 'mnt/d/open' or die;
        open D, '<', 'mnt/d' or die;
        chdir 'mnt/d' or die;
        system('umount', '-l', '../../mnt') == 0 or die;
        syswrite F, 'more';
        open G, '>', 'in-cwd' or die; close G;
        rename 'in-cwd', 'renamed' or die;
        mkdir '../e' or die;
        unlink 'renamed' or die;
        rmdir '../e' or die;
        my $fd = fileno D;
        open G, '<', "/proc/self/fd/$fd/open" or die; close G;
        close H; close F; close D;
        truncate $ARGV[0], 0;
        opendir my $all, '.'; my @all = readdir $all;
        chdir '/' or die;
    "#;
    let child = apart(&scene, "perl", script);
    let pid = child.id();
    finish(child);
    let rows = of_process(&scene, pid);
    let wanted = [
        ("mkdir", "d", "mnt"),
        ("create", "open", "mnt/d"),
        ("open", "open", "mnt/d"),
        ("create", "in-cwd", "/.../d"),
        ("rename", "in-cwd", "/.../d"),
        ("mkdir", "e", "/..."),
        ("unlink", "renamed", "/.../d"),
        ("rmdir", "e", "/..."),
    ];
    let place = |row: &Row| {
        let location = text(row, "location");
        location.strip_prefix(&format!("{}/", scene.work.display())).unwrap_or(location).to_owned()
    };
    let found: Vec<_> =
        rows.iter().map(|row| (text(row, "operation"), text(row, "filename"), place(row))).collect();
    let found: Vec<_> = found.iter().map(|(o, n, p)| (*o, *n, p.as_str())).collect();
    assert_eq!(found, wanted);
    let of = |operation: &str| {
        rows.iter().find(|row| row["operation"] == operation && row["filename"] == "open").unwrap()
    };
    assert_eq!((text(of("create"), "ended"), number(of("create"), "sizeafter")), ("close", 8));
    // It was opened a second time by another way while it was open: the same access.
    assert_eq!((text(of("open"), "ended"), number(of("open"), "opens")), ("close", 2));
    assert_eq!(
        text(rows.iter().find(|row| row["operation"] == "rename").unwrap(), "target"),
        "/.../d/renamed"
    );
    // Nothing of the recorder's keeps the device.
    let losetup = Command::new("losetup").arg("-j").arg(scene.work.join("image")).output().unwrap();
    assert!(losetup.stdout.is_empty(), "{losetup:?}");
    assert_eq!(scene.recording.count(LOST), 0);
}

#[test]
fn many_mounts_one_in_the_other_are_told_with_whole_paths() {
    if !has_ebpf() {
        return;
    }
    const DEEP: usize = 100;
    const WIDE: usize = 200;
    let scene = Scene::start();
    let script = format!(
        "for i in $(seq {DEEP}); do mkdir m; mount -t tmpfs deep m; cd m; done
        echo x >file; mkdir wide
        for i in $(seq {WIDE}); do mount --bind wide wide; done
        echo y >wide/other; mv wide/other wide/moved; cat wide/moved >/dev/null
        for i in $(seq {WIDE}); do umount wide; done
        cd /; umount -l {}/m",
        scene.work.display()
    );
    finish(apart(&scene, "sh", &script));
    let rows = scene.rows();
    let deep = format!("{}{}", scene.work.display(), "/m".repeat(DEEP));
    let mut wanted = Vec::new();
    for depth in 0..DEEP {
        let place = format!("{}{}", scene.work.display(), "/m".repeat(depth));
        wanted.extend([("mkdir", "m", place.clone()), ("mount", "m", place)]);
    }
    wanted.extend([("create", "file", deep.clone()), ("mkdir", "wide", deep.clone())]);
    wanted.extend(vec![("mount", "wide", deep.clone()); WIDE]);
    let wide = format!("{deep}/wide");
    wanted.extend([
        ("create", "other", wide.clone()),
        ("rename", "other", wide.clone()),
        ("open", "moved", wide.clone()),
    ]);
    wanted.extend(vec![("umount", "wide", deep); WIDE]);
    wanted.push(("umount", "m", scene.work.display().to_string()));
    let found: Vec<_> = rows
        .iter()
        .map(|row| (text(row, "operation"), text(row, "filename"), text(row, "location").to_owned()))
        .collect();
    assert_eq!(found, wanted);
    assert!(rows.iter().all(|row| row["mntns"].is_i64() && row["result"] == 0), "{rows:?}");
    assert_eq!(scene.recording.count(LOST), 0);
}

#[test]
fn in_a_container_behind_yet_another_root_every_view_is_told() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let jail = scene.work.join("jail");
    fs::create_dir_all(jail.join("inner/etc")).unwrap();
    fs::create_dir(jail.join("old")).unwrap();
    support::programs::files_program(&jail.join("inner"));
    support::programs::files_program(&jail);
    let busybox = Command::new("cp").args(["/bin/busybox", "jail/"]).current_dir(&scene.work).status();
    assert!(busybox.unwrap().success());
    // The root of the namespace is the jail; the second program has a root of its own within.
    let script = "mount --bind jail jail; cd jail; pivot_root . old; cd /
        /busybox umount -l /old
        /filer /inner/etc 1
        exec /busybox chroot /inner /filer /etc 1";
    let child = apart(&scene, "sh", script);
    let pid = child.id();
    finish(child);
    scene.recording.sync();
    let rows =
        scene.recording.sql("select * from fileinfo where location = '/inner/etc' order by fileaccessid");
    let operations: Vec<_> = told(&rows).into_iter().map(|(operation, _)| operation).collect();
    let every = ["create", "open", "chmod", "rename", "unlink"];
    assert_eq!(operations, [every, every].concat());
    for (position, row) in rows.iter().enumerate() {
        assert!(row["mntns"].is_i64(), "{row:?}");
        if position < every.len() {
            assert!(row["seenpath"].is_null(), "{row:?}");
        } else {
            assert_eq!(number(row, "pid"), i64::from(pid));
            assert_eq!(text(row, "seenpath"), format!("/etc/{}", text(row, "filename")));
        }
    }
}

#[test]
fn on_overlayfs_files_are_those_that_the_processes_see() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let script = "
        mount -t tmpfs layers . ; cd \"$PWD\"
        mkdir low low/dir up work merged
        echo old >low/file; echo old >low/gone; echo old >low/dir/in
        mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work merged
        cd merged
        cat file; echo new >>file; cat file
        rm gone; mv file moved; chmod 600 dir/in; mkdir fresh; rmdir fresh; echo x >dir/made; ln dir/made dir/link
        cat ../up/moved";
    let output = finish(apart(&scene, "sh", script));
    assert_eq!(output, "old\nold\nnew\nold\nnew\n");
    let merged = scene.below(&scene.work.join("merged"));
    let wanted = [
        ("open", "file"),
        ("open", "file"),
        ("open", "file"),
        ("unlink", "gone"),
        ("rename", "file"),
        ("chmod", "in"),
        ("mkdir", "fresh"),
        ("rmdir", "fresh"),
        ("create", "made"),
        ("link", "made"),
    ];
    assert_eq!(told(&merged), wanted);
    let access = |row: &Row| (text(row, "access").to_owned(), number(row, "size"), number(row, "sizeafter"));
    let accesses: Vec<_> = merged[..3].iter().map(access).collect();
    assert_eq!(accesses, [("r".to_owned(), 4, 4), ("w".to_owned(), 4, 8), ("r".to_owned(), 8, 8)]);
    // A file stays itself when it is copied up.
    assert!(
        merged[..3]
            .iter()
            .all(|row| row["inode"] == merged[0]["inode"] && row["device"] == merged[0]["device"])
    );
    let up = scene.below(&scene.work.join("up"));
    assert_eq!(told(&up), [("open", "moved")]);
    assert_ne!(up[0]["device"], merged[0]["device"]);
}
