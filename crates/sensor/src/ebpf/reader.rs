//! The thread that empties the rings.
//!
//! Order matters between the rings. An exec's record tells how much of its arguments went ahead through `bulk`: the records of `events` are
//! therefore copied out first, then `bulk` is emptied, then the copies are decoded, and what went ahead is there by then. And DNS messages
//! take their place among the events by their time, so that a connection has the name that was known when it began.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use libbpf_rs::{MapCore, MapFlags, RingBuffer, RingBufferBuilder};
use rustix::event::{Timespec, epoll};

use super::{
    EbpfError,
    attached::Attached,
    bulk::Pieces,
    decode,
    exchanges::Exchanges,
    files::Files,
    fill::Fills,
    hooks::RING_CLASS,
    places::Places,
    privilege,
    record::{self, kind, split},
    weight,
};
use crate::{
    clock,
    digest::Digests,
    observation::{
        BootNs, Direction, Dns, Endpoint, EndpointEnd, Inventory, Loss, Observation, Origin, Program, Task,
        Transport,
    },
    proc,
    queue::{Closed, Producer},
};

/// How long the rings are left alone. A ring that fills faster wakes the reader.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Records taken from the ring of events in one turn.
const TURN: usize = 8192;
/// How often losses are asked for, and idle exchanges looked for.
const SECOND: BootNs = 1_000_000_000;
const SWEEP: BootNs = 10 * SECOND;
/// Sockets whose connection failed lately, remembered until their system call says so again.
const FAILED: usize = 4096;

/// Records as they lay in the ring, one after the other.
#[derive(Default)]
struct Copies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

pub(super) struct Reader<'a> {
    attached: &'a Attached,
    producer: &'a Producer,
    wake: &'a OwnedFd,
    sleep: OwnedFd,
    events: RingBuffer<'static>,
    bulk: RingBuffer<'static>,
    fills: Arc<Fills>,
    copies: Rc<RefCell<Copies>>,
    pieces: Rc<RefCell<Pieces>>,
    messages: Rc<RefCell<VecDeque<Dns>>>,
    exchanges: Exchanges,
    files: Files,
    digests: Rc<RefCell<Digests>>,
    /// Whether it was said that somebody uses io_uring, or need not be: what goes through it is seen.
    warned: bool,
    failed: HashSet<u64>,
    failed_order: VecDeque<u64>,
    undecided: HashMap<u64, (BootNs, Endpoint, EndpointEnd)>,
    out: Vec<Observation>,
    lost: Vec<u64>,
    skipped: u64,
    asked: BootNs,
    swept: BootNs,
}

