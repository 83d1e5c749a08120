//! A Galera cluster: writers at several nodes, nodes that go, and a node that is left alone.

use luarm_store::{Account, HostIdentity, Ledger, Owner, Reader, StoreError, Trouble};
use luarm_testbed::Galera;

use crate::{fixture::*, servers::parsed};

const BATCHES: i64 = 100;
const ROWS: i64 = 20;

fn identity() -> HostIdentity {
    HostIdentity::enrolled(MACHINE, "alpha")
}

fn made(id: i64) -> luarm_schema::Batch {
    let first = (id == 1).then(|| host(MACHINE, "alpha", 1));
    let rows = first.into_iter().chain((0..ROWS).map(|n| endpoint(id * ROWS + n).into())).collect();
    batch(id, rows, Vec::new())
}

/// Stores a batch, as an agent does: by trying again.
fn store(ledger: &mut Ledger, id: i64) {
    loop {
        match ledger.append(&identity(), &made(id)) {
            Ok(stored) => return assert!(stored.refused.is_empty(), "{stored:?}"),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

#[test]
fn a_cluster_stores_each_batch_once_and_a_node_alone_says_that_it_is() {
    let Some(mut galera) = Galera::start("a_cluster_stores_each_batch_once_and_a_node_alone_says_that_it_is")
    else {
        return;
    };
    // The server's account, which may make no views by itself.
    let limited = |url: String| parsed(&url.replace("root@", "luarm_server:x@"));
    let nodes = [0, 1, 2].map(|n| limited(galera.url(&[n], "audit")));
    let all = limited(galera.url(&[0, 1, 2], "audit"));
    let (name, password) = ("luarm_server".to_owned(), Some("x".to_owned()));
    let owner = parsed(&galera.url(&[0, 1, 2], "audit"));
    Owner::open(&owner).unwrap().grant(&Account::Server { name, password }).unwrap();

    // All nodes are given every batch, each by a writer that knows nothing of the others. None may take a row of the others' for one of its own.
    std::thread::scope(|scope| {
        for url in &nodes {
            scope.spawn(|| {
                let mut ledger = Ledger::open(url).unwrap();
                for id in 1..=BATCHES {
                    store(&mut ledger, id);
                }
            });
        }
    });
    let whole = |batches: i64| {
        let sql = "SELECT (SELECT count(*) FROM netinfo), (SELECT count(*) FROM batchinfo), (SELECT count(*) FROM luarmhost)";
        for url in &nodes {
            let rows = ask(&mut Reader::open(url).unwrap(), sql).unwrap();
            assert_eq!(rows, [format!("{}|{batches}|1", batches * ROWS)], "{url}");
        }
    };
    whole(BATCHES);
    // All of them have wanted its views at the same time.
    let mut reader = Reader::open(&owner).unwrap();
    reader.use_host("alpha").unwrap();
    assert_eq!(ask(&mut reader, "SELECT count(*) FROM netinfo").unwrap(), [(BATCHES * ROWS).to_string()]);
    drop(reader);

    // What one node has stored another one has, as soon as it is asked.
    let mut ledgers = [0, 1].map(|n| Ledger::open(&nodes[n]).unwrap());
    for id in BATCHES + 1..=BATCHES + 50 {
        let [here, there] = &mut ledgers;
        store(here, id);
        assert_eq!(there.last_batch(&identity()).unwrap(), id);
    }

    // The first of the URL is gone: the next one is taken.
    let mut ledger = Ledger::open(&all).unwrap();
    drop(ledgers);
    let (one, two) = (&nodes[0], limited(galera.url(&[1, 2], "audit")));
    galera.kill(0);
    galera.wait_for(2);
    store(&mut ledger, BATCHES + 51);
    let error = Ledger::open(one).unwrap_err();
    assert!(error.is_transient(), "{error}");
    galera.run(0);
    galera.wait_for(3);

    // A node without the others is not a store: it takes nothing, and says why.
    let mut left = Ledger::open(&two).unwrap();
    left.last_batch(&identity()).unwrap();
    galera.kill(0);
    galera.kill(2);
    let error = loop {
        // Until it has noticed that they are gone, it waits for them.
        match left.append(&identity(), &made(BATCHES + 52)) {
            Ok(_) => panic!("stored by a node that is alone"),
            Err(error) if error.to_string().contains("takes no part in its cluster") => break error,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert!(
        error.is_transient() && matches!(error, StoreError::Database { trouble: Trouble::Lost, .. }),
        "{error}"
    );
    let error = Ledger::open(&two).unwrap_err().to_string();
    assert!(error.contains("wsrep_cluster_status is non-Primary"), "{error}");

    // Somebody decides that it is the cluster.
    galera.ask(1, "SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'");
    galera.wait_for(1);
    store(&mut left, BATCHES + 52);
    galera.run(0);
    galera.run(2);
    galera.wait_for(3);
    whole(BATCHES + 52);
}
