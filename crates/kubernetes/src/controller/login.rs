//! How the service is reached: an `AzureDevOpsConnection` and what it names, read anew whenever it is needed,
//! so that a change of it needs no restart.

use std::path::Path;

use dayfly_client::{Connection, Credential, HttpSettings, ProxySettings};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::api::{Authentication, AzureDevOpsConnection, CaBundle, KeyReference, Proxy};

/// The service cannot be reached as the objects say.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
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
    #[error("AzureDevOpsConnection {name}: its url is no URL")]
    Url {
        name: String,
        #[source]
        source: url::ParseError,
    },
    #[error("the connection says nothing of how to log in; set spec.auth.personalAccessToken")]
    NoCredential,
    #[error("could not keep the bundle of certificates in a file")]
    File(#[source] std::io::Error),
    #[error(transparent)]
    Client(#[from] dayfly_client::Error),
}

/// Where the service is, and how it is reached.
pub(super) struct Access {
    pub(super) url: Url,
    pub(super) settings: HttpSettings,
    /// Who may manage the pool. What is registered runs without it.
    pub(super) credential: Result<Credential, LoginError>,
}

impl Access {
    /// A connection that may manage the pool.
    pub(super) fn manager(self) -> Result<Connection, LoginError> {
        Ok(Connection::new(&self.url, self.credential?, self.settings)?)
    }
}

/// Reads the connection of this name. `folder` is for what must be a file.
pub(super) async fn access(
    client: &Client,
    namespace: &str,
    name: &str,
    folder: &Path,
) -> Result<Access, LoginError> {
    let objects = Objects { client, namespace };
    let found = Api::<AzureDevOpsConnection>::namespaced(client.clone(), namespace).get_opt(name).await;
    let spec = objects.found(found, "AzureDevOpsConnection", name)?.spec;
    let url = spec.url.parse::<Url>().map_err(|source| LoginError::Url { name: name.to_owned(), source })?;
    let mut settings = HttpSettings::default();
    if let Some(tls) = &spec.tls {
        let bundle = objects.bundle(&tls.ca_bundle).await?;
        let file = folder.join(format!("{namespace}.{name}.ca.pem"));
        tokio::fs::write(&file, bundle).await.map_err(LoginError::File)?;
        settings.ca_files.push(file);
    }
    if let Some(proxy) = &spec.proxy {
        settings.proxy = objects.proxy(proxy).await?;
    }
    let credential = objects.credential(&spec.auth).await;
    Ok(Access { url, settings, credential })
}

/// Objects in the namespace of a connection.
struct Objects<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Objects<'_> {
    fn found<T>(
        &self,
        found: Result<Option<T>, kube::Error>,
        kind: &'static str,
        name: &str,
    ) -> Result<T, LoginError> {
        let (name, namespace) = (name.to_owned(), self.namespace.to_owned());
        match found {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(LoginError::Missing { kind, name, namespace }),
            Err(source) => Err(LoginError::Cluster { kind, name, source }),
        }
    }

    async fn credential(&self, auth: &Authentication) -> Result<Credential, LoginError> {
        let reference = auth.personal_access_token.as_ref().map(|token| &token.secret_ref);
        let reference = reference.ok_or(LoginError::NoCredential)?;
        let token = self.secret(reference).await?;
        Ok(Credential::PersonalAccessToken(SecretString::from(token.expose_secret().trim().to_owned())))
    }

    async fn secret(&self, reference: &KeyReference) -> Result<SecretString, LoginError> {
        let (kind, KeyReference { name, key }) = ("Secret", reference);
        let secrets = Api::<Secret>::namespaced(self.client.clone(), self.namespace);
        let secret = self.found(secrets.get_opt(name).await, kind, name)?;
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
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), self.namespace);
        let map = self.found(maps.get_opt(name).await, kind, name)?;
        let value = map.data.unwrap_or_default().remove(key);
        value.ok_or_else(|| LoginError::NoKey { kind, name: name.clone(), key: key.clone() })
    }

    async fn proxy(&self, proxy: &Proxy) -> Result<ProxySettings, LoginError> {
        let mut address = proxy.url.clone();
        if let Some(reference) = &proxy.credentials_secret_ref {
            let key = |key: &str| KeyReference { name: reference.name.clone(), key: key.to_owned() };
            let user = self.secret(&key("username")).await?;
            let password = self.secret(&key("password")).await?;
            if let Ok(mut url) = address.parse::<Url>() {
                // Only addresses without a host have no room for them, and the schema allows none of these.
                let _ = url.set_username(user.expose_secret());
                let _ = url.set_password(Some(password.expose_secret()));
                address = url.into();
            }
        }
        Ok(ProxySettings {
            http: Some(address.clone()),
            https: Some(address),
            no_proxy: (!proxy.no_proxy.is_empty()).then(|| proxy.no_proxy.join(",")),
        })
    }
}
