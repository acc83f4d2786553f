//! The registries of a pipeline's containers: where an image comes from, and how one logs in there.
//!
//! As Microsoft's agent does it before `docker pull` (`ContainerOperationProvider.cs`).

use std::fmt;

use crate::job::{AgentJobRequestMessage, ContainerResource, EndpointReference, ServiceEndpoint};

/// The type of service connections to registries.
const DOCKER_REGISTRY: &str = "dockerregistry";

/// Docker Hub, as service connections name it. Its images have no host in their names.
const DOCKER_HUB: &str = "index.docker.io";

/// The name under which Docker's configuration keeps the login of Docker Hub.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Schemes of logins to Azure Container Registry that would need an exchange of tokens first.
const EXCHANGED: &[&str] = &["ManagedServiceIdentity", "WorkloadIdentityFederation"];

/// Where the image of a container comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The image, with the registry of its service connection.
    pub image: String,
    /// The registry; none where the container names no service connection.
    pub registry: Option<Registry>,
}

/// The registry of a service connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// What the pipeline calls the service connection.
    pub connection: String,
    /// `HOST` or `HOST:PORT`; none for Docker Hub, whose images have no host in their names.
    pub authority: Option<String>,
    /// How one logs in; none where that takes an exchange of Microsoft Entra's tokens.
    pub login: Option<Login>,
}

impl Registry {
    /// By what name Docker's configuration keeps its login.
    #[must_use]
    pub fn key(&self) -> &str {
        self.authority.as_deref().unwrap_or(DOCKER_HUB_KEY)
    }
}

/// A login. Its password is secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Login(…)")
    }
}

/// A container that names a service connection which is of no use for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the container `{container}` cannot be pulled by the service connection `{connection}`: {reason}")]
pub struct UnusableConnection {
    /// The container.
    pub container: String,
    /// The service connection.
    pub connection: String,
    /// Why not.
    pub reason: String,
}

/// Where the image of a container comes from, by the service connections of the message.
///
/// # Errors
///
/// The container names a service connection that is not there or lacks something.
pub fn source(
    message: &AgentJobRequestMessage,
    container: &ContainerResource,
) -> Result<Source, UnusableConnection> {
    let image = container.properties.image.clone();
    let Some(reference) = container.endpoint.as_ref().filter(|reference| names_one(reference)) else {
        return Ok(Source { image, registry: None });
    };
    let refused = |reason: &str| UnusableConnection {
        container: container.alias.clone(),
        connection: called(reference),
        reason: reason.to_owned(),
    };
    let endpoint = endpoint(message, reference)
        .ok_or_else(|| refused("the job has no service connection of that name to a container registry"))?;
    let registry = registry(endpoint).map_err(|reason| refused(&reason))?;
    let registry = Registry { connection: called(reference), ..registry };
    Ok(Source { image: with_registry(image, registry.authority.as_deref()), registry: Some(registry) })
}

/// The registry of a service connection.
///
/// # Errors
///
/// What the service connection lacks.
pub fn registry(endpoint: &ServiceEndpoint) -> Result<Registry, String> {
    let (server, names) = match scheme_of_azure(endpoint) {
        Some(scheme) => {
            let server = parameter(endpoint, "loginServer").map(str::to_lowercase);
            let is_exchanged = EXCHANGED.iter().any(|other| other.eq_ignore_ascii_case(scheme));
            (server, (!is_exchanged).then_some(("serviceprincipalid", "serviceprincipalkey")))
        }
        None => (parameter(endpoint, "registry").map(str::to_owned), Some(("username", "password"))),
    };
    let server = server.ok_or("it does not say where its registry is")?;
    let required = |name: &str| {
        let value = parameter(endpoint, name).map(str::to_owned);
        value.ok_or_else(|| format!("it has no `{name}`"))
    };
    let login = names.map(|(user, password)| {
        Ok::<_, String>(Login { user: required(user)?, password: required(password)? })
    });
    Ok(Registry {
        connection: endpoint.name.clone().unwrap_or_default(),
        authority: authority(&server).map(str::to_owned),
        login: login.transpose()?,
    })
}

fn endpoint<'a>(
    message: &'a AgentJobRequestMessage,
    reference: &EndpointReference,
) -> Option<&'a ServiceEndpoint> {
    let id = reference.id.filter(|id| !id.is_nil()).map(|id| id.to_string());
    let wanted = id.or_else(|| reference.name.clone())?;
    let is_registry = |endpoint: &ServiceEndpoint| {
        endpoint.endpoint_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case(DOCKER_REGISTRY))
    };
    message.resources.endpoints.iter().find(|endpoint| is_registry(endpoint) && endpoint.is_called(&wanted))
}

/// `HOST` or `HOST:PORT` of a server; none for Docker Hub.
fn authority(server: &str) -> Option<&str> {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    (!authority.to_lowercase().contains(DOCKER_HUB)).then_some(authority)
}

/// The image's name with the registry before it, if that is not there.
fn with_registry(image: String, authority: Option<&str>) -> String {
    match authority {
        Some(authority) if !image.to_lowercase().starts_with(&authority.to_lowercase()) => {
            format!("{authority}/{image}")
        }
        _ => image,
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
    use super::*;
    use crate::job::{ContainerProperties, EndpointAuthorization};

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

    /// The image, by what name its login is kept, and that login.
    fn pulled(
        endpoint: ServiceEndpoint,
        image: &str,
    ) -> Result<(String, String, Option<Login>), UnusableConnection> {
        let mut message = AgentJobRequestMessage::default();
        message.resources.endpoints.push(endpoint);
        let container = ContainerResource {
            alias: "tools".to_owned(),
            endpoint: Some(EndpointReference { name: Some("Images".to_owned()), ..Default::default() }),
            properties: ContainerProperties { image: image.to_owned(), ..Default::default() },
        };
        let source = source(&message, &container)?;
        let registry = source.registry.unwrap();
        assert_eq!(registry.connection, "Images");
        Ok((source.image, registry.key().to_owned(), registry.login))
    }

    const USER: &[(&str, &str)] = &[("username", "u"), ("password", "p")];

    fn login() -> Option<Login> {
        Some(Login { user: "u".to_owned(), password: "p".to_owned() })
    }

    #[test]
    fn a_registry_comes_before_the_name_of_its_image() {
        let with = |registry| [USER, &[("registry", registry)]].concat();
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
            assert_eq!(found, (whole.to_owned(), key.to_owned(), login()), "{registry}");
        }
        assert_eq!(format!("{:?}", login()), "Some(Login(…))");
    }

    #[test]
    fn azures_registry_takes_a_service_principal_and_no_tokens_of_entra() {
        let azure: &[_] = &[("registrytype", "ACR")];
        let principal: &[_] =
            &[("loginServer", "One.azurecr.io"), ("serviceprincipalid", "u"), ("serviceprincipalkey", "p")];
        let (server, image) = ("one.azurecr.io".to_owned(), "one.azurecr.io/tools".to_owned());
        let found = pulled(endpoint(azure, "ServicePrincipal", principal), "tools").unwrap();
        assert_eq!(found, (image.clone(), server.clone(), login()));
        let found = pulled(endpoint(azure, "WorkloadIdentityFederation", principal), "tools").unwrap();
        assert_eq!(found, (image, server, None));
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
