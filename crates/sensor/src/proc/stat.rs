//! /proc/PID/stat: one line that has almost everything.

use rustix::param::clock_ticks_per_second;

use crate::observation::BootNs;

const PF_KTHREAD: u32 = 0x0020_0000;

/// What /proc/PID/stat says. Times in the kernel's clock ticks are given as nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stat {
    /// Process id.
    pub pid: u32,
    /// Task name: any bytes but NUL, closing parentheses and newlines included.
    pub comm: Vec<u8>,
    /// State: `R`, `S`, `D`, `Z`…
    pub state: u8,
    /// Parent.
    pub ppid: u32,
    /// Process session; 0 for a kernel thread.
    pub session: u32,
    /// Controlling terminal, as the kernel encodes its device; 0 for none.
    pub tty: u32,
    /// The kernel's PF_… flags.
    pub flags: u32,
    /// Page faults that needed no reading.
    pub minor_faults: u64,
    /// CPU time in user mode, ns.
    pub user: u64,
    /// CPU time in kernel mode, ns.
    pub system: u64,
    /// Threads.
    pub threads: u32,
    /// When it was forked, to a clock tick.
    pub start: BootNs,
    /// Size of its address space, bytes.
    pub size: u64,
    /// Resident pages.
    pub resident: u64,
    /// Where its image lies; zeros for a kernel thread, and where that is not for us to read.
    pub image: Image,
    /// How many bytes its arguments take; 0 where that is not for us to read.
    pub arguments: u64,
    /// The status as wait(2) will give it, of a process that ended; 0 where that is not for us to read.
    pub exit: i32,
}

/// Where exec put an image: it changes with every exec, since the stack lies elsewhere each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Image {
    /// Begin of the code.
    pub code_start: u64,
    /// End of the code.
    pub code_end: u64,
    /// Begin of the stack.
    pub stack: u64,
}

impl Image {
    /// It was there to be read.
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }
}

impl Stat {
    /// Parses a line. Fields that an older kernel does not have are 0.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')').filter(|close| *close > open)?;
        let pid = std::str::from_utf8(&line[..open]).ok()?.trim_end().parse().ok()?;
        let rest: Vec<&str> =
            std::str::from_utf8(&line[close + 1..]).ok()?.split_ascii_whitespace().collect();
        // Numbered as in proc(5), where the pid is 1.
        let field = |number: usize| rest.get(number - 3).copied().unwrap_or("0");
        let start = field(22).parse::<u64>().ok().filter(|_| rest.len() >= 20)?;
        let wide = |number: usize| field(number).parse::<u64>().unwrap_or(0);
        let narrow = |number: usize| field(number).parse::<u32>().unwrap_or(0);
        Some(Self {
            pid,
            comm: line[open + 1..close].to_vec(),
            state: *field(3).as_bytes().first()?,
            ppid: narrow(4),
            session: narrow(6),
            tty: narrow(7),
            flags: narrow(9),
            minor_faults: wide(10),
            user: ticks(wide(14)),
            system: ticks(wide(15)),
            threads: narrow(20),
            start: ticks(start),
            size: wide(23),
            resident: wide(24),
            image: Image { code_start: wide(26), code_end: wide(27), stack: wide(28) },
            arguments: wide(49).saturating_sub(wide(48)),
            exit: field(52).parse().unwrap_or(0),
        })
    }

    /// It has ended, and its parent has not fetched its status yet.
    pub fn is_over(&self) -> bool {
        // A leading thread that ended before the others is a zombie as well.
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }

    /// It is a thread of the kernel.
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// The controlling terminal as the kernel's tty layer calls it.
    pub fn tty_name(&self) -> Option<Vec<u8>> {
        let major = self.tty >> 8 & 0xfff;
        let minor = self.tty & 0xff | self.tty >> 12 & 0xf_ff00;
        let name = match (major, minor) {
            (0, _) => return None,
            (4, 0..=63) => format!("tty{minor}"),
            (4, _) => format!("ttyS{}", minor - 64),
            (136..=143, _) => format!("pts{}", (major - 136) * 256 + minor),
            (166, _) => format!("ttyACM{minor}"),
            (188, _) => format!("ttyUSB{minor}"),
            (204, 64..=77) => format!("ttyAMA{}", minor - 64),
            (229, _) => format!("hvc{minor}"),
            _ => format!("tty{major}:{minor}"),
        };
        Some(name.into_bytes())
    }
}

