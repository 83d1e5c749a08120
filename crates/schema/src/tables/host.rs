//! The audited computers.

use crate::Time;

table! {
    /// The audited computers: one row per boot. `host` is the number that every other row carries.
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
        /// Version of luarm that recorded.
        agentversion: String,
        /// Memory, bytes.
        memory: i64,
        /// Processors.
        cpus: i32,
        /// When this boot was first seen.
        created: Time,
    }
    end {
        /// When this boot was last recorded, once another one has begun.
        destroyed: Time,
    }
    derived {}
    index {}
}
