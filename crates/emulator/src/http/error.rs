//! Errors as the service sends them: a status, and a body whose `typeKey` says what happened.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use dayfly_protocol::error::{WrappedException, type_key};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::state::Error;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    type_key: Cow<'static, str>,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        type_key: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, type_key: type_key.into(), message: message.into(), headers: Vec::new() }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The body of the request is not what it should be.
    pub(crate) fn invalid_body(reason: impl std::fmt::Display) -> Self {
        let message = format!("the request's body is not valid: {reason}");
        Self::new(StatusCode::BAD_REQUEST, "VssPropertyValidationException", message)
    }

    /// A parameter of the query or the path is not what it should be.
    pub(crate) fn invalid_parameter(name: &str, value: &str) -> Self {
        let message = format!("value `{value}` of parameter {name} is not valid");
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgumentValueException", message)
    }

    /// A parameter of the query is not there.
    pub(crate) fn missing_parameter(name: &str) -> Self {
        let message = format!("parameter {name} is required");
        Self::new(StatusCode::BAD_REQUEST, "ArgumentNullException", message)
    }

    /// The body is larger than the bound.
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("the request's body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestContentTooLargeException", message)
    }

    /// The request does not say how long its body is.
    pub(crate) fn length_required() -> Self {
        let message = "the request needs a `Content-Length`, which is 0 if it has no body";
        Self::new(StatusCode::LENGTH_REQUIRED, "VssServiceException", message)
    }

    /// The request cannot be carried out as it is.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgumentValueException", message)
    }

    /// A bound of the emulator's own is reached. Clients do not try that again.
    pub(crate) fn limit_reached(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "LimitReachedException", message)
    }

    /// What the request names is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, type_key::RESOURCE_NOT_FOUND, message)
    }

    /// There is nothing at this address.
    pub(crate) fn no_route(path: &str) -> Self {
        let message =
            format!("the controller for path '{path}' was not found or does not implement IController");
        Self::new(StatusCode::NOT_FOUND, type_key::RESOURCE_NOT_FOUND, message)
    }

    /// The caller is known, but may not do that.
    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, type_key::ACCESS_DENIED, message)
    }

    /// The caller has to log in. The challenge is what makes .NET's clients ask for a token
    /// (`VssOAuthCredential.cs`), and git ask for a password.
    pub(crate) fn unauthorized(message: impl Into<String>, realm: &str) -> Self {
        let bearer = format!("Bearer authorization_uri={realm}");
        let basic = format!("Basic realm=\"{realm}\"");
        let mut error = Self::new(StatusCode::UNAUTHORIZED, "UnauthorizedRequestException", message);
        for challenge in [bearer, basic] {
            if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                error = error.header(WWW_AUTHENTICATE, challenge);
            }
        }
        error
    }

    /// Something in the emulator or its machine failed. A full disk is told apart, since clients try again
    /// after a 500, for minutes, and in vain.
    pub(crate) fn internal(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "{what}");
        let status = if is_disk_full(error) {
            StatusCode::INSUFFICIENT_STORAGE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::new(status, "VssServiceException", format!("{what}: {error}"))
    }

    /// The emulator is stopping, or too slow.
    pub(crate) fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "VssServiceUnavailableException", message)
            .header(RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

/// Whether an error, or what caused it, is that the disk or a quota is full.
fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};

    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

