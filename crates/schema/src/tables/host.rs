//! The audited computers.

use crate::{Time, Word};

table! {
    /// The audited computers: one row per boot, as it was when the boot was first seen. `host` is the number that every other row carries. What
    /// changes while the computer runs stands in `factinfo`.
    hostinfo: HostInfo, HostInfoEnd, key bootentity;
    begin {
        /// Identity of the boot: when the kernel started, in microseconds since 2020-01-01, as first reckoned; `psinfo.psentity` counts from it.
        bootentity: i64,
        /// Identity of the computer: /etc/machine-id.
        machineid: String,
        /// Its name.
        hostname: String,
        /// Distribution and release.
        os: String,
        /// Kernel release.
        kernel: String,
        /// Architecture.
        arch: String,
        /// The kernel's random boot id.
        bootid: String,
        /// When the kernel started.
        boottime: Time,
        /// Time zone of the host.
        timezone: Option<String>,
        /// What the kernel was started with.
        cmdline: Option<String>,
        /// What the computer is, where it is no real one: `kvm`, `vmware`, `docker`… by the names of systemd-detect-virt(1); `vm` where it does not say.
        virtualization: Option<String>,
        /// Who made the machine (DMI).
        vendor: Option<String>,
        /// What its maker calls it (DMI).
        product: Option<String>,
        /// Its serial number (DMI), where the recorder was root.
        serial: Option<String>,
        /// Version of luarm that recorded first.
        agentversion: String,
        /// Memory, bytes.
        memory: i64,
        /// Processors.
        cpus: i32,
        /// When this boot was first seen.
        created: Time,
    }
    end {
        /// When this boot was last recorded, once another one has begun. The latest boot was last seen at the latest `batchinfo.lastevent`: a recorder
        /// with nothing to tell says once a minute that it lives.
        destroyed: Time,
    }
    derived {}
    index {}
}

table! {
    /// What is known of a computer as a whole and may change while it runs, over time: one row per fact and value.
    factinfo: FactInfo, FactInfoEnd, key factid;
    begin {
        /// Number of the row, ordered by time.
        factid: i64,
        /// Which fact: `hostname`; `domainname`, the NIS domain; `timezone`; `os`, distribution and release; `machineid`; `agentversion`, of luarm.
        fact: Word,
        /// Its value.
        value: String,
        /// How the row began: `event`; `found`, it was so when the recorder started.
        origin: Word,
        /// When it came to be so.
        created: Time,
    }
    end {
        /// When it ceased to be so.
        destroyed: Time,
        /// How it ended: `event`, there is none any more; `changed`, the next row has its other value; `unseen`, while nothing watched, at the latest at
        /// `destroyed`; `boot`.
        ended: Word,
    }
    derived {}
    index { (fact) }
}
