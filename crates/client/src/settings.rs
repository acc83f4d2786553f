//! What a connection is made with.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dayfly_protocol::channel::WorkerProxy;

use crate::observer::Observer;
use crate::retry::RetryPolicy;

/// Settings of the HTTP clients behind a connection and all connections derived from it.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// `User-Agent`.
    pub user_agent: String,
    /// Files with further certificate authorities, PEM, each with one or more certificates. They are trusted
    /// beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Proxies.
    pub proxy: ProxySettings,
    /// Speak HTTP/2 from the first byte to `http` addresses, where it cannot be negotiated: only for a
    /// service that is known to understand it, such as the emulator. Then long polls share connections as
    /// they do with `https`, instead of having one each.
    pub plain_http2: bool,
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// How long a call may take with all its attempts and the pauses between them. .NET's client gives a
    /// request 100 s (`VssHttpRequestSettings.cs`).
    pub call_deadline: Duration,
    /// How long a long poll may stay open. The service answers after about 50 s.
    pub poll_timeout: Duration,
    /// How failed attempts are repeated.
    pub retry: RetryPolicy,
    /// Who is told of every attempt.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            user_agent: concat!("dayfly/", env!("CARGO_PKG_VERSION")).to_owned(),
            ca_files: Vec::new(),
            proxy: ProxySettings::default(),
            plain_http2: false,
            connect_timeout: Duration::from_secs(15),
            call_deadline: Duration::from_secs(100),
            poll_timeout: Duration::from_secs(90),
            retry: RetryPolicy::default(),
            observer: None,
        }
    }
}

/// Proxies, in the form of the well-known environment variables. Addresses may hold a user and a password, so
/// nothing of them is printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// Proxy for `http` addresses (`HTTP_PROXY`).
    pub http: Option<String>,
    /// Proxy for `https` addresses (`HTTPS_PROXY`).
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas (`NO_PROXY`).
    pub no_proxy: Option<String>,
}

/// One proxy for all addresses.
impl From<&WorkerProxy> for ProxySettings {
    fn from(proxy: &WorkerProxy) -> Self {
        ProxySettings {
            http: Some(proxy.address.clone()),
            https: Some(proxy.address.clone()),
            no_proxy: Some(proxy.no_proxy.clone()),
        }
    }
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ProxySettings")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}
