//! Many hosts in one store, and who may deliver to it.

use luarm_schema::End;
use luarm_store::{
    Certified, Claim, HostIdentity, Ledger, QueryError, Reader, Registry, Scope, StoreUrl, Token, Writer,
};

use super::{asked, opened};
use crate::fixture::*;

fn machine(n: u32) -> String {
    format!("{n:032x}")
}

pub(super) fn hosts(url: &StoreUrl) -> Vec<String> {
    // Both are opened before either has stored anything.
    let mut alpha = opened(url);
    let own = HostIdentity::own("beta-machine", "beta");
    let (mut beta, _) = Writer::open_for(url, &own).unwrap();
    alpha.append(&batch(1, vec![host(MACHINE, "alpha", 1), endpoint(1).into()], Vec::new())).unwrap();
    beta.append(&batch(1, vec![host("beta-machine", "beta", 1), endpoint(1).into()], Vec::new())).unwrap();
    beta.append(&endpoints(2, 2..=4)).unwrap();
    // An end of one host's never meets a row of the other's.
    let end = vec![(1, End::NetInfo(endpoint_end(at(50))))];
    beta.append(&batch(3, Vec::new(), end)).unwrap();
    let mut reader = Reader::open(url).unwrap();
    let mut said: Vec<String> = reader.hosts().unwrap().into_iter().map(|h| format!("{h:?}")).collect();
    let count = "SELECT count(*), count(destroyed) FROM netinfo";
    reader.use_host("beta").unwrap();
    said.extend(ask(&mut reader, count).unwrap());
    said.extend(ask(&mut reader, "SELECT hostname FROM hostinfo").unwrap());
    said.extend(ask(&mut reader, "SELECT count(*) FROM batchinfo").unwrap());
    assert_eq!(reader.use_host(MACHINE).unwrap().number, 1);
    said.extend(ask(&mut reader, count).unwrap());
    said.extend(reader.hosts().unwrap().into_iter().map(|h| h.name));
    said.extend(ask(&mut reader, count).unwrap());
    reader.use_all().unwrap();
    said.extend(ask(&mut reader, count).unwrap());
    said.push(reader.use_host("gamma").unwrap_err().to_string());
    said.extend(ask(&mut reader, count).unwrap());
    said
}

/// Many hosts over one connection, as a server has it.
pub(super) fn deliveries(url: &StoreUrl) -> Vec<String> {
    let mut registry = Registry::open(url).unwrap();
    let mut ledger = Ledger::open(url).unwrap();
    let of = |n: u32| HostIdentity::enrolled(&machine(n), &format!("host{n}"));
    for n in 0..5 {
        let name = format!("host{n}");
        assert_eq!(registry.claim(&machine(n), &name).unwrap(), Claim::Granted);
        assert_eq!(ledger.last_batch(&of(n)).unwrap(), 0);
        let rows = vec![host(&machine(n), &name, 1), endpoint(7).into()];
        ledger.append(&of(n), &batch(1, rows, Vec::new())).unwrap();
    }
    let rows = vec![host(&machine(3), "host3", 1), endpoint(7).into()];
    ledger.append(&of(3), &batch(1, rows, Vec::new())).unwrap();
    let mut said = Vec::new();
    for wrong in [
        batch(1, vec![host(&machine(3), "host3", 1)], Vec::new()),
        endpoints(3, [9]),
        batch(2, vec![host(&machine(2), "host2", 2)], Vec::new()),
    ] {
        said.push(ledger.append(&of(3), &wrong).unwrap_err().to_string());
    }
    assert_eq!(ledger.last_batch(&of(3)).unwrap(), 1);
    let mut reader = Reader::open(url).unwrap();
    reader.use_host("host3").unwrap();
    said.extend(ask(&mut reader, "SELECT hostname, machineid FROM hostinfo").unwrap());
    said.extend(asked(url, &["SELECT count(*), count(DISTINCT host) FROM netinfo"]));
    said
}

