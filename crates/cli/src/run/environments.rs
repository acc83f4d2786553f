//! Environments of `dayfly.toml`: the clusters that deployment jobs reach through them, and whether somebody
//! has to approve the jobs first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use dayfly_pipelines::Plan;
use dayfly_pipelines::message::{EnvironmentContext, EnvironmentResource};
use dayfly_pipelines::plan::Job;
use serde::Deserialize;
use toml::Spanned;

use super::caveats::wanted_jobs;

/// An environment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Environment {
    /// Whether its jobs wait until somebody approves them.
    #[serde(default)]
    pub(super) approval: bool,
    #[serde(default)]
    pub(super) resources: BTreeMap<String, Spanned<Resource>>,
}

/// What an environment deploys to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Resource {
    #[serde(rename = "type", default)]
    _kind: Kind,
    namespace: Option<String>,
    pub(super) service_connection: Option<Spanned<String>>,
    /// A kubeconfig of the user's own; the usual one if only a context is named.
    kubeconfig: Option<PathBuf>,
    pub(super) context: Option<String>,
}

/// The kinds of resources that there are here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    #[default]
    Kubernetes,
}

impl Resource {
    /// What is wrong with it, as far as it can be seen in the file.
    pub(super) fn mistake(&self, is_connection: impl Fn(&str) -> bool) -> Option<String> {
        let has_kubeconfig = self.kubeconfig.is_some() || self.context.is_some();
        match &self.service_connection {
            Some(_) if has_kubeconfig => Some(
                "has a `service-connection`, so neither `kubeconfig` nor `context` may be there".to_owned(),
            ),
            Some(name) if !is_connection(name.as_ref()) => {
                Some(format!("names the service connection `{}`, which is not there", name.as_ref()))
            }
            None if !has_kubeconfig => Some(
                "does not say which cluster it is: name a `service-connection`, or the `context` of a \
                 `kubeconfig` of yours"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The kubeconfig of the user's own, if it is reached by that. Relative paths are below `folder`.
    pub(super) fn kubeconfig(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.kubeconfig {
            return Ok(folder.join(path));
        }
        // As kubectl, which merges further files of the variable.
        let named = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
        let first = named.as_ref().and_then(|paths| std::env::split_paths(paths).next());
        first
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config")))
            .context("there is neither KUBECONFIG nor HOME, so say by `kubeconfig` which file is meant")
    }
}

/// The service connection by which a resource is reached: the one that it names, or one of its own.
pub(super) fn connection_of(environment: &str, name: &str, resource: &Resource) -> String {
    match &resource.service_connection {
        Some(connection) => connection.as_ref().clone(),
        None => format!("environment {environment}.{name}"),
    }
}

/// The environments, as jobs get them. Their numbers, as those of Azure DevOps, mean nothing else.
pub(super) fn contexts(environments: &BTreeMap<String, Environment>) -> Vec<EnvironmentContext> {
    let resource = |environment: &str, (id, (name, resource)): (u32, (&String, &Spanned<Resource>))| {
        EnvironmentResource {
            name: name.clone(),
            id,
            connection: connection_of(environment, name, resource.as_ref()),
            namespace: resource.as_ref().namespace.clone(),
        }
    };
    let environments = (1..).zip(environments);
    environments
        .map(|(id, (name, written))| EnvironmentContext {
            name: name.clone(),
            id,
            resources: (1..).zip(&written.resources).map(|numbered| resource(name, numbered)).collect(),
        })
        .collect()
}

/// An environment that a deployment job names.
pub(crate) struct Used<'a> {
    job: &'a str,
    pub(crate) environment: &'a str,
    pub(crate) resource: Option<&'a str>,
}

/// Whether what is written may be this name. One with a macro may be any, until the job runs.
pub(super) fn may_be(written: &str, name: &str) -> bool {
    written.eq_ignore_ascii_case(name) || written.contains("$(")
}

/// The environment of a deployment job.
pub(crate) fn of_job(job: &Job) -> Option<Used<'_>> {
    let environment = job.deployment.as_ref()?.environment.as_ref()?;
    let resource = environment.resource_name.as_deref();
    Some(Used { job: &job.name, environment: &environment.name, resource })
}

/// The environments of the wanted deployment jobs.
pub(crate) fn used<'a>(plan: &'a Plan, wanted: &'a [Vec<bool>]) -> Vec<Used<'a>> {
    wanted_jobs(plan, wanted).filter_map(|(_, job)| of_job(job)).collect()
}

/// Refuses resources that their environment has not, as Azure DevOps does. Environments that are not in the
/// file have no resources that could be missed.
pub(super) fn check(
    environments: &BTreeMap<String, Environment>,
    used: &[Used<'_>],
    file: &str,
) -> anyhow::Result<()> {
    for Used { job, environment, resource } in used {
        let known = environments.iter().find(|(name, _)| name.eq_ignore_ascii_case(environment));
        let (Some((_, known)), Some(resource)) = (known, resource) else { continue };
        if known.resources.keys().any(|name| may_be(resource, name)) {
            continue;
        }
        let names: Vec<_> = known.resources.keys().map(|name| format!("`{name}`")).collect();
        let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        bail!(
            "{file}: the job `{job}` deploys to `{environment}.{resource}`, but of the resources of this \
             environment there is {has}"
        );
    }
    Ok(())
}
