//! Endpoints of every kind and the names of their peers, in a network namespace that the recorder is not in.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use support::{Launch, Recording, Row, has_ebpf};

/// Runs a Perl program as init of nothing but a network namespace of its own, whose loopback is up; its pid and what it printed.
fn in_a_namespace(script: &str) -> (u32, String) {
    let mut child = Command::new("unshare")
        .args(["-n", "sh", "-c", "ip link set lo up && ip address add 79.125.109.171 dev lo && exec perl -MSocket -MIO::Socket::INET -MIO::Socket::IP -"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    (pid, String::from_utf8(output.stdout).unwrap())
}

fn endpoints(recording: &Recording, pid: u32) -> Vec<Row> {
    recording.sql(&format!(
        "select transport, direction, sourceip, sourceport, destip, destport, destfqdn, sourcefqdn, ipversion, bytessent, bytesreceived, \
         packetssent, packetsreceived, result, netns, ended from netinfo where pid = {pid} order by endpointinfo"
    ))
}

/// A row in few words: what it is and between which addresses.
fn line(row: &Row) -> String {
    let text = |column: &str| row[column].as_str().unwrap_or("?").to_owned();
    format!(
        "{} {} {} > {} port {}",
        text("transport"),
        text("direction"),
        text("sourceip"),
        text("destip"),
        row["destport"]
    )
}

fn one<'a>(rows: &'a [Row], wanted: &str) -> &'a Row {
    let found: Vec<_> = rows.iter().filter(|row| line(row) == wanted).collect();
    assert_eq!(found.len(), 1, "{wanted:?} in {:#?}", rows.iter().map(line).collect::<Vec<_>>());
    found[0]
}

