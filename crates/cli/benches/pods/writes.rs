//! What an API server says it has written.

use std::collections::BTreeMap;

/// The requests that wrote something, by `VERB resource/subresource`, from the server's metrics
/// (`apiserver_request_total`). Leases are left out, which tick by themselves.
pub(crate) fn count(metrics: &str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
        let Some((labels, count)) = rest.rsplit_once("} ") else { continue };
        let label = |name: &str| {
            let pair = labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            pair.unwrap_or_default().trim_matches('"')
        };
        let (verb, resource, part) = (label("verb"), label("resource"), label("subresource"));
        if !matches!(verb, "POST" | "PUT" | "PATCH" | "APPLY" | "DELETE") || resource == "leases" {
            continue;
        }
        let what = if part.is_empty() { resource.to_owned() } else { format!("{resource}/{part}") };
        *counts.entry(format!("{verb} {what}")).or_default() +=
            count.trim().parse::<f64>().unwrap_or(0.0) as u32;
    }
    counts
}
