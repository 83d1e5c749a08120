//! A web server that gives out a small file.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Done, Evidence, Workload, need, quoted};
use crate::{Bench, machine::processors, report::Bound, watcher::Contender};

const CONNECTIONS: u64 = 32;
const PAGE: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Web {
    dir: TempDir,
    seconds: u64,
}

impl Web {
    pub(super) fn new(bench: &Bench, seconds: u64) -> anyhow::Result<Self> {
        need("nginx")?;
        need("wrk")?;
        let dir = bench.workplace()?;
        fs::create_dir(dir.path().join("pages"))?;
        fs::write(dir.path().join("pages/page.html"), "x".repeat(PAGE))?;
        Ok(Web { dir, seconds })
    }

    fn pages(&self) -> PathBuf {
        self.dir.path().join("pages")
    }

    fn configuration(&self, port: u16) -> String {
        let dir = self.dir.path().display();
        // As root its workers stay root: the directory is nobody else's.
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("  {what}_temp_path \"{dir}/temporary\";\n"))
            .concat();
        format!(
            "{user}daemon off;\nworker_processes {};\npid \"{dir}/pid\";\nerror_log \"{dir}/error.log\";\nevents {{ }}\nhttp {{\n{temporary}  access_log off;\n  \
             sendfile on;\n  server {{\n    listen 127.0.0.1:{port};\n    root \"{}\";\n  }}\n}}\n",
            processors(),
            self.pages().display()
        )
    }

    fn start(&self) -> anyhow::Result<Server> {
        // Free now; whoever takes it before nginx does makes this fail, and says so.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let configuration = self.dir.path().join("nginx.conf");
        fs::write(&configuration, self.configuration(port))?;
        let child = Command::new("nginx")
            .arg("-e")
            .arg(self.dir.path().join("error.log"))
            .arg("-p")
            .arg(self.dir.path())
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start nginx")?;
        let mut server = Server { child, port };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let errors = fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default();
                bail!("nginx does not serve: {}", errors.trim());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

/// A running nginx, until it goes out of scope.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked, it ends its workers too.
        let asked = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if asked.is_none_or(|pid| kill_process(pid, Signal::TERM).is_err()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Workload for Web {
    fn unit(&self) -> &'static str {
        "request"
    }

    fn describe(&self) -> String {
        format!(
            "nginx with a worker for each processor and without a log of requests gives out a file of {PAGE} bytes for {} s; wrk asks for it on the same \
             machine, one thread with {CONNECTIONS} connections. Slowdown: requests per second under nothing over those here.",
            self.seconds
        )
    }

    fn bound(&self) -> Option<(Contender, Bound)> {
        Some((Contender::Nothing, Bound::AtMost(1.03)))
    }

    fn run(&self, _: &Bench) -> anyhow::Result<Done> {
        let server = self.start()?;
        let output = Command::new("wrk")
            .args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{}s", self.seconds)])
            .arg(format!("http://127.0.0.1:{}/page.html", server.port))
            .output()
            .context("cannot start wrk")?;
        drop(server);
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr).trim());
        ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk says: {text}");
        let (requests, rate) = answers(&text).with_context(|| format!("wrk says: {text}"))?;
        let taken = Duration::try_from_secs_f64(requests as f64 / rate)?;
        // When wrk ends, nginx may have begun to answer each connection once more.
        Ok(Done { operations: requests, taken, traces: (requests, requests + CONNECTIONS) })
    }

    fn evidence(&self) -> Option<Evidence> {
        let query = format!(
            "SELECT coalesce(sum(opens), 0) FROM fileinfo WHERE operation = 'open' AND result = 0 AND location = '{}' AND filename = 'page.html'",
            quoted(&self.pages())
        );
        Some(Evidence { query, what: "times the file was opened, one for each request" })
    }
}

/// How many requests wrk counted, and how many in a second.
fn answers(text: &str) -> Option<(u64, f64)> {
    let lines = || text.lines().map(str::trim);
    let requests = lines().find_map(|l| l.split_once(" requests in ")?.0.parse().ok())?;
    let rate = lines().find_map(|l| l.strip_prefix("Requests/sec:")?.trim().parse().ok())?;
    (requests > 0 && rate > 0.0).then_some((requests, rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_understood() {
        let text = "Running 1s test @ http://127.0.0.1:8080/page.html\n  1 threads and 32 connections\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    \
                    Latency   538.12us  120.51us   4.68ms   93.90%\n  65210 requests in 1.10s, 79.91MB read\nRequests/sec:  59294.84\nTransfer/sec:     72.66MB\n";
        assert_eq!(answers(text), Some((65210, 59294.84)));
        assert_eq!(answers("unable to connect to 127.0.0.1:1 Connection refused\n"), None);
    }
}
