//! A small service for one plan, with faults, over real HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Json, Response};
use dayfly_client::{Connection, Credential, HttpSettings, JobPlan, RetryPolicy};
use dayfly_protocol::logs::FeedLines;
use dayfly_protocol::plan::TaskOrchestrationPlanReference;
use dayfly_protocol::timeline::TimelineRecord;
use dayfly_protocol::{ListOf, RecordId, json};
use dayfly_worker::report::Settings;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What the service does to calls.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Refuses everything for now.
    Away,
    /// Does everything and answers as if it had not.
    LosesAnswers,
    /// Refuses for good.
    Gone,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) fault: Fault,
    /// Only calls whose path has this are faulty.
    pub(crate) faulty_path: &'static str,
    /// So many calls are faulty; then all is well.
    pub(crate) faulty_calls: usize,
    pub(crate) records: BTreeMap<RecordId, TimelineRecord>,
    /// Each update, as it came.
    pub(crate) updates: Vec<Vec<TimelineRecord>>,
    pub(crate) timelines: Vec<String>,
    pub(crate) feed: Vec<FeedLines>,
    /// Path and content of each log.
    pub(crate) logs: Vec<(String, Vec<u8>)>,
    pub(crate) largest_block: usize,
    pub(crate) attachments: Vec<(String, Vec<u8>)>,
    pub(crate) calls: usize,
}

impl Seen {
    /// The console lines of a record, each once, with their numbers.
    pub(crate) fn console(&self, record: RecordId) -> BTreeMap<i64, String> {
        let mut console = BTreeMap::new();
        for feed in self.feed.iter().filter(|feed| feed.step_id == record) {
            for (number, line) in (feed.start_line.expect("lines have numbers")..).zip(&feed.value) {
                console.insert(number, line.clone());
            }
        }
        console
    }

    /// The lines of a record's log, without their time stamps.
    pub(crate) fn log(&self, record: RecordId) -> Vec<String> {
        let Some(log) = self.records.get(&record).and_then(|record| record.log.as_ref()) else {
            return Vec::new();
        };
        let text = std::str::from_utf8(&self.logs[log.id.0 as usize - 1].1).expect("logs are text");
        text.lines()
            .map(|line| {
                let (stamp, text) = line.split_at("2026-01-31T23:59:59.1234567Z ".len());
                assert!(stamp.ends_with("Z ") && stamp.starts_with("20"), "{line}");
                text.to_owned()
            })
            .collect()
    }

    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> Response {
        let parts: Vec<&str> = path.split('/').skip_while(|part| *part != "plans").skip(2).collect();
        match (method, parts.as_slice()) {
            (&Method::PATCH, ["timelines", _, "records"]) => {
                let changes: ListOf<TimelineRecord> = json::from_slice(body).expect("records");
                for change in &changes.value {
                    let mut merged =
                        serde_json::to_value(self.records.entry(change.id).or_default()).expect("json");
                    let new = serde_json::to_value(change).expect("json");
                    merged.as_object_mut().expect("object").extend(new.as_object().expect("object").clone());
                    self.records.insert(change.id, serde_json::from_value(merged).expect("a record"));
                }
                self.updates.push(changes.value);
                Json(json!({"count": 0, "value": []})).into_response()
            }
            (&Method::POST, ["timelines"]) => {
                let new: serde_json::Value = serde_json::from_slice(body).expect("json");
                self.timelines.push(new["id"].as_str().expect("an id").to_owned());
                Json(new).into_response()
            }
            (&Method::POST, ["timelines", _, "records", _, "feed"]) => {
                self.feed.push(json::from_slice(body).expect("lines"));
                StatusCode::NO_CONTENT.into_response()
            }
            (&Method::GET, ["logs"]) => {
                let logs: Vec<_> = (1..).zip(&self.logs).map(|(id, log)| log_json(id, log)).collect();
                Json(json!({"count": logs.len(), "value": logs})).into_response()
            }
            (&Method::POST, ["logs"]) => {
                let new: serde_json::Value = serde_json::from_slice(body).expect("json");
                self.logs.push((new["path"].as_str().expect("a path").to_owned(), Vec::new()));
                Json(log_json(self.logs.len(), &self.logs[self.logs.len() - 1])).into_response()
            }
            (&Method::POST, ["logs", id]) => {
                let id: usize = id.parse().expect("a number");
                self.largest_block = self.largest_block.max(body.len());
                self.logs[id - 1].1.extend_from_slice(body);
                Json(log_json(id, &self.logs[id - 1])).into_response()
            }
            (&Method::PUT, ["timelines", _, "records", _, "attachments", kind, name]) => {
                self.attachments.push((format!("{kind}/{name}"), body.to_vec()));
                Json(json!({"type": kind, "name": name})).into_response()
            }
            _ => panic!("unexpected call {method} {path}"),
        }
    }
}