/// Two writers for each host: both send everything, and each batch is stored once.
pub(super) fn at_once(url: &StoreUrl) -> Vec<String> {
    const HOSTS: u32 = 3;
    Ledger::open(url).unwrap();
    let threads: Vec<_> = (0..2 * HOSTS)
        .map(|n| {
            let (url, machine) = (url.clone(), machine(n % HOSTS));
            std::thread::spawn(move || {
                let mut ledger = Ledger::open(&url).unwrap();
                let identity = HostIdentity::enrolled(&machine, &machine);
                for id in 1..=15 {
                    let first = (id == 1).then(|| host(&machine, &machine, 1));
                    let rows = first.into_iter().chain([endpoint(id).into()]).collect();
                    let batch = batch(id, rows, Vec::new());
                    while let Err(error) = ledger.append(&identity, &batch) {
                        assert!(error.is_transient(), "{error}");
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    asked(
        url,
        &[
            "SELECT count(*), sum(n), min(f), max(l) FROM (SELECT count(*) AS n, min(batchid) AS f, max(batchid) AS l FROM batchinfo \
             GROUP BY host) AS b",
            "SELECT count(*) FROM netinfo",
        ],
    )
}

/// Tokens, names and certificates.
pub(super) fn registered(url: &StoreUrl) -> Vec<String> {
    let mut registry = Registry::open(url).unwrap();
    let token = |id: &str, expires| Token {
        id: id.to_owned(),
        hash: format!("hash of {id}"),
        expires: at(expires),
        name: (id == "b").then(|| "only this".to_owned()),
    };
    registry.add_token(&token("a", 10), at(0)).unwrap();
    registry.add_token(&token("b", 20), at(0)).unwrap();
    registry.add_token(&Token { hash: "other".to_owned(), ..token("a", 99) }, at(0)).unwrap();
    assert_eq!(registry.token("a").unwrap(), Some(token("a", 10)));
    assert_eq!(registry.token("b").unwrap(), Some(token("b", 20)));
    assert_eq!(registry.token("c").unwrap(), None);
    assert!(!registry.use_token("c", "key").unwrap());
    let mut elsewhere = Registry::open(url).unwrap();
    assert!(registry.use_token("a", "key").unwrap() && registry.use_token("a", "key").unwrap());
    assert!(!elsewhere.use_token("a", "other key").unwrap());
    let month = 30 * 86_400_000_000;
    registry.add_token(&token("new", month), at(month)).unwrap();
    assert_eq!(registry.token("a").unwrap(), None);

    let hostile = "a'; DROP TABLE luarm_enrolled; --";
    for name in ["alpha", hostile] {
        let machine = format!("machine of {name}");
        assert_eq!(registry.claim(&machine, name).unwrap(), Claim::Granted);
        assert_eq!(registry.claim(&machine, name).unwrap(), Claim::Had);
        assert_eq!(registry.claim(&machine, "beta").unwrap(), Claim::Known { name: name.to_owned() });
        assert_eq!(registry.claim("another", name).unwrap(), Claim::Taken);
    }
    registry.unclaim("machine of alpha").unwrap();
    assert_eq!(registry.claim("another", "alpha").unwrap(), Claim::Granted);
    let certified = Certified {
        fingerprint: "f1".to_owned(),
        machine_id: "another".to_owned(),
        name: "alpha".to_owned(),
        public_key: "key".to_owned(),
        expires: at(1000),
        revoked: false,
    };
    registry.add_certificate(&certified, at(0)).unwrap();
    assert_eq!(elsewhere.certificate("f1").unwrap(), Some(certified.clone()));
    assert!(registry.has_key("another", "key").unwrap() && !registry.has_key("another", "").unwrap());
    assert_eq!(registry.revoke("gamma", at(1)).unwrap(), None);
    assert_eq!(registry.revoke("alpha", at(1)).unwrap(), Some(1));
    assert_eq!(registry.revoke("another", at(1)).unwrap(), Some(0));
    assert_eq!(elsewhere.certificate("f1").unwrap(), Some(Certified { revoked: true, ..certified }));
    let mut reader = Reader::open(url).unwrap();
    for query in [
        "SELECT * FROM luarm_token",
        "SELECT count(*) FROM LUARM_ENROLLED",
        "SELECT 1 FROM luarm_certificate",
    ] {
        assert!(matches!(ask(&mut reader, query), Err(QueryError::Refused(_))), "{query}");
    }
    // Analysts stand apart from hosts of the same name, and see what was said and nothing else.
    let id = luarm_store::analyst_id("alpha");
    assert_eq!(registry.claim(&id, &id).unwrap(), Claim::Granted);
    assert_eq!(registry.analysts().unwrap(), ["alpha"]);
    assert_eq!(registry.scope(&id).unwrap(), Scope::Hosts(vec![]));
    let some = Scope::Hosts(vec!["alpha".to_owned(), "beta".to_owned()]);
    for scope in [&some, &Scope::All, &some] {
        registry.set_scope(&id, scope).unwrap();
        assert_eq!(registry.scope(&id).unwrap(), *scope);
    }
    // A token's is forgotten with the token.
    for (id, known) in [("new", true), ("a", false)] {
        registry.set_scope(id, &Scope::All).unwrap();
        registry.add_token(&token("newer", month), at(month)).unwrap();
        assert_eq!(registry.scope(id).unwrap() == Scope::All, known, "{id}");
    }
    assert_eq!(registry.scope(&id).unwrap(), some);
    registry.names().unwrap()
}
