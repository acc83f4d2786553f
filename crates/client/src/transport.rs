//! Sends requests: HTTP clients, headers, deadlines, repetitions.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};
use tokio_util::io::ReaderStream;
use url::Url;
use uuid::Uuid;

use crate::answer::Answer;
use crate::clock::Clock;
use crate::error::{Call, Error, Result};
use crate::file::open_file;
use crate::login::Login;
use crate::operation::{Operation, Repeat};
use crate::polls::{Place, Polls};
use crate::request::{Content, Payload, Request};
use crate::retry;
use crate::settings::{HttpSettings, ProxySettings};
use crate::throttle::{Throttle, limit_left};
use crate::tls::{Roots, configuration};

/// The longest answer that is kept in memory.
const MAX_ANSWER_BYTES: usize = dayfly_protocol::json::MAX_DOCUMENT_BYTES;

/// How often a token may be refused within one call (`VssHttpMessageHandler.cs`).
pub(crate) const MAX_LOGINS: u32 = 3;

/// How long an unused connection is kept: longer than the pause of an agent between two polls (5 to 15 s,
/// `MessageListener.cs`), shorter than what load balancers cut (4 minutes at Azure's).
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

const X_TFS_FED_AUTH_REDIRECT: HeaderName = HeaderName::from_static("x-tfs-fedauthredirect");
const X_TFS_SESSION: HeaderName = HeaderName::from_static("x-tfs-session");
const X_VSS_E2E_ID: HeaderName = HeaderName::from_static("x-vss-e2eid");
const X_VSS_USER_DATA: HeaderName = HeaderName::from_static("x-vss-userdata");

/// Clients of one kind: for addresses with TLS, or without.
struct Clients {
    tls: rustls::ClientConfig,
    calls: reqwest::Client,
}

/// What all connections derived from one have in common.
pub(crate) struct Transport {
    settings: HttpSettings,
    /// Which proxy a request takes, for errors only: the HTTP library does not say.
    proxies: Matcher,
    /// Groups our requests in the service's logs.
    session: String,
    clock: Clock,
    plain: Mutex<Option<Clients>>,
    secure: Mutex<Option<Clients>>,
    plain_polls: Polls,
    secure_polls: Polls,
}

impl Transport {
    /// Checks the settings; makes no client yet.
    pub(crate) fn new(settings: HttpSettings) -> Result<Self> {
        proxies(&settings)?;
        Ok(Transport {
            proxies: matcher(&settings),
            settings,
            session: Uuid::new_v4().to_string(),
            clock: Clock::default(),
            plain: Mutex::default(),
            secure: Mutex::default(),
            plain_polls: Polls::default(),
            secure_polls: Polls::default(),
        })
    }

    pub(crate) fn settings(&self) -> &HttpSettings {
        &self.settings
    }

    /// The proxy on the way to this address: scheme, host and port, and nothing of its login.
    pub(crate) fn proxy(&self, url: &Url) -> Option<String> {
        let proxy = self.proxies.intercept(&url.as_str().parse::<Uri>().ok()?)?;
        let (scheme, authority) = (proxy.uri().scheme_str()?, proxy.uri().authority()?);
        let host = authority.host();
        Some(match authority.port_u16() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        })
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether a request to this address needs certificate authorities: for itself, or for the proxy on its
    /// way.
    fn needs_tls(&self, url: &Url) -> bool {
        let secure_proxy =
            self.settings.proxy.http.as_deref().is_some_and(|proxy| proxy.starts_with("https:"));
        url.scheme() != "http" || secure_proxy
    }

    /// Runs `use_clients` on the clients for this address, which are made when they are first needed.
    fn with_clients<T>(&self, url: &Url, use_clients: impl FnOnce(&Clients) -> Result<T>) -> Result<T> {
        let (cell, roots) = match self.needs_tls(url) {
            true => (&self.secure, Roots::System),
            false => (&self.plain, Roots::None),
        };
        let mut clients = cell.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = match &mut *clients {
            Some(clients) => clients,
            empty => {
                let tls = configuration(roots, &self.settings.ca_files)?;
                let calls = client(&self.settings, &tls, Protocol::Negotiated)?;
                empty.insert(Clients { tls, calls })
            }
        };
        use_clients(clients)
    }