fn system(what: &'static str) -> impl Fn(rustix::io::Errno) -> EbpfError {
    move |e| EbpfError::System(what, e.into())
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        attached: &'a Attached,
        producer: &'a Producer,
        wake: &'a OwnedFd,
        fills: Arc<Fills>,
    ) -> Result<Self, EbpfError> {
        let copies = Rc::new(RefCell::new(Copies::default()));
        let pieces = Rc::new(RefCell::new(Pieces::default()));
        let messages = Rc::new(RefCell::new(VecDeque::new()));
        let (events_map, bulk_map) = (attached.map("events")?, attached.map("bulk")?);

        let into = Rc::clone(&copies);
        let events = ring(&events_map, move |bytes| {
            let mut copies = into.borrow_mut();
            copies.bytes.extend_from_slice(bytes);
            let end = copies.bytes.len();
            copies.ends.push(end);
            0
        })?;
        let (into_pieces, into_messages) = (Rc::clone(&pieces), Rc::clone(&messages));
        let bulk = ring(&bulk_map, move |bytes| {
            take_bulk(bytes, &mut into_pieces.borrow_mut(), &mut into_messages.borrow_mut());
            0
        })?;

        // Edge-triggered: it says when a ring asks for its reader, not whenever there is something in it.
        let sleep = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("make an epoll descriptor"))?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        for fd in [events_map.as_fd(), bulk_map.as_fd()] {
            epoll::add(&sleep, fd, epoll::EventData::new_u64(0), edge).map_err(system("watch a ring"))?;
        }
        epoll::add(&sleep, wake, epoll::EventData::new_u64(1), epoll::EventFlags::IN)
            .map_err(system("watch the wake-up"))?;
        let now = clock::now();
        let places = attached.places.take();
        let names = places.as_ref().map(Places::names).unwrap_or_default();
        let mut places = places;
        let chore = move || places.iter_mut().for_each(Places::refresh);
        let digests = Rc::new(RefCell::new(Digests::new(producer.clone(), attached.digest_limit, chore)));
        Ok(Reader {
            attached,
            producer,
            wake,
            sleep,
            events,
            bulk,
            fills,
            copies,
            pieces,
            messages,
            exchanges: Exchanges::default(),
            files: Files::new(own_mount_namespace(), Rc::clone(&digests), names),
            warned: attached.watches(RING_CLASS),
            digests,
            failed: HashSet::new(),
            failed_order: VecDeque::new(),
            undecided: HashMap::new(),
            out: Vec::new(),
            lost: Vec::new(),
            skipped: 0,
            asked: now,
            swept: now,
        })
    }

    /// Reports what is watched and what exists, then everything that happens, until told to stop.
    pub(super) fn run(&mut self, stopping: &AtomicBool) {
        self.out.extend(self.attached.coverage.iter().cloned().map(Observation::Coverage));
        if let Err(e) = self.inventory() {
            tracing::error!("cannot list what exists already: {e}");
        }
        loop {
            let stop = stopping.load(Ordering::Acquire);
            let asked = self.clear_wake();
            if self.turn(asked || stop).is_err() {
                return;
            }
            if stop {
                return self.finish();
            }
            let mut events =
                [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 4];
            let _ = epoll::wait(&self.sleep, &mut events[..], Some(&PAUSE));
        }
    }

    /// Nothing more is seen: what waits to be digested still may be.
    fn finish(&mut self) {
        self.digests.borrow().finish();
        self.count_losses(clock::now());
        // Whoever took observations is gone, or takes these too.
        let _ = self.hand_over();
    }

    fn clear_wake(&self) -> bool {
        rustix::io::read(self.wake, &mut [0u8; 8]).is_ok()
    }

    /// Empties the rings and hands over what was in them. When asked for, or now and then, also says how far it came.
    fn turn(&mut self, asked: bool) -> Result<(), Closed> {
        let begun = clock::now();
        self.fills.note([&self.events, &self.bulk]);
        loop {
            let taken = self.events.consume_raw_n(TURN);
            self.bulk.consume_raw();
            self.decode();
            if usize::try_from(taken).is_ok_and(|n| n >= TURN) {
                self.hand_over()?;
            } else {
                break;
            }
        }
        self.messages_until(begun);
        if let Ok(table) = self.attached.map("accesses") {
            self.files.settle(begun, asked, &table, &mut self.out);
        }
        self.out.extend(self.undecided.drain().map(|(_, (at, endpoint, end))| ended(at, endpoint, end)));
        if asked || begun.saturating_sub(self.asked) >= SECOND {
            self.count_losses(begun);
            if begun.saturating_sub(self.swept) >= SWEEP {
                self.count_skipped(begun);
                self.sweep(begun);
            }
            self.out.push(Observation::Reached(begun));
        } else if !self.out.is_empty() {
            self.out.push(Observation::Reached(begun));
        }
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<(), Closed> {
        if !self.out.is_empty() {
            let bytes = self.out.iter().map(weight).sum();
            self.producer.send(std::mem::take(&mut self.out), bytes)?;
        }
        self.digests.borrow().release();
        Ok(())
    }

    fn decode(&mut self) {
        let mut copies = std::mem::take(&mut *self.copies.borrow_mut());
        self.out.reserve(copies.ends.len() + 1);
        let mut from = 0;
        for &end in &copies.ends {
            self.one(&copies.bytes[from..end]);
            from = end;
        }
        copies.bytes.clear();
        copies.ends.clear();
        // The buffer is kept for the next turn, unless a storm made it large.
        if copies.bytes.capacity() <= 1 << 20 {
            *self.copies.borrow_mut() = copies;
        }
    }

    fn one(&mut self, bytes: &[u8]) {
        let Some((header, _)) = split::<record::Header>(bytes) else { return };
        self.messages_until(header.at);
        let observation = match header.kind {
            kind::FORK => decode::fork(bytes),
            kind::EXEC => decode::program(bytes, |image| self.pieces.borrow_mut().take(image)).map(
                |(r, task, mut program)| {
                    self.digest(&task, &mut program, r.remote != 0, false);
                    Observation::Exec { at: r.h.at, task: Box::new(task), program: Box::new(program) }
                },
            ),
            kind::EXIT => decode::exit(bytes),
            kind::RENAME => decode::rename(bytes),
            kind::CREDENTIALS => decode::credentials_changed(bytes),
            kind::PRIVILEGE => privilege::act(bytes),
            kind::EXEC_DENIED => decode::denied(bytes),
            kind::ENDPOINT => return self.endpoint(bytes),
            kind::ENDPOINT_END => return self.endpoint_end(bytes),
            kind::CONNECT_FAILED => return self.connect_failed(bytes),
            kind::UDP_RELEASE => return self.release(bytes),
            kind::FILE => return self.files.one(bytes, &mut self.out),
            kind::FILE_END => return self.files.closed(bytes),
            kind::FILE_CONTENT => return self.files.left(bytes),
            kind::FILE_CLOEXEC => return self.files.closes_at_exec(bytes),
            kind::FILE_AGAIN => return self.files.again(bytes),
            kind::FILE_ANSWER => return self.files.answered(bytes, &mut self.out),
            _ => None,
        };
        match &observation {
            Some(Observation::Exec { at, task, .. }) => {
                if let Ok(table) = self.attached.map("accesses") {
                    self.files.executed(*at, task.image, &table, &mut self.out);
                }
            }
            Some(Observation::Exit { at, image, .. }) => self.files.exited(*at, *image, &mut self.out),
            Some(Observation::Privilege(act)) if act.operation == "io_uring_setup" && !self.warned => {
                self.warned = true;
                tracing::warn!(
                    "process {} uses io_uring: what it does with files through it is not seen on this kernel; privinfo tells of each that does",
                    act.actor.image.pid
                );
            }
            _ => {}
        }
        self.out.extend(observation);
    }

    /// Has the image digested; on a file system whose answer may never come, it is not.
    fn digest(&self, task: &Task, program: &mut Program, remote: bool, found: bool) {
        let Some(file) = &mut program.file else { return };
        let mut digests = self.digests.borrow_mut();
        if remote {
            digests.miss("image-digest", "remote");
        } else {
            let who = (task.image.pid, task.credentials.euid);
            file.digest = digests.image(who, &program.path, *file, found);
        }
    }

    /// Puts the DNS messages of before that instant in their place among the events: a connection has the name that was known when it began.
    fn messages_until(&mut self, at: BootNs) {
        let mut messages = self.messages.borrow_mut();
        while let Some(message) = messages.pop_front_if(|message| message.at <= at) {
            self.out.push(Observation::Dns(Box::new(message)));
        }
    }

    fn endpoint(&mut self, bytes: &[u8]) {
        let Some((r, endpoint)) = decode::endpoint(bytes) else { return };
        if endpoint.id.transport == Transport::Udp {
            let key = endpoint.remote.map(|_| decode::peer_key(&r));
            self.exchanges.begin(key, endpoint.clone());
        }
        self.out.push(Observation::Endpoint(Box::new(endpoint)));
    }

    fn endpoint_end(&mut self, bytes: &[u8]) {
        let Some((r, endpoint)) = decode::endpoint(bytes) else { return };
        let end = decode::endpoint_end(&r);
        if endpoint.direction == Direction::Out && end.result != Some(0) {
            self.remember_failed(r.socket);
            if end.result.is_none() {
                // It failed on this host: the system call is about to say why.
                self.undecided.insert(r.socket, (r.h.at, endpoint, end));
                return;
            }
        }
        self.out.push(ended(r.h.at, endpoint, end));
    }

    fn remember_failed(&mut self, socket: u64) {
        if self.failed.insert(socket) {
            self.failed_order.push_back(socket);
            if self.failed_order.len() > FAILED
                && let Some(oldest) = self.failed_order.pop_front()
            {
                self.failed.remove(&oldest);
            }
        }
    }

    /// The system call says that a connection failed: one that its socket's state has told of already, or one that never began.
    fn connect_failed(&mut self, bytes: &[u8]) {
        let Some((r, endpoint)) = decode::endpoint(bytes) else { return };
        let end = EndpointEnd { result: Some(r.result), idle: false, traffic: None };
        if let Some((at, endpoint, _)) = self.undecided.remove(&r.socket) {
            self.failed.remove(&r.socket);
            self.out.push(ended(at, endpoint, end));
        } else if r.socket == 0 || !self.failed.remove(&r.socket) {
            self.out.push(ended(r.h.at, endpoint, end));
        }
    }

    fn release(&mut self, bytes: &[u8]) {
        let Some((r, _)) = split::<record::Release>(bytes) else { return };
        if let Ok(table) = self.attached.map("peers") {
            self.exchanges.release(&table, r.socket, r.h.at, &mut self.out);
        }
    }

    fn sweep(&mut self, now: BootNs) {
        self.swept = now;
        if let Ok(table) = self.attached.map("peers") {
            self.exchanges.sweep(&table, now, &mut self.out);
        }
    }

    /// Reports what the kernel has counted as lost since the last time.
    fn count_losses(&mut self, now: BootNs) {
        let Ok(map) = self.attached.map("lost") else { return };
        self.lost.resize(record::LOST.len(), 0);
        for (n, (class, cause)) in record::LOST.into_iter().enumerate() {
            let Ok(Some(per_processor)) = map.lookup_percpu(&(n as u32).to_ne_bytes(), MapFlags::ANY) else {
                continue;
            };
            let sum =
                per_processor.iter().filter_map(|v| v.first_chunk()).map(|v| u64::from_ne_bytes(*v)).sum();
            let before = std::mem::replace(&mut self.lost[n], sum);
            if sum > before {
                self.out.push(Observation::Loss(Loss {
                    class,
                    cause,
                    count: sum - before,
                    from: self.asked,
                    until: now,
                }));
            }
        }
        for (class, cause, count) in self.digests.borrow_mut().take_missed() {
            let loss = Loss { class, cause, count, from: self.asked, until: now };
            self.out.push(Observation::Loss(loss));
        }
        self.asked = now;
    }

    /// Reports how often the kernel skipped one of our programs.
    fn count_skipped(&mut self, now: BootNs) {
        let sum = self.attached.skipped();
        let before = std::mem::replace(&mut self.skipped, sum);
        if sum > before {
            let count = sum - before;
            self.out.push(Observation::Loss(Loss {
                class: "all",
                cause: "recursion",
                count,
                from: self.swept,
                until: now,
            }));
        }
    }

    /// Reports the processes and sockets that exist. The programs are attached already, so that nothing falls between.
    fn inventory(&mut self) -> io::Result<()> {
        let reader = proc::Reader::open("/".as_ref()).ok();
        let mut met = HashSet::new();
        let mut parents = HashMap::new();
        for record in records(&self.attached.iterate("on_task")?) {
            let Some((r, task, mut program)) = decode::program(record, |_| Vec::new()) else { continue };
            if r.h.kind != kind::TASK {
                continue;
            }
            // The iterator cannot read another process's memory.
            if let Some(arguments) =
                reader.as_ref().and_then(|r| r.process(task.image.pid)).and_then(|p| p.arguments())
            {
                program.arguments = arguments;
            }
            met.insert(task.image.pid);
            parents.extend(task.creator.map(|parent| (parent.pid, parent)));
            self.found(r.h.at, task, program, r.remote != 0);
        }
        // The iterator leaves the first process out on some kernels (6.18). Its children know its identity; the rest is in /proc.
        for (pid, image) in parents.into_iter().filter(|(pid, _)| !met.contains(pid)) {
            if let Some((mut task, program)) = reader.as_ref().and_then(|r| r.found(pid)) {
                task.image = image;
                self.found(clock::now(), task, program, false);
            }
        }
        self.out.push(Observation::Complete(Inventory::Processes));
        for record in records(&self.attached.iterate("on_file")?) {
            self.endpoint(record);
        }
        self.out.push(Observation::Complete(Inventory::Sockets));
        Ok(())
    }

    fn found(&mut self, at: BootNs, task: Task, mut program: Program, remote: bool) {
        self.digest(&task, &mut program, remote, true);
        self.out.push(Observation::Found {
            at,
            task: Box::new(task),
            program: Box::new(program),
            origin: Origin::Found,
        });
    }
}

