//! Connections to servers over TLS: who is spoken to, who is not, and what is said about it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, channel},
    time::Duration,
};

use luarm_store::{HostIdentity, QueryError, Reader, StoreError, Trouble, Writer};
use luarm_testbed::{Mariadb, Postgres};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use time::OffsetDateTime;

use crate::{fixture::*, servers::parsed};

/// A certificate authority of the test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    file: PathBuf,
}

impl Authority {
    fn make(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let file = directory.join(format!("{name}.pem"));
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// A server's certificate and key, in files that the server may read.
    fn certify(&self, directory: &Path, file: &str, name: &str, expired: bool) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_before = OffsetDateTime::now_utc() - time::Duration::days(9);
            params.not_after = OffsetDateTime::now_utc() - time::Duration::days(2);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            certificate: directory.join(format!("{file}.crt")),
            key: directory.join(format!("{file}.key")),
        };
        fs::write(&identity.certificate, certificate.pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
        // Who the server runs as.
        let owner = fs::metadata(directory).unwrap();
        use std::os::unix::fs::MetadataExt;
        std::os::unix::fs::chown(&identity.key, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(&identity.key, fs::Permissions::from_mode(0o600)).unwrap();
        identity
    }
}

struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

/// A server that is started again with a certificate, or without.
struct Case<'a> {
    directory: PathBuf,
    /// `SCHEME://USER@HOST:PORT/DATABASE` for a host.
    url: &'a dyn Fn(&str) -> String,
    /// Starts it again; `true` for one that speaks TLS 1.2 at most.
    restart: &'a mut dyn FnMut(Option<&Identity>, bool),
    /// The protocol of the own connection.
    protocol: &'a str,
    endless: &'a str,
}

