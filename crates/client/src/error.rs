//! What can go wrong with a call.

use std::fmt;
use std::time::Duration;

use dayfly_protocol::error::type_key;
use dayfly_protocol::{crypto, json};
use http::StatusCode;

use crate::operation::Operation;

/// `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call with its object: "renew the job request 12 of pool 3".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub operation: Operation,
    /// On what.
    pub object: String,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.operation.verb())?;
        if !self.object.is_empty() {
            write!(formatter, " {}", self.object)?;
        }
        Ok(())
    }
}

/// An answer of the service that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAnswer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The short .NET type of the error, such as `TaskAgentNotFoundException`, or the `error` of an OAuth
    /// answer.
    pub type_key: Option<String>,
    /// The service's own words.
    pub message: String,
    /// `ActivityId` or `X-VSS-E2EID`: what Microsoft's support asks for.
    pub activity_id: Option<String>,
    /// When the service wants to be asked again (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// The service says that the organization is offline (`X-VSS-HostOfflineError`); asking again is no use
    /// for now.
    pub host_offline: bool,
}

/// Why a call failed. Displays the call, its object and the service's message; the source holds the rest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used.
    #[error("the setting {name} cannot be used: {reason}")]
    Setting {
        /// Which.
        name: &'static str,
        /// Why not.
        reason: String,
        /// What the library below said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The service answered with an error.
    #[error("cannot {call}: the service answered {}{}: {}", .answer.status.as_u16(), TypeKey(.answer), .answer.message)]
    Service {
        /// The call.
        call: Box<Call>,
        /// The answer.
        answer: Box<ServiceAnswer>,
    },
    /// The agent's clock and the service's differ so much that the service does not accept the agent's login.
    #[error("cannot {call}: this machine's clock and the service's differ too much: {}", .answer.message)]
    ClockSkew {
        /// The call.
        call: Box<Call>,
        /// The answer.
        answer: Box<ServiceAnswer>,
        /// Whether it goes on for longer than half an hour; then trying again is given up
        /// (`MessageListener.cs`).
        given_up: bool,
    },
    /// The service answered with a sign-in page.
    #[error("cannot {call}: the service answered {} with a sign-in page; check the address and the credential", .status.as_u16())]
    SignIn {
        /// The call.
        call: Box<Call>,
        /// The HTTP status.
        status: StatusCode,
    },
    /// Something that is not Azure DevOps answered: a page in HTML, of a proxy for example.
    #[error("cannot {call}: the answer {} is a web page{}, not of Azure DevOps; check the address and the \
        proxy", .status.as_u16(), Title(.title))]
    Html {
        /// The call.
        call: Box<Call>,
        /// The HTTP status.
        status: StatusCode,
        /// The page's title.
        title: Option<String>,
    },
    /// The service sent us elsewhere, which calls do not follow.
    #[error("cannot {call}: the service answered {} and points to another address; check the organization's \
        address", .status.as_u16())]
    Redirect {
        /// The call.
        call: Box<Call>,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The service was not reached, or the connection broke.
    #[error("cannot {call}: {}", unreached(*.sent, .address, .proxy.as_deref(), .cause))]
    Connection {
        /// The call.
        call: Box<Call>,
        /// Whether the service may have received the request.
        sent: bool,
        /// Scheme, host and port.
        address: String,
        /// Those of the proxy on the way, if there is one.
        proxy: Option<Box<str>>,
        /// What the HTTP client said. Not a source: what matters of its many layers is in the text.
        cause: Box<reqwest::Error>,
    },
    /// No answer in time.
    #[error("cannot {call}: no answer within {:.1} s", .after.as_secs_f32())]
    Deadline {
        /// The call.
        call: Box<Call>,
        /// How long we waited in all.
        after: Duration,
    },
    /// The answer is not what the call should give.
    #[error("cannot {call}: the answer is not of the expected form")]
    Body {
        /// The call.
        call: Box<Call>,
        /// What is wrong with it.
        #[source]
        source: json::Error,
    },
    /// The answer is empty.
    #[error("cannot {call}: the answer is empty")]
    Empty {
        /// The call.
        call: Box<Call>,
    },
    /// The answer is longer than any we take.
    #[error("cannot {call}: the answer has more than {limit_bytes} bytes")]
    TooLong {
        /// The call.
        call: Box<Call>,
        /// The most we take.
        limit_bytes: usize,
    },
    /// What the call should find does not exist.
    #[error("cannot {call}: nothing has that name; check the spelling and what the credential can see")]
    NoneFound {
        /// The call.
        call: Box<Call>,
    },
    /// The request could not be written.
    #[error("cannot {call}: the request cannot be written as JSON")]
    Encode {
        /// The call.
        call: Box<Call>,
        /// Why not.
        #[source]
        source: json::Error,
    },
    /// The agent's key could not sign its login.
    #[error("cannot {call}: the agent's key cannot be used")]
    Key {
        /// The call.
        call: Box<Call>,
        /// Why not.
        #[source]
        source: crypto::Error,
    },
    /// A file to be uploaded could not be read.
    #[error("cannot {call}: the file cannot be read")]
    Read {
        /// The call.
        call: Box<Call>,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What was downloaded could not be written.
    #[error("cannot {call}: what was downloaded cannot be written")]
    Write {
        /// The call.
        call: Box<Call>,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// ` (TypeKey)`, or nothing.
struct TypeKey<'a>(&'a ServiceAnswer);

impl fmt::Display for TypeKey<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.type_key.as_ref().map_or(Ok(()), |key| write!(formatter, " ({key})"))
    }
}

/// ` titled "…"`, or nothing.
struct Title<'a>(&'a Option<String>);

