//! The part of the service that a worker talks to, on a real port: it keeps what it is told.
//!
//! Jobs here are single messages made by hand, so that each test can say exactly what the worker gets, and
//! look at every byte the worker sent. Whole pipelines run against the emulator elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use dayfly_emulator::git::{Encoding, GitServer, Service as GitService};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use url::Url;

/// The job's token.
pub(crate) const TOKEN: &str = "job-token-5f2b8c1d9e";

/// What the worker told.
#[derive(Default)]
pub(crate) struct Told {
    /// Records by id, merged.
    pub(crate) records: BTreeMap<String, Map<String, Value>>,
    /// Records of detail timelines, merged.
    pub(crate) details: BTreeMap<String, Map<String, Value>>,
    /// Logs: path and content.
    pub(crate) logs: Vec<(String, Vec<u8>)>,
    /// Console lines by step.
    pub(crate) console: Vec<(String, String)>,
    /// Plan events.
    pub(crate) events: Vec<Value>,
    /// Attachments: record, type, name, content.
    pub(crate) attachments: Vec<(String, String, String, Vec<u8>)>,
    /// Build numbers set.
    pub(crate) build_numbers: Vec<String>,
    /// Tags.
    pub(crate) tags: Vec<String>,
    /// Files in the container by path.
    pub(crate) items: BTreeMap<String, Vec<u8>>,
    /// Artifacts.
    pub(crate) artifacts: Vec<Value>,
    /// How many of the next events are refused with 503.
    pub(crate) refuse_events: u32,
    /// How many of the next uploads are put off with 503.
    pub(crate) put_off_uploads: u32,
    /// Uploads to paths that end so are refused with 400.
    pub(crate) refused_upload: Option<&'static str>,
    /// Large files by their hash, which git-lfs asks for.
    pub(crate) large_files: BTreeMap<String, Vec<u8>>,
}

/// The running service.
pub(crate) struct Service {
    pub(crate) url: Url,
    pub(crate) timeline: uuid::Uuid,
    pub(crate) told: Arc<Mutex<Told>>,
    /// Where its repositories are: `<name>` for `_git/<name>`.
    pub(crate) repositories: TempDir,
    server: AbortHandle,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Shared {
    told: Arc<Mutex<Told>>,
    timeline: String,
    repositories: PathBuf,
    git: GitServer,
}

impl Service {
    /// Starts it on a free port.
    pub(crate) async fn start() -> Service {
        let told = Arc::new(Mutex::new(Told::default()));
        let timeline = uuid::Uuid::new_v4();
        let repositories = tempfile::tempdir().expect("a folder");
        let shared = Shared {
            told: Arc::clone(&told),
            timeline: timeline.to_string(),
            repositories: repositories.path().to_owned(),
            git: GitServer::new(),
        };
        let plan = "/dayfly/{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}";
        let build = "/dayfly/{project}/_apis/build/builds/{build}";
        let app = Router::new()
            .route(&format!("{plan}/timelines"), post(make_timeline))
            .route(&format!("{plan}/timelines/{{timeline}}/records"), patch(update_records))
            .route(&format!("{plan}/timelines/{{timeline}}/records/{{record}}/feed"), post(feed))
            .route(
                &format!("{plan}/timelines/{{timeline}}/records/{{record}}/attachments/{{kind}}/{{name}}"),
                put(attach),
            )
            .route(&format!("{plan}/logs"), post(make_log).get(list_logs))
            .route(&format!("{plan}/logs/{{log}}"), post(append_log))
            .route(&format!("{plan}/events"), post(event))
            .route(build, patch(update_build))
            .route(&format!("{build}/tags/{{tag}}"), put(add_tag))
            .route(&format!("{build}/artifacts"), post(add_artifact).get(list_artifacts))
            .route("/dayfly/_apis/resources/Containers/{container}", put(upload))
            .route("/dayfly/_git/{repository}/info/refs", get(advertise))
            .route("/dayfly/_git/{repository}/git-upload-pack", post(upload_pack))
            .route("/dayfly/_git/{repository}/info/lfs/objects/batch", post(offer_large_files))
            .route("/dayfly/_git/{repository}/info/lfs/objects/{hash}", get(large_file))
            .layer(middleware::from_fn(authorize))
            .with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/dayfly/", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move { axum::serve(listener, app).await }).abort_handle();
        Service { url: url.parse().expect("an address"), timeline, told, repositories, server }
    }

    /// A look at what was told.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.told.lock().expect("no test panicked with it"))
    }

