//! What was observed of a time, by the rows that tell of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

type Told<'a> = (String, &'a BTreeMap<String, Json>);

/// A line for each host and class: watched for all of the time, or when not; and one for each loss. Instants are compared as texts, which sort as they do.
pub(super) fn told(coverage: &[Told<'_>], losses: &[Told<'_>], from: &str, to: &str) -> Vec<String> {
    let text =
        |row: &BTreeMap<String, Json>, name: &str| row.get(name).and_then(Json::as_str).map(str::to_owned);
    let mut classes: BTreeSet<(String, String)> = BTreeSet::new();
    let mut watched: BTreeMap<(String, String), Vec<(String, String)>> = BTreeMap::new();
    for (host, row) in coverage {
        let (Some(class), Some(begun)) = (text(row, "class"), text(row, "created")) else { continue };
        classes.insert((host.clone(), class.clone()));
        if text(row, "state").as_deref() == Some("watched") {
            let ended = text(row, "destroyed").unwrap_or_else(|| to.to_owned());
            watched.entry((host.clone(), class)).or_default().push((begun, ended));
        }
    }
    let mut lines = Vec::new();
    for (host, class) in classes.into_iter().filter(|(_, class)| class != "all") {
        let mut times = watched.remove(&(host.clone(), class.clone())).unwrap_or_default();
        times.sort();
        let (mut reached, mut gaps) = (from.to_owned(), Vec::new());
        for (begun, ended) in times {
            if begun > reached {
                gaps.push(format!("{reached} to {}", begun.as_str().min(to)));
            }
            reached = reached.max(ended);
        }
        if reached.as_str() < to {
            gaps.push(format!("{reached} to {to}"));
        }
        lines.push(match gaps.is_empty() {
            true => format!("{host}: {class} was watched from {from} to {to}"),
            false => format!("{host}: {class} was not watched: {}", gaps.join("; ")),
        });
    }
    for (host, row) in losses {
        let say = |name: &str| text(row, name).unwrap_or_default();
        let count = row.get("count").and_then(Json::as_i64).unwrap_or(0);
        lines.push(format!(
            "{host}: {count} lost of {} from {} to {}: {}",
            say("class"),
            say("created"),
            say("until"),
            say("cause")
        ));
    }
    lines
}
