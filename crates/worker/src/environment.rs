//! The environment of a step's process.
//!
//! What the official worker gives to a Node task and what the task's child then inherits are not the same: the task library
//! takes inputs, secrets and credentials out of the environment before it starts anything (`internal.ts` of the task
//! library). The built-in steps give their child what that child would have seen: the worker's environment, the step's
//! `env`, public variables, the path, and `TF_BUILD`. A secret gets there only if the step's `env` names it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::context::JobContext;
use crate::variables::environment_name;

/// Environment variables by which agents are given credentials; never passed on, whoever started the worker.
const CREDENTIALS: &[&str] = &[
    "AZ_PAT",
    "AZP_TOKEN",
    "AZP_TOKEN_FILE",
    "VSTS_TOKEN",
    "VSTS_AGENT_INPUT_TOKEN",
    "VSTS_AGENT_INPUT_PASSWORD",
    "VSTS_HTTP_PROXY_PASSWORD",
];

/// The worker's own environment without credentials and without what the listener wants hidden.
pub(crate) fn inherited(
    own: impl IntoIterator<Item = (OsString, OsString)>,
    hidden: &[String],
) -> BTreeMap<OsString, OsString> {
    own.into_iter()
        .filter(|(name, _)| {
            !CREDENTIALS.iter().any(|credential| name == OsStr::new(credential))
                && !hidden.iter().any(|hidden| name == OsStr::new(hidden))
        })
        .collect()
}

/// The whole environment of a step's process (`Handler.cs`, `NodeHandler.cs`, `ProcessInvoker.cs`).
///
/// `step` is the step's `env` with its macros expanded. A variable whose environment name is also in `env` wins, as it does
/// with the official worker.
pub(crate) fn of_step(job: &JobContext, step: &BTreeMap<String, String>) -> BTreeMap<OsString, OsString> {
    let mut environment = job.inherited.clone();
    for (name, value) in step {
        insert(&mut environment, name, value);
    }
    let path_variable = job.with_variables(|variables| {
        for variable in variables.iter().filter(|variable| !variable.secret) {
            if variable.name.eq_ignore_ascii_case("agent.jobstatus") {
                insert(&mut environment, &variable.name, &variable.value);
            }
            insert(
                &mut environment,
                &environment_name(&variable.name, variable.preserve_case),
                &variable.value,
            );
        }
        variables.get("PATH").map(str::to_owned)
    });
    if let Some(url) =
        job.endpoints.iter().find(|endpoint| is_system_connection(endpoint)).and_then(|e| e.url.as_ref())
    {
        insert(&mut environment, "ENDPOINT_URL_SYSTEMVSSCONNECTION", url.as_str());
    }
    let prepended = job.prepended_path();
    if !prepended.is_empty() {
        let mut path = OsString::from(prepended.join(":"));
        let original =
            path_variable.map(OsString::from).or_else(|| environment.get(OsStr::new("PATH")).cloned());
        if let Some(original) = original.filter(|original| !original.is_empty()) {
            path.push(":");
            path.push(original);
        }
        environment.insert("PATH".into(), path);
    }
    environment.insert("TF_BUILD".into(), "True".into());
    environment
}

fn is_system_connection(endpoint: &dayfly_protocol::job::ServiceEndpoint) -> bool {
    endpoint
        .name
        .as_deref()
        .is_some_and(|name| name.eq_ignore_ascii_case(dayfly_protocol::job::SYSTEM_CONNECTION))
}

/// Sets a variable unless the system could not hold it: an empty name, `=` in a name, or a zero byte.
fn insert(environment: &mut BTreeMap<OsString, OsString>, name: &str, value: &str) {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        tracing::warn!(name, "the variable cannot be put into an environment");
        return;
    }
    environment.insert(name.into(), value.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_hidden_names_are_not_inherited() {
        let own = [("AZP_TOKEN", "x"), ("HOME", "/root"), ("MINE", "y"), ("AZ_PAT", "z")]
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let inherited = inherited(own, &["MINE".to_owned()]);
        assert_eq!(inherited.keys().collect::<Vec<_>>(), ["HOME"]);
    }
}