fn ticks(count: u64) -> u64 {
    count.saturating_mul(1_000_000_000 / clock_ticks_per_second().max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(stat: &Stat) -> Vec<u8> {
        let tick = ticks(1);
        let mut line = format!("{} (", stat.pid).into_bytes();
        line.extend_from_slice(&stat.comm);
        let Stat {
            ppid,
            session,
            tty,
            flags,
            minor_faults,
            threads,
            size,
            resident,
            image,
            arguments,
            exit,
            ..
        } = stat;
        let (user, system, start) = (stat.user / tick, stat.system / tick, stat.start / tick);
        let Image { code_start, code_end, stack } = image;
        line.extend_from_slice(
            format!(
                ") {} {ppid} 1 {session} {tty} -1 {flags} {minor_faults} 0 0 0 {user} {system} 0 0 20 0 {threads} 0 {start} {size} \
                 {resident} 18446744073709551615 {code_start} {code_end} {stack} 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 \
                 {arguments} 0 0 {exit}\n",
                char::from(stat.state)
            )
            .as_bytes(),
        );
        line
    }

    prop_compose! {
        fn stats()(
            (pid, ppid, session) in any::<(u32, u32, u32)>(),
            comm in proptest::collection::vec(prop_oneof![Just(b')'), Just(b'('), Just(b' '), Just(b'\n'), 1..=255u8], 0..64),
            state in proptest::sample::select(b"RSDZTtXI".to_vec()),
            (tty, flags, minor_faults) in any::<(u32, u32, u64)>(),
            (user, system, start) in any::<(u32, u32, u32)>(),
            (threads, size, resident, exit) in any::<(u32, u64, u64, i32)>(),
            (code_start, code_end, stack, arguments) in any::<(u64, u64, u64, u64)>(),
        ) -> Stat {
            Stat {
                pid, ppid, session, comm, state, tty, flags, minor_faults, threads, size, resident, arguments, exit,
                user: ticks(user.into()),
                system: ticks(system.into()),
                start: ticks(start.into()),
                image: Image { code_start, code_end, stack },
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_the_name_every_field_comes_back(stat in stats()) {
            prop_assert_eq!(Stat::parse(&line(&stat)), Some(stat));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(stat) = Stat::parse(&bytes) {
                stat.tty_name();
            }
        }

        #[test]
        fn no_cut_makes_it_panic(stat in stats(), cut in 0..400usize) {
            let line = line(&stat);
            Stat::parse(&line[..cut.min(line.len())]);
        }
    }

    #[test]
    fn a_name_that_looks_like_fields_is_a_name() {
        for comm in [&b") S 1 ("[..], b"a\nb", b"\xff\xfe", b"", b"7 (x) R 1"] {
            let stat = Stat { pid: 7, state: b'R', comm: comm.to_vec(), ..Stat::default() };
            assert_eq!(Stat::parse(&line(&stat)), Some(stat));
        }
    }

    #[test]
    fn terminals_have_the_names_of_the_tty_layer() {
        let name = |major: u32, minor: u32| {
            let tty = major << 8 | minor & 0xff | (minor & 0xf_ff00) << 12;
            Stat { tty, ..Stat::default() }.tty_name().map(|name| String::from_utf8(name).unwrap())
        };
        assert_eq!(name(0, 0), None);
        for (major, minor, expected) in [
            (136, 0, "pts0"),
            (136, 300, "pts300"),
            (4, 1, "tty1"),
            (4, 64, "ttyS0"),
            (229, 0, "hvc0"),
            (5, 1, "tty5:1"),
        ] {
            assert_eq!(name(major, minor).as_deref(), Some(expected));
        }
    }
}