    pub(crate) fn calls_client(&self, url: &Url) -> Result<reqwest::Client> {
        self.with_clients(url, |clients| Ok(clients.calls.clone()))
    }

    fn poll_place(&self, url: &Url) -> Result<Place> {
        let is_secure = self.needs_tls(url);
        let polls = if is_secure { &self.secure_polls } else { &self.plain_polls };
        let protocol =
            if self.settings.plain_http2 && !is_secure { Protocol::Http2 } else { Protocol::Negotiated };
        let tls = self.with_clients(url, |clients| Ok(clients.tls.clone()))?;
        polls.place(|| client(&self.settings, &tls, protocol))
    }

    /// Sends a request and reads the answer, repeating it as its operation allows until the deadline; also
    /// when the answer cannot be read because it was cut short.
    pub(crate) async fn send<T>(
        &self,
        login: &Login,
        throttle: &Throttle,
        request: &Request,
        within: Duration,
        read: impl Fn(&Answer) -> Result<T>,
    ) -> Result<T> {
        let operation = request.call.operation;
        let started = Instant::now();
        let deadline = started + within;
        let in_time = async {
            let mut attempt = 0;
            loop {
                attempt += 1;
                let answer = self.attempt(login, throttle, request, deadline).await;
                self.observe(operation, &answer);
                let error = match answer.and_then(|answer| read(&answer)) {
                    Ok(content) => return Ok(content),
                    Err(error) => error,
                };
                let Some(pause) = retry::pause(&self.settings.retry, operation, attempt, &error) else {
                    return Err(error);
                };
                // A pause beyond the deadline cannot end well; the error at hand tells more than "no answer
                // in time".
                if Instant::now() + pause >= deadline {
                    return Err(error);
                }
                tracing::debug!(%error, attempt, ?pause, "call failed, trying again");
                tokio::time::sleep(pause).await;
            }
        };
        match timeout_at(deadline, in_time).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Deadline { call: request.call.clone(), after: started.elapsed() }),
        }
    }

    /// One attempt, with new tokens as long as the service asks for them.
    async fn attempt(
        &self,
        login: &Login,
        throttle: &Throttle,
        request: &Request,
        deadline: Instant,
    ) -> Result<Answer> {
        let operation = request.call.operation;
        if operation.yields_to_throttling()
            && let Some(until) = throttle.pause()
            && until < deadline
        {
            tokio::time::sleep_until(until).await;
        }
        let mut logins = 0;
        loop {
            let authorization = login.authorization(self).await?;
            logins += 1;
            let client = self.calls_client(&request.url)?;
            let prepared = self.prepare(request, Some(authorization.value), logins > 1).await?;
            let limit = (Instant::now() + operation.attempt_timeout()).min(deadline);
            let answer = self.exchange(&client, &request.call, prepared, limit).await?;
            self.note_limits(throttle, &answer.headers);
            if answer.is_challenge() && logins < MAX_LOGINS && login.refused(authorization.generation).await {
                continue;
            }
            return answer.check(&request.call);
        }
    }

    pub(crate) fn note_limits(&self, throttle: &Throttle, headers: &HeaderMap) {
        throttle.note(headers);
        if let (Some(observer), Some(left)) = (&self.settings.observer, limit_left(headers)) {
            observer.rate_limit_left(left);
        }
    }

    fn observe(&self, operation: Operation, outcome: &Result<Answer>) {
        if let Some(observer) = &self.settings.observer {
            observer.attempted(operation, outcome.as_ref().map(|answer| answer.body.len()));
        }
    }

    /// A long poll: one attempt on a client of its own, closed when the future is dropped.
    pub(crate) async fn poll(&self, login: &Login, throttle: &Throttle, request: &Request) -> Result<Answer> {
        debug_assert_eq!(request.call.operation.repeat(), Repeat::Never, "the caller's loop repeats polls");
        let outcome = self.poll_once(login, throttle, request).await;
        self.observe(request.call.operation, &outcome);
        outcome
    }

    async fn poll_once(&self, login: &Login, throttle: &Throttle, request: &Request) -> Result<Answer> {
        let mut logins = 0;
        loop {
            let authorization = login.authorization(self).await?;
            logins += 1;
            let place = self.poll_place(&request.url)?;
            let prepared = self.prepare(request, Some(authorization.value), logins > 1).await?;
            let limit = Instant::now() + self.settings.poll_timeout;
            let answer = self.exchange(&place.client, &request.call, prepared, limit).await?;
            self.note_limits(throttle, &answer.headers);
            if answer.is_challenge() && logins < MAX_LOGINS && login.refused(authorization.generation).await {
                continue;
            }
            return answer.check(&request.call);
        }
    }

    /// Asks a token endpoint; one attempt. The answer is not checked.
    pub(crate) async fn post_form(&self, call: &Call, url: &Url, form: &[(&str, &str)]) -> Result<Answer> {
        let client = self.calls_client(url)?;
        let prepared = client
            .post(url.clone())
            .header(ACCEPT, "application/json")
            .header(X_TFS_SESSION, &self.session)
            .form(form)
            .build()
            .map_err(|source| connection_error(call, false, source, None))?;
        let limit = Instant::now() + Operation::GetToken.attempt_timeout();
        self.exchange(&client, call, prepared, limit).await
    }

    /// Asks the metadata service of the machine, which no proxy reaches; one attempt. The answer is not
    /// checked.
    pub(crate) async fn get_metadata(&self, call: &Call, url: &Url) -> Result<Answer> {
        let direct = HttpSettings { proxy: ProxySettings::default(), ..self.settings.clone() };
        let client = client(&direct, &configuration(Roots::None, &[])?, Protocol::Negotiated)?;
        let prepared = client
            .get(url.clone())
            .header("Metadata", "true")
            .build()
            .map_err(|source| connection_error(call, false, source, None))?;
        let limit = Instant::now() + Operation::GetToken.attempt_timeout();
        self.exchange(&client, call, prepared, limit).await
    }

    pub(crate) async fn prepare(
        &self,
        request: &Request,
        authorization: Option<HeaderValue>,
        again: bool,
    ) -> Result<reqwest::Request> {
        let version = request.call.operation.api_version();
        let mut prepared = reqwest::Request::new(request.method.clone(), request.url.clone());
        let headers = prepared.headers_mut();
        let value = |text: String| {
            HeaderValue::try_from(text).expect("media types and identifiers are letters, digits and marks")
        };
        headers.insert(ACCEPT, value(format!("{};api-version={version}", request.accept)));
        // The service's messages are looked at (`Current server time is`), so they have to be in English.
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("en-US"));
        headers.insert(X_TFS_FED_AUTH_REDIRECT, HeaderValue::from_static("Suppress"));
        headers.insert(X_TFS_SESSION, value(self.session.clone()));
        headers.insert(X_VSS_E2E_ID, value(Uuid::new_v4().to_string()));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        if again {
            headers.insert(X_VSS_USER_DATA, HeaderValue::from_static(""));
        }
        for (name, content) in &request.headers {
            headers.insert(name.clone(), content.clone());
        }
        let body = match &request.payload {
            Payload::None => None,
            Payload::Json(body) => {
                let media_type = value(format!("application/json; charset=utf-8; api-version={version}"));
                headers.insert(CONTENT_TYPE, media_type);
                Some(reqwest::Body::from(body.clone()))
            }
            Payload::Octets(content) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                Some(match content {
                    Content::Bytes(bytes) => bytes.clone().into(),
                    Content::File(file) => {
                        let read = |source| Error::Read { call: request.call.clone(), source };
                        let (file, length) = open_file(file).await.map_err(read)?;
                        // The service takes no chunked uploads. A file that grows meanwhile is sent up to its
                        // length at the start.
                        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                        reqwest::Body::wrap_stream(ReaderStream::new(file.take(length)))
                    }
                })
            }
        };
        *prepared.body_mut() = body;
        tell_empty_body(&mut prepared);
        Ok(prepared)
    }

    /// Sends once and reads the answer to its end, within the time and the size allowed.
    async fn exchange(
        &self,
        client: &reqwest::Client,
        call: &Call,
        request: reqwest::Request,
        limit: Instant,
    ) -> Result<Answer> {
        let started = Instant::now();
        let whole = async {
            let mut response = client.execute(request).await.map_err(|source| {
                let sent = !source.is_connect() && !source.is_builder();
                let proxy = source.url().and_then(|url| self.proxy(url));
                connection_error(call, sent, source, proxy)
            })?;
            let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
            let body = read_whole(call, response).await?;
            Ok(Answer { status, headers, body })
        };
        match timeout_at(limit, whole).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Deadline { call: Box::new(call.clone()), after: started.elapsed() }),
        }
    }
}

