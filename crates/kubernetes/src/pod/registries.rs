//! How the kubelet logs in to the registries of a pipeline's containers.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dayfly_protocol::job::{AgentJobRequestMessage, ContainerResource};
use dayfly_protocol::registries::source;
use serde_json::json;

use super::ShapeError;

/// How the kubelet logs in to the registries of a job: a file `config.json` of Docker's. It is secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PullLogins(String);

impl PullLogins {
    /// The file's text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PullLogins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PullLogins(…)")
    }
}

/// The registries that the containers of one job come from.
pub(super) struct Registries<'a> {
    message: &'a AgentJobRequestMessage,
    /// `user:password` in base64, by the registry.
    logins: BTreeMap<String, String>,
    /// Logins that a pod cannot have, for the job's log.
    pub(super) left_out: Vec<String>,
}

impl<'a> Registries<'a> {
    pub(super) fn new(message: &'a AgentJobRequestMessage) -> Self {
        Self { message, logins: BTreeMap::new(), left_out: Vec::new() }
    }

    /// The image of a container, with the registry of its service connection.
    pub(super) fn image(&mut self, container: &ContainerResource) -> Result<String, ShapeError> {
        let source = source(self.message, container)?;
        if let Some(registry) = source.registry {
            match &registry.login {
                Some(login) => {
                    let login = STANDARD.encode(format!("{}:{}", login.user, login.password));
                    self.logins.insert(registry.key().to_owned(), login);
                }
                None => self.left_out.push(format!(
                    "the login of the service connection `{}`, which is one of Microsoft Entra's",
                    registry.connection
                )),
            }
        }
        Ok(source.image)
    }

    /// The logins, if there are any.
    pub(super) fn logins(&self) -> Option<PullLogins> {
        let logins: BTreeMap<_, _> =
            self.logins.iter().map(|(registry, auth)| (registry, json!({ "auth": auth }))).collect();
        (!logins.is_empty()).then(|| PullLogins(json!({ "auths": logins }).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::job::{
        ContainerProperties, EndpointAuthorization, EndpointReference, ServiceEndpoint,
    };
    use serde_json::Value;

    use super::*;

    /// The logins and what is left out.
    fn pulled(scheme: &str) -> (Value, Vec<String>) {
        let parameters =
            [("loginServer", "One.azurecr.io"), ("serviceprincipalid", "u"), ("serviceprincipalkey", "p")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut message = AgentJobRequestMessage::default();
        message.resources.endpoints.push(ServiceEndpoint {
            name: Some("images".to_owned()),
            endpoint_type: Some("dockerregistry".to_owned()),
            authorization: Some(EndpointAuthorization { scheme: scheme.to_owned(), parameters }),
            data: [("registrytype".to_owned(), "ACR".to_owned())].into(),
            ..ServiceEndpoint::default()
        });
        let mut registries = Registries::new(&message);
        let container = ContainerResource {
            alias: "tools".to_owned(),
            endpoint: Some(EndpointReference { name: Some("Images".to_owned()), ..Default::default() }),
            properties: ContainerProperties { image: "tools".to_owned(), ..Default::default() },
        };
        assert_eq!(registries.image(&container).unwrap(), "one.azurecr.io/tools");
        let logins = registries.logins().map_or(Value::Null, |logins| {
            assert_eq!(format!("{logins:?}"), "PullLogins(…)");
            serde_json::from_str(logins.expose()).unwrap()
        });
        (logins, registries.left_out)
    }

    #[test]
    fn the_kubelet_is_given_logins_but_no_tokens_of_entra() {
        let (logins, left_out) = pulled("ServicePrincipal");
        assert_eq!(logins, json!({ "auths": { "one.azurecr.io": { "auth": "dTpw" } } }));
        assert!(left_out.is_empty());
        let (logins, left_out) = pulled("WorkloadIdentityFederation");
        assert_eq!(logins, Value::Null);
        assert!(left_out[0].contains("`Images`"), "{left_out:?}");
    }
}
