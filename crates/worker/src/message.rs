//! What is done to a job message before anything is run: addresses, tokens, secrets, and variables that could
//! smuggle commands.

use std::ffi::OsString;

use dayfly_protocol::job::{
    AgentJobRequestMessage, ContainerProperties, ContainerResource, Step, at_configured_server,
};
use dayfly_protocol::task;
use dayfly_protocol::timeline::VariableValue;
use url::Url;

use crate::variables::convert_to_boolean;

/// Completes the message as the official worker does (`JobRunner.cs`, `WorkerUtilties.cs`).
pub(crate) fn complete(message: &mut AgentJobRequestMessage, server_url: Option<&Url>) {
    if let Some(server_url) = server_url.filter(|_| !message.is_hosted()) {
        use_configured_address(message, server_url);
    }
    let connection = message.resources.system_connection();
    let url = connection.and_then(|connection| connection.url.as_ref()).map(ToString::to_string);
    let token = connection.and_then(|connection| connection.access_token()).map(str::to_owned);
    if let Some(url) = url {
        set(message, "System.TeamFoundationServerUri", VariableValue::public(url));
    }
    // Classic pipelines have a switch that gives the token to all scripts; YAML pipelines map the secret
    // where they need it.
    if message.variable("system.enableaccesstoken").is_some_and(convert_to_boolean)
        && let Some(token) = token
    {
        set(message, "System.AccessToken", VariableValue::public(token));
    }
    for name in DISPLAY_TEXTS {
        if let Some(text) = message.variable(name) {
            let harmless = without_commands(text);
            set_value(message, name, harmless);
        }
    }
}

/// The old way to ask for a container of the job, by a variable of the job or of the agent
/// (`ExecutionContext.cs`, `InitializeJob`).
pub(crate) fn name_container(message: &mut AgentJobRequestMessage, environment: &[(OsString, OsString)]) {
    const PREVIEW: &str = "_PREVIEW_VSTS_DOCKER_IMAGE";
    const ALIAS: &str = "vsts_container_preview";
    if message.job_container.as_ref().is_some_and(|container| !container.is_empty()) {
        return;
    }
    let of_agent = || environment.iter().find(|(name, _)| name == PREVIEW)?.1.to_str();
    let image = message.variable(PREVIEW).filter(|image| !image.is_empty()).or_else(of_agent);
    let Some(image) = image.filter(|image| !image.is_empty()).map(str::to_owned) else { return };
    message.job_container = Some(ALIAS.to_owned());
    message.resources.containers.push(ContainerResource {
        alias: ALIAS.to_owned(),
        endpoint: None,
        properties: ContainerProperties { image, ..ContainerProperties::default() },
    });
}

fn set(message: &mut AgentJobRequestMessage, name: &str, value: VariableValue) {
    message.variables.retain(|key, _| !key.eq_ignore_ascii_case(name));
    message.variables.insert(name.to_owned(), value);
}

fn set_value(message: &mut AgentJobRequestMessage, name: &str, value: String) {
    if let Some((_, present)) = message.variables.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
        present.value = Some(value);
    }
}

/// On premises the service may call itself by a name that agents cannot reach: what has its scheme and host
/// is given those the agent was configured with.
fn use_configured_address(message: &mut AgentJobRequestMessage, server_url: &Url) {
    let Some(own) = message.resources.system_connection().and_then(|connection| connection.url.clone())
    else {
        return;
    };
    let resources = &mut message.resources;
    let endpoints = resources.endpoints.iter_mut().filter_map(|endpoint| endpoint.url.as_mut());
    let repositories =
        resources.repositories.iter_mut().filter_map(|repository| repository.properties.url.as_mut());
    for url in endpoints.chain(repositories) {
        if url.origin() == own.origin() {
            *url = at_configured_server(url, server_url);
        }
    }
    for name in
        ["system.taskDefinitionsUri", "system.teamFoundationCollectionUri", "system.teamFoundationServerUri"]
    {
        if let Some(url) = message.variable(name).and_then(|text| Url::parse(text).ok()) {
            set_value(message, name, at_configured_server(&url, server_url).to_string());
        }
    }
}

