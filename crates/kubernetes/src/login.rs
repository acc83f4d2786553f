//! How the service is reached: an `AzureDevOpsConnection` and what it names, read anew whenever it is needed,
//! so that a change of it needs no restart.

use std::{fmt::Debug, path::Path};

use dayfly_client::{
    Connection, Credential, ENTRA_AUTHORITY, EntraApplication, EntraCredential, HttpSettings,
    INSTANCE_METADATA,
};
use dayfly_protocol::channel::WorkerProxy;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, Resource};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{
    api::{
        Authentication, AzureDevOpsConnection, AzureDevOpsConnectionSpec, CaBundle, KeyReference, Proxy,
        WorkloadIdentity,
    },
    cluster::bounded,
    controller::Office,
};

/// The service cannot be reached as the objects say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("{kind} {name} does not exist in namespace {namespace}")]
    Missing { kind: &'static str, name: String, namespace: String },
    #[error("{kind} {name} has no key {key}")]
    NoKey { kind: &'static str, name: String, key: String },
    #[error("{kind} {name}, key {key}, is not text in UTF-8")]
    NotText { kind: &'static str, name: String, key: String },
    #[error("could not read {kind} {name}")]
    Cluster {
        kind: &'static str,
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("AzureDevOpsConnection {name}: its {field} is no URL")]
    Url {
        name: String,
        field: &'static str,
        #[source]
        source: url::ParseError,
    },
    #[error("the connection says nothing of how to log in; set spec.auth, such as personalAccessToken")]
    NoCredential,
    #[error("could not keep the bundle of certificates in a file")]
    File(#[source] std::io::Error),
    #[error(transparent)]
    Client(#[from] dayfly_client::Error),
}

/// Where the service is, and how it is reached.
pub(crate) struct Access {
    pub(crate) url: Url,
    pub(crate) settings: HttpSettings,
    /// The same for the pods of jobs.
    pub(crate) network: Network,
    /// The certificates of those authorities.
    bundle: Option<String>,
    /// Who may manage the pool. What is registered runs without it.
    pub(crate) credential: Result<Credential, LoginError>,
}

/// How agents reach the service. Those that are online keep what they were started with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) url: Url,
    bundle: Option<String>,
    proxy: Option<WorkerProxy>,
}

impl Access {
    /// The usual way to a service whose connection is gone, without a login.
    pub(crate) fn without_connection(url: &Url, missing: LoginError) -> Self {
        let (settings, network) = (HttpSettings::default(), Network::default());
        Self { url: url.clone(), settings, network, bundle: None, credential: Err(missing) }
    }

    /// The same way to another address.
    pub(crate) fn at(self, url: &Url) -> Self {
        Self { url: url.clone(), ..self }
    }

    /// What agents are started with.
    pub(crate) fn way(&self) -> Way {
        Way { url: self.url.clone(), bundle: self.bundle.clone(), proxy: self.network.proxy.clone() }
    }

    /// A connection that may manage the pool.
    pub(crate) fn manager(self) -> Result<Connection, LoginError> {
        Ok(Connection::new(&self.url, self.credential?, self.settings)?)
    }
}

/// Reads the connection of this name.
pub(crate) async fn access(office: &Office, namespace: &str, name: &str) -> Result<Access, LoginError> {
    let Office { client, config, .. } = office;
    let objects = Objects { client, namespace, connection: name };
    let spec = objects.get::<AzureDevOpsConnection>("AzureDevOpsConnection", name).await?.spec;
    let url = objects.url(&spec.url, "url")?;
    let network = objects.network(&spec).await?;
    let mut settings = HttpSettings { observer: Some(config.observer.clone()), ..HttpSettings::default() };
    let mut bundle = None;
    if let Some(tls) = &spec.tls {
        let text = objects.bundle(&tls.ca_bundle).await?;
        let file = config.folder.join(format!("{namespace}.{name}.ca.pem"));
        // Whole, for those who read it meanwhile.
        let beside = file.with_extension(format!("{:x}", fastrand::u64(..)));
        tokio::fs::write(&beside, &text).await.map_err(LoginError::File)?;
        tokio::fs::rename(&beside, &file).await.map_err(LoginError::File)?;
        settings.ca_files.push(file);
        bundle = Some(text);
    }
    if let Some(proxy) = &network.proxy {
        settings.proxy = proxy.into();
    }
    let credential = objects.credential(&spec.auth, &config.federated_token_file).await;
    Ok(Access { url, settings, network, bundle, credential })
}

/// How the pods of jobs reach the world.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network {
    /// Authorities that are trusted besides the usual ones.
    pub(crate) ca_bundle: Option<CaBundle>,
    pub(crate) proxy: Option<WorkerProxy>,
}

/// What the connection of this name says of it.
pub(crate) async fn network(client: &Client, namespace: &str, name: &str) -> Result<Network, LoginError> {
    let objects = Objects { client, namespace, connection: name };
    let spec = objects.get::<AzureDevOpsConnection>("AzureDevOpsConnection", name).await?.spec;
    objects.network(&spec).await
}

/// What is always reached directly: a pod's own services.
const LOCAL: [&str; 2] = ["localhost", "127.0.0.1"];

/// Objects in the namespace of a connection.
struct Objects<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// Its name.
    connection: &'a str,
}

impl Objects<'_> {
    async fn get<K>(&self, kind: &'static str, name: &str) -> Result<K, LoginError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api = Api::<K>::namespaced(self.client.clone(), self.namespace);
        let found = bounded(api.get_opt(name)).await;
        let (name, namespace) = (name.to_owned(), self.namespace.to_owned());
        match found {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(LoginError::Missing { kind, name, namespace }),
            Err(source) => Err(LoginError::Cluster { kind, name, source }),
        }
    }

    fn url(&self, text: &str, field: &'static str) -> Result<Url, LoginError> {
        let named = |source| LoginError::Url { name: self.connection.to_owned(), field, source };
        text.parse().map_err(named)
    }

    async fn credential(&self, auth: &Authentication, token_file: &Path) -> Result<Credential, LoginError> {
        if let Some(token) = &auth.personal_access_token {
            let token = self.secret(&token.secret_ref).await?;
            return Ok(Credential::PersonalAccessToken(trimmed(&token)));
        }
        if let Some(principal) = &auth.service_principal {
            return Ok(Credential::Entra(EntraCredential::ClientSecret {
                application: self.application(&principal.application)?,
                secret: trimmed(&self.secret(&principal.client_secret_ref).await?),
            }));
        }
        if let Some(identity) = &auth.workload_identity {
            return Ok(Credential::Entra(EntraCredential::Federated {
                application: self.application(identity)?,
                token_file: token_file.to_owned(),
            }));
        }
        let identity = auth.managed_identity.as_ref().ok_or(LoginError::NoCredential)?;
        Ok(Credential::Entra(EntraCredential::ManagedIdentity {
            endpoint: self.url(INSTANCE_METADATA, "address of the metadata service")?,
            client_id: identity.client_id.clone(),
        }))
    }

    fn application(&self, application: &WorkloadIdentity) -> Result<EntraApplication, LoginError> {
        let WorkloadIdentity { tenant_id, client_id, authority_host } = application;
        let authority = self.url(authority_host.as_deref().unwrap_or(ENTRA_AUTHORITY), "authorityHost")?;
        Ok(EntraApplication { authority, tenant: tenant_id.clone(), client_id: client_id.clone() })
    }

    async fn secret(&self, reference: &KeyReference) -> Result<SecretString, LoginError> {
        let (kind, KeyReference { name, key }) = ("Secret", reference);
        let secret = self.get::<Secret>(kind, name).await?;
        let value = secret.data.unwrap_or_default().remove(key);
        let value = value.ok_or_else(|| LoginError::NoKey { kind, name: name.clone(), key: key.clone() })?;
        String::from_utf8(value.0).map(SecretString::from).map_err(|_| LoginError::NotText {
            kind,
            name: name.clone(),
            key: key.clone(),
        })
    }

    async fn bundle(&self, bundle: &CaBundle) -> Result<String, LoginError> {
        if let Some(reference) = &bundle.secret_ref {
            return Ok(self.secret(reference).await?.expose_secret().to_owned());
        }
        let Some(KeyReference { name, key }) = &bundle.config_map_ref else { return Ok(String::new()) };
        let kind = "ConfigMap";
        let map = self.get::<ConfigMap>(kind, name).await?;
        let value = map.data.unwrap_or_default().remove(key);
        value.ok_or_else(|| LoginError::NoKey { kind, name: name.clone(), key: key.clone() })
    }

    async fn network(&self, spec: &AzureDevOpsConnectionSpec) -> Result<Network, LoginError> {
        let ca_bundle = spec.tls.as_ref().map(|tls| tls.ca_bundle.clone());
        let Some(proxy) = &spec.proxy else { return Ok(Network { ca_bundle, proxy: None }) };
        let direct = LOCAL.into_iter().chain(proxy.no_proxy.iter().map(String::as_str));
        let no_proxy = direct.collect::<Vec<_>>().join(",");
        let address = self.proxy_address(proxy).await?;
        Ok(Network { ca_bundle, proxy: Some(WorkerProxy { address, no_proxy }) })
    }

    /// The address, with the login if there is one.
    async fn proxy_address(&self, proxy: &Proxy) -> Result<String, LoginError> {
        let Some(reference) = &proxy.credentials_secret_ref else { return Ok(proxy.url.clone()) };
        let key = |key: &str| KeyReference { name: reference.name.clone(), key: key.to_owned() };
        let user = self.secret(&key("username")).await?;
        let password = self.secret(&key("password")).await?;
        let mut url = self.url(&proxy.url, "proxy.url")?;
        // Only addresses without a host have no room for them, and the schema allows none of these.
        let _ = url.set_username(user.expose_secret());
        let _ = url.set_password(Some(password.expose_secret()));
        Ok(url.into())
    }
}

/// Without the line break that a Secret made of a file often ends with.
fn trimmed(secret: &SecretString) -> SecretString {
    SecretString::from(secret.expose_secret().trim().to_owned())
}
