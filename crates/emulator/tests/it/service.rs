//! An emulator, and an agent which speaks to it by hand, so that the tests see the wire and not a client.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dayfly_emulator::{Clock, Emulator, NewJob, Settings};
use dayfly_protocol::crypto::{AgentKey, Claims, SessionKey, open_message};
use dayfly_protocol::message::TaskAgentMessage;
use dayfly_protocol::{JobId, PlanId, PoolId, ProjectId, RequestId, TimelineId};
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;

/// The token with all rights.
pub(crate) const PAT: &str = "full-access-token-of-the-tests";
/// What a test waits for comes within this time, or never.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A running emulator with a clock that stands still.
pub(crate) struct Service {
    pub(crate) emulator: Emulator,
    pub(crate) clock: Clock,
    pub(crate) http: reqwest::Client,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(PAT.into());
        settings.clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        settings.poll_hold = Duration::from_secs(20);
        change(&mut settings);
        let clock = settings.clock.clone();
        let emulator = Emulator::start(settings).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
        Self { emulator, clock, http }
    }

    /// A request without a token. One that changes something names a version, as it has to.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        let is_safe = method.is_safe();
        let request = self.http.request(method, format!("{}/{path}", self.emulator.url()));
        if is_safe { request } else { request.query(&[("api-version", "7.1")]) }
    }

    /// A request with a bearer token.
    pub(crate) fn bearer(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(token)
    }

    /// A request with all rights.
    pub(crate) fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).basic_auth("VstsAgent", Some(PAT))
    }

    /// A GET with all rights, which has to succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        success(self.admin(Method::GET, path)).await
    }

    /// A request to the administration.
    pub(crate) fn dayfly(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.emulator.url().clone();
        url.set_path(&format!("_dayfly/{path}"));
        self.http.request(method, url).basic_auth("", Some(PAT))
    }

    /// Registers an agent in the first pool.
    pub(crate) async fn register(&self, name: &str) -> Agent {
        self.register_with(name, json!({})).await
    }

    /// Registers an agent with these system capabilities in the first pool.
    pub(crate) async fn register_with(&self, name: &str, capabilities: Value) -> Agent {
        let key = shared_key();
        let body = registration(name, &key, capabilities.clone());
        let answer =
            success(self.admin(Method::POST, "_apis/distributedtask/pools/1/agents").json(&body)).await;
        Agent::from_registration(&answer, key, capabilities)
    }

    /// Registers an agent, logs it in and opens its session.
    pub(crate) async fn online(&self, name: &str) -> Agent {
        let mut agent = self.register(name).await;
        agent.log_in(self).await;
        agent.open_session(self).await;
        agent
    }

    /// Makes a plan with a job, and queues the job in the first pool.
    pub(crate) fn queue(&self, demands: &[&str]) -> QueuedJob {
        self.try_queue(demands).unwrap()
    }

    /// The same, where it may be refused.
    pub(crate) fn try_queue(&self, demands: &[&str]) -> Result<QueuedJob, dayfly_emulator::StateError> {
        self.queue_with(|job| job.demands = demands.iter().map(|text| (*text).to_owned()).collect())
    }

    /// The same, with anything about the job changed.
    pub(crate) fn queue_with(
        &self,
        change: impl FnOnce(&mut NewJob),
    ) -> Result<QueuedJob, dayfly_emulator::StateError> {
        let mut new = self.emulator.single_job(PoolId(1), "Build it")?;
        change(&mut new);
        let (plan, job, timeline) = (new.message.plan.plan_id, new.message.job_id, new.message.timeline.id);
        let token = self.emulator.issue_job_token(plan, job)?.expose_secret().to_owned();
        let request = self.emulator.queue_job(new)?;
        Ok(QueuedJob { plan, job, timeline, request, token })
    }

    /// The id of the first project.
    pub(crate) fn project(&self) -> ProjectId {
        self.emulator.project(None).unwrap()
    }

    /// The request as the list shows it.
    pub(crate) async fn request(&self, id: RequestId) -> Value {
        self.get(&format!("_apis/distributedtask/pools/1/jobrequests/{id}")).await
    }
}

/// One key for all agents of the tests which do not need their own: making one takes long.
pub(crate) fn shared_key() -> Arc<AgentKey> {
    static KEY: LazyLock<Arc<AgentKey>> = LazyLock::new(|| Arc::new(AgentKey::generate().unwrap()));
    Arc::clone(&KEY)
}

/// The body of an agent's registration, as `config.sh` sends it.
pub(crate) fn registration(name: &str, key: &AgentKey, capabilities: Value) -> Value {
    let public_key = key.public_key().to_wire();
    json!({
        "id": 0,
        "name": name,
        "version": "4.250.1",
        "osDescription": "Linux 6.8",
        "status": "offline",
        "maxParallelism": 1,
        "provisioningState": "Provisioned",
        "systemCapabilities": capabilities,
        "authorization": { "publicKey": { "exponent": public_key.exponent, "modulus": public_key.modulus } },
    })
}

/// A job in the queue.
#[derive(Clone)]
pub(crate) struct QueuedJob {
    pub(crate) plan: PlanId,
    pub(crate) job: JobId,
    pub(crate) timeline: TimelineId,
    pub(crate) request: RequestId,
    pub(crate) token: String,
}

impl QueuedJob {
    /// An address below the plan.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("dayfly/_apis/distributedtask/hubs/Build/plans/{}/{rest}", self.plan)
    }

    /// A request below the plan with the job's own token.
    pub(crate) fn call(&self, service: &Service, method: Method, rest: &str) -> RequestBuilder {
        service.bearer(&self.token, method, &self.path(rest))
    }

    /// The event by which a worker ends the job.
    pub(crate) async fn complete(&self, service: &Service, result: &str) -> Response {
        let event =
            json!({ "name": "JobCompleted", "jobId": self.job, "requestId": self.request, "result": result });
        self.call(service, Method::POST, "events").json(&event).send().await.unwrap()
    }
}

