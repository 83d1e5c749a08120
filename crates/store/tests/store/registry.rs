//! Tokens, names and certificates.

use std::os::unix::fs::PermissionsExt;

use luarm_schema::Time;
use luarm_store::{Certified, Claim, QueryError, Reader, Registry, Token};

use crate::fixture::*;

fn registry(dir: &tempfile::TempDir) -> Registry {
    Registry::open(&url(&dir.path().join("luarm.db"))).unwrap()
}

fn token(id: &str, expires: i64) -> Token {
    Token { id: id.to_owned(), hash: format!("hash of {id}"), expires: at(expires), name: None }
}

fn certified(fingerprint: &str, name: &str) -> Certified {
    Certified {
        fingerprint: fingerprint.to_owned(),
        machine_id: MACHINE.to_owned(),
        name: name.to_owned(),
        public_key: "key".to_owned(),
        expires: at(1000),
        revoked: false,
    }
}

#[test]
fn a_token_is_used_by_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = registry(&dir);
    registry.add_token(&token("a", 10), at(0)).unwrap();
    // Another one of the same name changes nothing.
    registry.add_token(&Token { hash: "other".to_owned(), ..token("a", 99) }, at(0)).unwrap();
    assert_eq!(registry.token("a").unwrap(), Some(token("a", 10)));
    assert_eq!(registry.token("b").unwrap(), None);
    assert!(!registry.use_token("b", "key").unwrap());
    let mut elsewhere = Registry::open(&url(&dir.path().join("luarm.db"))).unwrap();
    assert!(registry.use_token("a", "key").unwrap());
    assert!(registry.use_token("a", "key").unwrap());
    assert!(!elsewhere.use_token("a", "other key").unwrap());
}

#[test]
fn tokens_that_expired_long_ago_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = registry(&dir);
    registry.add_token(&token("old", 10), at(0)).unwrap();
    let month = 30 * 86_400_000_000;
    registry.add_token(&token("new", month), at(month)).unwrap();
    assert_eq!(registry.token("old").unwrap(), None);
    assert!(registry.token("new").unwrap().is_some());
}

#[test]
fn a_machine_has_one_name_and_a_name_one_machine() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = registry(&dir);
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
    assert_eq!(registry.names().unwrap(), [hostile, "alpha"]);
}

#[test]
fn a_revocation_is_for_all_certificates_of_a_host_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = registry(&dir);
    registry.claim(MACHINE, "alpha").unwrap();
    registry.claim("other", "beta").unwrap();
    for fingerprint in ["a1", "a2"] {
        registry.add_certificate(&certified(fingerprint, "alpha"), at(0)).unwrap();
    }
    let beta = Certified { machine_id: "other".to_owned(), ..certified("b1", "beta") };
    registry.add_certificate(&beta, at(0)).unwrap();
    assert_eq!(registry.certificate("a1").unwrap(), Some(certified("a1", "alpha")));
    assert!(registry.has_key(MACHINE, "key").unwrap() && !registry.has_key(MACHINE, "").unwrap());
    assert_eq!(registry.revoke("gamma", at(1)).unwrap(), None);
    // By name, and by machine id.
    assert_eq!(registry.revoke("alpha", at(1)).unwrap(), Some(2));
    assert_eq!(registry.revoke(MACHINE, at(1)).unwrap(), Some(0));
    assert!(registry.certificate("a2").unwrap().unwrap().revoked);
    assert!(!registry.has_key(MACHINE, "key").unwrap());
    assert_eq!(registry.certificate("b1").unwrap(), Some(beta));
    assert_eq!(registry.certificate("zz").unwrap(), None);
}

#[test]
fn those_who_ask_the_history_do_not_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luarm.db");
    let mut registry = registry(&dir);
    registry.add_token(&token("a", 10), Time(0)).unwrap();
    let mut reader = Reader::open(&url(&path)).unwrap();
    for query in [
        "SELECT * FROM luarm_token",
        "SELECT count(*) FROM LUARM_TOKEN",
        "SELECT (SELECT hash FROM main.luarm_token)",
        "SELECT fingerprint FROM luarm_certificate",
        "SELECT name FROM luarm_enrolled",
    ] {
        assert!(matches!(ask(&mut reader, query), Err(QueryError::Refused(_))), "{query}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
}