/// Variables whose text people outside of the pipeline can choose (`Variables.cs`,
/// `VariablesVulnerableToExecution`).
const DISPLAY_TEXTS: &[&str] = &[
    "build.sourceVersionMessage",
    "build.definitionName",
    "build.sourceVersionAuthor",
    "system.sourceVersionMessage",
    "system.definitionName",
    "system.jobDisplayName",
    "system.phaseDisplayName",
    "system.stageDisplayName",
    "release.definitionName",
    "release.environmentName",
    "agent.machinename",
    "agent.name",
];

/// The text with every `##vso` made harmless.
fn without_commands(text: &str) -> String {
    const MARK: &str = "##vso";
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find_ignoring_case(rest, MARK) {
        result.push_str(&rest[..at]);
        result.push_str("**vso");
        rest = &rest[at + MARK.len()..];
    }
    result.push_str(rest);
    result
}

fn find_ignoring_case(text: &str, pattern: &str) -> Option<usize> {
    text.as_bytes().windows(pattern.len()).position(|window| window.eq_ignore_ascii_case(pattern.as_bytes()))
}

/// The steps that check a repository out.
pub(crate) fn checkouts(message: &AgentJobRequestMessage) -> impl Iterator<Item = &Step> {
    message
        .steps
        .iter()
        .filter(|step| step.reference.as_ref().is_some_and(|task| task.id.0 == task::CHECKOUT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dayfly_protocol::job::{EndpointAuthorization, JobResources, SYSTEM_CONNECTION, ServiceEndpoint};
    use std::collections::BTreeMap;

    fn message(url: &str, variables: &[(&str, &str)]) -> AgentJobRequestMessage {
        AgentJobRequestMessage {
            resources: JobResources {
                endpoints: vec![ServiceEndpoint {
                    name: Some(SYSTEM_CONNECTION.to_owned()),
                    url: Some(Url::parse(url).expect("an address")),
                    authorization: Some(EndpointAuthorization {
                        scheme: "OAuth".to_owned(),
                        parameters: BTreeMap::from([
                            ("AccessToken".to_owned(), "the-token".to_owned()),
                            ("Scope".to_owned(), "public-scope".to_owned()),
                        ]),
                    }),
                    ..Default::default()
                }],
                ..Default::default()
            },
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), VariableValue::public(*value)))
                .collect(),
            ..Default::default()
        }
    }

    #[test]
    fn on_premises_addresses_are_those_of_the_configuration() {
        let server = Url::parse("https://proxy:8443/tfs").expect("an address");
        let variables =
            [("system.TaskDefinitionsUri", "http://inner/tfs/c/"), ("system.ServerType", "OnPremises")];
        let mut message = message("http://inner/tfs/c/", &variables);
        complete(&mut message, Some(&server));
        let url = message.resources.endpoints[0].url.as_ref().expect("kept");
        assert_eq!(url.as_str(), "https://proxy:8443/tfs/c/");
        assert_eq!(message.variable("system.taskdefinitionsuri"), Some("https://proxy:8443/tfs/c/"));
        assert_eq!(message.variable("system.teamfoundationserveruri"), Some("https://proxy:8443/tfs/c/"));
    }

    #[test]
    fn hosted_addresses_stay() {
        let server = Url::parse("https://other").expect("an address");
        let mut message = message("https://dev.azure.com/o/", &[("system.servertype", "hosted")]);
        complete(&mut message, Some(&server));
        assert_eq!(
            message.resources.endpoints[0].url.as_ref().expect("kept").as_str(),
            "https://dev.azure.com/o/"
        );
    }

    #[test]
    fn the_token_becomes_a_public_variable_only_by_the_classic_switch() {
        let mut asked = message("https://h/", &[("System.EnableAccessToken", "true")]);
        complete(&mut asked, None);
        assert_eq!(asked.variable("system.accesstoken"), Some("the-token"));
        let mut secret = message("https://h/", &[("System.EnableAccessToken", "SecretVariable")]);
        complete(&mut secret, None);
        assert_eq!(secret.variable("system.accesstoken"), None);
    }

    #[test]
    fn texts_that_others_choose_hold_no_commands() {
        let mut message =
            message("https://h/", &[("Build.SourceVersionMessage", "a ##VSO[task.x]b##vso[y.z]")]);
        complete(&mut message, None);
        assert_eq!(message.variable("build.sourceversionmessage"), Some("a **vso[task.x]b**vso[y.z]"));
    }
}