/// Says `Content-Length: 0` where a body may be and none is. HTTP/1.1 servers refuse such a request without
/// it (411), and our HTTP library leaves it out; .NET sends it for the same methods
/// (`HttpMethod.MustHaveRequestBody`).
fn tell_empty_body(request: &mut reqwest::Request) {
    let may_have_body = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let is_empty = request.body().is_none_or(|body| body.as_bytes().is_some_and(<[u8]>::is_empty));
    if may_have_body && is_empty {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
}

/// The error with no more of the address than scheme, host and port: our own text names the rest by its
/// object.
pub(crate) fn connection_error(
    call: &Call,
    sent: bool,
    source: reqwest::Error,
    proxy: Option<String>,
) -> Error {
    let address =
        source.url().map_or_else(|| "the service".to_owned(), |url| url.origin().ascii_serialization());
    Error::Connection {
        call: Box::new(call.clone()),
        sent,
        address,
        proxy: proxy.map(String::into_boxed_str),
        cause: Box::new(source.without_url()),
    }
}

/// Reads an answer to its end, bounded.
pub(crate) async fn read_whole(call: &Call, mut response: reqwest::Response) -> Result<Bytes> {
    let too_long = || Error::TooLong { call: Box::new(call.clone()), limit_bytes: MAX_ANSWER_BYTES };
    if response.content_length().is_some_and(|length| length > MAX_ANSWER_BYTES as u64) {
        return Err(too_long());
    }
    let read = |source| connection_error(call, true, source, None);
    let Some(first) = response.chunk().await.map_err(read)? else { return Ok(Bytes::new()) };
    let Some(second) = response.chunk().await.map_err(read)? else { return Ok(first) };
    let mut body = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
        next = response.chunk().await.map_err(read)?;
    }
    Ok(body.freeze())
}

