//! README's second chapter, as a newcomer follows it: the commands are read out of it and run as they stand there.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::{fs, path::Path};

use support::{hosts::Host, is_root, skip};

/// The heading under which the commands stand.
const CHAPTER: &str = "## Several hosts, one database";

/// The commands of the chapter's first block, each with the host at whose prompt it stands.
fn commands() -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, chapter) = readme.split_once(CHAPTER).unwrap();
    let block = chapter.split("```").nth(1).unwrap();
    let prompts = block.lines().filter_map(|line| line.split_once("# "));
    prompts.map(|(host, command)| (host.to_owned(), command.to_owned())).collect()
}

#[test]
fn the_second_chapter_leads_to_two_hosts_in_one_database() {
    if !is_root() {
        return skip("needs root");
    }
    let commands = commands();
    assert!((5..10).contains(&commands.len()), "{commands:?}");
    let dir = tempfile::tempdir().unwrap();
    let audit = Host::new(dir.path(), "audit", "");
    let penguin = Host::new(dir.path(), "penguin", "10.78.1.1 audit");
    let puffin = Host::new(dir.path(), "puffin", "10.78.2.1 audit");
    audit.cable("10.78.1.1/24", &penguin, "10.78.1.2/24");
    audit.cable("10.78.2.1/24", &puffin, "10.78.2.2/24");
    let hosts = [audit, penguin, puffin];
    let [audit, penguin, puffin] = &hosts;

    let mut running = Vec::new();
    let (mut token, mut answer) = (String::new(), String::new());
    for (n, (host, line)) in commands.iter().enumerate() {
        let host = hosts.iter().find(|known| known.name == *host).unwrap();
        // The last one is the question: by then a person's typing has given the agents the time that they need.
        if n + 1 == commands.len() {
            for agent in [penguin, puffin] {
                agent.run("luarm sync --timeout 60");
            }
        }
        let line = line.replace("TOKEN", &token);
        if let Some(line) = line.strip_suffix(" &") {
            running.push(host.start(line));
            continue;
        }
        let output = host.command(&line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        answer = String::from_utf8(output.stdout).unwrap();
        if line.contains("enroll token") {
            token = answer.trim_end().to_owned();
        }
    }
    assert_eq!(running.len(), 3, "a server and two agents");
    let mut named: Vec<&str> = answer
        .lines()
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .filter(|name| hosts.iter().any(|host| host.name == *name))
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["penguin", "puffin"], "{answer}");

    // They are two hosts: each tells of its own end of its own cable.
    let ask = |query: &str| audit.run(&format!("luarm sql --format csv -e \"{query}\""));
    let ends = ask(
        "select distinct hostname, ip from netint join hostinfo using (host) where ip like '10.78.%' order by 1",
    );
    assert_eq!(ends, "hostname,ip\npenguin,10.78.1.2\npuffin,10.78.2.2\n");
    assert_eq!(
        ask("select count(distinct machineid), count(distinct host) from hostinfo").lines().nth(1),
        Some("2,2")
    );
    // What happens after the chapter's end is there as well.
    penguin.run("sleep 1000.25 & luarm sync --timeout 60; kill $!");
    let own = "select count(*) from psinfo join hostinfo using (host) where hostname = 'penguin' and arguments = '1000.25'";
    assert_eq!(ask(own).lines().nth(1), Some("1"));
}
