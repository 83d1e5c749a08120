//! Whatever the sensors say, in whatever order: the rows are sound.

use luarm_schema::Resume;
use luarm_sensor::{
    BootNs, Observation,
    condition::{Condition, ConditionKind, Group, Interface, Login, LoginSource, Route, User},
    observation::*,
};
use proptest::prelude::*;

use crate::{conditions, scene::*};

/// Few pids, few starts, few execs, so that events meet.
fn images() -> impl Strategy<Value = ImageId> {
    (1u32..5, 0u64..4, prop_oneof![4 => 0u32..4, 1 => 61u32..67])
        .prop_map(|(pid, start, execs)| image(pid, start * 7 * MS + u64::from(pid) * 1000, execs))
}

fn endpoints() -> impl Strategy<Value = Endpoint> {
    (images(), 0u64..3, 0u64..4, 0u8..3, 0u8..3, any::<bool>()).prop_map(
        |(owner, socket, at, direction, origin, udp)| {
            let remote = address(&format!("192.0.2.{}:53", socket % 2));
            let direction = [Direction::Out, Direction::In, Direction::Listen][usize::from(direction)];
            let transport = if udp { Transport::Udp } else { Transport::Tcp };
            Endpoint {
                id: EndpointId { transport, socket, peer: udp.then_some(remote) },
                direction,
                remote: (direction != Direction::Listen).then_some(remote),
                origin: [Origin::Event, Origin::Found, Origin::Poll][usize::from(origin)],
                at: at * MS,
                ..connection(socket, at * MS, actor(owner))
            }
        },
    )
}

fn dns() -> impl Strategy<Value = Dns> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01".to_vec()),
        Just(b"\0\x01\x81\0\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04".to_vec()),
    ];
    (payload, any::<bool>(), any::<bool>(), 0u64..2, images(), 0u32..60).prop_map(
        |(payload, sent, tcp, socket, owner, sequence)| Dns {
            at: 0,
            transport: if tcp { Transport::Tcp } else { Transport::Udp },
            sequence,
            socket,
            sent,
            server: address("192.0.2.53:53"),
            actor: Some(actor(owner)),
            netns: 2,
            length: payload.len() as u32,
            payload,
        },
    )
}

/// Few of each kind, with few values.
fn network() -> impl Strategy<Value = Condition> {
    (0u8..3, any::<bool>(), any::<bool>()).prop_map(|(n, value, route)| {
        if route {
            let weight = if value { 2 } else { 1 };
            Condition::Route(Route { weight, ..conditions::route(&format!("192.0.2.{n}")) })
        } else {
            let address = (n > 0).then(|| conditions::address(&format!("10.0.0.{n}")));
            Condition::Interface(Interface { up: value, address, ..conditions::interface() })
        }
    })
}

/// A session's id now and then.
fn logged_in(mut task: Box<Task>, session: Option<u32>) -> Box<Task> {
    (task.session, task.auid, task.tty) = (session, session, session.map(|_| b"pts0".to_vec()));
    task
}

fn sessions() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![2 => Just(None), 1 => (3u32..6).prop_map(Some)]
}

/// Few users and logins, with few values.
fn conditions() -> impl Strategy<Value = Condition> {
    (0u32..3, 0u32..3, any::<bool>(), sessions(), 1u32..6).prop_map(|(kind, value, flag, session, pid)| {
        match kind {
            0 => Condition::User(User {
                name: vec![b'a' + pid as u8 % 2],
                uid: value,
                remote: flag,
                ..User::default()
            }),
            1 => Condition::Group(Group { name: b"g".to_vec(), gid: value, members: Vec::new() }),
            _ => Condition::Login(Login {
                source: if flag { LoginSource::Utmp } else { LoginSource::Logind },
                id: vec![value as u8],
                user: b"u".to_vec(),
                tty: Some(b"pts/0".to_vec()),
                host: None,
                address: None,
                service: None,
                pid,
                session,
                since: i64::from(value),
                until: (value == 2).then_some(i64::from(pid)),
            }),
        }
    })
}

fn observations() -> impl Strategy<Value = Observation> {
    let kinds = vec![ConditionKind::User, ConditionKind::Group, ConditionKind::Login];
    prop_oneof![
        3 => (conditions(), any::<bool>()).prop_map(|(condition, ends)| {
            let condition = Box::new(condition);
            if ends {
                Observation::ConditionEnd { at: 0, condition }
            } else {
                Observation::Condition { at: 0, condition, origin: Origin::Event }
            }
        }),
        1 => prop::sample::select(kinds).prop_map(|kind| Observation::Complete(Inventory::Conditions(kind))),
        4 => (images(), prop::option::of(images()), sessions()).prop_map(|(new, creator, session)| {
            let image = ImageId { execs: 0, ..new };
            Observation::Fork { at: 0, task: logged_in(task(image, creator), session) }
        }),
        4 => (images(), sessions()).prop_map(|(image, session)| Observation::Exec {
            at: 0, task: logged_in(task(image, None), session), program: program("/bin/x", &["x"]),
        }),
        2 => (images(), prop::option::of(images()), any::<bool>(), sessions()).prop_map(|(image, creator, poll, session)| {
            let origin = if poll { Origin::Poll } else { Origin::Found };
            Observation::Found { at: 0, task: logged_in(task(image, creator), session), program: program("/bin/y", &["y"]), origin }
        }),
        4 => images().prop_map(|image| exit(0, image, 0)),
        1 => images().prop_map(|image| rename(0, image)),
        1 => (images(), 0u32..2).prop_map(|(image, id)| Observation::Credentials {
            at: 0, actor: actor(image), operation: "setuid", credentials: ids(id),
        }),
        1 => images().prop_map(|image| Observation::ExecDenied {
            at: 0, actor: actor(image), path: b"/x".to_vec(), arguments: Arguments::default(), errno: 13,
        }),
        2 => (images(), prop::option::of(images()), 0u32..2).prop_map(|(image, target, id)| privilege(
            0, ["setns", "ptrace"][id as usize], image, target,
        )),
        2 => endpoints().prop_map(begins),
        2 => (endpoints(), any::<bool>()).prop_map(|(endpoint, idle)| {
            ends(0, endpoint, EndpointEnd { idle, ..EndpointEnd::default() })
        }),
        1 => dns().prop_map(|dns| Observation::Dns(Box::new(dns))),
        3 => (network(), any::<bool>()).prop_map(|(condition, ends)| {
            if ends { conditions::ended(0, condition) } else { conditions::begun(0, condition) }
        }),
        1 => any::<bool>().prop_map(|routes| {
            let kind = if routes { ConditionKind::Route } else { ConditionKind::Interface };
            Observation::Complete(Inventory::Conditions(kind))
        }),
        1 => any::<bool>().prop_map(|sockets| Observation::Complete(if sockets { Inventory::Sockets } else { Inventory::Processes })),
    ]
}