impl fmt::Display for Title<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |title| write!(formatter, " titled {title:?}"))
    }
}

/// What became of a connection, and what to do if that is known.
fn unreached(sent: bool, address: &str, proxy: Option<&str>, cause: &reqwest::Error) -> String {
    let reason = plain_reason(cause);
    match tls_error(cause) {
        _ if sent => format!("the connection broke before the answer was complete: {reason}"),
        Some(rustls::Error::InvalidCertificate(_)) => {
            format!(
                "the service's certificate is not trusted; check the address and the files of certificate \
                    authorities: {reason}"
            )
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            format!("{address} does not speak TLS; does the address begin with http:// instead?")
        }
        _ => match proxy {
            None => format!("cannot reach {address}: {reason}"),
            Some(proxy) if is_of_connector(cause) => {
                format!("cannot reach the proxy {proxy} on the way to {address}: {reason}")
            }
            Some(proxy) => format!("the proxy {proxy} does not let us through to {address}: {reason}"),
        },
    }
}

/// Whether the name was not found or the connection not made, as the HTTP library says it: not what came over
/// the connection.
fn is_of_connector(cause: &reqwest::Error) -> bool {
    std::iter::successors(Some(cause as &(dyn std::error::Error + 'static)), |error| inner(*error))
        .any(|error| matches!(error.to_string().as_str(), "tcp connect error" | "dns error"))
}

/// What an error is made of. An I/O error does not name what it wraps as its source.
fn inner<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(wrapped) => Some(wrapped as &(dyn std::error::Error + 'static)),
        None => error.source(),
    }
}

/// What TLS did not take.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| inner(*error))
        .find_map(|error| error.downcast_ref())
}

/// The innermost reason, such as "connection refused", without the number that the system has for it.
fn plain_reason(error: &reqwest::Error) -> String {
    let causes =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| inner(*error));
    let text = causes.last().map(ToString::to_string).unwrap_or_default();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        // Not the first of an abbreviation.
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// An error with all its causes on one line, for people.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What an error means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The credential is not valid (401 after all tries, a sign-in page, a refused client).
    Unauthorized,
    /// The credential is valid but may not do that.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The agent was deleted.
    AgentNotFound,
    /// The pool was deleted, or the credential may not see it.
    PoolNotFound,
    /// An agent of that name exists.
    AgentExists,
    /// The agent is not allowed to be changed now: a job runs on it.
    JobStillRunning,
    /// The agent's version is too old.
    VersionNotSupported,
    /// The session is gone; a new one can be made.
    SessionExpired,
    /// The agent has another session.
    SessionConflict,
    /// The agent's login was revoked; the agent ends quietly.
    TokenRevoked,
    /// The job request is gone, or its lock belongs to somebody else: nobody waits for this job any more.
    JobNotFound,
    /// The plan is gone, has ended, or does not take this event.
    PlanRejected,
    /// A timeline of that id exists.
    TimelineExists,
    /// It collides with what is there already.
    Conflict,
    /// The clocks differ too much.
    ClockSkew,
    /// Too many requests.
    Throttled {
        /// When to ask again, if the service said so.
        after: Option<Duration>,
    },
    /// It may work later: the service is away or has an error of its own, the network failed.
    Transient,
    /// The service does not understand the request.
    Invalid,
    /// Something answered that does not speak this protocol.
    Protocol,
    /// Something is wrong here and not at the service: a setting, a key, a file.
    Setting,
}

impl Error {
    /// What the error means, by the body's `typeKey` first.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Setting { .. }
            | Error::Key { .. }
            | Error::Encode { .. }
            | Error::Read { .. }
            | Error::Write { .. } => ErrorKind::Setting,
            Error::Service { call, answer } => answer.kind(call.operation),
            Error::ClockSkew { .. } => ErrorKind::ClockSkew,
            Error::SignIn { .. } => ErrorKind::Unauthorized,
            Error::NoneFound { call } if call.operation == Operation::FindPool => ErrorKind::PoolNotFound,
            Error::NoneFound { .. } => ErrorKind::NotFound,
            Error::Html { status, .. } if is_passing(*status) => ErrorKind::Transient,
            Error::Body { source, .. } if source.is_truncated() => ErrorKind::Transient,
            Error::Connection { sent: false, cause, .. }
                if matches!(tls_error(cause), Some(rustls::Error::InvalidMessage(_))) =>
            {
                ErrorKind::Protocol
            }
            Error::Connection { .. } | Error::Deadline { .. } | Error::Empty { .. } => ErrorKind::Transient,
            Error::Html { .. } | Error::Redirect { .. } | Error::Body { .. } | Error::TooLong { .. } => {
                ErrorKind::Protocol
            }
        }
    }

    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::ClockSkew { given_up, .. } => !given_up,
            Error::Service { answer, .. } if answer.host_offline => false,
            _ => matches!(self.kind(), ErrorKind::Transient | ErrorKind::Throttled { .. }),
        }
    }

    /// Whether the service surely did nothing of what was asked: it was not reached, or it said "later". Any
    /// other error that [may pass](Error::is_retryable) leaves open whether the call had its effect.
    pub fn left_untouched(&self) -> bool {
        match self {
            _ if self.is_of_login() => true,
            Error::Connection { sent, .. } => !sent,
            Error::Service { answer, .. } => {
                matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            }
            _ => false,
        }
    }

    /// Whether it is the token that could not be had, so that the call itself was not made.
    pub(crate) fn is_of_login(&self) -> bool {
        self.call().is_some_and(|call| call.operation == Operation::GetToken)
    }

    /// When the service wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.answer().and_then(|answer| answer.retry_after)
    }

    /// The service's answer, if there was one that is an error.
    pub fn answer(&self) -> Option<&ServiceAnswer> {
        match self {
            Error::Service { answer, .. } | Error::ClockSkew { answer, .. } => Some(answer),
            _ => None,
        }
    }

    /// The call that failed; none for settings.
    pub fn call(&self) -> Option<&Call> {
        match self {
            Error::Setting { .. } => None,
            Error::Service { call, .. }
            | Error::ClockSkew { call, .. }
            | Error::SignIn { call, .. }
            | Error::Html { call, .. }
            | Error::Redirect { call, .. }
            | Error::Connection { call, .. }
            | Error::Deadline { call, .. }
            | Error::Body { call, .. }
            | Error::Empty { call }
            | Error::TooLong { call, .. }
            | Error::NoneFound { call }
            | Error::Encode { call, .. }
            | Error::Key { call, .. }
            | Error::Read { call, .. }
            | Error::Write { call, .. } => Some(call),
        }
    }

    /// A stable word for metrics.
    pub fn label(&self) -> &'static str {
        match self.kind() {
            ErrorKind::Unauthorized => "unauthorized",
            ErrorKind::Forbidden => "forbidden",
            ErrorKind::NotFound => "not_found",
            ErrorKind::AgentNotFound => "agent_not_found",
            ErrorKind::PoolNotFound => "pool_not_found",
            ErrorKind::AgentExists => "agent_exists",
            ErrorKind::JobStillRunning => "job_still_running",
            ErrorKind::VersionNotSupported => "version_not_supported",
            ErrorKind::SessionExpired => "session_expired",
            ErrorKind::SessionConflict => "session_conflict",
            ErrorKind::TokenRevoked => "token_revoked",
            ErrorKind::JobNotFound => "job_not_found",
            ErrorKind::PlanRejected => "plan_rejected",
            ErrorKind::TimelineExists => "timeline_exists",
            ErrorKind::Conflict => "conflict",
            ErrorKind::ClockSkew => "clock_skew",
            ErrorKind::Throttled { .. } => "throttled",
            ErrorKind::Transient => "transient",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Protocol => "protocol",
            ErrorKind::Setting => "setting",
        }
    }
}