impl From<Error> for ApiError {
    /// Statuses are the customary ones; clients look at the type only.
    fn from(error: Error) -> Self {
        let (status, type_key) = match &error {
            Error::PoolNotFound(_) => (StatusCode::NOT_FOUND, type_key::POOL_NOT_FOUND),
            Error::PoolExists(_) => (StatusCode::CONFLICT, "TaskAgentPoolExistsException"),
            Error::PoolInUse(_) => (StatusCode::CONFLICT, "DeploymentPoolInUseException"),
            Error::AgentNotFound { .. } => (StatusCode::NOT_FOUND, type_key::AGENT_NOT_FOUND),
            Error::AgentExists { .. } => (StatusCode::CONFLICT, type_key::AGENT_EXISTS),
            Error::JobStillRunning { .. } => (StatusCode::CONFLICT, type_key::JOB_STILL_RUNNING),
            Error::SessionConflict { .. } => (StatusCode::CONFLICT, type_key::SESSION_CONFLICT),
            Error::NoPublicKey(_) => (StatusCode::BAD_REQUEST, "InvalidArgumentValueException"),
            Error::SessionExpired(_) => (StatusCode::FORBIDDEN, type_key::SESSION_EXPIRED),
            Error::JobNotFound(_) => (StatusCode::NOT_FOUND, type_key::JOB_NOT_FOUND),
            Error::JobLockLost(_) => (StatusCode::FORBIDDEN, type_key::JOB_TOKEN_EXPIRED),
            Error::NoAgentMatches { .. } => (StatusCode::BAD_REQUEST, type_key::AGENT_NOT_FOUND),
            Error::PlanNotFound(_) => (StatusCode::NOT_FOUND, type_key::PLAN_NOT_FOUND),
            Error::PlanExists(_) => (StatusCode::CONFLICT, "TaskOrchestrationPlanAlreadyStartedException"),
            Error::PlanSecurity(_) => (StatusCode::FORBIDDEN, type_key::PLAN_SECURITY),
            Error::PlanJobNotFound { .. } => (StatusCode::NOT_FOUND, "TaskOrchestrationJobNotFoundException"),
            Error::JobCompleted { .. } => (StatusCode::CONFLICT, type_key::PLAN_TERMINATED),
            Error::JobExists { .. } => (StatusCode::CONFLICT, "TaskOrchestrationJobAlreadyAcquiredException"),
            Error::TimelineExists(_) => (StatusCode::CONFLICT, type_key::TIMELINE_EXISTS),
            Error::TimelineNotFound(_) => (StatusCode::NOT_FOUND, type_key::TIMELINE_NOT_FOUND),
            Error::RecordNotFound(_) => (StatusCode::NOT_FOUND, "TimelineRecordNotFoundException"),
            Error::LogNotFound(_) => (StatusCode::NOT_FOUND, "TaskOrchestrationPlanLogNotFoundException"),
            Error::AttachmentNotFound(_) => (StatusCode::NOT_FOUND, "DataNotFoundException"),
            Error::ProjectNotFound(_) => (StatusCode::NOT_FOUND, "ProjectDoesNotExistWithNameException"),
            Error::RepositoryNotFound(_) => (StatusCode::NOT_FOUND, "GitRepositoryNotFoundException"),
            Error::DefinitionNotFound(_) => (StatusCode::NOT_FOUND, "DefinitionNotFoundException"),
            Error::DefinitionExists(_) => (StatusCode::CONFLICT, "DefinitionExistsException"),
            Error::BuildNotFound(_) => (StatusCode::NOT_FOUND, "BuildNotFoundException"),
            Error::ArtifactExists { .. } => (StatusCode::CONFLICT, "ArtifactExistsException"),
            Error::SecureFileNotFound(_) | Error::ValidationNotFound(_) | Error::TaskNotWaiting(_) => {
                (StatusCode::NOT_FOUND, type_key::RESOURCE_NOT_FOUND)
            }
            Error::TestRunNotFound(_) => (StatusCode::NOT_FOUND, "TestObjectNotFoundException"),
            Error::ArtifactNotFound { .. } => (StatusCode::NOT_FOUND, "ArtifactNotFoundException"),
            Error::QueueNotFound(_) => (StatusCode::NOT_FOUND, "TaskAgentQueueNotFoundException"),
            Error::LimitReached { .. } | Error::DiskFull(_) => return Self::limit_reached(error.to_string()),
            Error::Invalid { .. } => (StatusCode::BAD_REQUEST, "InvalidArgumentValueException"),
        };
        Self::new(status, type_key, error.to_string())
    }
}

impl From<crate::stores::containers::Error> for ApiError {
    fn from(error: crate::stores::containers::Error) -> Self {
        use crate::stores::containers::Error as Containers;
        match error {
            Containers::NoContainer(_) | Containers::NoItem { .. } => Self::not_found(error.to_string()),
            Containers::Path(_)
            | Containers::LongPath { .. }
            | Containers::Chunk { .. }
            | Containers::Broken(_) => Self::bad_request(error.to_string()),
            Containers::TooManyItems { .. } | Containers::Full(_) => Self::limit_reached(error.to_string()),
            Containers::Disk { .. } => Self::internal("the file container failed", &error),
        }
    }
}

impl From<crate::runs::compile::Error> for ApiError {
    fn from(error: crate::runs::compile::Error) -> Self {
        use crate::runs::compile::Error as Queue;
        match error {
            Queue::State(error) => error.into(),
            Queue::Container(error) => error.into(),
            Queue::Compile { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "PipelineValidationException", error.to_string())
            }
            Queue::NoFile(_) | Queue::NotInRepository { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "InvalidPipelineOperationException", error.to_string())
            }
            Queue::Read { .. } | Queue::Artifacts { .. } | Queue::Snapshot(_) | Queue::Broken(_) => {
                Self::internal("could not queue the run", &error)
            }
        }
    }
}

/// The body of an error, with what .NET's serializer puts before it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "$id")]
    id: &'static str,
    inner_exception: Option<()>,
    #[serde(flatten)]
    exception: WrappedException,
}

/// The .NET type of an error, in full. Clients go by the short name; the namespace is the one that most of
/// its kind are in.
fn type_name(type_key: &str) -> String {
    let is_of = |kinds: &[&str]| kinds.iter().any(|kind| type_key.starts_with(kind));
    let namespace = if is_of(&["Vss"]) {
        "Microsoft.VisualStudio.Services.WebApi"
    } else if is_of(&["Build", "Definition", "Artifact"]) {
        "Microsoft.TeamFoundation.Build.WebApi"
    } else {
        "Microsoft.TeamFoundation.DistributedTask.WebApi"
    };
    format!("{namespace}.{type_key}, {namespace}")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Wire {
            id: "1",
            inner_exception: None,
            exception: WrappedException {
                message: self.message,
                type_name: Some(type_name(&self.type_key)),
                type_key: Some(self.type_key.into_owned()),
                error_code: 0,
                event_id: 3000,
            },
        };
        let text = dayfly_protocol::json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        response
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_what_may_pass() {
        let status = |error: &(dyn std::error::Error + 'static)| ApiError::internal("no log", error).status;
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(status(&full()), StatusCode::INSUFFICIENT_STORAGE);
        let nested = crate::stores::containers::Error::Disk { path: "a".into(), source: full() };
        assert_eq!(status(&nested), StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(status(&io::Error::from(io::ErrorKind::TimedOut)), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