/// How far the runs lie apart.
const RUN: BootNs = 100 * SECOND;

/// The processes of each run are others: what one run saw the end of does not come back.
fn later(mut observation: Observation, run: u64) -> Observation {
    let shift = |image: &mut ImageId| image.start += run * RUN;
    match &mut observation {
        Observation::Fork { task, .. } | Observation::Exec { task, .. } | Observation::Found { task, .. } => {
            shift(&mut task.image);
            task.creator.iter_mut().for_each(shift);
        }
        Observation::Exit { image, .. } => shift(image),
        Observation::Rename { actor, .. }
        | Observation::Credentials { actor, .. }
        | Observation::ExecDenied { actor, .. } => shift(&mut actor.image),
        Observation::Privilege(act) => {
            shift(&mut act.actor.image);
            act.target.iter_mut().for_each(|target| shift(&mut target.image));
        }
        Observation::Endpoint(endpoint) | Observation::EndpointEnd { endpoint, .. } => {
            endpoint.actor.iter_mut().for_each(|actor| shift(&mut actor.image));
        }
        Observation::Dns(dns) => {
            dns.actor.iter_mut().for_each(|actor| shift(&mut actor.image));
        }
        _ => {}
    }
    observation
}

/// No two execs happen at one instant; everything else may.
fn dated(observation: Observation, now: BootNs, run: u64) -> Observation {
    match later(observation, run) {
        Observation::Fork { task, .. } => Observation::Fork { at: task.image.start, task },
        Observation::Exec { task, program, .. } => Observation::Exec { at: now, task, program },
        Observation::Found { task, program, origin, .. } => {
            Observation::Found { at: now, task, program, origin }
        }
        Observation::Exit { image, status, usage, .. } => Observation::Exit { at: now, image, status, usage },
        Observation::Rename { actor, old, .. } => Observation::Rename { at: now, actor, old },
        Observation::EndpointEnd { endpoint, end, .. } => Observation::EndpointEnd { at: now, endpoint, end },
        Observation::Credentials { actor, operation, credentials, .. } => {
            Observation::Credentials { at: now, actor, operation, credentials }
        }
        Observation::ExecDenied { actor, path, arguments, errno, .. } => {
            Observation::ExecDenied { at: now, actor, path, arguments, errno }
        }
        Observation::Privilege(mut act) => {
            act.at = now;
            Observation::Privilege(act)
        }
        Observation::Condition { condition, origin, .. } => {
            Observation::Condition { at: now, condition, origin }
        }
        Observation::ConditionEnd { condition, .. } => Observation::ConditionEnd { at: now, condition },
        Observation::Dns(mut dns) => {
            dns.at = now;
            Observation::Dns(dns)
        }
        other => other,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Observe(Observation),
    Flush,
    Reached,
    Restart { kill: bool, reboot: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        40 => observations().prop_map(Step::Observe),
        3 => Just(Step::Flush),
        2 => Just(Step::Reached),
        1 => Just(Step::Restart { kill: false, reboot: false }),
        1 => Just(Step::Restart { kill: true, reboot: false }),
        1 => Just(Step::Restart { kill: true, reboot: true }),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn rows_are_sound(steps in steps()) {
        let mut memory = Memory::default();
        let mut recorder = start(Resume::default(), host(), 0);
        let mut now = 100 * MS;
        let mut run = 0;
        for step in steps {
            now += 100 * MS;
            match step {
                Step::Observe(observation) => recorder.observe(dated(observation, now, run)),
                Step::Flush => recorder.flush(now).into_iter().for_each(|batch| memory.append(batch)),
                Step::Reached => recorder.observe(Observation::Reached(now)),
                Step::Restart { kill, reboot } => {
                    if !kill {
                        memory.append(recorder.stop(now));
                    }
                    let mut host = host();
                    if reboot {
                        host.boot_id.push('!');
                    }
                    run += 1;
                    now = run * RUN;
                    recorder = start(memory.resume(), host, now);
                }
            }
        }
        memory.append(recorder.stop(now));
        memory.check_references();
    }
}
