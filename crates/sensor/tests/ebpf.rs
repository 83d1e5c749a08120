//! The eBPF sensor on the running kernel. Needs root and BPF; without them it says that it is skipped, and under CI=true that is a failure.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use luarm_sensor::{
    Observation, Sensor,
    ebpf::{self, EbpfConfig},
    observation::{Direction, Origin, Transport, Watch},
    queue::{self, Consumer},
};

struct Running {
    sensor: Box<dyn Sensor>,
    consumer: Consumer,
}

fn start() -> Option<Running> {
    let (producer, consumer) = queue::bounded(64 << 20);
    match ebpf::start(EbpfConfig::default(), producer) {
        Ok(sensor) => Some(Running { sensor, consumer }),
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "SKIPPED where it must not be: {e}");
            eprintln!("SKIPPED: no eBPF here: {e}");
            None
        }
    }
}

impl Running {
    /// Everything that happened until now.
    fn drain(&self) -> Vec<Observation> {
        let now = self.sensor.drain();
        let patience = Instant::now() + Duration::from_secs(20);
        let mut all = Vec::new();
        while Instant::now() < patience {
            for observation in self.consumer.receive(Duration::from_secs(1)).unwrap().unwrap_or_default() {
                let reached = matches!(observation, Observation::Reached(at) if at >= now);
                all.push(observation);
                if reached {
                    return all;
                }
            }
        }
        panic!("the sensor did not come this far in 20 s");
    }
}

fn finish(mut child: Child) -> u32 {
    child.wait().unwrap();
    child.id()
}

fn exec_of(
    all: &[Observation],
    pid: u32,
) -> (&luarm_sensor::observation::Task, &luarm_sensor::observation::Program) {
    let mut found = all.iter().filter_map(|o| match o {
        Observation::Exec { task, program, .. } if task.image.pid == pid => Some((&**task, &**program)),
        _ => None,
    });
    let first = found.next().unwrap_or_else(|| panic!("no exec of {pid}"));
    assert!(found.next().is_none(), "{pid} twice");
    first
}

#[test]
fn everything_is_watched_and_what_exists_is_found() {
    let Some(running) = start() else { return };
    let all = running.drain();
    for o in &all {
        if let Observation::Coverage(c) = o {
            assert_eq!(c.watch, Watch::Watched, "{c:?}");
        }
    }
    let me = std::process::id();
    let (task, program) = all
        .iter()
        .find_map(|o| match o {
            Observation::Found { task, program, origin: Origin::Found, .. } if task.image.pid == me => {
                Some((task, program))
            }
            _ => None,
        })
        .expect("this process is not found");
    assert_eq!(program.path, std::env::current_exe().unwrap().into_os_string().into_encoded_bytes());
    assert_eq!(program.cwd.as_deref(), Some(std::env::current_dir().unwrap().as_os_str().as_encoded_bytes()));
    assert_eq!(program.arguments.bytes, fs::read("/proc/self/cmdline").unwrap());
    assert!(task.image.execs > 0 && task.image.start > 0);
    let found: Vec<u32> = all
        .iter()
        .filter_map(|o| if let Observation::Found { task, .. } = o { Some(task.image.pid) } else { None })
        .collect();
    assert!(found.contains(&1), "{found:?}");
    running.sensor.stop();
}

#[test]
fn a_program_is_told_of_with_all_that_it_was_started_with() {
    let Some(running) = start() else { return };
    let long = "x".repeat(120_000);
    let hostile = "'); DROP TABLE psinfo; --\n\u{1b}[2J";
    let pid = finish(
        Command::new("/bin/true")
            .arg0("./odd name")
            .args(["", hostile, &long, "end"])
            .current_dir("/usr/bin")
            .spawn()
            .unwrap(),
    );
    let failed = finish(Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap());
    let all = running.drain();

    let (task, program) = exec_of(&all, pid);
    assert_eq!(task.ppid, std::process::id());
    assert_eq!(task.comm, b"true");
    assert_eq!(program.path, fs::canonicalize("/bin/true").unwrap().into_os_string().into_encoded_bytes());
    assert_eq!(program.cwd.as_deref(), Some(&b"/usr/bin"[..]));
    let expected = format!("./odd name\0\0{hostile}\0{long}\0end\0");
    assert_eq!(program.arguments.bytes.len(), expected.len());
    assert!(program.arguments.bytes == expected.as_bytes());
    assert_eq!(program.arguments.length, expected.len() as u64);

    let fork = all
        .iter()
        .position(|o| matches!(o, Observation::Fork { task, .. } if task.image.pid == pid))
        .expect("no fork");
    let exit = all
        .iter()
        .position(|o| matches!(o, Observation::Exit { image, status: Some(0), .. } if *image == exec_of(&all, pid).0.image))
        .expect("no exit");
    assert!(fork < exit);
    assert!(all.iter().any(|o| matches!(o, Observation::Exit { image, status: Some(s), .. } if image.pid == failed && *s == 7 << 8)));
    running.sensor.stop();
}

