//! The registries of a pipeline's containers: where an image comes from, and how the kubelet logs in there.
//!
//! As Microsoft's agent does it before `docker pull` (`ContainerOperationProvider.cs`).

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dayfly_protocol::job::{AgentJobRequestMessage, ContainerResource, EndpointReference, ServiceEndpoint};
use serde_json::json;

use super::ShapeError;

/// The type of service connections to registries.
const DOCKER_REGISTRY: &str = "dockerregistry";

/// Docker Hub, as service connections name it. Its images have no host in their names.
const DOCKER_HUB: &str = "index.docker.io";

/// The name under which Docker's configuration keeps the login of Docker Hub.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Schemes of logins to Azure Container Registry that would need an exchange of tokens first.
const EXCHANGED: &[&str] = &["ManagedServiceIdentity", "WorkloadIdentityFederation"];

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
        let image = container.properties.image.clone();
        let Some(reference) = container.endpoint.as_ref().filter(|reference| names_one(reference)) else {
            return Ok(image);
        };
        let refused = |reason: &str| ShapeError::Registry {
            container: container.alias.clone(),
            connection: called(reference),
            reason: reason.to_owned(),
        };
        let endpoint = self.endpoint(reference).ok_or_else(|| {
            refused("the job has no service connection of that name to a container registry")
        })?;
        let (server, login) = match scheme_of_azure(endpoint) {
            Some(scheme) => {
                let server = parameter(endpoint, "loginServer").map(str::to_lowercase);
                let is_exchanged = EXCHANGED.iter().any(|other| other.eq_ignore_ascii_case(scheme));
                (server, (!is_exchanged).then_some(("serviceprincipalid", "serviceprincipalkey")))
            }
            None => (parameter(endpoint, "registry").map(str::to_owned), Some(("username", "password"))),
        };
        let server = server.ok_or_else(|| refused("it does not say where its registry is"))?;
        let registry = Registry::new(&server);
        match login {
            Some((user, password)) => {
                let missing = |what| refused(&format!("it has no `{what}`"));
                let name = parameter(endpoint, user).ok_or_else(|| missing(user))?;
                let word = parameter(endpoint, password).ok_or_else(|| missing(password))?;
                self.logins.insert(registry.key().to_owned(), STANDARD.encode(format!("{name}:{word}")));
            }
            None => self.left_out.push(format!(
                "the login of the service connection `{}`, which is one of Microsoft Entra's",
                called(reference)
            )),
        }
        Ok(registry.image(image))
    }

    /// The logins, if there are any.
    pub(super) fn logins(&self) -> Option<PullLogins> {
        let logins: BTreeMap<_, _> =
            self.logins.iter().map(|(registry, auth)| (registry, json!({ "auth": auth }))).collect();
        (!logins.is_empty()).then(|| PullLogins(json!({ "auths": logins }).to_string()))
    }

    fn endpoint(&self, reference: &EndpointReference) -> Option<&'a ServiceEndpoint> {
        let id = reference.id.filter(|id| !id.is_nil()).map(|id| id.to_string());
        let wanted = id.or_else(|| reference.name.clone())?;
        let is_registry = |endpoint: &ServiceEndpoint| {
            endpoint.endpoint_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case(DOCKER_REGISTRY))
        };
        self.message
            .resources
            .endpoints
            .iter()
            .find(|endpoint| is_registry(endpoint) && endpoint.is_called(&wanted))
    }
}

/// Where images come from.
struct Registry {
    /// `HOST` or `HOST:PORT`; none for Docker Hub.
    authority: Option<String>,
}

impl Registry {
    fn new(server: &str) -> Self {
        let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let is_hub = authority.to_lowercase().contains(DOCKER_HUB);
        Self { authority: (!is_hub).then(|| authority.to_owned()) }
    }

    fn key(&self) -> &str {
        self.authority.as_deref().unwrap_or(DOCKER_HUB_KEY)
    }

    /// The image's name with the registry before it, if that is not there.
    fn image(&self, image: String) -> String {
        match &self.authority {
            Some(authority) if !image.to_lowercase().starts_with(&authority.to_lowercase()) => {
                format!("{authority}/{image}")
            }
            _ => image,
        }
    }
}

/// How a service connection to Azure Container Registry logs in; `None` for one to another registry.
fn scheme_of_azure(endpoint: &ServiceEndpoint) -> Option<&str> {
    let mut data = endpoint.data.iter();
    let (_, kind) = data.find(|(name, _)| name.eq_ignore_ascii_case("registrytype"))?;
    kind.eq_ignore_ascii_case("ACR").then(|| {
        let scheme = endpoint.authorization.as_ref().map(|authorization| authorization.scheme.as_str());
        scheme
            .filter(|scheme| !scheme.is_empty())
            .or_else(|| parameter(endpoint, "scheme"))
            .unwrap_or_default()
    })
}