/// Statuses of gateways and of a service in trouble. .NET repeats 502, 503 and 504
/// (`VssHttpRetryMessageHandler.cs`) and, for tokens, 500.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 500 | 502 | 503 | 504)
}

impl ServiceAnswer {
    fn kind(&self, operation: Operation) -> ErrorKind {
        match self.type_key.as_deref() {
            Some(type_key::AGENT_NOT_FOUND) => return ErrorKind::AgentNotFound,
            Some(type_key::POOL_NOT_FOUND) => return ErrorKind::PoolNotFound,
            Some(type_key::AGENT_EXISTS) => return ErrorKind::AgentExists,
            Some(type_key::JOB_STILL_RUNNING) => return ErrorKind::JobStillRunning,
            Some(type_key::SESSION_EXPIRED) => return ErrorKind::SessionExpired,
            Some(type_key::SESSION_CONFLICT) => return ErrorKind::SessionConflict,
            Some(type_key::ACCESS_TOKEN_EXPIRED) => return ErrorKind::TokenRevoked,
            Some(type_key::JOB_NOT_FOUND | type_key::JOB_TOKEN_EXPIRED) => return ErrorKind::JobNotFound,
            Some(type_key::PLAN_NOT_FOUND | type_key::PLAN_SECURITY | type_key::PLAN_TERMINATED) => {
                return ErrorKind::PlanRejected;
            }
            Some(type_key::TIMELINE_EXISTS) => return ErrorKind::TimelineExists,
            Some("TaskAgentVersionNotSupportedException" | "InvalidTaskAgentVersionException") => {
                return ErrorKind::VersionNotSupported;
            }
            Some(type_key::ACCESS_DENIED) => return ErrorKind::Forbidden,
            Some(type_key::RATE_LIMITED) => return ErrorKind::Throttled { after: self.retry_after },
            _ => {}
        }
        match self.status {
            StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
            // The token endpoint refuses a client with 400 (RFC 6749, 5.2).
            StatusCode::BAD_REQUEST if operation == Operation::GetToken => ErrorKind::Unauthorized,
            StatusCode::FORBIDDEN => ErrorKind::Forbidden,
            StatusCode::NOT_FOUND | StatusCode::GONE => ErrorKind::NotFound,
            StatusCode::CONFLICT => ErrorKind::Conflict,
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::Throttled { after: self.retry_after },
            status if is_passing(status) => ErrorKind::Transient,
            status if status.is_client_error() => ErrorKind::Invalid,
            _ => ErrorKind::Protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, type_key: Option<&str>) -> Error {
        Error::Service {
            call: Box::new(Call { operation: Operation::RenewJobRequest, object: "12 of pool 3".into() }),
            answer: Box::new(ServiceAnswer {
                status: StatusCode::from_u16(status).unwrap(),
                type_key: type_key.map(Into::into),
                message: "The job request is gone.".into(),
                activity_id: None,
                retry_after: None,
                host_offline: false,
            }),
        }
    }

    #[test]
    fn type_key_goes_before_the_status() {
        assert_eq!(error(404, Some(type_key::JOB_TOKEN_EXPIRED)).kind(), ErrorKind::JobNotFound);
        assert_eq!(error(500, Some(type_key::AGENT_NOT_FOUND)).kind(), ErrorKind::AgentNotFound);
        assert_eq!(error(404, Some("SomethingElse")).kind(), ErrorKind::NotFound);
        assert_eq!(error(503, None).kind(), ErrorKind::Transient);
        assert_eq!(error(418, None).kind(), ErrorKind::Invalid);
    }

    #[test]
    fn text_names_call_object_and_the_services_words() {
        assert_eq!(
            error(404, Some(type_key::JOB_NOT_FOUND)).to_string(),
            "cannot renew the job request 12 of pool 3: the service answered 404 (TaskAgentJobNotFoundException): The job request is gone."
        );
    }

    #[test]
    fn only_what_may_pass_is_retryable() {
        assert!(error(503, None).is_retryable());
        assert!(error(429, None).is_retryable());
        assert!(!error(401, None).is_retryable());
        assert!(!error(404, None).is_retryable());
    }
}