#[test]
fn two_mebibytes_of_arguments_are_cut_and_say_so() {
    let Some(running) = start() else { return };
    // One argument is at most 128 KiB, all of them about a quarter of the stack's limit.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -s 65536; exec /bin/true $(seq -f '%0100000g' 1 20)"]);
    let pid = finish(command.spawn().unwrap());
    let all = running.drain();
    let last = all
        .iter()
        .filter_map(|o| match o {
            Observation::Exec { task, program, .. } if task.image.pid == pid => Some(program),
            _ => None,
        })
        .next_back()
        .unwrap();
    assert_eq!(last.arguments.length, "/bin/true".len() as u64 + 1 + 20 * 100_001);
    assert!(last.arguments.bytes.len() >= 128 << 10, "{}", last.arguments.bytes.len());
    assert!((last.arguments.bytes.len() as u64) < last.arguments.length);
    running.sensor.stop();
}

#[test]
fn a_script_is_told_from_its_interpreter_and_a_refusal_from_a_success() {
    let Some(running) = start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("s");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    let run = |mode: u32| {
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        Command::new("./s").arg("argument").current_dir(dir.path()).spawn()
    };
    assert!(run(0o644).is_err());
    let pid = finish(run(0o755).unwrap());
    let all = running.drain();
    let (task, program) = exec_of(&all, pid);
    assert_eq!(program.path, fs::canonicalize("/bin/sh").unwrap().into_os_string().into_encoded_bytes());
    assert_eq!(program.script.as_deref(), Some(&b"./s"[..]));
    assert_eq!(program.arguments.bytes, b"/bin/sh\0./s\0argument\0");
    assert_eq!(task.comm, b"s");
    let denied = all
        .iter()
        .find_map(|o| match o {
            Observation::ExecDenied { path, arguments, errno, .. } if path == b"./s" => {
                Some((arguments, *errno))
            }
            _ => None,
        })
        .expect("no refusal");
    assert_eq!(denied.1, 13);
    assert_eq!(denied.0.bytes, b"./s\0argument\0");
    running.sensor.stop();
}

#[test]
fn a_change_of_name_and_of_user_is_an_event() {
    let Some(running) = start() else { return };
    let script = "use POSIX; $0 = 'crond'; POSIX::setuid(65534) == 0 or die;";
    let pid = finish(Command::new("perl").args(["-e", script]).spawn().unwrap());
    let all = running.drain();
    assert!(all.iter().any(|o| matches!(o, Observation::Rename { actor, old, .. }
        if actor.image.pid == pid && old == b"perl" && actor.comm == b"crond")));
    assert!(
        all.iter()
            .any(|o| matches!(o, Observation::Credentials { actor, operation: "setuid", credentials, .. }
        if actor.image.pid == pid && credentials.uid == 65534 && credentials.fsuid == 65534))
    );
    running.sensor.stop();
}

