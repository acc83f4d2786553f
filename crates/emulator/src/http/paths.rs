//! Paths as the service takes them: literal segments without regard to case.
//!
//! The service's routes ignore case (clients send both `connectionData` and `connectiondata`), axum's do not.
//! So the known literal segments of a path are rewritten to lower case before routing; names and values are
//! left alone.

use http::Uri;
use http::uri::PathAndQuery;

/// Segments which are part of routes, in lower case. Routes are written with these.
const LITERALS: &[&str] = &[
    "_apis",
    "_build",
    "_dayfly",
    "_git",
    "agents",
    "artifacts",
    "attachments",
    "build",
    "builds",
    "commits",
    "connectiondata",
    "containers",
    "customerintelligence",
    "definitions",
    "distributedtask",
    "events",
    "feed",
    "featureflags",
    "git",
    "hubs",
    "items",
    "jobrequests",
    "jobs",
    "location",
    "logs",
    "messages",
    "oauth2",
    "oidctoken",
    "operations",
    "packages",
    "permissions",
    "pipelines",
    "plans",
    "pools",
    "preview",
    "projects",
    "queues",
    "records",
    "refs",
    "repositories",
    "resourceareas",
    "resources",
    "runs",
    "sessions",
    "tags",
    "tasks",
    "timeline",
    "timelines",
    "token",
    "updates",
    "usercapabilities",
];

/// After these segments comes a name given by users, which keeps its case.
const BEFORE_NAME: &[&str] = &["_git", "projects"];

/// After these segments all is given by users: the kind and name of an attachment, the path of a file.
const BEFORE_NAMES: &[&str] = &["attachments", "containers"];

/// Which segments are names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    None,
    Next,
    All,
}

/// The same address with the literal segments of its path in lower case, and without a slash at the end.
pub(crate) fn normalize(uri: &Uri) -> Uri {
    let path = uri.path();
    let start = segments(path).scan(0, |offset, segment| {
        let at = *offset;
        *offset += segment.len() + 1;
        Some((at, segment))
    });
    // What stands before `_apis`, `_build`, `_git` or `_dayfly` are the names of the organization and the
    // project.
    let Some((prefix, _)) =
        start.clone().find(|(_, segment)| segment.starts_with('_') && literal(segment).is_some())
    else {
        return uri.clone();
    };
    let mut written =
        String::with_capacity(uri.path_and_query().map_or(path.len(), |whole| whole.as_str().len()));
    written.push_str(&path[..=prefix]);
    let mut names = Names::None;
    let mut first = true;
    for segment in path[prefix + 1..].split('/').filter(|segment| !segment.is_empty()) {
        if !first {
            written.push('/');
        }
        first = false;
        match literal(segment).filter(|_| names == Names::None) {
            Some(known) => {
                names = match known {
                    known if BEFORE_NAMES.contains(&known) => Names::All,
                    known if BEFORE_NAME.contains(&known) => Names::Next,
                    _ => Names::None,
                };
                written.push_str(known);
            }
            None => {
                if names == Names::Next {
                    names = Names::None;
                }
                written.push_str(segment);
            }
        }
    }
    if let Some(query) = uri.query() {
        written.push('?');
        written.push_str(query);
    }
    match PathAndQuery::from_maybe_shared(bytes::Bytes::from(written)) {
        Ok(rewritten) => {
            let mut parts = uri.clone().into_parts();
            parts.path_and_query = Some(rewritten);
            Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
        }
        Err(_) => uri.clone(),
    }
}

/// The address below the organization. Addresses of the administration stand beside it. None is another
/// organization.
pub(crate) fn below(uri: &Uri, organization: &str) -> Option<Uri> {
    let path = uri.path();
    let first = segments(path).next()?;
    if first == "_dayfly" {
        return Some(uri.clone());
    }
    if !first.eq_ignore_ascii_case(organization) {
        return None;
    }
    let rest = uri.path_and_query()?.as_str().get(1 + first.len()..)?;
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The segments of a path which begins with a slash.
fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

fn literal(segment: &str) -> Option<&'static str> {
    LITERALS.iter().copied().find(|known| known.eq_ignore_ascii_case(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_lose_their_case_and_names_keep_it() {
        let check = |from: &str, to: &str| {
            assert_eq!(normalize(&from.parse().unwrap()).to_string(), to, "{from}");
        };
        check("/Org/_apis/connectionData?a=B", "/Org/_apis/connectiondata?a=B");
        check("/Org/Builds/_apis/Build/Builds/3/Timeline", "/Org/Builds/_apis/build/builds/3/timeline");
        check(
            "/o/_apis/distributedTask/hubs/Build/plans/P/timelines/T/records/R/Attachments/Tasks/Logs",
            "/o/_apis/distributedtask/hubs/build/plans/P/timelines/T/records/R/attachments/Tasks/Logs",
        );
        check("/o/Proj/_git/Tasks/info/Refs?service=x", "/o/Proj/_git/Tasks/info/refs?service=x");
        check(
            "/o/_apis/Resources/Containers/7/Drop/Build/Logs.txt/Tags",
            "/o/_apis/resources/containers/7/Drop/Build/Logs.txt/Tags",
        );
        check(
            "/o/_apis/distributedtask/plans/P/records/R/attachments/Kind/Logs",
            "/o/_apis/distributedtask/plans/P/records/R/attachments/Kind/Logs",
        );
        check("/o/_APIS/", "/o/_apis");
        check("/nothing/here", "/nothing/here");
        check("/_DAYFLY/faults", "/_dayfly/faults");
    }

    #[test]
    fn organization_is_taken_off() {
        let check = |from: &str, to: Option<&str>| {
            let found = below(&from.parse().unwrap(), "org").map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), to, "{from}");
        };
        check("/ORG/_apis/projects?a=1", Some("/_apis/projects?a=1"));
        check("/org", Some("/"));
        check("/org?x=1", Some("/?x=1"));
        check("/other/_apis/projects", None);
        check("/_dayfly/faults", Some("/_dayfly/faults"));
    }
}
