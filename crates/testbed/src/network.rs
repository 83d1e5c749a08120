//! A cable between two network namespaces on which packets are late, lost, out of order, or not there at all.
//!
//! Each end is a tunnel device; what the one sends a thread hands to the other as the weather is. Kernels without `netem` do as well, and the weather
//! changes from one packet to the next.
#![expect(unsafe_code, reason = "the device is asked for by an ioctl")]

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// `TUNSETIFF`, `IFF_TUN` and `IFF_NO_PI` of linux/if_tun.h.
const TUNSETIFF: rustix::ioctl::Opcode = 0x4004_54ca;
const PLAIN_TUNNEL: u16 = 0x1001;

/// What waits on the cable; more is lost, as in any queue.
const QUEUE: usize = 1000;

/// What is done to packets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// How late each packet is.
    pub delay: Duration,
    /// Of a thousand packets so many are lost.
    pub lost: u64,
    /// Of a thousand packets so many come at once, before those that were sent earlier.
    pub early: u64,
    /// Whether nothing comes through at all, from the first end to the second, and back.
    pub cut: [bool; 2],
}

/// The cable; gone when it is dropped.
#[derive(Debug)]
pub struct Cable {
    weather: Arc<Mutex<Weather>>,
    over: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of packets.
#[derive(Debug, Default)]
struct Counts {
    passed: AtomicU64,
    lost: AtomicU64,
    cut: AtomicU64,
}

impl Cable {
    /// Lays a cable between the network namespaces of two processes, with an IPv4 address for each end.
    pub fn between(pids: [u32; 2], addresses: [&str; 2]) -> Self {
        let ends = [0, 1].map(|n| end(pids[n], addresses[n], addresses[1 - n]));
        let weather = Arc::new(Mutex::new(Weather::default()));
        let (over, counts) = (Arc::default(), Arc::default());
        let mut cable = Cable { weather, over, counts, threads: Vec::new() };
        for n in [0, 1] {
            let (from, to) = (ends[n].try_clone().unwrap(), ends[1 - n].try_clone().unwrap());
            let (weather, over) = (Arc::clone(&cable.weather), Arc::clone(&cable.over));
            let counts = Arc::clone(&cable.counts);
            cable.threads.push(thread::spawn(move || carry(n, from, to, &weather, &over, &counts)));
        }
        cable
    }

    /// From now on this is the weather.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// How many packets came through, how many were lost on the way, and how many found the cable cut.
    pub fn counts(&self) -> [u64; 3] {
        [&self.counts.passed, &self.counts.lost, &self.counts.cut].map(|count| count.load(Relaxed))
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A device in the namespace of that process, with its address and that of the other end.
fn end(pid: u32, own: &str, other: &str) -> File {
    let namespace = format!("/proc/{pid}/ns/net");
    let entered = namespace.clone();
    // The device is of the namespace that the thread is in that asks for it.
    let asked = thread::spawn(move || {
        let namespace = File::open(entered).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let device: OwnedFd = rustix::fs::open(
            "/dev/net/tun",
            OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        let mut request = [0u8; 40];
        request[..5].copy_from_slice(b"cable");
        request[16..18].copy_from_slice(&PLAIN_TUNNEL.to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which has 40 bytes.
        let update = unsafe { rustix::ioctl::Updater::<TUNSETIFF, [u8; 40]>::new(&mut request) };
        // SAFETY: as above.
        unsafe { rustix::ioctl::ioctl(&device, update) }.unwrap();
        File::from(device)
    });
    let device = asked.join().unwrap();
    let script = format!("ip address add {own} peer {other} dev cable && ip link set cable up");
    let net = format!("--net={namespace}");
    let status = Command::new("nsenter").args([&net, "sh", "-c", &script]).status().unwrap();
    assert!(status.success(), "{script}");
    device
}

/// Hands packets on, one way.
fn carry(
    way: usize,
    mut from: File,
    mut to: File,
    weather: &Mutex<Weather>,
    over: &AtomicBool,
    counts: &Counts,
) {
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut packet = vec![0; 1 << 16];
    let mut chance: u64 = 0xcab1e + way as u64;
    let mut one_of_a_thousand = || {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % 1000
    };
    while !over.load(Relaxed) {
        let due = waiting.front().map_or(Duration::from_millis(20), |(due, _)| {
            due.saturating_duration_since(Instant::now()).min(Duration::from_millis(20))
        });
        let patience = Timespec::try_from(due).unwrap();
        // Whatever woke it: what can be read is read, and what is due is sent.
        let _ = poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&patience));
        let now = Weather::clone(&weather.lock().unwrap_or_else(PoisonError::into_inner));
        while let Ok(length) = from.read(&mut packet) {
            let fate = if now.cut[way] {
                &counts.cut
            } else if waiting.len() >= QUEUE || one_of_a_thousand() < now.lost {
                &counts.lost
            } else {
                let early = one_of_a_thousand() < now.early;
                let due = Instant::now() + if early { Duration::ZERO } else { now.delay };
                let place = waiting.partition_point(|(before, _)| *before <= due);
                waiting.insert(place, (due, packet[..length].to_vec()));
                &counts.passed
            };
            fate.fetch_add(1, Relaxed);
        }
        if now.cut[way] {
            // What was on the way when it was cut is gone too.
            waiting.clear();
        }
        while waiting.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            if let Some((_, packet)) = waiting.pop_front() {
                // A device that is full, or gone, loses it.
                let _ = to.write(&packet);
            }
        }
    }
}

/// A network namespace with a loopback interface of its own.
#[derive(Debug)]
pub struct Place {
    anchor: Child,
}

impl Place {
    /// Makes one; `None` without root, which is said (and fails under CI).
    pub fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            crate::skip(test, "needs root");
            return None;
        }
        let mut anchor = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(anchor.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "no network namespace");
        Some(Place { anchor })
    }

    /// A process in it.
    pub fn pid(&self) -> u32 {
        self.anchor.id()
    }

    /// What runs a command in it.
    pub fn prefix(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.pid())]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.anchor.stdin.take());
        let _ = self.anchor.wait();
    }
}
