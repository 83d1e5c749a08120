//! The Debian packages of the program under test, and a copy of this system to put them into.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::program;

/// The packages that are made.
const PACKAGES: [&str; 3] = ["luarm", "luarm-agent", "luarm-server"];

/// What a command prints; it has to succeed.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Whether there is such a program.
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// The packages, made of the program under test.
pub fn packages(directory: &Path) -> Vec<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/package");
    let printed = output(Command::new(script).arg(program()).arg(directory).arg("none"));
    let made: Vec<PathBuf> = printed.lines().map(PathBuf::from).collect();
    let wanted = PACKAGES.map(|package| format!("{package}_{}_", env!("CARGO_PKG_VERSION")));
    assert_eq!(made.len(), wanted.len(), "{printed}");
    for (made, wanted) in made.iter().zip(wanted) {
        assert!(made.file_name().unwrap().to_str().unwrap().starts_with(&wanted), "{printed}");
    }
    made
}

/// A system like this one, whose every change goes to `directory`/upper: `script` runs as root in it, with `directory`/debs at /mnt/debs. Gives what it printed; `None`
/// on a kernel without overlayfs.
pub fn in_a_copy_of_this_system(directory: &Path, script: &str) -> Option<String> {
    let [upper, work, root] = ["upper", "work", "root"].map(|name| directory.join(name));
    for path in [&upper, &work, &root] {
        fs::create_dir(path).unwrap();
    }
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    // The debs lie outside of it: an overlay's upper directory must not lie in what it lies over, seen from within.
    let outer = format!(
        "set -e; mount -t overlay overlay -o \"$1\" \"$2\" || exit 77; mkdir -p \"$2/mnt/debs\"; mount --bind \"$3\" \"$2/mnt/debs\"; \
         mount -t proc proc \"$2/proc\"; cd /; exec chroot \"$2\" /bin/sh -euc '{}'",
        script.replace('\'', r"'\''")
    );
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--uts", "--net", "--", "/bin/sh", "-c", &outer, "sh", &options])
        .args([&root, &directory.join("debs")])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}
