//! The seed's incident and its questions, word for word.

use luarm_schema::{
    HostName, Time,
    escape::escape_list,
    tables::{NetInfo, NetInfoEnd, PsInfo},
};

use crate::rows::Rows;

/// 2011-05-05 07:12:00 UTC.
const INCIDENT: i64 = 1_304_579_520_000_000;

/// The questions of the seed document, and how many rows answer each.
pub(crate) fn questions() -> [(&'static str, usize); 11] {
    [
        ("select COUNT(*) from netinfo where destfqdn='undernet.irc.justedge.net' ", 1),
        ("select COUNT(*) from netinfo where destfqdn='dana.basefreak.nl ' ", 1),
        ("select application,username,pid from netinfo where destfqdn='dana.basefreak.nl' LIMIT 5", 5),
        (
            "select application,username,pid from netinfo where destfqdn='undernet.irc.justedge.net' LIMIT 10",
            10,
        ),
        ("select COUNT(*) from psinfo where username='nobody' ", 1),
        ("select command,username,arguments,pid,ppid from psinfo where username='nobody' ", 3),
        (
            "select sourceport,destport,cday,chour,cmin from netinfo where username='nobody' AND pid='29312' ",
            12,
        ),
        ("select COUNT(*) from netinfo where destfqdn='dana.basefreak.nl ' having COUNT(*) = 8", 1),
        // Only names are compared without trailing blanks, and no letter stands for another.
        ("select pid from psinfo where username='nobody '", 1),
        ("select pid from psinfo where username='NOBODY'", 0),
        ("select distinct application from netinfo order by application", 4),
    ]
}

/// Questions that must not read a whole table, and the index that answers them.
pub(crate) fn indexed() -> [(&'static str, &'static str); 3] {
    [
        ("select COUNT(*) from netinfo where destfqdn='dana.basefreak.nl ' ", "netinfo_destfqdn"),
        ("select sourceport from netinfo where username='nobody' AND pid='29312' ", "netinfo_username_pid"),
        ("select command from psinfo where username='nobody' ", "psinfo_username"),
    ]
}

/// An argument list too long to print.
pub(crate) const LONG: &str =
    "select length(replace(arguments, ' ', '')), dyear, chour from psinfo where pid=300";

pub(crate) fn rows() -> [Rows; 2] {
    let endpoints = (0..23).map(|n| endpoint(n).into()).collect();
    let perl = |key, pid, server: &str| {
        let mut row = image(key, pid);
        row.argv = Some(escape_list([&b"crond"[..], b"./x", server.as_bytes(), b"0", b"0"]));
        row
    };
    let images = vec![
        perl(1, 9253, "79.125.109.171"),
        perl(2, 29312, "85.121.125.74"),
        PsInfo { argv: None, ..image(3, 8343) },
        PsInfo { username: "nobody ".into(), ..image(4, 5) },
        PsInfo {
            argv: Some(escape_list([&[b'\\'; 300_000][..], &[b'\n'; 20_000], b"", &[0xff; 1_500_000]])),
            username: "root".into(),
            ..image(5, 300)
        },
        PsInfo { application: "nul\0in the middle".to_owned(), username: "root".into(), ..image(6, 6) },
    ];
    [Rows::Real(endpoints), Rows::Real(images.into_iter().map(Into::into).collect())]
}

fn endpoint(n: i64) -> NetInfo {
    let (name, pid) = match n {
        0..12 => ("undernet.irc.justedge.net", 29312),
        12..20 => ("dana.basefreak.nl", 7371),
        _ => ("another", 1),
    };
    NetInfo {
        endpointinfo: n,
        psentity: Some(2),
        transport: "tcp".into(),
        direction: "out".into(),
        sourceip: "10.0.0.1".to_owned(),
        sourcefqdn: None,
        sourceport: 32_767 + n as u16,
        destip: "85.121.125.74".to_owned(),
        // Two ways to write the same name.
        destfqdn: Some(HostName(if n % 2 == 0 { name.to_owned() } else { format!("{name} ") })),
        destport: 6670,
        ipversion: 4,
        username: "nobody".into(),
        loginname: None,
        pid,
        application: match n {
            20 => "crond ",
            21 => "Crond",
            22 => "c\u{10fffd}",
            _ => "crond",
        }
        .to_owned(),
        uid: 65534,
        auid: None,
        session: None,
        netns: Some(u32::MAX),
        origin: "event".into(),
        socket: u64::MAX,
        created: Time(INCIDENT + n * 59_999_999),
        end: (n % 3 > 0).then(|| NetInfoEnd {
            destroyed: Time(INCIDENT + n * 60_000_001),
            ended: "close".into(),
            result: Some(0),
            bytessent: Some(i64::MAX),
            bytesreceived: None,
            packetssent: Some(0),
            packetsreceived: None,
        }),
    }
}

fn image(psentity: i64, pid: u32) -> PsInfo {
    PsInfo {
        psentity,
        ppsentity: None,
        origin: "exec".into(),
        username: "nobody".into(),
        loginname: None,
        pid,
        ppid: 8343,
        application: "x".to_owned(),
        command: "/usr/bin/perl".to_owned(),
        script: None,
        argv: Some("alone".to_owned()),
        argc: 5,
        argvlength: None,
        cwd: Some("/tmp/\t".to_owned()),
        uid: 65534,
        euid: 65534,
        suid: 65534,
        fsuid: 65534,
        gid: 65534,
        egid: 65534,
        sgid: 65534,
        fsgid: 65534,
        auid: None,
        session: None,
        sid: Some(8343),
        tty: None,
        container: None,
        cgroup: None,
        mntns: None,
        netns: None,
        pidns: None,
        userns: None,
        utsns: None,
        ipcns: None,
        cgroupns: None,
        imagedev: None,
        imageinode: None,
        imageowner: None,
        imagemode: Some(0o100_755),
        imagestate: None,
        imagesha256: None,
        execs: 1,
        canary: None,
        created: Time(INCIDENT),
        end: None,
    }
}
