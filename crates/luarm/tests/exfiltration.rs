//! Somebody who may read a file takes it away on a device: one question each finds who, what, when and where to.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use support::{Launch, NOBODY, Row, has_ebpf};

fn run(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output().unwrap();
    assert!(output.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A disk with a file system, mounted; both go at the end.
struct Stick {
    device: String,
    place: PathBuf,
}

impl Stick {
    fn plug(directory: &Path) -> Self {
        let image = directory.join("stick.img");
        fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        let device = run("losetup", &["--find", "--show", image.to_str().unwrap()]);
        let place = directory.join("stick");
        fs::create_dir(&place).unwrap();
        run("mount", &[&device, place.to_str().unwrap()]);
        chown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
        Self { device, place }
    }

    fn unplug(&self) {
        run("umount", &[self.place.to_str().unwrap()]);
        run("losetup", &["--detach", &self.device]);
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        // They may be gone already.
        let _ = Command::new("umount").arg(&self.place).output();
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).output();
    }
}

/// A login of nobody, in which a shell does that.
fn log_in_and(script: &str, directory: &Path) {
    let entry = format!(
        "echo {NOBODY} > /proc/self/loginuid && exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups -- sh -c '{script}'"
    );
    let status = Command::new("bash").args(["-c", &entry]).current_dir(directory).status().unwrap();
    assert!(status.success());
}

fn texts<'a>(row: &'a Row, columns: &[&str]) -> Vec<&'a str> {
    columns.iter().map(|column| row[*column].as_str().unwrap_or("NULL")).collect()
}

#[test]
fn one_question_each_finds_who_took_what_when_and_on_which_device() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().canonicalize().unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o755)).unwrap();
    let recording = Launch::on(&work.join("data")).start();
    for (name, mode) in [("plan", 0o644), ("secret", 0o600)] {
        fs::write(work.join(name), vec![b'x'; 5000]).unwrap();
        fs::set_permissions(work.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let stick = Stick::plug(&work);
    log_in_and("cat plan > /dev/null; cp secret stick/ 2> /dev/null; cp plan stick/holiday.jpg", &work);
    stick.unplug();
    recording.sync();

    // Who read it, or tried to, and when? The login is who answers for it.
    let who = recording.sql(&format!(
        "select loginname, username, application, filename, result, created from fileinfo \
         where location = '{}' and filename in ('plan', 'secret') and auid is not null order by fileaccessid",
        work.display()
    ));
    let told: Vec<_> = who
        .iter()
        .map(|row| (texts(row, &["loginname", "application", "filename"]), row["result"].as_i64().unwrap()))
        .collect();
    let wanted = [("cat", "plan", 0), ("cp", "secret", 13), ("cp", "plan", 0)];
    assert_eq!(told, wanted.map(|(program, file, result)| (vec!["nobody", program, file], result)));

    // Where to? What the same image wrote, and on which device that lay.
    let device = stick.device.strip_prefix("/dev/").unwrap();
    let where_to = recording.sql(&format!(
        "select r.filename, w.location, w.filename as copy, w.sizeafter, m.source, m.blockdevice, h.devstring \
         from fileinfo r join fileinfo w on w.host = r.host and w.psentity = r.psentity and w.access in ('w', 'rw') \
         join mountinfo m on m.host = w.host and m.device = w.device and w.created between m.created and coalesce(m.destroyed, w.created) \
         join hwinfo h on h.host = m.host and h.attachment = m.attachment and h.created <= w.created \
         where r.location = '{}' and r.filename = 'plan' and r.access = 'r' and m.location = '{}' \
         order by h.hwdevid desc limit 1",
        work.display(),
        stick.place.display()
    ));
    assert_eq!(where_to.len(), 1, "{where_to:?}");
    let columns = ["filename", "location", "copy", "source", "blockdevice"];
    let place = stick.place.display().to_string();
    assert_eq!(texts(&where_to[0], &columns), ["plan", &place, "holiday.jpg", &stick.device, device]);
    assert_eq!(where_to[0]["sizeafter"], 5000);

    // When was the device taken away, and which login was it?
    let when = recording.sql(&format!(
        "select m.destroyed >= w.destroyed as afterwards, s.username from fileinfo w \
         join mountinfo m on m.host = w.host and m.device = w.device and m.location = w.location \
         join sessioninfo s on s.host = w.host and s.session = w.session \
         where w.filename = 'holiday.jpg' and w.location = '{place}'"
    ));
    assert_eq!((when.len(), &when[0]["afterwards"], &when[0]["username"]), (1, &1.into(), &"nobody".into()));
}
