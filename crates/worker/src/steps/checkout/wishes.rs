//! What a checkout step wants: its inputs, completed by the repository's own options and overridden by
//! variables.

use dayfly_protocol::job::{CheckoutOptions, SYSTEM_CONNECTION, ServiceEndpoint};
use url::Url;

use crate::context::{JobContext, Repository};
use crate::steps::{Inputs, StepError};
use crate::variables::convert_to_boolean;

/// What the step wants of the repository.
pub(super) struct Wishes {
    pub(super) url: String,
    /// `https://host:port` of the address.
    pub(super) authority: String,
    pub(super) branch: String,
    pub(super) commit: String,
    pub(super) clean: bool,
    pub(super) depth: u32,
    pub(super) tags: bool,
    pub(super) filters: Vec<String>,
    pub(super) lfs: bool,
    pub(super) submodules: Submodules,
    pub(super) persist_credentials: bool,
    pub(super) sparse: Option<Sparse>,
    /// Whether the service lets anyone fetch a commit by its id.
    pub(super) by_commit: bool,
    /// The agent's certificate authorities, if the repository is on the service the agent belongs to.
    pub(super) ca_file: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Submodules {
    None,
    Top,
    Recursive,
}

pub(super) struct Sparse {
    pub(super) cone: bool,
    pub(super) patterns: Vec<String>,
}

pub(super) fn wishes(
    job: &JobContext,
    repository: &Repository,
    inputs: &Inputs,
) -> Result<Wishes, StepError> {
    let properties = &repository.resource.properties;
    let kind = properties.repository_type.as_deref().unwrap_or_default();
    let known = ["Git", "GitHub", "GitHubEnterprise", "Bitbucket", "ExternalGit"];
    if !known.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
        return Err(StepError::Failed(format!(
            "Repositories of type '{kind}' cannot be checked out by Dayfly's native worker; run this job on \
             Microsoft's agent."
        )));
    }
    let url = properties
        .url
        .as_ref()
        .ok_or_else(|| StepError::Failed(format!("The repository '{}' has no URL.", repository.alias())))?;
    let inputs = MergedInputs { inputs, options: properties.checkout_options.as_ref() };
    let variable = |name: &str| job.variable(name);
    let depth = variable("agent.source.git.shallowfetchdepth")
        .and_then(|text| text.trim().parse().ok())
        .or_else(|| inputs.get("fetchDepth").and_then(|text| text.trim().parse().ok()))
        .unwrap_or(0);
    let lfs = variable("agent.source.git.lfs")
        .map_or_else(|| inputs.switch("lfs", false), |text| convert_to_boolean(&text));
    let submodules = match inputs.get("submodules") {
        Some(text) if text.eq_ignore_ascii_case("recursive") => Submodules::Recursive,
        Some(text) if convert_to_boolean(&text) => Submodules::Top,
        _ => Submodules::None,
    };
    Ok(Wishes {
        url: url.to_string(),
        authority: url[..url::Position::BeforePath].to_owned(),
        branch: properties.reference.clone().unwrap_or_default(),
        commit: properties.version.clone().unwrap_or_default(),
        clean: inputs.switch("clean", false),
        depth,
        tags: inputs.switch("fetchTags", true),
        filters: fetch_filters(&inputs.get("fetchFilter").unwrap_or_default()),
        lfs,
        submodules,
        persist_credentials: inputs.switch("persistCredentials", false),
        sparse: sparse(&inputs),
        ca_file: ca_file(job, url),
        by_commit: !kind.eq_ignore_ascii_case("ExternalGit")
            && !variable("VSTS.DisableFetchByCommit").is_some_and(|text| convert_to_boolean(&text)),
    })
}

/// Other hosts are trusted as git itself trusts them (`GitSourceProvider.cs`, `useSelfSignedCACert`).
fn ca_file(job: &JobContext, url: &Url) -> Option<String> {
    let is_own = |endpoint: &ServiceEndpoint| {
        endpoint.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(SYSTEM_CONNECTION))
            && endpoint.url.as_ref().is_some_and(|own| own.origin() == url.origin())
    };
    let file = job.settings.ca_files.first()?;
    job.endpoints.iter().any(is_own).then(|| file.to_string_lossy().into_owned())
}

/// The step's inputs, completed by the repository's checkout options.
struct MergedInputs<'a> {
    inputs: &'a Inputs,
    options: Option<&'a CheckoutOptions>,
}

impl MergedInputs<'_> {
    fn get(&self, name: &str) -> Option<String> {
        if let Some(value) = self.inputs.get(name) {
            return Some(value.to_owned());
        }
        let options = self.options?;
        match name {
            "clean" => options.clean.clone(),
            "fetchDepth" => options.fetch_depth.clone(),
            "fetchTags" => options.fetch_tags.clone(),
            "lfs" => options.lfs.clone(),
            "submodules" => options.submodules.clone(),
            "persistCredentials" => options.persist_credentials.clone(),
            _ => None,
        }
        .filter(|value| !value.is_empty())
    }

    fn switch(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| convert_to_boolean(&value))
    }
}

/// `tree:0` and `blob:none`, joined by `+`; anything else is left out, as the official worker does.
fn fetch_filters(text: &str) -> Vec<String> {
    text.split('+')
        .map(str::trim)
        .filter(|filter| matches!(filter.to_ascii_lowercase().as_str(), "tree:0" | "blob:none"))
        .map(str::to_owned)
        .collect()
}

fn sparse(inputs: &MergedInputs<'_>) -> Option<Sparse> {
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if let Some(directories) = inputs.get("sparseCheckoutDirectories") {
        return Some(Sparse { cone: true, patterns: words(directories) });
    }
    inputs.get("sparseCheckoutPatterns").map(|patterns| Sparse { cone: false, patterns: words(patterns) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_filters_of_the_official_worker_pass() {
        assert_eq!(fetch_filters("tree:0 + blob:none"), ["tree:0", "blob:none"]);
        assert!(fetch_filters("tree:1+sparse:oid=x+--upload-pack=evil").is_empty());
    }
}
