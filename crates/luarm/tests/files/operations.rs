//! Names, attributes, refusals.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    process::{Command, Stdio},
};

use luarm_schema::escape;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, XattrFlags};

use super::{Scene, number, support, text, told};
use crate::support::{NOBODY, has_ebpf};

#[test]
fn each_operation_on_a_name_is_a_row() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let at = |name: &str| scene.work.join(name);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/f"), "four").unwrap();
    fs::set_permissions(at("d/f"), fs::Permissions::from_mode(0o640)).unwrap();
    chown(at("d/f"), Some(NOBODY), None).unwrap();
    fs::hard_link(at("d/f"), at("d/g")).unwrap();
    symlink("f", at("d/s")).unwrap();
    fs::rename(at("d/g"), at("h")).unwrap();
    fs::File::options().write(true).open(at("h")).unwrap().set_len(2).unwrap();
    rustix::fs::setxattr(at("h"), "user.mark", b"x", XattrFlags::empty()).unwrap();
    fs::remove_file(at("d/s")).unwrap();
    fs::remove_file(at("d/f")).unwrap();
    fs::remove_dir(at("d")).unwrap();
    let rows = scene.rows();
    let wanted = [
        ("mkdir", "d"),
        ("create", "f"),
        ("chmod", "f"),
        ("chown", "f"),
        ("link", "f"),
        ("symlink", "s"),
        ("rename", "g"),
        ("open", "h"),
        ("truncate", "h"),
        ("xattr", "h"),
        ("unlink", "s"),
        ("unlink", "f"),
        ("rmdir", "d"),
    ];
    assert_eq!(told(&rows), wanted);
    let own = i64::from(std::process::id());
    let place = |directory: &str| at(directory).display().to_string();
    for row in &rows {
        assert_eq!(
            (number(row, "pid"), number(row, "result"), text(row, "username")),
            (own, 0, "root"),
            "{row:?}"
        );
        assert!(row["destroyed"].is_string(), "{row:?}");
    }
    let row = |operation: &str| rows.iter().find(|row| row["operation"] == operation).unwrap();
    assert_eq!(text(row("create"), "location"), place("d"));
    assert_eq!((number(row("create"), "sizeafter"), number(row("create"), "modified")), (4, 1));
    assert_eq!(number(row("chmod"), "newmode"), 0o640);
    assert_eq!(number(row("chown"), "newowner"), i64::from(NOBODY));
    assert!(row("chown")["newgroup"].is_null());
    assert_eq!(text(row("link"), "target"), place("d/g"));
    assert_eq!(text(row("symlink"), "detail"), "f");
    assert_eq!(
        (text(row("rename"), "location"), text(row("rename"), "target")),
        (&*place("d"), &*place("h"))
    );
    assert_eq!(text(row("xattr"), "detail"), "user.mark");
    // Each is tied to the image of this very process.
    let images = scene.recording.count(&format!(
        "select count(*) from fileinfo f join psinfo p on p.host = f.host and p.psentity = f.psentity \
         where f.location like '{}%' and p.pid = {own}",
        scene.work.display()
    ));
    assert_eq!(images, i64::try_from(wanted.len()).unwrap());
}

#[test]
fn names_start_from_descriptors_links_and_directories() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let at = |name: &str| scene.work.join(name);
    fs::create_dir_all(at("real/deep")).unwrap();
    symlink("real", at("way")).unwrap();
    let open = |path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let directory = open(at("real"));
    rustix::fs::mkdirat(&directory, "by-descriptor", Mode::RWXU).unwrap();
    fs::create_dir(at("way/by-link")).unwrap();
    fs::create_dir(at("real/deep/../by-dots")).unwrap();
    // The directory is renamed while the descriptor is held: the kernel knows it by its new name.
    fs::rename(at("real"), at("moved")).unwrap();
    rustix::fs::mkdirat(&directory, "after-the-move", Mode::RWXU).unwrap();
    rustix::fs::renameat_with(&directory, "by-link", &directory, "by-dots", RenameFlags::EXCHANGE).unwrap();
    rustix::fs::unlinkat(&directory, "by-link", AtFlags::REMOVEDIR).unwrap();
    let rows = scene.rows();
    let find = |name: &str, operation: &str| {
        let found = rows.iter().find(|row| row["filename"] == name && row["operation"] == operation);
        let row = found.unwrap_or_else(|| panic!("no {operation} of {name} in {rows:?}"));
        (text(row, "location").to_owned(), text(row, "pathorigin").to_owned())
    };
    let place = |directory: &str| at(directory).display().to_string();
    let words = |origin: &str| if scene.has_kernels_names() { "kernel" } else { origin }.to_owned();
    assert_eq!(find("by-descriptor", "mkdir").1, words("resolved"));
    assert_eq!(find("after-the-move", "mkdir"), (place("moved"), words("resolved")));
    assert_eq!(find("by-link", "rename").0, place("moved"));
    assert_eq!(find("by-link", "rmdir").0, place("moved"));
    // What the words of a call lead through may have changed when they are read: then they are told as they were.
    let (location, origin) = find("by-dots", "mkdir");
    assert_eq!((location, origin), (place("real"), words("named")));
}

