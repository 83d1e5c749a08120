//! A computer of our own: QEMU runs a kernel of a distribution, in memory, with the program under test and a shell that obeys the test.
//!
//! Nothing of it is installed: `scripts/kernel` fetches the kernel, and the guest's files are this machine's own busybox, the program, and the
//! libraries that it is linked to. The first serial line is the kernel's console; on the second one a loop in the guest takes commands and answers
//! each with its output and status, so that a test waits for answers and never for time. QMP plugs devices in and out.

mod system;

use std::{
    collections::{HashSet, VecDeque},
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Row, program, skip};

/// An answer that takes longer never comes: emulation is slow, but not so slow.
const PATIENCE: Duration = Duration::from_secs(180);

/// What runs first in the guest: file systems, modules in the order of their dependencies, then whatever the second serial line says.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ip link set lo up
while read -r module; do insmod "$module" || echo "cannot load $module"; done </modules
sh /talk
poweroff -f
"#;

/// Obeys what the second serial line says.
const TALK: &str = r#"stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo ready >&3
while read -r command <&3; do
    echo "$command" | busybox xxd -r -p >/tmp/command
    sh /tmp/command >/tmp/output 2>&1 3>&-
    status=$?
    echo "$status $(busybox od -An -v -tx1 /tmp/output | tr -d ' \n')" >&3
done
"#;

/// A kernel that was fetched.
pub struct Kernel(PathBuf);

impl Kernel {
    /// The kernel of that name below target/kernels, if this machine can run it; says so where not.
    pub fn fetched(name: &str) -> Option<Self> {
        if !cfg!(target_arch = "x86_64") {
            skip("guests are x86-64 only");
            return None;
        }
        for tool in ["qemu-system-x86_64", "busybox", "ldd"] {
            if Command::new(tool).arg("--help").output().is_err() {
                skip(&format!("no {tool} here (scripts/setup test installs it)"));
                return None;
            }
        }
        // The program lies in target/PROFILE.
        let directory = program().ancestors().nth(2).unwrap().join("kernels").join(name);
        if !directory.join("vmlinuz").exists() {
            skip(&format!("no {} (scripts/kernel fetches it)", directory.join("vmlinuz").display()));
            return None;
        }
        Some(Self(directory))
    }

    /// The files of these modules and of what they depend on, each after what it needs. What is built into the kernel is left out.
    fn modules(&self, wanted: &[&str]) -> Vec<PathBuf> {
        let mut files = Vec::new();
        modules_below(&self.0.join("modules"), &mut files);
        let (mut order, mut met) = (Vec::new(), HashSet::new());
        for name in wanted {
            need(name, &files, &mut order, &mut met);
        }
        order
    }
}

fn modules_below(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            modules_below(&path, files);
        } else if path.to_str().is_some_and(|path| path.contains(".ko")) {
            files.push(path);
        }
    }
}

fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.split(".ko").next().unwrap().replace('-', "_")
}

fn need(name: &str, files: &[PathBuf], order: &mut Vec<PathBuf>, met: &mut HashSet<String>) {
    let name = name.replace('-', "_");
    let Some(file) = files.iter().find(|file| module_name(file) == name) else { return };
    if !met.insert(name) {
        return;
    }
    let unpack = match file.extension().unwrap().to_str().unwrap() {
        "xz" => "xz -dc",
        "zst" => "zstd -dc",
        "gz" => "gzip -dc",
        _ => "cat",
    };
    let unpacked =
        Command::new("sh").arg("-c").arg(format!("{unpack} \"$1\"")).arg("sh").arg(file).output().unwrap();
    assert!(unpacked.status.success(), "cannot unpack {}", file.display());
    // A module's strings of the section .modinfo: `depends=a,b` among them.
    let depends = unpacked.stdout.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    for other in
        std::str::from_utf8(depends.unwrap_or_default()).unwrap().split(',').filter(|d| !d.is_empty())
    {
        need(other, files, order, met);
    }
    order.push(file.clone());
}

/// How to start a guest.
pub struct Machine<'a> {
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// Modules to load at the start, by name; what they depend on comes by itself.
    pub modules: &'a [&'a str],
    /// Files to put into it: from here, to there.
    pub files: &'a [(&'a Path, &'a str)],
    /// More arguments to QEMU.
    pub arguments: &'a [&'a str],
}