/// The mount namespace that luarm itself is in; 0 where /proc does not say.
fn own_mount_namespace() -> u32 {
    std::fs::metadata("/proc/self/ns/mnt").map_or(0, |ns| u32::try_from(ns.ino()).unwrap_or(0))
}

fn ended(at: BootNs, endpoint: Endpoint, end: EndpointEnd) -> Observation {
    Observation::EndpointEnd { at, endpoint: Box::new(endpoint), end }
}

fn ring(
    map: &libbpf_rs::Map<'_>,
    callback: impl FnMut(&[u8]) -> i32 + 'static,
) -> Result<RingBuffer<'static>, EbpfError> {
    let mut builder = RingBufferBuilder::new();
    builder.add(map, callback).map_err(|e| EbpfError::Refused(format!("{e:#}")))?;
    builder.build().map_err(|e| EbpfError::Refused(format!("{e:#}")))
}

pub(super) fn take_bulk(bytes: &[u8], pieces: &mut Pieces, messages: &mut VecDeque<Dns>) {
    match split::<record::Header>(bytes).map(|(header, _)| header.kind) {
        Some(kind::DNS) => messages.extend(decode::dns(bytes)),
        Some(kind::ARGUMENTS) => {
            if let Some((r, rest)) = split::<record::Arguments>(bytes)
                && let Some(piece) = rest.get(..r.len as usize)
            {
                pieces.put(decode::image(&r.image), r.offset, piece);
            }
        }
        _ => {}
    }
}

/// The iterators' output: each record after its length.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk()?;
        let (record, rest) = rest.split_at_checked(u32::from_ne_bytes(*len) as usize)?;
        bytes = rest;
        Some(record)
    })
}