    /// Waits until something is true of what was told.
    pub(crate) async fn wait_for(&self, what: &str, holds: impl Fn(&Told) -> bool) {
        let wait = async {
            while !self.look(|told| holds(told)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .unwrap_or_else(|_| panic!("never saw {what}"));
    }

    /// The record with a name.
    pub(crate) fn record(&self, name: &str) -> Map<String, Value> {
        self.look(|told| {
            let found = told.records.values().find(|record| record.get("name") == Some(&json!(name)));
            found.cloned().unwrap_or_else(|| {
                panic!("no record {name} among {:?}; the job's issues: {:?}", names(told), issues(told))
            })
        })
    }

    /// The result of the record with a name.
    pub(crate) fn result(&self, name: &str) -> String {
        self.record(name)["result"].as_str().unwrap_or_default().to_owned()
    }

    /// The log of the record with a name, without times.
    pub(crate) fn log(&self, name: &str) -> String {
        let id = self.record(name)["id"].as_str().expect("records have ids").to_owned();
        self.look(|told| {
            let pages: Vec<&[u8]> = told
                .logs
                .iter()
                .filter(|(path, _)| path.contains(&id))
                .map(|(_, content)| content.as_slice())
                .collect();
            let text = String::from_utf8(pages.concat()).expect("logs are UTF-8");
            text.lines().map(|line| format!("{}\n", without_time(line))).collect()
        })
    }

    /// All logs, console lines, records, attachments and artifacts as one text.
    pub(crate) fn everything(&self) -> String {
        self.look(|told| {
            let logs: String =
                told.logs.iter().map(|(_, content)| String::from_utf8_lossy(content).into_owned()).collect();
            format!(
                "{logs}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
                told.console, told.records, told.details, told.events, told.artifacts, told.build_numbers
            )
        })
    }
}

fn names(told: &Told) -> Vec<Value> {
    told.records.values().filter_map(|record| record.get("name").cloned()).collect()
}

/// What went wrong, as far as the job says it.
fn issues(told: &Told) -> Vec<Value> {
    told.records.values().filter_map(|record| record.get("issues")).cloned().collect()
}

fn without_time(line: &str) -> &str {
    let line = line.trim_start_matches('\u{feff}');
    line.split_once("Z ").map_or(line, |(_, text)| text)
}

async fn authorize(request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = sent
        .and_then(|sent| sent.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if token.is_some_and(|(_, token)| token == TOKEN) {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response()
    }
}

fn list(values: Vec<Value>) -> Json<Value> {
    Json(json!({"count": values.len(), "value": values}))
}

async fn make_timeline(Json(body): Json<Value>) -> Json<Value> {
    Json(json!({"id": body["id"], "changeId": 1}))
}

type Names = Path<BTreeMap<String, String>>;

async fn update_records(
    State(shared): State<Shared>,
    Path(names): Names,
    Json(body): Json<Value>,
) -> Json<Value> {
    let mut told = shared.told.lock().expect("not poisoned");
    let changes = body["value"].as_array().expect("a wrapped list").clone();
    let is_main = names["timeline"] == shared.timeline;
    for change in &changes {
        let id = change["id"].as_str().expect("an id").to_owned();
        let records = if is_main { &mut told.records } else { &mut told.details };
        let record = records.entry(id).or_default();
        for (name, value) in change.as_object().expect("an object") {
            match (record.get_mut(name), value) {
                (Some(Value::Object(present)), Value::Object(coming)) if name == "variables" => {
                    present.extend(coming.clone());
                }
                _ => {
                    record.insert(name.clone(), value.clone());
                }
            }
        }
    }
    list(changes)
}

async fn feed(State(shared): State<Shared>, Json(body): Json<Value>) -> StatusCode {
    let step = body["stepId"].as_str().expect("a step").to_owned();
    let lines = body["value"].as_array().expect("lines").iter().filter_map(Value::as_str);
    let mut told = shared.told.lock().expect("not poisoned");
    told.console.extend(lines.map(|line| (step.clone(), line.to_owned())));
    StatusCode::OK
}

async fn attach(State(shared): State<Shared>, Path(names): Names, body: Bytes) -> Json<Value> {
    let of = |name: &str| names[name].clone();
    let mut told = shared.told.lock().expect("not poisoned");
    told.attachments.push((of("record"), of("kind"), of("name"), body.to_vec()));
    Json(json!({"name": names["name"], "type": names["kind"]}))
}

async fn make_log(State(shared): State<Shared>, Json(body): Json<Value>) -> Json<Value> {
    let mut told = shared.told.lock().expect("not poisoned");
    told.logs.push((body["path"].as_str().expect("a path").to_owned(), Vec::new()));
    Json(json!({"id": told.logs.len(), "path": body["path"], "lineCount": 0}))
}

async fn list_logs(State(shared): State<Shared>) -> Json<Value> {
    let told = shared.told.lock().expect("not poisoned");
    let describe = |(number, (path, content)): (usize, &(String, Vec<u8>))| json!({"id": number + 1, "path": path, "lineCount": content.iter().filter(|byte| **byte == b'\n').count()});
    list(told.logs.iter().enumerate().map(describe).collect())
}

async fn append_log(State(shared): State<Shared>, Path(names): Names, body: Bytes) -> Json<Value> {
    let mut told = shared.told.lock().expect("not poisoned");
    let number: usize = names["log"].parse().expect("a number");
    told.logs[number - 1].1.extend_from_slice(&body);
    let lines = told.logs[number - 1].1.iter().filter(|byte| **byte == b'\n').count();
    Json(json!({"id": number, "path": told.logs[number - 1].0, "lineCount": lines}))
}

async fn event(State(shared): State<Shared>, Json(body): Json<Value>) -> StatusCode {
    let mut told = shared.told.lock().expect("not poisoned");
    if told.refuse_events > 0 {
        told.refuse_events -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    told.events.push(body);
    StatusCode::OK
}

async fn update_build(State(shared): State<Shared>, Json(body): Json<Value>) -> Json<Value> {
    let number = body["buildNumber"].as_str().unwrap_or_default().to_owned();
    shared.told.lock().expect("not poisoned").build_numbers.push(number);
    Json(body)
}

async fn add_tag(State(shared): State<Shared>, Path(names): Names) -> Json<Value> {
    let mut told = shared.told.lock().expect("not poisoned");
    told.tags.push(names["tag"].clone());
    list(told.tags.iter().map(|tag| json!(tag)).collect())
}

async fn list_artifacts(State(shared): State<Shared>) -> Json<Value> {
    let told = shared.told.lock().expect("not poisoned");
    Json(json!({"count": told.artifacts.len(), "value": told.artifacts}))
}

async fn add_artifact(State(shared): State<Shared>, Json(mut body): Json<Value>) -> Json<Value> {
    let mut told = shared.told.lock().expect("not poisoned");
    body["id"] = json!(told.artifacts.len() + 1);
    told.artifacts.push(body.clone());
    Json(body)
}

async fn upload(
    State(shared): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = query["itemPath"].clone();
    let mut told = shared.told.lock().expect("not poisoned");
    if told.put_off_uploads > 0 {
        told.put_off_uploads -= 1;
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"message": "Not this time."}))).into_response();
    }
    if told.refused_upload.is_some_and(|end| path.ends_with(end)) {
        return (StatusCode::BAD_REQUEST, Json(json!({"message": "Never."}))).into_response();
    }
    let content = told.items.entry(path.clone()).or_default();
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let offset: usize =
        range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()).unwrap_or(0);
    content.truncate(offset);
    content.extend_from_slice(&body);
    Json(
        json!({"containerId": 7, "path": path, "itemType": "file", "fileLength": content.len(), "status": "created"}),
    )
    .into_response()
}