#[test]
fn every_family_and_kind_of_socket_is_told_apart() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).start();
    let (pid, _) = in_a_namespace(
        r#"
        # TCP over IPv6, and IPv4 through an IPv6 socket.
        my $l = IO::Socket::IP->new(GetAddrInfoFlags => Socket::AI_NUMERICHOST, LocalHost => '::', LocalPort => 7001, Listen => 5, V6Only => 0, ReuseAddr => 1) or die $@;
        for my $to ('::1', '127.0.0.1') {
            my $c = IO::Socket::IP->new(GetAddrInfoFlags => Socket::AI_NUMERICHOST, PeerHost => $to, PeerPort => 7001) or die $@;
            my $s = $l->accept; print $c 'x' x 300; $c->flush; $c->shutdown(1);
            1 while sysread $s, my $b, 100; close $s; close $c;
        }
        # Refused, at once and with a socket that does not wait.
        IO::Socket::IP->new(GetAddrInfoFlags => Socket::AI_NUMERICHOST, PeerHost => '127.0.0.1', PeerPort => 7002) and die;
        # No way there.
        IO::Socket::INET->new(PeerAddr => '192.0.2.1', PeerPort => 7003) and die;
        # UDP without a connection, to two peers, over both families.
        socket my $a, AF_INET, SOCK_DGRAM, 0; bind $a, pack_sockaddr_in 7004, inet_aton '127.0.0.1';
        socket my $b, AF_INET, SOCK_DGRAM, 0; bind $b, pack_sockaddr_in 7005, inet_aton '127.0.0.1';
        socket my $u, AF_INET, SOCK_DGRAM, 0;
        for my $n (1 .. 3) { send $u, 'y' x 10, 0, pack_sockaddr_in 7004, inet_aton '127.0.0.1' }
        send $u, 'y' x 7, 0, pack_sockaddr_in 7005, inet_aton '127.0.0.1';
        socket my $s6, AF_INET6, SOCK_DGRAM, 0; bind $s6, pack_sockaddr_in6 7006, Socket::inet_pton AF_INET6, '::1';
        socket my $v, AF_INET6, SOCK_DGRAM, 0;
        send $v, 'z' x 20, 0, pack_sockaddr_in6 7006, Socket::inet_pton AF_INET6, '::1';
        # An IPv4 peer of an IPv6 socket.
        send $v, 'z' x 30, 0, pack_sockaddr_in6 7004, Socket::inet_pton AF_INET6, '::ffff:127.0.0.1';
        "#,
    );
    recording.sync();
    let rows = endpoints(&recording, pid);
    let numbers =
        |row: &Row| ["bytessent", "bytesreceived", "packetssent", "packetsreceived"].map(|c| row[c].as_i64());

    for (source, version) in [("::1", 6), ("127.0.0.1", 4)] {
        let out = one(&rows, &format!("tcp out {source} > {source} port 7001"));
        assert_eq!(
            (out["bytessent"].as_i64(), out["result"].as_i64(), out["ipversion"].as_i64()),
            (Some(300), Some(0), Some(version))
        );
        let accepted = one(&rows, &format!("tcp in {source} > {source} port 7001"));
        assert_eq!(
            (accepted["bytesreceived"].as_i64(), &accepted["sourceport"]),
            (Some(300), &out["sourceport"])
        );
    }
    assert_eq!(one(&rows, "tcp listen :: >  port 0")["sourceport"], 7001);
    assert_eq!(one(&rows, "tcp out 127.0.0.1 > 127.0.0.1 port 7002")["result"], 111);
    let unroutable: Vec<_> = rows.iter().filter(|row| row["destip"] == "192.0.2.1").collect();
    assert_eq!(
        (unroutable.len(), unroutable[0]["result"].as_i64(), unroutable[0]["ended"].as_str()),
        (1, Some(101), Some("refused"))
    );

    assert_eq!(numbers(one(&rows, "udp out 127.0.0.1 > 127.0.0.1 port 7005")), [7, 0, 1, 0].map(Some));
    let of_7004: Vec<_> = rows
        .iter()
        .filter(|row| row["transport"] == "udp" && row["destport"] == 7004 && row["direction"] == "out")
        .collect();
    let mut sent: Vec<_> = of_7004
        .iter()
        .map(|row| (row["bytessent"].as_i64(), row["packetssent"].as_i64(), row["ipversion"].as_i64()))
        .collect();
    sent.sort_unstable();
    assert_eq!(sent, [(Some(30), Some(1), Some(4)), (Some(30), Some(3), Some(4))]);
    assert_eq!(numbers(one(&rows, "udp out ::1 > ::1 port 7006")), [20, 0, 1, 0].map(Some));
    assert_eq!(numbers(one(&rows, "udp in ::1 > ::1 port 7006")), [0, 20, 0, 1].map(Some));
    assert_eq!(
        rows.iter().filter(|row| row["transport"] == "udp" && row["direction"] == "listen").count(),
        3
    );

    // All of it is the one process's, in its own namespace, and has ended.
    let netns = &rows[0]["netns"];
    assert!(
        netns.is_i64() && rows.iter().all(|row| row["netns"] == *netns && !row["ended"].is_null()),
        "{rows:#?}"
    );
    assert_eq!(
        recording
            .count(&format!("select count(*) from psinfo where netns = {netns} and command like '%/perl'")),
        1
    );
    assert!(recording.stop().success());
}

