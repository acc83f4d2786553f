//! Connections: an address, a login, and the clients in common.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use url::Url;

use crate::answer::Answer;
use crate::download::Sink;
use crate::error::{Error, Result};
use crate::login::{Credential, Login};
use crate::request::Request;
use crate::settings::HttpSettings;
use crate::throttle::Throttle;
use crate::transport::Transport;

/// An organization's (or collection's) address with a credential. Cheap to clone and to derive from: all
/// share the HTTP clients, and clones share the login with its token.
#[derive(Clone)]
pub struct Connection {
    transport: Arc<Transport>,
    base: Arc<Url>,
    identity: Arc<Identity>,
    deadline: Duration,
}

/// A login and what belongs to it.
struct Identity {
    login: Login,
    throttle: Throttle,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection with HTTP clients of its own. Checks address and proxies, but does not connect; the
    /// certificate authorities are read at the first call.
    pub fn new(url: &Url, credential: Credential, settings: HttpSettings) -> Result<Self> {
        let deadline = settings.call_deadline;
        Ok(Connection {
            base: Arc::new(checked(url)?),
            transport: Arc::new(Transport::new(settings)?),
            identity: Arc::new(Identity { login: Login::new(credential), throttle: Throttle::default() }),
            deadline,
        })
    }

    /// The same address and clients with another credential: one of many agents. Costs a few hundred bytes;
    /// an agent's token is fetched at its first call.
    pub fn with_credential(&self, credential: Credential) -> Self {
        Connection {
            identity: Arc::new(Identity { login: Login::new(credential), throttle: Throttle::default() }),
            ..self.clone()
        }
    }

    /// Another address with another credential and the same clients: a job's own endpoint.
    pub fn with_url(&self, url: &Url, credential: Credential) -> Result<Self> {
        Ok(Connection { base: Arc::new(checked(url)?), ..self.with_credential(credential) })
    }

    /// The same connection with another deadline for each call (not for long polls and downloads).
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Connection { deadline, ..self.clone() }
    }

    /// The address of the organization or collection.
    pub fn url(&self) -> &Url {
        &self.base
    }

    async fn send<T>(&self, request: &Request, read: impl Fn(&Answer) -> Result<T>) -> Result<T> {
        let Identity { login, throttle } = &*self.identity;
        self.transport.send(login, throttle, request, self.deadline, read).await
    }

    /// Sends and decodes; an empty answer is an error.
    pub(crate) async fn call<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        let read = |answer: &Answer| {
            answer.decode(&request.call)?.ok_or_else(|| Error::Empty { call: request.call.clone() })
        };
        self.send(&request, read).await
    }

    /// Sends; what the answer says is of no interest.
    pub(crate) async fn call_without_answer(&self, request: Request) -> Result<()> {
        self.send(&request, |_| Ok(())).await
    }

    /// A long poll; `None` when there was nothing.
    pub(crate) async fn poll<T: DeserializeOwned>(&self, request: Request) -> Result<Option<T>> {
        let Identity { login, throttle } = &*self.identity;
        self.transport.poll(login, throttle, &request).await?.decode(&request.call)
    }

    pub(crate) async fn download(&self, request: Request, sink: Sink<'_>) -> Result<u64> {
        let Identity { login, throttle } = &*self.identity;
        self.transport.download(login, throttle, &request, sink).await
    }
}

/// The address, if it can be one of an organization. Whatever follows the path is dropped.
fn checked(url: &Url) -> Result<Url> {
    let refused = |reason: &str| Error::Setting { name: "URL", reason: reason.to_owned(), source: None };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(refused(
            "it must be an http or https address, for example https://dev.azure.com/organization",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it must not hold a user or a password; give the token by itself"));
    }
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(url: &str) -> Result<Connection> {
        Connection::new(&url.parse().unwrap(), Credential::Bearer("t".into()), HttpSettings::default())
    }

    #[test]
    fn addresses_that_cannot_be_an_organization_are_refused() {
        for url in ["ftp://x/", "file:///x", "https://user:hunter2@dev.azure.com/x"] {
            let error = connect(url).unwrap_err().to_string();
            assert!(error.starts_with("the setting URL cannot be used"), "{error}");
            assert!(!error.contains("hunter2"));
        }
        assert_eq!(connect("https://dev.azure.com/x?y#z").unwrap().url().as_str(), "https://dev.azure.com/x");
    }

    #[test]
    fn proxies_that_are_none_are_refused_without_being_shown() {
        let mut settings = HttpSettings::default();
        settings.proxy.https = Some("http://user:hunter2@:x".into());
        let url = "https://dev.azure.com/x".parse().unwrap();
        let error = Connection::new(&url, Credential::Bearer("t".into()), settings).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
    }
}