fn parameter<'a>(endpoint: &'a ServiceEndpoint, name: &str) -> Option<&'a str> {
    endpoint.authorization.as_ref()?.parameter(name).filter(|value| !value.is_empty())
}

fn names_one(reference: &EndpointReference) -> bool {
    reference.id.is_some_and(|id| !id.is_nil())
        || reference.name.as_deref().is_some_and(|name| !name.is_empty())
}

fn called(reference: &EndpointReference) -> String {
    let id = || reference.id.map(|id| id.to_string()).unwrap_or_default();
    reference.name.clone().unwrap_or_else(id)
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::job::{ContainerProperties, EndpointAuthorization};
    use serde_json::Value;

    use super::*;

    fn endpoint(data: &[(&str, &str)], scheme: &str, parameters: &[(&str, &str)]) -> ServiceEndpoint {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        ServiceEndpoint {
            name: Some("images".to_owned()),
            endpoint_type: Some("dockerregistry".to_owned()),
            authorization: Some(EndpointAuthorization {
                scheme: scheme.to_owned(),
                parameters: map(parameters),
            }),
            data: map(data),
            ..ServiceEndpoint::default()
        }
    }

    fn container(image: &str) -> ContainerResource {
        ContainerResource {
            alias: "tools".to_owned(),
            endpoint: Some(EndpointReference { name: Some("Images".to_owned()), ..Default::default() }),
            properties: ContainerProperties { image: image.to_owned(), ..Default::default() },
        }
    }

    /// The image, the logins and what is left out.
    fn pulled(endpoint: ServiceEndpoint, image: &str) -> Result<(String, Value, Vec<String>), ShapeError> {
        let mut message = AgentJobRequestMessage::default();
        message.resources.endpoints.push(endpoint);
        let mut registries = Registries::new(&message);
        let image = registries.image(&container(image))?;
        let logins = registries.logins().map_or(Value::Null, |logins| {
            assert_eq!(format!("{logins:?}"), "PullLogins(…)");
            serde_json::from_str(logins.expose()).unwrap()
        });
        Ok((image, logins, registries.left_out))
    }

    const USER: &[(&str, &str)] = &[("username", "u"), ("password", "p")];

    #[test]
    fn a_registry_comes_before_the_name_of_its_image() {
        let with = |registry| [USER, &[("registry", registry)]].concat();
        let logins = |registry: &str| json!({ "auths": { registry: { "auth": "dTpw" } } });
        for (registry, image, whole, key) in [
            ("https://r.example.com", "tools:1", "r.example.com/tools:1", "r.example.com"),
            (
                "https://r.example.com:5000/v2/",
                "R.example.com:5000/a/b",
                "R.example.com:5000/a/b",
                "r.example.com:5000",
            ),
            ("r.example.com", "a/b", "r.example.com/a/b", "r.example.com"),
            ("https://index.docker.io/v1/", "a/b", "a/b", DOCKER_HUB_KEY),
        ] {
            let found = pulled(endpoint(&[], "UsernamePassword", &with(registry)), image).unwrap();
            assert_eq!(found, (whole.to_owned(), logins(key), Vec::new()), "{registry}");
        }
    }

    #[test]
    fn azures_registry_takes_a_service_principal_and_no_tokens_of_entra() {
        let azure: &[_] = &[("registrytype", "ACR")];
        let principal: &[_] =
            &[("loginServer", "One.azurecr.io"), ("serviceprincipalid", "u"), ("serviceprincipalkey", "p")];
        let (image, logins, left_out) =
            pulled(endpoint(azure, "ServicePrincipal", principal), "tools").unwrap();
        assert_eq!(image, "one.azurecr.io/tools");
        assert_eq!(logins["auths"]["one.azurecr.io"]["auth"], "dTpw");
        assert!(left_out.is_empty());
        let federated = endpoint(azure, "WorkloadIdentityFederation", principal);
        let (image, logins, left_out) = pulled(federated, "tools").unwrap();
        assert_eq!((image.as_str(), logins), ("one.azurecr.io/tools", Value::Null));
        assert!(left_out[0].contains("`Images`"), "{left_out:?}");
    }

    #[test]
    fn what_a_service_connection_lacks_is_said() {
        let without =
            endpoint(&[], "UsernamePassword", &[("registry", "https://r.example.com"), ("username", "u")]);
        let error = pulled(without, "tools").unwrap_err().to_string();
        assert!(error.contains("`tools`") && error.contains("it has no `password`"), "{error}");
        let other = ServiceEndpoint { name: Some("others".to_owned()), ..endpoint(&[], "", USER) };
        let error = pulled(other, "tools").unwrap_err().to_string();
        assert!(
            error.contains("`Images`") && error.contains("no service connection of that name"),
            "{error}"
        );
    }
}