/// An agent.
pub(crate) struct Agent {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) client_id: Uuid,
    pub(crate) authorization_url: String,
    pub(crate) key: Arc<AgentKey>,
    pub(crate) token: String,
    pub(crate) session: Uuid,
    pub(crate) session_key: Option<SessionKey>,
    capabilities: Value,
}

impl Agent {
    pub(crate) fn from_registration(answer: &Value, key: Arc<AgentKey>, capabilities: Value) -> Self {
        let authorization = &answer["authorization"];
        Self {
            id: answer["id"].as_i64().unwrap(),
            name: answer["name"].as_str().unwrap().to_owned(),
            client_id: authorization["clientId"].as_str().unwrap().parse().unwrap(),
            authorization_url: authorization["authorizationUrl"].as_str().unwrap().to_owned(),
            key,
            token: String::new(),
            session: Uuid::nil(),
            session_key: None,
            capabilities,
        }
    }

    /// A signed assertion of now.
    pub(crate) fn assertion(&self, now: Timestamp) -> String {
        let claims = Claims::new(self.client_id, self.authorization_url.clone(), now);
        claims.sign(&self.key).unwrap().expose_secret().to_owned()
    }

    pub(crate) async fn ask_for_token(&self, service: &Service, assertion: &str) -> Response {
        let form = BTreeMap::from([
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ]);
        service.http.post(&self.authorization_url).form(&form).send().await.unwrap()
    }

    pub(crate) async fn log_in(&mut self, service: &Service) {
        let response = self.ask_for_token(service, &self.assertion(service.clock.now())).await;
        assert_eq!(response.status(), StatusCode::OK);
        let answer: Value = response.json().await.unwrap();
        self.token = answer["access_token"].as_str().unwrap().to_owned();
    }

    pub(crate) fn call(&self, service: &Service, method: Method, path: &str) -> RequestBuilder {
        service.bearer(&self.token, method, &format!("_apis/distributedtask/pools/1/{path}"))
    }

    pub(crate) async fn try_session(&self, service: &Service) -> Response {
        let body = json!({
            "sessionId": Uuid::nil(),
            "ownerName": "test",
            "agent": { "id": self.id, "name": self.name, "version": "4.250.1" },
            "systemCapabilities": self.capabilities,
        });
        self.call(service, Method::POST, "sessions").json(&body).send().await.unwrap()
    }

    pub(crate) async fn open_session(&mut self, service: &Service) {
        let response = self.try_session(service).await;
        assert_eq!(response.status(), StatusCode::OK);
        let answer: Value = response.json().await.unwrap();
        self.session = answer["sessionId"].as_str().unwrap().parse().unwrap();
        self.session_key = match answer.get("encryptionKey") {
            Some(key) => {
                let key = serde_json::from_value(key.clone()).unwrap();
                SessionKey::from_wire(&key, &self.key).unwrap()
            }
            None => None,
        };
    }

    pub(crate) fn poll(&self, service: &Service, last: Option<i64>) -> RequestBuilder {
        let last = last.map(|last| format!("&lastMessageId={last}")).unwrap_or_default();
        self.call(service, Method::GET, &format!("messages?sessionId={}{last}", self.session))
    }

    /// Polls until there is a message.
    pub(crate) async fn message(&self, service: &Service, last: Option<i64>) -> Message {
        let response = self.poll(service, last).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "there should be a message");
        self.open(&response.bytes().await.unwrap())
    }

    pub(crate) fn open(&self, bytes: &[u8]) -> Message {
        let wire: TaskAgentMessage = dayfly_protocol::json::from_slice(bytes).unwrap();
        let body = open_message(self.session_key.as_ref(), &wire).unwrap();
        Message {
            id: wire.message_id.0,
            kind: wire.message_type.clone(),
            is_encrypted: wire.iv.is_some(),
            body: serde_json::from_slice(body.expose()).unwrap(),
        }
    }

    pub(crate) async fn delete_message(&self, service: &Service, id: i64) -> StatusCode {
        let path = format!("messages/{id}?sessionId={}", self.session);
        self.call(service, Method::DELETE, &path).send().await.unwrap().status()
    }

    pub(crate) async fn renew(&self, service: &Service, request: RequestId) -> Response {
        let path = format!("jobrequests/{request}?lockToken={}", Uuid::nil());
        self.call(service, Method::PATCH, &path).json(&json!({ "requestId": request })).send().await.unwrap()
    }

    /// Takes the next job: polls, renews, deletes the message.
    pub(crate) async fn take_job(&self, service: &Service) -> Message {
        let message = self.message(service, None).await;
        let request = RequestId(message.body["requestId"].as_i64().unwrap());
        assert_eq!(self.renew(service, request).await.status(), StatusCode::OK);
        assert_eq!(self.delete_message(service, message.id).await, StatusCode::NO_CONTENT);
        message
    }
}

/// A message, decrypted.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) is_encrypted: bool,
    pub(crate) body: Value,
}

/// Sends a request which has to succeed; returns its JSON.
pub(crate) async fn success(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Checks that an answer is this typed error; returns its message.
pub(crate) async fn assert_error(response: Response, status: StatusCode, type_key: &str) -> String {
    let actual = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(actual, status, "{text}");
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(body["typeKey"], type_key, "{text}");
    body["message"].as_str().unwrap().to_owned()
}

/// Waits until a condition holds, which has to be soon.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "{what} should come to be");
}