/// Finds the proxies of the settings as the HTTP library does.
fn matcher(settings: &HttpSettings) -> Matcher {
    let proxy = &settings.proxy;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Matcher::builder().http(text(&proxy.http)).https(text(&proxy.https)).no(text(&proxy.no_proxy)).build()
}

/// The proxies of the settings; none of the environment.
fn proxies(settings: &HttpSettings) -> Result<Vec<reqwest::Proxy>> {
    let bypass = settings.proxy.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
    let make = |name, address: &Option<String>, proxy: fn(&str) -> reqwest::Result<reqwest::Proxy>| {
        let Some(address) = address.as_deref().filter(|address| !address.trim().is_empty()) else {
            return Ok(None);
        };
        match proxy(address) {
            Ok(proxy) => Ok(Some(proxy.no_proxy(bypass.clone()))),
            // The address may hold a password, so neither it nor the library's words are repeated.
            Err(_) => Err(Error::Setting {
                name,
                reason:
                    "it is not the address of an HTTP proxy; expected for example http://proxy.example:3128"
                        .to_owned(),
                source: None,
            }),
        }
    };
    let http = make("HTTP_PROXY", &settings.proxy.http, |address| reqwest::Proxy::http(address))?;
    let https = make("HTTPS_PROXY", &settings.proxy.https, |address| reqwest::Proxy::https(address))?;
    Ok(http.into_iter().chain(https).collect())
}

/// Which HTTP a client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// What the service offers when TLS begins; HTTP/1.1 without TLS.
    Negotiated,
    /// HTTP/2 from the first byte.
    Http2,
}

/// A client by the settings.
fn client(
    settings: &HttpSettings,
    tls: &rustls::ClientConfig,
    protocol: Protocol,
) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(&settings.user_agent)
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_keepalive(Duration::from_secs(30))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(20))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .tls_backend_preconfigured(tls.clone())
        // Else the client would take proxies from the environment.
        .no_proxy();
    if protocol == Protocol::Http2 {
        builder = builder.http2_prior_knowledge();
    }
    for proxy in proxies(settings)? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| Error::Setting {
        name: "HTTP client",
        reason: "it cannot be made; check the user agent".to_owned(),
        source: Some(Box::new(error)),
    })
}
