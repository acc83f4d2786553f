//! The environment of a step's process.
//!
//! What the official worker gives to a Node task and what the task's child then inherits are not the same:
//! the task library takes inputs, secrets and credentials out of the environment before it starts anything
//! (`internal.ts` of the task library). The built-in steps give their child what that child would have seen:
//! the worker's environment, the step's `env`, public variables, the path, and `TF_BUILD`. A secret gets
//! there only if the step's `env` names it.

mod fit;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use dayfly_protocol::channel::{WorkerProxy, WorkerSettings};
use dayfly_protocol::secrets::AGENT_CREDENTIALS;

use crate::context::JobContext;
use crate::variables::{Variable, environment_name};
use fit::Limits;

/// The worker's own environment without credentials and without what the listener wants hidden.
pub(crate) fn inherited(
    own: impl IntoIterator<Item = (OsString, OsString)>,
    hidden: &[String],
) -> BTreeMap<OsString, OsString> {
    own.into_iter()
        .filter(|(name, _)| {
            !AGENT_CREDENTIALS.iter().any(|credential| name == OsStr::new(credential))
                && !hidden.iter().any(|hidden| name == OsStr::new(hidden))
        })
        .collect()
}

/// Tells programs of the proxy that the listener gave for them, where nothing else has.
pub(crate) fn add_proxy(values: &mut BTreeMap<OsString, OsString>, settings: &WorkerSettings) {
    let Some(WorkerProxy { address, no_proxy }) = &settings.proxy else { return };
    for (name, value) in [("http_proxy", address), ("https_proxy", address), ("no_proxy", no_proxy)] {
        // Programs differ in which of the two they read.
        for name in [name.to_owned(), name.to_ascii_uppercase()] {
            values.entry(name.into()).or_insert_with(|| value.into());
        }
    }
}

/// A step's environment.
#[derive(Debug)]
pub(crate) struct Environment {
    /// All of it.
    pub(crate) values: BTreeMap<OsString, OsString>,
    /// Variables that do not fit into it, with their lengths in bytes.
    pub(crate) left_out: Vec<(String, usize)>,
}

/// The whole environment of a step's process (`Handler.cs`, `NodeHandler.cs`, `ProcessInvoker.cs`).
///
/// `inherited` is what there is where it runs, `step` the step's `env` with its macros expanded. A variable
/// whose environment name is also in `env` wins, as it does with the official worker. Of two variables with
/// one environment name (`Build.SourceBranch`, `BUILD_SOURCEBRANCH`) the one that steps may not write wins;
/// with the official worker that is left to chance. Public variables that do not fit are left out.
///
/// # Errors
///
/// The step's own `env` does not fit.
pub(crate) fn of_step(
    job: &JobContext,
    inherited: BTreeMap<OsString, OsString>,
    step: &BTreeMap<String, String>,
) -> Result<Environment, String> {
    let limits = Limits::of_this_machine();
    let mut values = inherited;
    for (name, value) in step {
        if !limits.take(OsStr::new(name), OsStr::new(value)) {
            return Err(too_long(name, value.len(), limits.one));
        }
        insert(&mut values, name, value);
    }
    if !limits.hold(&values) {
        return Err(too_much(step, limits.all));
    }
    let mut left_out = Vec::new();
    let mut of_variables = BTreeMap::new();
    let path_variable = job.with_variables(|variables| {
        let public = || variables.iter().filter(|variable| !variable.secret);
        let is_fixed = |variable: &&Variable| variables.is_read_only(&variable.name);
        for variable in public().filter(|v| !is_fixed(v)).chain(public().filter(is_fixed)) {
            let name = environment_name(&variable.name, variable.preserve_case);
            if limits.take(OsStr::new(&name), OsStr::new(&variable.value)) {
                if insert(&mut values, &name, &variable.value) {
                    of_variables.insert(OsString::from(name), variable.name.clone());
                }
            } else {
                left_out.push((variable.name.clone(), variable.value.len()));
                // What the agent itself has under that name is something else.
                if !step.contains_key(&name) {
                    values.remove(OsStr::new(&name));
                }
            }
        }
        // The only one that is there under its own name as well.
        if let Some(status) = variables.get(JOB_STATUS) {
            insert(&mut values, JOB_STATUS, status);
        }
        variables.get("PATH").map(str::to_owned)
    });
    if let Some(url) =
        job.endpoints.iter().find(|endpoint| is_system_connection(endpoint)).and_then(|e| e.url.as_ref())
    {
        insert(&mut values, "ENDPOINT_URL_SYSTEMVSSCONNECTION", url.as_str());
    }
    let prepended = job.prepended_path();
    if !prepended.is_empty() {
        let mut path = OsString::from(prepended.join(":"));
        let original = path_variable.map(OsString::from).or_else(|| values.get(OsStr::new("PATH")).cloned());
        if let Some(original) = original.filter(|original| !original.is_empty()) {
            path.push(":");
            path.push(original);
        }
        values.insert("PATH".into(), path);
    }
    values.insert("TF_BUILD".into(), "True".into());
    let optional = of_variables.keys().filter(|name| *name != "PATH").cloned().collect();
    let lengths: BTreeMap<OsString, usize> =
        values.iter().map(|(name, value)| (name.clone(), value.len())).collect();
    for name in limits.fit(&mut values, &optional) {
        let length = lengths.get(&name).copied().unwrap_or_default();
        left_out.extend(of_variables.remove(&name).map(|name| (name, length)));
    }
    Ok(Environment { values, left_out })
}