#[test]
fn mariadb_is_spoken_to_by_tls() {
    let Some(mut mariadb) = Mariadb::start("mariadb_is_spoken_to_by_tls") else {
        return;
    };
    // The test's own account, over the loopback.
    let port = mariadb.port();
    let url = move |host: &str| format!("mysql://root@{host}:{port}/luarm");
    let directory = mariadb.directory().to_owned();
    let mut restart = |identity: Option<&Identity>, old: bool| {
        mariadb.stop();
        let mut options = Vec::new();
        match identity {
            Some(identity) => {
                options.push(format!("--ssl-cert={}", identity.certificate.display()));
                options.push(format!("--ssl-key={}", identity.key.display()));
            }
            None => options.push("--skip-ssl".to_owned()),
        }
        if old {
            options.push("--tls-version=TLSv1.2".to_owned());
        }
        mariadb.run(&options.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check(&mut Case {
        directory,
        url: &url,
        restart: &mut restart,
        protocol: "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_version'",
        endless: "SELECT sleep(1000)",
    });
}

#[test]
fn postgres_is_spoken_to_by_tls() {
    let Some(mut postgres) = Postgres::start("postgres_is_spoken_to_by_tls") else {
        return;
    };
    let port = postgres.port();
    let url = move |host: &str| format!("postgres://luarm@{host}:{port}/postgres");
    let directory = postgres.directory().to_owned();
    let mut restart = |identity: Option<&Identity>, old: bool| {
        postgres.stop();
        let mut settings = vec![format!("ssl={}", if identity.is_some() { "on" } else { "off" })];
        if let Some(identity) = identity {
            settings.push(format!("ssl_cert_file={}", identity.certificate.display()));
            settings.push(format!("ssl_key_file={}", identity.key.display()));
        }
        if old {
            settings.push("ssl_max_protocol_version=TLSv1.2".to_owned());
        }
        postgres.run(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check(&mut Case {
        directory,
        url: &url,
        restart: &mut restart,
        protocol: "SELECT coalesce(version, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        endless: "SELECT pg_sleep(1000)",
    });
}

fn refused(url: &str) -> (Trouble, String) {
    match Writer::open_for(&parsed(url), &HostIdentity::own(MACHINE, "alpha")) {
        Err(error @ StoreError::Database { trouble, .. }) => (trouble, error.to_string()),
        other => panic!("{url}: {other:?}"),
    }
}

fn check(case: &mut Case<'_>) {
    let directory = case.directory.clone();
    let ours = Authority::make(&directory, "ours");
    let theirs = Authority::make(&directory, "theirs");
    let good = ours.certify(&directory, "good", "127.0.0.1", false);
    let other = theirs.certify(&directory, "other", "127.0.0.1", false);
    let old = ours.certify(&directory, "old", "127.0.0.1", true);
    let named = ours.certify(&directory, "named", "db.example.org", false);
    (case.restart)(Some(&good), false);
    let by = |query: &str| format!("{}{query}", (case.url)("127.0.0.1"));
    let verified = by(&format!("?ca={}", ours.file.display()));

    // Where the server is the one that the URL names, and where nobody asks.
    let ours_and_more = directory.join("both.pem");
    fs::write(&ours_and_more, [fs::read(&theirs.file).unwrap(), fs::read(&ours.file).unwrap()].concat())
        .unwrap();
    let both = by(&format!("?tls=verify&ca={}", ours_and_more.display()));
    for (url, version) in [
        (verified.clone(), "TLSv1.3"),
        (both, "TLSv1.3"),
        (by("?tls=require"), "TLSv1.3"),
        (by("?tls=disable"), ""),
        (by(""), ""),
    ] {
        drop(Writer::open_for(&parsed(&url), &HostIdentity::own(MACHINE, "alpha")).unwrap());
        let mut reader = Reader::open(&parsed(&url)).unwrap();
        assert_eq!(ask(&mut reader, case.protocol).unwrap(), [version], "{url}");
    }

    // Who is not the one is not spoken to.
    let wrong = [
        (
            by(&format!("?ca={}", theirs.file.display())),
            Trouble::Untrusted,
            "not of an authority that is trusted",
        ),
        (by("?tls=verify"), Trouble::Untrusted, "not of an authority that is trusted"),
        (
            format!("{}?ca={}", (case.url)("localhost"), ours.file.display()),
            Trouble::Untrusted,
            "for another name than the URL's",
        ),
        (by("?ca=/nowhere/x.pem"), Trouble::Setting, "ca=/nowhere/x.pem"),
        (by(&format!("?ca={}", good.key.display())), Trouble::Setting, "has to be PEM"),
        (by("?tls=perhaps"), Trouble::Setting, "tls=perhaps is none of verify, require, disable"),
    ];
    for (url, trouble, said) in wrong {
        let (found, error) = refused(&url);
        assert!(found == trouble && error.contains(said), "{url}: {found:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
        assert!(Reader::open(&parsed(&url)).is_err());
    }

    // While it is used: large batches, a server that is another for a while, an interrupt.
    let (mut writer, _) = Writer::open_for(&parsed(&verified), &HostIdentity::own(MACHINE, "alpha")).unwrap();
    writer.append(&batch(1, vec![host(MACHINE, "alpha", 1)], Vec::new())).unwrap();
    writer.append(&endpoints(2, 0..5000)).unwrap();
    for (identity, said) in
        [(&other, "not of an authority"), (&named, "for another name"), (&old, "has run out")]
    {
        (case.restart)(Some(identity), false);
        let error = writer.append(&endpoints(3, 5000..6000)).unwrap_err();
        assert!(matches!(error, StoreError::Database { trouble: Trouble::Untrusted, .. }), "{error}");
        // It ends no recording.
        assert!(error.is_transient() && error.to_string().contains(said), "{error}");
    }
    (case.restart)(Some(&good), false);
    writer.append(&endpoints(3, 5000..6000)).unwrap();
    let mut reader = Reader::open(&parsed(&verified)).unwrap();
    let count = "SELECT count(*), count(DISTINCT endpointinfo) FROM netinfo";
    assert_eq!(ask(&mut reader, count).unwrap(), ["6000|6000"]);
    let interrupt = reader.interrupt();
    let (done, finished) = channel::<()>();
    let interrupting = std::thread::spawn(move || {
        while finished.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let outcome = ask(&mut reader, case.endless);
    drop(done);
    interrupting.join().unwrap();
    // MariaDB's sleep is ended by it and answers.
    assert!(matches!(&outcome, Err(QueryError::Interrupted) | Ok(_)), "{outcome:?}");

    // A server that cannot, or not well enough.
    (case.restart)(Some(&good), true);
    let (trouble, error) = refused(&verified);
    assert!(trouble == Trouble::Setting && error.contains("speaks TLS 1.3"), "{trouble:?}: {error}");
    (case.restart)(None, false);
    for url in [&verified, &by("?tls=require")] {
        let (trouble, error) = refused(url);
        assert!(trouble == Trouble::Setting && error.contains("offers no TLS"), "{trouble:?}: {error}");
    }
    drop(Writer::open_for(&parsed(&by("")), &HostIdentity::own(MACHINE, "alpha")).unwrap());
}
