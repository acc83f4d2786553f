//! `InvokeRESTAPI@1`: calls an address of a service connection, and may then wait until somebody says by an
//! event of the plan how the step ended (`Tasks/InvokeRestApiV1`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_expressions::{Expression, Scope, Value, Values};
use dayfly_protocol::TaskResult;
use dayfly_protocol::job::{JobResources, ServiceEndpoint};
use futures::TryStreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::sync::oneshot;
use url::Url;

use super::ended::{Asking, Ended};
use super::inputs::Inputs;
use super::log::StepLog;

/// How long an answer may take (the task's documentation).
const LONGEST_ANSWER: Duration = Duration::from_secs(20);
/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// What is sent along unless the step has `headers`: all that a callback needs (`task.json`).
const HEADERS: &str = r#"{
    "Content-Type": "application/json",
    "PlanUrl": "$(system.CollectionUri)",
    "ProjectId": "$(system.TeamProjectId)",
    "HubName": "$(system.HostType)",
    "PlanId": "$(system.PlanId)",
    "JobId": "$(system.JobId)",
    "TimelineId": "$(system.TimelineId)",
    "TaskInstanceId": "$(system.TaskInstanceId)",
    "AuthToken": "$(system.AccessToken)"
}"#;
/// What `method` may be.
const METHODS: [Method; 8] = [
    Method::OPTIONS,
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::TRACE,
    Method::PATCH,
];

/// The call.
pub(super) struct InvokeRestApi {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<String>,
    criteria: Option<Expression>,
    waits_for_callback: bool,
}

impl InvokeRestApi {
    pub(super) fn read(inputs: &Inputs<'_>, resources: &JobResources) -> Result<Self, String> {
        let waits_for_callback = match inputs.get(&["waitForCompletion"]).unwrap_or("false").trim() {
            text if text.eq_ignore_ascii_case("true") => true,
            text if text.eq_ignore_ascii_case("false") => false,
            text => {
                return Err(format!(
                    "the input `waitForCompletion` is `{text}`, and has to be `true` or `false`"
                ));
            }
        };
        let connection = connection(inputs, resources)?;
        let method = inputs.get(&["method"]).unwrap_or("POST").trim();
        let known = METHODS.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(method));
        let method = known.ok_or_else(|| {
            format!(
                "the input `method` is `{method}`, and has to be one of {}",
                METHODS.map(|m| m.to_string()).join(", ")
            )
        })?;
        let has_body = !matches!(method, Method::GET | Method::HEAD);
        Ok(Self {
            url: address(connection, inputs.get(&["urlSuffix"]).unwrap_or_default())?,
            headers: headers(&inputs.or_default("headers", HEADERS), connection)?,
            body: inputs.get(&["body"]).filter(|_| has_body).map(str::to_owned),
            // The criteria are for the answer, which does not matter to whoever waits.
            criteria: match waits_for_callback {
                true => None,
                false => inputs.get(&["successCriteria"]).map(criteria).transpose()?,
            },
            waits_for_callback,
            method,
        })
    }

    pub(super) async fn run(&self, asking: Asking<'_>, log: &mut StepLog) -> Ended {
        // From before the call: whoever is called may be quick.
        let mut callback = self.waits_for_callback.then(|| Callback::new(asking));
        let ended = self.call(log).await;
        match &mut callback {
            Some(callback) if ended == Ended::Succeeded => {
                log.line("Waits for a callback: the event TaskCompleted ends this step.").await;
                callback.ended().await
            }
            _ => ended,
        }
    }

    async fn call(&self, log: &mut StepLog) -> Ended {
        log.line(&format!("{} {}", self.method, self.url)).await;
        if let Some(body) = &self.body {
            log.line(&format!("Request body: {body}")).await;
        }
        let (status, answer) = match self.send().await {
            Ok(answered) => answered,
            Err(reason) => return Ended::Failed(reason),
        };
        log.line(&format!("Response code: {status}")).await;
        log.line(&format!("Response: {answer}")).await;
        if !status.is_success() {
            return Ended::Failed(format!("{} {} was answered with {status}", self.method, self.url));
        }
        match &self.criteria {
            None => Ended::Succeeded,
            Some(criteria) => judge(criteria, &answer),
        }
    }

    async fn send(&self) -> Result<(StatusCode, String), String> {
        let failed = |error| self.failure(error);
        let client = reqwest::Client::builder().timeout(LONGEST_ANSWER).build().map_err(failed)?;
        let mut request = client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut answer = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            answer.extend_from_slice(&piece);
            if answer.len() > MAX_ANSWER_BYTES {
                return Err(format!("{} answered with more than {MAX_ANSWER_BYTES} bytes", self.url));
            }
        }
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    }

    /// Why there is no answer, with all causes.
    fn failure(&self, error: reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("{} did not answer in {} seconds", self.url, LONGEST_ANSWER.as_secs());
        }
        let error = error.without_url();
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        format!("{} could not be called: {}", self.url, causes.join(": "))
    }
}

/// A step that waits for a callback, until it is dropped.
struct Callback<'a> {
    asking: Asking<'a>,
    told: oneshot::Receiver<TaskResult>,
}

impl<'a> Callback<'a> {
    fn new(asking: Asking<'a>) -> Self {
        let told = asking.app.state().wait_for_callback(asking.job, asking.step);
        Self { asking, told }
    }