/// The variable with the job's status, which scripts also find under this name (`Constants.cs`).
const JOB_STATUS: &str = "agent.jobstatus";

fn too_long(name: &str, length: usize, limit: usize) -> String {
    format!(
        "The environment variable '{name}' of this step is {length} bytes long; the system's limit is {} \
         bytes for one variable. Write the value to a file in an earlier step, or shorten it.",
        limit - name.len() - 2
    )
}

fn too_much(step: &BTreeMap<String, String>, limit: usize) -> String {
    let total: usize = step.values().map(String::len).sum();
    let largest = step.iter().max_by_key(|(_, value)| value.len());
    let largest = largest
        .map(|(name, value)| format!(" The largest is '{name}' ({} bytes).", value.len()))
        .unwrap_or_default();
    format!(
        "The environment variables of this step add up to {total} bytes; the system's limit is {limit} \
         bytes for all of them.{largest} Write values to files in an earlier step, or map fewer of them."
    )
}

/// The environment for git: beside all that a step has, the variables under the names that the official
/// worker's git plugin has them by.
pub(crate) fn for_git(job: &JobContext) -> BTreeMap<OsString, OsString> {
    let mut values = match of_step(job, job.inherited.clone(), &BTreeMap::new()) {
        Ok(environment) => environment.values,
        Err(error) => {
            tracing::warn!(error, "git is given no variables");
            job.inherited.clone()
        }
    };
    job.with_variables(|variables| {
        for variable in variables.iter().filter(|variable| !variable.secret && variable.preserve_case) {
            let kept = values.get(OsStr::new(&environment_name(&variable.name, true))).cloned();
            let name = OsString::from(environment_name(&variable.name, false));
            if let Some(value) = kept {
                values.entry(name).or_insert(value);
            }
        }
    });
    values
}

/// Whether it is the service's own connection.
pub(crate) fn is_system_connection(endpoint: &dayfly_protocol::job::ServiceEndpoint) -> bool {
    endpoint
        .name
        .as_deref()
        .is_some_and(|name| name.eq_ignore_ascii_case(dayfly_protocol::job::SYSTEM_CONNECTION))
}

/// Sets a variable unless the system could not hold it: an empty name, `=` in a name, or a zero byte. Answers
/// whether it could.
fn insert(environment: &mut BTreeMap<OsString, OsString>, name: &str, value: &str) -> bool {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        tracing::warn!(name, "the variable cannot be put into an environment");
        return false;
    }
    environment.insert(name.into(), value.into());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_hidden_names_are_not_inherited() {
        let own = AGENT_CREDENTIALS.into_iter().chain(["HOME", "MINE"]);
        let own = own.map(|name| (OsString::from(name), OsString::from("x")));
        let inherited = inherited(own, &["MINE".to_owned()]);
        assert_eq!(inherited.keys().collect::<Vec<_>>(), ["HOME"]);
    }
}