#[test]
fn a_deleted_image_and_a_memfd_are_marked() {
    let Some(running) = start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("sleep");
    fs::copy("/bin/sleep", &copy).unwrap();
    // perl opens the image, removes its name and runs it through the descriptor; and the same from memory.
    let script = format!(
        "use POSIX; $^F = 255; open my $f, '<', '{0}'; unlink '{0}'; exec {{'/proc/self/fd/'.fileno $f}} 'sleep', '0' or die",
        copy.display()
    );
    let deleted = finish(Command::new("perl").args(["-e", &script]).spawn().unwrap());
    let script = "my $n = 'odd'; my $fd = syscall 319, $n, 0; open my $o, '>&=', $fd; open my $i, '<', '/bin/sleep'; binmode $_ for $o, $i;
        local $/; print {$o} <$i>; $o->flush; exec {\"/proc/self/fd/$fd\"} 'sleep', '0' or die $!";
    let memfd = finish(Command::new("perl").args(["-MIO::Handle", "-e", script]).spawn().unwrap());
    let all = running.drain();
    let last = |pid| {
        all.iter()
            .filter_map(|o| match o {
                Observation::Exec { task, program, .. } if task.image.pid == pid => Some(program),
                _ => None,
            })
            .next_back()
            .unwrap()
    };
    let file = last(deleted).file.unwrap();
    assert!(file.deleted && !file.memfd, "{:?}", last(deleted));
    let file = last(memfd).file.unwrap();
    assert!(file.memfd && !file.deleted, "{:?}", last(memfd));
    assert_eq!(last(memfd).path, b"/memfd:odd");
    running.sensor.stop();
}

#[test]
fn tcp_connections_are_told_of_on_both_sides_with_their_bytes() {
    let Some(running) = start() else { return };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let client_port = client.local_addr().unwrap().port();
    client.write_all(&[7; 100_000]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    server.write_all(b"thanks").unwrap();
    drop(server);
    client.read_to_end(&mut got).unwrap();
    drop(client);
    drop(listener);
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
    let unroutable = TcpStream::connect((Ipv4Addr::BROADCAST, 1)).unwrap_err();

    let me = std::process::id();
    let mut all = running.drain();
    let ends = |all: &[Observation], port: u16| {
        all.iter()
            .filter_map(|o| match o {
                Observation::EndpointEnd { endpoint, end, .. }
                    if endpoint.local.port() == port || endpoint.remote.is_some_and(|r| r.port() == port) =>
                {
                    Some(((**endpoint).clone(), *end))
                }
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    // The last acknowledgement may take the kernel a moment.
    let patience = Instant::now() + Duration::from_secs(20);
    while ends(&all, port).len() < 4 && Instant::now() < patience {
        all.extend(running.drain());
    }
    let ended = ends(&all, port);
    let out = ended
        .iter()
        .find(|(e, _)| e.direction == Direction::Out && e.local.port() == client_port)
        .expect("no connection out");
    let traffic = out.1.traffic.unwrap();
    assert_eq!((out.1.result, traffic.bytes_sent, traffic.bytes_received), (Some(0), 100_000, 6));
    assert_eq!(out.0.actor.as_ref().unwrap().image.pid, me);
    let incoming = ended.iter().find(|(e, _)| e.direction == Direction::In).expect("no connection in");
    let traffic = incoming.1.traffic.unwrap();
    assert_eq!((traffic.bytes_sent, traffic.bytes_received), (6, 100_000));
    assert!(ended.iter().any(|(e, _)| e.direction == Direction::Listen));
    assert!(ended.iter().any(|(_, end)| end.result == refused.raw_os_error()), "{ended:?}");
    let begun = |direction| {
        all.iter().any(|o| matches!(o, Observation::Endpoint(e) if e.direction == direction && e.actor.as_ref().is_some_and(|a| a.image.pid == me)
            && (e.local.port() == port || e.remote.is_some_and(|r| r.port() == port))))
    };
    assert!(begun(Direction::Out) && begun(Direction::In) && begun(Direction::Listen));
    let failed = ends(&all, 1);
    assert!(
        failed
            .iter()
            .any(|(e, end)| end.result == unroutable.raw_os_error()
                && e.actor.as_ref().unwrap().image.pid == me),
        "{failed:?}"
    );
    running.sensor.stop();
}

#[test]
fn a_udp_exchange_is_one_endpoint_with_counts() {
    let Some(running) = start() else { return };
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (to, from) = (server.local_addr().unwrap(), client.local_addr().unwrap());
    for _ in 0..10 {
        client.send_to(b"question", to).unwrap();
        server.recv_from(&mut [0; 100]).unwrap();
        server.send_to(b"the answer", from).unwrap();
        client.recv_from(&mut [0; 100]).unwrap();
    }
    drop((client, server));
    let all = running.drain();
    let ends: Vec<_> = all
        .iter()
        .filter_map(|o| match o {
            Observation::EndpointEnd { endpoint, end, .. } if endpoint.id.transport == Transport::Udp => {
                Some((endpoint, end))
            }
            _ => None,
        })
        .collect();
    let out = ends.iter().find(|(e, _)| e.local == from && e.remote == Some(to)).expect("no exchange out");
    assert_eq!(out.0.direction, Direction::Out);
    let traffic = out.1.traffic.unwrap();
    assert_eq!(
        (traffic.bytes_sent, traffic.packets_sent, traffic.bytes_received, traffic.packets_received),
        (80, 10, 100, 10)
    );
    let incoming =
        ends.iter().find(|(e, _)| e.local == to && e.remote == Some(from)).expect("no exchange in");
    assert_eq!(incoming.0.direction, Direction::In);
    let begun = all.iter().filter(|o| matches!(o, Observation::Endpoint(e) if e.id == out.0.id)).count();
    assert_eq!(begun, 1);
    assert!(ends.iter().any(|(e, _)| e.direction == Direction::Listen && e.local == to));
    running.sensor.stop();
}

#[test]
fn dns_messages_are_captured_at_the_asker_and_foreign_namespaces_are_seen() {
    let Some(running) = start() else { return };
    // In a network namespace of its own, with its own port 53: no program of this host is disturbed.
    let script = r"
        use IO::Socket::INET;
        my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 53, Proto => 'udp') or die;
        my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 53, Proto => 'udp') or die;
        $c->send('question'); $s->recv(my $q, 100); $s->send('answer' x 200); $c->recv(my $a, 5000);";
    let child = Command::new("unshare")
        .args(["-n", "sh", "-c", "ip link set lo up; exec perl -e \"$0\"", script])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let pid = finish(child);
    let all = running.drain();
    let messages: Vec<_> = all
        .iter()
        .filter_map(|o| match o {
            Observation::Dns(dns) if dns.actor.as_ref().is_some_and(|a| a.image.pid == pid) => Some(dns),
            _ => None,
        })
        .collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].sent && messages[0].payload == b"question");
    assert!(!messages[1].sent && messages[1].payload == b"answer".repeat(200) && messages[1].length == 1200);
    let mine = all.iter().find_map(|o| match o {
        Observation::Found { task, .. } if task.image.pid == std::process::id() => Some(task.namespaces.net),
        _ => None,
    });
    assert_ne!(Some(messages[0].netns), mine);
    assert_ne!(messages[0].netns, 0);
    running.sensor.stop();
}
