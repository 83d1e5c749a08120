//! The floor: the same programs in the kernel, and a reader that does almost nothing with what they tell. A process of its own, so that its CPU
//! time can be told from the measurement's.

use std::{
    io::{BufRead, BufReader, Write},
    ops::ControlFlow,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{self, TryRecvError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use luarm_sensor::{
    Observation,
    ebpf::{self, EbpfConfig, Empty},
    queue,
};

use crate::cpu::CpuClock;

/// How little the reader does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Floor {
    /// Nothing: an empty program stands at the hooks of system calls.
    Empty,
    /// Reads the rings and throws the bytes away.
    Rings,
    /// Decodes what it reads, and throws the observations away.
    Observations,
}

/// Watches until standard input ends. Each line there is answered with how many records or observations came before it.
pub(crate) fn run(floor: Floor) -> anyhow::Result<()> {
    let (send, asked) = mpsc::channel();
    thread::spawn(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(()).is_err() {
                return;
            }
        }
    });
    match floor {
        Floor::Empty => {
            let _attached = Empty::attach()?;
            println!("ready");
            while asked.recv().is_ok() {
                println!("0");
            }
        }
        Floor::Rings => {
            let mut all = 0;
            let mut ready = false;
            ebpf::discard(&EbpfConfig::default(), |records| {
                if !std::mem::replace(&mut ready, true) {
                    println!("ready");
                }
                all += records;
                match asked.try_recv() {
                    Ok(()) => println!("{all}"),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
                }
                ControlFlow::Continue(())
            })?;
        }
        Floor::Observations => {
            let (producer, consumer) = queue::bounded(32 << 20);
            let sensor = ebpf::start(EbpfConfig::default(), producer)?;
            println!("ready");
            let mut all = 0;
            let mut wanted = None;
            loop {
                let chunk = consumer.receive(Duration::from_millis(500)).ok().context("the sensor ended")?;
                for observation in chunk.unwrap_or_default() {
                    match observation {
                        Observation::Reached(at) if wanted.is_some_and(|w| at >= w) => {
                            wanted = None;
                            println!("{all}");
                        }
                        Observation::Reached(_) => {}
                        _ => all += 1,
                    }
                }
                match asked.try_recv() {
                    Ok(()) => wanted = Some(sensor.drain()),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => break,
                }
            }
            sensor.stop();
        }
    }
    Ok(())
}

/// A running floor.
pub(crate) struct Reader {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Its CPU time.
    pub clock: CpuClock,
}

impl Reader {
    /// Starts it, and waits until it reads.
    pub(crate) fn start(floor: Floor) -> anyhow::Result<Self> {
        let name = floor.to_possible_value().context("a floor without a name")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--floor", name.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the floor")?;
        let ask = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the floor has no output")?);
        let clock = CpuClock::of(child.id())?;
        let mut reader = Reader { child, ask, answers, clock };
        let first = reader.answer()?;
        ensure!(first == "ready", "the floor says {first:?}");
        Ok(reader)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the floor gave up; its message is above");
        }
        Ok(line.trim().to_owned())
    }

    /// How much it has read until now.
    pub(crate) fn read(&mut self) -> anyhow::Result<u64> {
        self.ask.as_mut().context("the floor has no input")?.write_all(b"\n")?;
        let answer = self.answer()?;
        answer.parse().with_context(|| format!("the floor says {answer:?}"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It ends with its input.
        self.ask = None;
        let _ = self.child.wait();
    }
}