    /// How it ended. Who could say so is only gone when the emulator stops.
    async fn ended(&mut self) -> Ended {
        match (&mut self.told).await {
            Ok(TaskResult::Succeeded | TaskResult::Skipped) => Ended::Succeeded,
            Ok(TaskResult::SucceededWithIssues) => Ended::SucceededWithIssues,
            Ok(TaskResult::Canceled) => Ended::Canceled,
            Ok(TaskResult::Failed | TaskResult::Abandoned) => {
                Ended::Failed("The callback says that the task has failed.".to_owned())
            }
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Callback<'_> {
    fn drop(&mut self) {
        self.asking.app.state().withdraw_callback(self.asking.job, self.asking.step);
    }
}

/// The service connection that is named, by name or id.
fn connection<'a>(inputs: &Inputs<'_>, resources: &'a JobResources) -> Result<&'a ServiceEndpoint, String> {
    let kind = inputs.get(&["connectionType", "connectedServiceNameSelector"]).unwrap_or_default().trim();
    if !kind.is_empty() && !kind.eq_ignore_ascii_case("connectedServiceName") {
        return Err(format!(
            "the input `connectionType` is `{kind}`, whose logins only Azure DevOps has: here it has to be \
             `connectedServiceName`, a generic service connection"
        ));
    }
    let named = inputs.get(&["serviceConnection", "genericService", "connectedServiceName"]);
    let named =
        named.ok_or("the input `serviceConnection` is missing: it names the service connection")?.trim();
    let found = resources.endpoints.iter().find(|endpoint| endpoint.is_called(named));
    found.ok_or_else(|| format!("the service connection `{named}` is not known here"))
}

/// The connection's address with the suffix behind it.
fn address(connection: &ServiceEndpoint, suffix: &str) -> Result<Url, String> {
    let name = connection.name.as_deref().unwrap_or_default();
    let base = connection.url.as_ref().map_or("", Url::as_str);
    // The address of a host alone ends with a slash, which nobody has written.
    let base = if suffix.starts_with('/') { base.trim_end_matches('/') } else { base };
    let url = format!("{base}{}", suffix.trim());
    match Url::parse(&url) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) => Ok(url),
        _ => Err(format!(
            "`{url}`, the URL of the service connection `{name}` with the input `urlSuffix`, is no address \
             of HTTP"
        )),
    }
}

/// The headers that the step names, and the connection's login unless the step brings its own.
fn headers(text: &str, connection: &ServiceEndpoint) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !text.trim().is_empty() {
        let invalid =
            "the input `headers` has to be a JSON object of texts, such as {\"Accept\": \"text/plain\"}";
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(|error| format!("{invalid}: {error}"))?;
        for (name, value) in object {
            let value = value.as_str().ok_or_else(|| format!("{invalid}: `{name}` is none"))?;
            let refused = || format!("the input `headers` has a header `{name}` that HTTP does not allow");
            let value = HeaderValue::from_str(value).map_err(|_| refused())?;
            headers.insert(HeaderName::try_from(&name).map_err(|_| refused())?, value);
        }
    }
    if !headers.contains_key(AUTHORIZATION)
        && let Some(mut login) = login(connection)?
    {
        login.set_sensitive(true);
        headers.insert(AUTHORIZATION, login);
    }
    Ok(headers)
}

/// How the connection logs in.
fn login(connection: &ServiceEndpoint) -> Result<Option<HeaderValue>, String> {
    let Some(authorization) = &connection.authorization else { return Ok(None) };
    let parameter = |name: &str| authorization.parameter(name).unwrap_or_default();
    let text = match authorization.scheme.to_ascii_lowercase().as_str() {
        "usernamepassword" => {
            let (user, password) = (parameter("username"), parameter("password"));
            if user.is_empty() && password.is_empty() {
                return Ok(None);
            }
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
        "token" => format!("Bearer {}", parameter("apitoken")),
        "none" => return Ok(None),
        other => {
            return Err(format!(
                "the service connection `{}` logs in by `{other}`, which InvokeRESTAPI cannot do here: it \
                 can by `UsernamePassword`, `Token` and `None`",
                connection.name.as_deref().unwrap_or_default()
            ));
        }
    };
    let refused = |_| "the login of the service connection cannot be a header of HTTP".to_owned();
    HeaderValue::from_str(&text).map(Some).map_err(refused)
}

fn criteria(text: &str) -> Result<Expression, String> {
    let scope = Scope::new().with_root("root");
    Expression::parse(text.trim(), &scope).map_err(|error| {
        format!(
            "the input `successCriteria` is `{text}`, which is not valid here: {error}; it can use `root`, \
             the answer, as in eq(root['status'], 'done')"
        )
    })
}

/// Whether the answer is what was hoped for.
fn judge(criteria: &Expression, answer: &str) -> Ended {
    let text = criteria.text();
    let root = match serde_json::from_str(answer) {
        Ok(json) => Value::from_json(&json),
        Err(error) => {
            return Ended::Failed(format!("the answer is not JSON, as `successCriteria` needs it: {error}"));
        }
    };
    match criteria.condition(&Values::new().with("root", root)) {
        Ok(true) => Ended::Succeeded,
        Ok(false) => Ended::Failed(format!("the answer does not meet the success criteria `{text}`")),
        Err(error) => Ended::Failed(format!("the success criteria `{text}` cannot be evaluated: {error}")),
    }
}
