//! What README and SECURITY promise is tied to tests by name: each of those tests exists.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::{fs, path::Path};

/// Where tests are that a promise may name by their file.
const TESTS: [&str; 3] = ["luarm/tests", "store/tests/store", "link/tests/server"];

/// The source of the test files of that name, and of all files of the test directories of that name.
fn source(name: &str) -> String {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let of = |tests: &str| {
        let directory = crates.join(tests).join(name);
        let mut source = fs::read_to_string(directory.with_extension("rs")).unwrap_or_default();
        if directory.is_dir() {
            let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            let texts = files.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap());
            source.extend(texts);
        }
        source
    };
    TESTS.map(of).concat()
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut promises = 0;
    for document in ["README.md", "SECURITY.md"] {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let Some((file, test)) = quoted.split_once("::") else { continue };
            assert!(
                source(file).contains(&format!("fn {test}()")),
                "{document} names {quoted}, which is no test"
            );
            promises += 1;
        }
    }
    assert!(promises > 20, "only {promises} promises were found");
}