/// A running guest; killed when it goes out of scope.
pub struct Guest {
    child: Child,
    talk: BufReader<UnixStream>,
    qmp: BufReader<UnixStream>,
    events: VecDeque<Value>,
    console: Arc<Mutex<Vec<String>>>,
    directory: tempfile::TempDir,
}

impl Machine<'_> {
    /// Starts it, and waits until it takes commands. The program lies at /bin/luarm.
    pub fn boot(&self) -> Guest {
        let directory = tempfile::tempdir().unwrap();
        let initramfs = self.pack(directory.path());
        self.start(directory, &initramfs, &[])
    }

    /// Starts QEMU with that initramfs, and more arguments; waits until the guest takes commands.
    fn start(&self, directory: tempfile::TempDir, initramfs: &Path, more: &[String]) -> Guest {
        let socket = |name: &str| directory.path().join(name);
        let mut command = Command::new("qemu-system-x86_64");
        // KVM may be missing, or be there and not work: emulation is slow and always works.
        command.args(["-accel", "tcg", "-machine", "q35", "-cpu", "max", "-m", "1024", "-smp", "1"]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(self.kernel.0.join("vmlinuz")).arg("-initrd").arg(initramfs);
        command.args(["-append", "console=ttyS0 panic=-1 loglevel=5"]);
        command.args(["-serial", "stdio"]);
        command
            .arg("-chardev")
            .arg(format!("socket,id=talk,server=on,wait=off,path={}", socket("talk").display()));
        command.args(["-serial", "chardev:talk"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket("qmp").display()));
        command.args(self.arguments).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let console = Arc::new(Mutex::new(Vec::new()));
        let (kept, stdout) = (Arc::clone(&console), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                kept.lock().unwrap().push(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
        let talk = connect(&socket("talk"), &mut child);
        let qmp = connect(&socket("qmp"), &mut child);
        let mut guest = Guest { child, talk, qmp, events: VecDeque::new(), console, directory };
        // The greeting comes first, and counts as an event that nobody waits for.
        guest.qmp("qmp_capabilities", &json!({}));
        assert_eq!(guest.line(), "ready");
        guest
    }

    /// Makes the guest's file system: a cpio archive that the kernel unpacks into memory.
    fn pack(&self, directory: &Path) -> PathBuf {
        let root = directory.join("root");
        for name in ["bin", "proc", "sys", "dev", "run", "tmp", "etc", "root", "mnt", "modules.d", "var/log"]
        {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        fs::write(root.join("talk"), TALK).unwrap();
        let luarm = directory.join("luarm");
        run(Command::new("strip").args(["--strip-debug", "-o"]).arg(&luarm).arg(program()));
        put(&root, &luarm, "/bin/luarm");
        for word in run(Command::new("ldd").arg(program())).split_whitespace().filter(|w| w.starts_with('/'))
        {
            put(&root, Path::new(word), word);
        }
        for (from, to) in self.files {
            put(&root, from, to);
        }
        self.archive(directory, &root, INIT, &[])
    }

    /// Packs a directory, with busybox, what runs first, and modules: those of this machine and more.
    fn archive(&self, directory: &Path, root: &Path, init: &str, more: &[&str]) -> PathBuf {
        fs::write(root.join("init"), init).unwrap();
        run(Command::new("chmod").arg("755").arg(root.join("init")));
        let busybox = run(Command::new("sh").args(["-c", "command -v busybox"]));
        put(root, Path::new(busybox.trim()), "/bin/busybox");
        let mut list = String::new();
        for (position, file) in self.kernel.modules(&[self.modules, more].concat()).iter().enumerate() {
            // busybox unpacks what is compressed when the name says so.
            let name = format!("/modules.d/{position:02}-{}", file.file_name().unwrap().to_str().unwrap());
            put(root, file, &name);
            writeln!(list, "{name}").unwrap();
        }
        fs::write(root.join("modules"), list).unwrap();
        let archive = directory.join("initramfs");
        run(Command::new("sh")
            .args(["-c", "cd \"$1\" && find . | busybox cpio -o -H newc >\"$2\"", "sh"])
            .arg(root)
            .arg(&archive));
        fs::remove_dir_all(root).unwrap();
        archive
    }
}

fn put(root: &Path, from: &Path, to: &str) {
    let to = root.join(to.trim_start_matches('/'));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, &to).unwrap_or_else(|e| panic!("cannot copy {} to {}: {e}", from.display(), to.display()));
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Connects to a socket that QEMU is about to make.
fn connect(path: &Path, child: &mut Child) -> BufReader<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return BufReader::new(stream);
            }
            Err(e) => {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none() && Instant::now() < deadline, "{}: {e}, {ended:?}", path.display());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Guest {
    /// Runs a script of the guest's shell to its end; gives its output, errors included, which must be success.
    pub fn sh(&mut self, script: &str) -> String {
        let (status, output) = self.try_sh(script);
        assert_eq!(status, 0, "{script}: {output}");
        output
    }

    /// Runs a script of the guest's shell to its end; gives its status and its output, errors included.
    pub fn try_sh(&mut self, script: &str) -> (i32, String) {
        self.send(script);
        self.answered()
    }

    /// Has the guest's shell begin with a script; [`Guest::answered`] has to come next.
    pub fn send(&mut self, script: &str) {
        let mut line = String::new();
        for byte in script.bytes() {
            write!(line, "{byte:02x}").unwrap();
        }
        // More than a terminal's buffer could be lost.
        assert!(line.len() < 4000, "put long scripts into a file");
        line.push('\n');
        self.talk.get_mut().write_all(line.as_bytes()).unwrap();
    }

    /// Waits for the end of the script; gives its status and its output, errors included.
    pub fn answered(&mut self) -> (i32, String) {
        let answer = self.line();
        let (status, output) = answer.split_once(' ').unwrap_or((&answer, ""));
        let bytes: Vec<u8> = output
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        (status.parse().unwrap(), String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Runs a script in the guest until it succeeds.
    pub fn until(&mut self, script: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, output) = self.try_sh(script);
            if status == 0 {
                return output;
            }
            assert!(Instant::now() < deadline, "{script} never succeeds: {output}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Starts a recorder in the guest, and waits until it records.
    pub fn record(&mut self, arguments: &str) {
        self.sh(&format!("luarm run {arguments} >/tmp/luarm.log 2>&1 </dev/null & echo $! >/tmp/luarm.pid"));
        // What it says stands on the console too, which a failed test prints.
        self.sh("tail -f /tmp/luarm.log >/dev/ttyS0 2>&1 </dev/null &");
        let wait = "until grep -q 'luarm: recording' /tmp/luarm.log; do kill -0 $(cat /tmp/luarm.pid) || { cat /tmp/luarm.log; exit 1; }; sleep 0.1; done";
        self.sh(wait);
    }

    /// The rows that a query answers, of everything that happened before.
    pub fn sql(&mut self, query: &str) -> Vec<Row> {
        assert!(!query.contains('"'));
        // What is said beside an answer is not part of it.
        let ask =
            format!("luarm sync --timeout 120 && luarm sql --format jsonl -e \"{query}\" 2>/tmp/remarks");
        let answer = self.sh(&format!("{{ {ask}; }} || {{ cat /tmp/remarks; exit 1; }}"));
        answer
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Asks QEMU something.
    pub fn qmp(&mut self, command: &str, arguments: &Value) -> Value {
        let message = json!({ "execute": command, "arguments": arguments });
        writeln!(self.qmp.get_mut(), "{message}").unwrap();
        loop {
            let answer = self.qmp_message();
            assert!(answer.get("error").is_none(), "{command}: {answer}");
            if let Some(result) = answer.get("return") {
                return result.clone();
            }
            self.events.push_back(answer);
        }
    }

    /// Waits for an event of QEMU.
    pub fn qmp_event(&mut self, event: &str) -> Value {
        loop {
            let message = self.events.pop_front().unwrap_or_else(|| self.qmp_message());
            if message["event"] == event {
                return message;
            }
        }
    }

    fn qmp_message(&mut self) -> Value {
        let mut line = String::new();
        let read = self.qmp.read_line(&mut line);
        assert!(matches!(read, Ok(1..)), "QEMU does not answer: {read:?}");
        serde_json::from_str(&line).unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let read = self.talk.read_until(b'\n', &mut line);
        assert!(matches!(read, Ok(1..)), "the guest does not answer: {read:?}");
        String::from_utf8_lossy(&line).trim().to_owned()
    }

    /// A directory on this side for files of the test.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(console) = self.console.lock()
        {
            eprintln!("the guest's console:\n{}", console.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