#[test]
fn refusals_are_rows_with_their_error() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let at = |name: &str| scene.work.join(name);
    fs::write(at("secret"), "s").unwrap();
    fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(scene.work.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = "cat secret; echo x >> secret; rm -f secret; mkdir new; mv secret other; ln -s x link; chmod 777 secret; true";
    let status = Command::new("sh")
        .args(["-c", script])
        .current_dir(&scene.work)
        .uid(NOBODY)
        .gid(NOBODY)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let rows: Vec<_> = scene.rows().into_iter().filter(|row| row["username"] == "nobody").collect();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (text(row, "operation"), text(row, "filename"), number(row, "result")))
        .collect();
    let (eperm, eacces) = (1, 13);
    let wanted = [
        ("open", "secret", eacces),
        ("open", "secret", eacces),
        ("unlink", "secret", eacces),
        ("mkdir", "new", eacces),
        ("rename", "secret", eacces),
        ("symlink", "link", eacces),
        ("chmod", "secret", eperm),
    ];
    assert_eq!(told, wanted);
    assert_eq!((text(&rows[0], "access"), text(&rows[1], "access")), ("r", "w"));
    assert!(rows.iter().all(|row| row["location"] == *scene.work.display().to_string()), "{rows:?}");
}

#[test]
fn any_bytes_in_names_come_back_as_they_were() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let every: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let mut names: Vec<Vec<u8>> = every.chunks(200).map(<[u8]>::to_vec).collect();
    names.push(vec![b'n'; 255]);
    names.push(b"'); DROP TABLE fileinfo; --".to_vec());
    names.push(b"\\x41".to_vec());
    for name in &names {
        fs::write(scene.work.join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
    }
    let rows = scene.rows();
    let stored: Vec<Vec<u8>> = rows.iter().map(|row| escape::unescape(text(row, "filename"))).collect();
    assert_eq!(stored, names);
}

#[test]
fn a_path_of_path_max_is_whole() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let component = "c".repeat(250);
    let mut depth = scene.work.clone();
    let mut directory = rustix::fs::open(&depth, OFlags::PATH, Mode::empty()).unwrap();
    while depth.as_os_str().len() + 2 * component.len() < 3990 {
        rustix::fs::mkdirat(&directory, &component, Mode::RWXU).unwrap();
        directory = rustix::fs::openat(&directory, &component, OFlags::PATH, Mode::empty()).unwrap();
        depth.push(&component);
    }
    fs::write(depth.join(&component), "deep").unwrap();
    let rows = scene.rows();
    let row = rows.iter().find(|row| row["operation"] == "create").unwrap();
    assert_eq!((text(row, "location"), text(row, "filename")), (&*depth.display().to_string(), &*component));
}

#[test]
fn behind_another_root_both_views_are_told() {
    if !has_ebpf() {
        return;
    }
    let scene = Scene::start();
    let jail = scene.work.join("jail");
    fs::create_dir_all(jail.join("etc")).unwrap();
    let program = support::programs::files_program(&jail);
    let status = Command::new("chroot")
        .args([jail.as_os_str(), format!("/{}", program.file_name().unwrap().display()).as_ref()])
        .args(["/etc", "1"])
        .status()
        .unwrap();
    assert!(status.success());
    let rows = scene.below(&jail.join("etc"));
    let told = told(&rows);
    let operations: Vec<_> = told.iter().map(|(operation, _)| *operation).collect();
    assert_eq!(operations, ["create", "open", "chmod", "rename", "unlink"]);
    for (row, (_, name)) in rows.iter().zip(&told) {
        assert_eq!(text(row, "seenpath"), format!("/etc/{name}"), "{row:?}");
    }
}
