//! From the kernel's records to observations.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::record::{self, PF_KTHREAD, split};
use crate::observation::{
    Actor, Arguments, Capabilities, Credentials, Direction, Dns, Endpoint, EndpointEnd, EndpointId,
    FileVersion, ImageFile, ImageId, Namespaces, Observation, Origin, Program, Task, Traffic, Transport,
    Usage,
};

/// The kernel's value for an id that is not set.
const UNSET: u32 = u32::MAX;
const PAGE: u64 = 4096;

fn set(id: u32) -> Option<u32> {
    (id != UNSET).then_some(id)
}

/// The bytes before the first NUL.
pub(super) fn name(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

pub(super) fn image(r: &record::Image) -> ImageId {
    ImageId { pid: r.pid, start: r.start, execs: r.execs }
}

pub(super) fn actor(r: &record::Actor) -> Option<Actor> {
    (r.image.pid != 0).then(|| Actor {
        image: image(&r.image),
        comm: name(&r.comm),
        euid: r.euid,
        auid: set(r.auid),
        session: set(r.session),
    })
}

pub(super) fn credentials(r: &record::Ids) -> Credentials {
    Credentials {
        uid: r.uid,
        euid: r.euid,
        suid: r.suid,
        fsuid: r.fsuid,
        gid: r.gid,
        egid: r.egid,
        sgid: r.sgid,
        fsgid: r.fsgid,
        capabilities: Some(Capabilities {
            inheritable: r.inheritable,
            permitted: r.permitted,
            effective: r.effective,
        }),
    }
}

fn task(r: &record::Task, cgroup: &[u8]) -> Task {
    let tty = name(&r.tty);
    Task {
        image: image(&r.image),
        ppid: r.ppid,
        creator: (r.creator.pid != 0).then(|| image(&r.creator)),
        comm: name(&r.comm),
        credentials: credentials(&r.ids),
        auid: set(r.auid),
        session: set(r.session),
        sid: (r.sid != 0).then_some(r.sid),
        tty: (!tty.is_empty()).then_some(tty),
        namespaces: Namespaces {
            mnt: r.mntns,
            net: r.netns,
            pid: r.pidns,
            user: r.userns,
            uts: r.utsns,
            ipc: r.ipcns,
            cgroup: r.cgroupns,
        },
        cgroup: (!cgroup.is_empty()).then(|| path(cgroup)),
    }
}

/// The components of a path come last first, each ended by NUL.
pub(super) fn path(components: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(components.len() + 1);
    for component in components.split(|b| *b == 0).rev().filter(|c| !c.is_empty()) {
        out.push(b'/');
        out.extend_from_slice(component);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

pub(super) fn take<'a>(rest: &mut &'a [u8], len: u32) -> &'a [u8] {
    let (head, tail) = rest.split_at(rest.len().min(len as usize));
    *rest = tail;
    head
}

pub(super) fn fork(bytes: &[u8]) -> Option<Observation> {
    let (r, mut rest) = split::<record::Fork>(bytes)?;
    let task = task(&r.task, take(&mut rest, r.cgroup_len));
    Some(Observation::Fork { at: r.h.at, task: Box::new(task) })
}

/// A process image as exec and the iterator tell of it. `bulk` gives the arguments that came apart.
pub(super) fn program(
    bytes: &[u8],
    bulk: impl FnOnce(ImageId) -> Vec<u8>,
) -> Option<(record::Exec, Task, Program)> {
    let (r, mut rest) = split::<record::Exec>(bytes)?;
    let image_path = take(&mut rest, r.path_len);
    let cwd = take(&mut rest, r.cwd_len);
    let task = task(&r.task, take(&mut rest, r.cgroup_len));
    let filename = take(&mut rest, r.filename_len);
    let mut arguments = take(&mut rest, r.args_len).to_vec();
    if r.args_bulk > 0 {
        arguments.extend(bulk(task.image));
    }
    let has_file = r.inode != 0 || r.path_len != 0;
    let image_path = if has_file { path(image_path) } else { Vec::new() };
    // Only the kernel's own mount for shared memory has no mount point, and a memfd's name there is made by the kernel.
    let memfd = r.links == 0 && image_path.starts_with(b"/memfd:");
    let program = Program {
        script: (r.script != 0).then(|| name(filename)),
        file: has_file.then_some(ImageFile {
            dev: r.dev,
            inode: r.inode,
            owner: r.owner,
            mode: r.mode as u16,
            deleted: !memfd && (r.links == 0 || r.unhashed != 0),
            memfd,
            version: FileVersion {
                inode: r.inode,
                size: r.size,
                mtime: r.mtime as i64,
                ctime: r.ctime as i64,
            },
            digest: false,
        }),
        path: image_path,
        arguments: Arguments { bytes: arguments, length: r.args_total },
        cwd: (r.task.flags & PF_KTHREAD == 0).then(|| path(cwd)),
    };
    Some((r, task, program))
}

pub(super) fn exit(bytes: &[u8]) -> Option<Observation> {
    let (r, _) = split::<record::Exit>(bytes)?;
    let (user, system) = cpu_time(r.utime, r.stime, r.runtime);
    Some(Observation::Exit {
        at: r.h.at,
        image: image(&r.image),
        status: Some(r.status as i32),
        usage: Some(Usage {
            user,
            system,
            maxrss: r.maxrss.saturating_mul(PAGE),
            rchar: r.rchar,
            wchar: r.wchar,
            read_bytes: r.read_bytes,
            write_bytes: r.write_bytes,
        }),
    })
}

/// The kernel samples user and system time by its tick, and knows the sum exactly: it divides the sum in their proportion, and so do we
/// (`cputime_adjust` in kernel/sched/cputime.c).
fn cpu_time(user: u64, system: u64, sum: u64) -> (u64, u64) {
    if system == 0 {
        return (sum, 0);
    }
    if user == 0 {
        return (0, sum);
    }
    let system = (u128::from(sum) * u128::from(system) / (u128::from(user) + u128::from(system))) as u64;
    (sum - system, system)
}

pub(super) fn rename(bytes: &[u8]) -> Option<Observation> {
    let (r, _) = split::<record::Rename>(bytes)?;
    Some(Observation::Rename { at: r.h.at, actor: actor(&r.actor)?, old: name(&r.old) })
}

pub(super) fn credentials_changed(bytes: &[u8]) -> Option<Observation> {
    let (r, _) = split::<record::Credentials>(bytes)?;
    Some(Observation::Credentials {
        at: r.h.at,
        actor: actor(&r.actor)?,
        operation: record::OPERATIONS.get(r.operation as usize)?,
        credentials: credentials(&r.ids),
    })
}

pub(super) fn denied(bytes: &[u8]) -> Option<Observation> {
    let (r, mut rest) = split::<record::Denied>(bytes)?;
    let path = name(take(&mut rest, r.path_len));
    let arguments = take(&mut rest, r.args_len).to_vec();
    Some(Observation::ExecDenied {
        at: r.h.at,
        actor: actor(&r.actor)?,
        path,
        arguments: Arguments { length: arguments.len() as u64 + u64::from(r.more), bytes: arguments },
        errno: r.error,
    })
}

fn address(bytes: [u8; 16], family: u8, port: u16) -> SocketAddr {
    let ip = if family == 4 {
        IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    } else {
        Ipv6Addr::from(bytes).to_canonical()
    };
    SocketAddr::new(ip, port)
}

/// An endpoint's record; the record itself goes along for what only its end tells.
pub(super) fn endpoint(bytes: &[u8]) -> Option<(record::Endpoint, Endpoint)> {
    let (r, _) = split::<record::Endpoint>(bytes)?;
    let transport = if r.transport == record::TCP { Transport::Tcp } else { Transport::Udp };
    let direction = match r.direction {
        record::DIRECTION_OUT => Direction::Out,
        record::DIRECTION_IN => Direction::In,
        _ => Direction::Listen,
    };
    let remote = (direction != Direction::Listen).then(|| address(r.remote, r.family, r.remote_port));
    let endpoint = Endpoint {
        id: EndpointId {
            transport,
            socket: r.socket,
            peer: if transport == Transport::Udp { remote } else { None },
        },
        direction,
        local: address(r.local, r.family, r.local_port),
        remote,
        actor: actor(&r.actor),
        netns: r.netns,
        origin: if r.found != 0 { Origin::Found } else { Origin::Event },
        at: r.since,
    };
    Some((r, endpoint))
}

pub(super) fn endpoint_end(r: &record::Endpoint) -> EndpointEnd {
    EndpointEnd {
        result: (r.result >= 0).then_some(r.result),
        idle: false,
        traffic: Some(Traffic {
            bytes_sent: r.bytes_sent,
            bytes_received: r.bytes_received,
            packets_sent: r.packets_sent,
            packets_received: r.packets_received,
        }),
    }
}

/// The key under which the kernel counts a UDP exchange.
pub(super) fn peer_key(r: &record::Endpoint) -> record::PeerKey {
    record::PeerKey {
        socket: r.socket,
        addr: r.remote,
        port: r.remote_port,
        family: u16::from(r.family),
        pad: 0,
    }
}

pub(super) fn dns(bytes: &[u8]) -> Option<Dns> {
    let (r, rest) = split::<record::Dns>(bytes)?;
    Some(Dns {
        at: r.h.at,
        transport: if r.transport == record::TCP { Transport::Tcp } else { Transport::Udp },
        sequence: r.sequence,
        socket: r.socket,
        sent: r.sent != 0,
        server: address(r.server, r.family, r.port),
        actor: actor(&r.actor),
        netns: r.netns,
        payload: rest.get(..r.len as usize)?.to_vec(),
        length: r.length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_together_from_its_components() {
        assert_eq!(path(b"perl\0bin\0usr\0"), b"/usr/bin/perl");
        assert_eq!(path(b""), b"/");
    }

    #[test]
    fn the_sum_of_cpu_time_is_kept_whatever_the_tick_sampled() {
        assert_eq!(cpu_time(0, 0, 700), (700, 0));
        assert_eq!(cpu_time(0, 4_000_000, 700), (0, 700));
        assert_eq!(cpu_time(4_000_000, 4_000_000, 1_000_001), (500_001, 500_000));
    }

    #[test]
    fn a_short_record_is_no_observation() {
        for len in 0..64 {
            let bytes = vec![0; len];
            assert!(fork(&bytes).is_none());
            assert!(program(&bytes, |_| Vec::new()).is_none());
            assert!(exit(&bytes).is_none());
            assert!(denied(&bytes).is_none());
            assert!(endpoint(&bytes).is_none());
            assert!(dns(&bytes).is_none());
        }
    }
}
