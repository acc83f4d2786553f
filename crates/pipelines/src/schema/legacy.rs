//! The forms from before `jobs` and `pool`: `phases`, and `queue` or `server` of a phase or beside steps. The
//! service still takes them; they are rewritten before anybody reads them.

use crate::yaml::{Entry, Key, Kind, Node};

/// Rewrites the old forms of a pipeline.
pub(super) fn rewrite(root: &mut Node) {
    let Kind::Mapping(entries) = &mut root.kind else { return };
    target(entries);
    let Some(phases) = entries.iter_mut().find(|entry| entry.key.text == "phases") else { return };
    phases.key.text = "jobs".to_owned();
    let Kind::Sequence(items) = &mut phases.value.kind else { return };
    for item in items {
        let Kind::Mapping(entries) = &mut item.kind else { continue };
        if let Some(first) = entries.first_mut().filter(|first| first.key.text == "phase") {
            first.key.text = "job".to_owned();
            target(entries);
        }
    }
}

/// Rewrites `queue` and `server` of a job.
fn target(entries: &mut Vec<Entry>) {
    let Some(at) = entries.iter().position(|entry| matches!(entry.key.text.as_str(), "queue" | "server"))
    else {
        return;
    };
    let old = entries.remove(at);
    let is_server = old.key.text == "server";
    let pool = |value: Node| Entry { key: Key { text: "pool".to_owned(), span: old.key.span }, value };
    let server = || Node::scalar("server", old.value.span);
    let Kind::Mapping(own) = &old.value.kind else {
        match is_server {
            true if old.value.text().is_some_and(|text| text.eq_ignore_ascii_case("false")) => {}
            true => entries.push(pool(server())),
            false => entries.push(pool(old.value.clone())),
        }
        return;
    };
    let mut pools = Vec::new();
    let mut legs = Vec::new();
    let has_matrix = own.iter().any(|entry| entry.key.text == "matrix");
    for entry in own {
        match entry.key.text.as_str() {
            "matrix" => legs.push(entry.clone()),
            // Beside a matrix it bounds how many legs run at a time.
            "parallel" if has_matrix => {
                let key = Key { text: "maxParallel".to_owned(), span: entry.key.span };
                legs.push(Entry { key, value: entry.value.clone() });
            }
            "parallel" => legs.push(entry.clone()),
            "timeoutInMinutes" | "cancelTimeoutInMinutes" | "container" | "workspace" => {
                entries.push(entry.clone());
            }
            _ => pools.push(entry.clone()),
        }
    }
    let mapping = |entries| Node { kind: Kind::Mapping(entries), span: old.value.span };
    if !legs.is_empty() {
        let key = Key { text: "strategy".to_owned(), span: old.key.span };
        entries.push(Entry { key, value: mapping(legs) });
    }
    match is_server {
        true => entries.push(pool(server())),
        false if pools.is_empty() => {}
        false => entries.push(pool(mapping(pools))),
    }
}
