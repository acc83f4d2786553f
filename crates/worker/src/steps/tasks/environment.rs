//! The environment of a task's process, as the task library reads it (`Handler.cs`, `internal.ts` of the
//! library). Secrets are in it: the library takes them out before the task starts anything.

use std::collections::BTreeMap;
use std::ffi::OsString;

use dayfly_protocol::job::{SYSTEM_CONNECTION, SecureFile, ServiceEndpoint};
use serde_json::json;

use super::Manifest;
use crate::context::{StepContext, lock};
use crate::environment::is_system_connection;
use crate::steps::Inputs;
use crate::variables::environment_name;

/// Adds to what any step has what a task has beside it.
pub(super) fn add(
    values: &mut BTreeMap<OsString, OsString>,
    step: &StepContext,
    manifest: &Manifest,
    inputs: &Inputs,
) {
    let mut set = |name: String, value: &str| {
        // The system could hold neither.
        if !name.contains(['=', '\0']) && !value.contains('\0') {
            values.insert(name.into(), value.into());
        }
    };
    for (name, value) in inputs.iter() {
        set(format!("INPUT_{}", environment_name(name, false)), value);
    }
    let mut public = Vec::new();
    let mut secret = Vec::new();
    step.job.with_variables(|variables| {
        for variable in variables.iter() {
            if variable.secret {
                set(format!("SECRET_{}", environment_name(&variable.name, false)), &variable.value);
                secret.push(variable.name.clone());
            } else {
                public.push(variable.name.clone());
            }
        }
    });
    set("VSTS_PUBLIC_VARIABLES".to_owned(), &json!(public).to_string());
    set("VSTS_SECRET_VARIABLES".to_owned(), &json!(secret).to_string());
    for variable in lock(&step.task_variables).iter() {
        set(format!("VSTS_TASKVARIABLE_{}", environment_name(&variable.name, false)), &variable.value);
    }
    let named = |is: fn(&super::Input) -> bool| -> Vec<&str> {
        let of_kind = manifest.inputs.iter().filter(move |input| is(input));
        of_kind.flat_map(|input| inputs.text(&input.name).split(',').map(str::trim)).collect()
    };
    let connections = named(super::Input::is_connection);
    for endpoint in &step.job.endpoints {
        if is_system_connection(endpoint) {
            add_endpoint(&mut set, &SYSTEM_CONNECTION.to_uppercase(), endpoint, false);
        } else if let Some(id) = endpoint.id.filter(|_| is_named(endpoint, &connections)) {
            add_endpoint(&mut set, &id.to_string(), endpoint, true);
        }
    }
    let files = named(super::Input::is_secure_file);
    for file in &step.job.secure_files {
        if is_named_file(file, &files) {
            set(format!("SECUREFILE_NAME_{}", file.id), &file.name);
            set(format!("SECUREFILE_TICKET_{}", file.id), file.ticket.as_deref().unwrap_or_default());
        }
    }
}

fn is_named(endpoint: &ServiceEndpoint, names: &[&str]) -> bool {
    names.iter().any(|wanted| endpoint.is_called(wanted))
}

fn is_named_file(file: &SecureFile, names: &[&str]) -> bool {
    names.iter().any(|wanted| file.is_called(wanted))
}

fn add_endpoint(set: &mut impl FnMut(String, &str), key: &str, endpoint: &ServiceEndpoint, has_data: bool) {
    if let Some(url) = &endpoint.url {
        set(format!("ENDPOINT_URL_{key}"), url.as_str());
    }
    if let Some(authorization) = &endpoint.authorization {
        let whole = json!({ "parameters": authorization.parameters, "scheme": authorization.scheme });
        set(format!("ENDPOINT_AUTH_{key}"), &whole.to_string());
        set(format!("ENDPOINT_AUTH_SCHEME_{key}"), &authorization.scheme);
        for (name, value) in &authorization.parameters {
            let name = environment_name(name, false);
            set(format!("ENDPOINT_AUTH_PARAMETER_{key}_{name}"), value);
        }
    }
    if has_data {
        set(format!("ENDPOINT_DATA_{key}"), &json!(endpoint.data).to_string());
        for (name, value) in &endpoint.data {
            set(format!("ENDPOINT_DATA_{key}_{}", environment_name(name, false)), value);
        }
    }
}