fn log_json(id: usize, log: &(String, Vec<u8>)) -> serde_json::Value {
    json!({"id": id, "path": log.0, "lineCount": log.1.iter().filter(|byte| **byte == b'\n').count()})
}

async fn handle(State(seen): State<Arc<Mutex<Seen>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut seen = seen.lock().expect("no panic");
    seen.calls += 1;
    let is_faulty =
        seen.fault != Fault::None && seen.faulty_calls > 0 && uri.path().contains(seen.faulty_path);
    if !is_faulty {
        return seen.answer(&method, uri.path(), &body);
    }
    seen.faulty_calls -= 1;
    match seen.fault {
        Fault::LosesAnswers => {
            seen.answer(&method, uri.path(), &body);
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Fault::Gone => {
            let error = json!({"typeKey": "TaskOrchestrationPlanNotFoundException", "message": "There is no such plan."});
            (StatusCode::NOT_FOUND, Json(error)).into_response()
        }
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn serve(listener: TcpListener, seen: Arc<Mutex<Seen>>) -> Presence {
    let router = Router::new()
        .fallback(handle)
        .layer(axum::extract::DefaultBodyLimit::max(64 * 1024 * 1024))
        .with_state(seen);
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let server = tokio::spawn(async move {
        axum::serve(listener, router).with_graceful_shutdown(stopped).await.expect("it serves");
    });
    Presence::Here { server, stop }
}

pub(crate) struct PlanService {
    seen: Arc<Mutex<Seen>>,
    address: SocketAddr,
    presence: Presence,
}

/// Whether somebody listens at the service's address.
enum Presence {
    Here {
        server: JoinHandle<()>,
        stop: CancellationToken,
    },
    /// The port is kept, so that nobody else gets it, but whoever connects is refused.
    Away(Option<TcpSocket>),
}

impl Drop for PlanService {
    fn drop(&mut self) {
        if let Presence::Here { server, .. } = &self.presence {
            server.abort();
        }
    }
}

impl PlanService {
    pub(crate) async fn start() -> PlanService {
        let seen = Arc::<Mutex<Seen>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let presence = serve(listener, Arc::clone(&seen));
        PlanService { seen, address, presence }
    }

    /// Closes the listener and all connections, once the requests under way are answered.
    pub(crate) async fn leave(&mut self) {
        let Presence::Here { server, stop } = &mut self.presence else { panic!("it is here") };
        stop.cancel();
        server.await.expect("it ends");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(self.address).expect("the port is free");
        self.presence = Presence::Away(Some(socket));
        let refused = TcpStream::connect(self.address).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    /// Listens again on the same port, and knows what it knew.
    pub(crate) fn come_back(&mut self) {
        let Presence::Away(socket) = &mut self.presence else { panic!("it is away") };
        let socket = socket.take().expect("it comes back once");
        self.presence = serve(socket.listen(1024).expect("the port is ours"), Arc::clone(&self.seen));
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic")
    }

    pub(crate) fn fault(&self, fault: Fault, path: &'static str, calls: usize) {
        let mut seen = self.seen();
        (seen.fault, seen.faulty_path, seen.faulty_calls) = (fault, path, calls);
    }

    pub(crate) fn plan(&self) -> JobPlan {
        let settings = HttpSettings {
            retry: RetryPolicy {
                attempts: 2,
                first_pause: Duration::from_millis(10),
                longest_pause: Duration::from_millis(20),
            },
            ..HttpSettings::default()
        };
        let token = Credential::Bearer("job-token".to_owned().into());
        let url = format!("http://{}/dayfly", self.address);
        let connection =
            Connection::new(&url.parse().expect("a URL"), token, settings).expect("a connection");
        connection.plan(&TaskOrchestrationPlanReference {
            plan_type: "Build".to_owned(),
            plan_id: Uuid::new_v4().into(),
            ..TaskOrchestrationPlanReference::default()
        })
    }

    pub(crate) fn settings(&self, pages: &std::path::Path) -> Settings {
        Settings {
            plan: self.plan(),
            timeline: Uuid::new_v4().into(),
            job: Uuid::new_v4().into(),
            masker: dayfly_mask::Masker::new(),
            pages: pages.join("pages"),
            worker_name: "worker-1".to_owned(),
            feed_interval: None,
        }
    }

    /// Waits until the service has seen something.
    pub(crate) async fn wait_for(&self, what: &str, mut is_seen: impl FnMut(&Seen) -> bool) {
        for _ in 0..1500 {
            if is_seen(&self.seen()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the service did not see {what}");
    }
}