/// The batch call of git-lfs, for downloads.
async fn offer_large_files(Path(names): Names, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    assert_eq!(body["operation"], json!("download"));
    let host = headers[header::HOST].to_str().expect("a host");
    let offer = |object: &Value| {
        let hash = object["oid"].as_str().expect("a hash");
        let place = format!("http://{host}/dayfly/_git/{}/info/lfs/objects/{hash}", names["repository"]);
        json!({"oid": hash, "size": object["size"], "actions": {"download": {"href": place}}})
    };
    let objects: Vec<Value> = body["objects"].as_array().expect("objects").iter().map(offer).collect();
    let body = json!({"transfer": "basic", "objects": objects}).to_string();
    ([(header::CONTENT_TYPE, "application/vnd.git-lfs+json")], body).into_response()
}

async fn large_file(State(shared): State<Shared>, Path(names): Names) -> Response {
    let told = shared.told.lock().expect("not poisoned");
    match told.large_files.get(&names["hash"]) {
        Some(content) => content.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn advertise(State(shared): State<Shared>, Path(names): Names, headers: HeaderMap) -> Response {
    git(&shared, &names, &headers, GitService::Advertise, Body::empty()).await
}

async fn upload_pack(
    State(shared): State<Shared>,
    Path(names): Names,
    headers: HeaderMap,
    body: Body,
) -> Response {
    git(&shared, &names, &headers, GitService::UploadPack, body).await
}

async fn git(
    shared: &Shared,
    names: &BTreeMap<String, String>,
    headers: &HeaderMap,
    service: GitService,
    body: Body,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let encoding = if text("content-encoding") == Some("gzip") { Encoding::Gzip } else { Encoding::Identity };
    let folder = shared.repositories.join(&names["repository"]).join(".git");
    match shared.git.serve(&folder, service, text("git-protocol"), encoding, body.into_data_stream()).await {
        Ok(output) => {
            ([(header::CONTENT_TYPE, service.content_type())], Body::from_stream(output)).into_response()
        }
        Err(error) => (StatusCode::NOT_FOUND, error.to_string()).into_response(),
    }
}