#[test]
fn names_come_from_answers_over_udp_and_tcp_and_belong_to_who_asked() {
    if !has_ebpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = Launch::on(dir.path()).start();
    // A name server that answers whatever is asked with one address, behind an alias for names that begin with `www`.
    let (parent, told) = in_a_namespace(
        r#"
        $| = 1;
        sub name { join '', map({ pack 'C/a', $_ } split /\./, shift), "\0" }
        sub question { my ($id, $name, $type) = @_; pack('n6', $id, 0x100, 1, 0, 0, 0) . name($name) . pack 'n2', $type, 1 }
        sub answer {
            my ($q, $name, $type, $data) = @_;
            my $alias = $name =~ /^www/;
            my $records = $alias ? pack('n3Nn/a', 0xc00c, 5, 1, 60, name 'edge.example.net') . name('edge.example.net') : pack 'n', 0xc00c;
            $records .= pack 'n2Nn/a', $type, 1, 60, $data;
            return pack('n6', unpack('n', $q), 0x8180, 1, $alias ? 2 : 1, 0, 0) . substr($q, 12) . $records;
        }
        my $udp = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 53, Proto => 'udp') or die;
        my $tcp = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 53, Listen => 5, ReuseAddr => 1) or die;
        my $irc = IO::Socket::IP->new(GetAddrInfoFlags => Socket::AI_NUMERICHOST, LocalHost => '::', LocalPort => 6667, Listen => 9, V6Only => 0, ReuseAddr => 1) or die;
        my ($four, $six) = (inet_aton('79.125.109.171'), Socket::inet_pton(AF_INET6, '::1'));
        sub by_udp {
            my ($name, $type, $data) = @_;
            my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 53, Proto => 'udp') or die;
            $c->send(question(7, $name, $type)); my $from = $udp->recv(my $q, 512);
            $udp->send(answer($q, lc $name, $type, $data), 0, $from); $c->recv(my $a, 512);
        }
        sub by_tcp {
            my ($name, $type, $data) = @_;
            my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 53) or die;
            my $s = $tcp->accept; my $q = question(8, $name, $type);
            syswrite $c, pack 'n/a', $q; sysread $s, my $got, 512;
            # In pieces, the length apart from the message.
            my $a = pack 'n/a', answer($q, lc $name, $type, $data);
            for my $piece (substr($a, 0, 1), substr($a, 1, 20), substr $a, 21) { setsockopt $s, 6, 1, 1; syswrite $s, $piece; sysread $c, my $b, 512 }
        }
        sub visit { my $c = IO::Socket::IP->new(GetAddrInfoFlags => Socket::AI_NUMERICHOST, PeerHost => shift, PeerPort => 6667) or die; close $irc->accept }
        by_udp('Undernet.IRC.justedge.net', 1, $four); visit('79.125.109.171');
        by_tcp('www.example.org', 1, $four); visit('79.125.109.171');
        by_udp('six.example.org', 28, $six); visit('::1');
        # Another user's answers are not this user's: nobody lies about the same address, and only he sees his lie.
        my $pid = fork // die;
        if (!$pid) { $) = "65534 65534"; $< = $> = 65534; by_udp('innocent.example.com', 1, $four); visit('79.125.109.171'); exit 0 }
        waitpid $pid, 0; print "$pid\n";
        visit('79.125.109.171');
        "#,
    );
    let other: u32 = told.trim().parse().unwrap();
    recording.sync();
    let names = |pid| {
        let rows = endpoints(&recording, pid);
        rows.iter()
            .filter(|row| row["direction"] == "out" && row["destport"] == 6667)
            .map(|row| row["destfqdn"].as_str().unwrap_or("?").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(parent),
        ["undernet.irc.justedge.net", "www.example.org", "six.example.org", "www.example.org"]
    );
    assert_eq!(names(other), ["innocent.example.com"]);

    let facts = recording.sql("select name, address, chain, ttl, server, username, pid from nameinfo where origin = 'dns' order by nameid");
    let told: Vec<_> = facts
        .iter()
        .filter(|row| row["pid"] == parent || row["pid"] == other)
        .map(|row| {
            ["name", "address", "chain", "username"]
                .map(|c| row[c].as_str().unwrap_or("").to_owned())
                .join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            "undernet.irc.justedge.net 79.125.109.171  root",
            "www.example.org 79.125.109.171 edge.example.net root",
            "six.example.org ::1  root",
            "innocent.example.com 79.125.109.171  nobody",
        ]
    );
    assert!(facts.iter().all(|row| row["server"] != "127.0.0.1" || row["ttl"] == 60));
    assert!(recording.stop().success());
}
