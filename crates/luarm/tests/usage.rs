//! Wrong usage: exit code, and one line that says what, with what value, and what to do.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt};

use support::{complaint, luarm};

#[track_caller]
fn refused(arguments: &[&str], code: i32, wanted: &str) {
    let output = luarm(arguments);
    let said = complaint(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(wanted), "{arguments:?} said: {said}\nwithout: {wanted}");
    assert!(output.stdout.is_empty());
}

#[test]
fn usage_errors_exit_with_2_and_name_the_value() {
    refused(&[], 2, "Usage");
    refused(&["magic"], 2, "magic");
    refused(&["run", "--sensor", "magic"], 2, "\"magic\" is not a sensor");
    refused(&["run", "--memory-limit", "1KiB"], 2, "1KiB is out of range");
    refused(&["run", "--store", "oracle://x"], 2, "\"oracle://x\" is no store");
    refused(&["sync", "--timeout", "soon"], 2, "\"soon\" is not a number of seconds");
}

#[test]
fn a_wrong_configuration_exits_with_2_and_names_file_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("luarm.toml");
    let path = file.to_str().unwrap();
    refused(&["status", "--config", path], 2, "cannot read the configuration file");
    fs::write(&file, "data = \"/x\"\nsenser = \"poll\"\n").unwrap();
    refused(&["status", "--config", path], 2, "luarm.toml, line 2: `senser = \"poll\"`: unknown field");
    fs::write(&file, "memory-limit = 12\n").unwrap();
    refused(&["run", "--config", path], 2, "luarm.toml, line 1: `memory-limit = 12`: 12 is out of range");
}

#[test]
fn the_configuration_stands_for_options() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("luarm.toml");
    let data = directory.path().join("nowhere");
    fs::write(&file, format!("data = {data:?}\n")).unwrap();
    refused(&["sync", "--config", file.to_str().unwrap()], 1, data.to_str().unwrap());
}

#[test]
fn help_and_version_are_answers() {
    let version = luarm(&["--version"]);
    assert!(version.status.success());
    assert_eq!(version.stdout, format!("luarm {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    for command in ["run", "sync", "sql", "status", "doctor"] {
        let help = luarm(&[command, "--help"]);
        assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("--config"));
    }
}

#[test]
fn sync_without_a_recorder_says_so() {
    let directory = tempfile::tempdir().unwrap();
    refused(&["sync", "--data", directory.path().to_str().unwrap()], 1, "no recorder is running on");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&["run", "--data", file.join("below").to_str().unwrap()], 1, "cannot create the data directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    refused(
        &["run", "--data", directory.path().to_str().unwrap()],
        1,
        "others may write into the data directory",
    );
}

#[test]
fn a_store_that_is_not_ours_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("precious.txt");
    let content = "not a database, but precious all the same\n".repeat(100);
    fs::write(&file, &content).unwrap();
    let store = format!("sqlite:{}", file.display());
    let data = directory.path().join("data");
    refused(&["run", "--data", data.to_str().unwrap(), "--store", &store], 1, "precious.txt");
    assert_eq!(fs::read_to_string(&file).unwrap(), content);
}
