//! Asking over HTTP, as plainly as can be.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// For an answer; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// The number of the answer, its head, and what it says.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A figure's labels, as they are written, and its value.
pub type Samples = BTreeMap<String, BTreeMap<String, f64>>;

/// Where `--metrics` is served, by the line that says so: an address and port, or `unix:` and a path.
pub fn address(line: &str) -> String {
    let (_, url) = line.split_once("served at ").unwrap();
    url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned()
}

/// A connection to that address.
pub fn connect(address: &str) -> Box<dyn ReadWrite> {
    if let Some(path) = address.strip_prefix("unix:") {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        return Box::new(stream);
    }
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Box::new(stream)
}

pub trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Sends a question as it is, and reads the answer to its end.
pub fn ask(address: &str, question: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Answer { status: status.unwrap_or(0), head: head.to_lowercase(), body: body.to_owned() }
}

pub fn get(address: &str, path: &str) -> Answer {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: luarm\r\n\r\n"))
}

/// All figures.
pub fn samples(address: &str) -> Samples {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut samples = Samples::new();
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let before = samples
            .entry(name.to_owned())
            .or_default()
            .insert(labels.trim_end_matches('}').to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "{series} is served twice");
    }
    samples
}

/// A figure without labels.
pub fn figure(address: &str, name: &str) -> f64 {
    samples(address).get(name).unwrap_or_else(|| panic!("no {name}"))[""]
}

/// Asks for the health until it is as wanted, and gives what was said.
pub fn wait_for_health(address: &str, wanted: impl Fn(&Answer) -> bool) -> String {
    wait_for(|| get(address, "/health"), |answer| wanted(answer), |answer| answer.body.clone()).body
}

/// Asks until the answer is as wanted.
pub fn wait_for<T>(ask: impl Fn() -> T, wanted: impl Fn(&T) -> bool, said: impl Fn(&T) -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "it stays: {}", said(&answer));
        std::thread::sleep(Duration::from_millis(100));
    }
}
