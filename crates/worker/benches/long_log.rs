//! A long log through everything: process, lines, masking with secrets, pages, console, upload. Tells lines
//! per second and the peak of memory.
//!
//! `cargo bench -p dayfly-worker --bench long_log -- 1024` writes 1024 MiB. The service is in the same
//! process and drops what it gets, so its memory counts as well.

#![allow(clippy::print_stdout, reason = "the figures are the point")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Json, Response};
use dayfly_client::{Connection, Credential, HttpSettings};
use dayfly_mask::Masker;
use dayfly_protocol::plan::TaskOrchestrationPlanReference;
use dayfly_protocol::{RecordId, TaskResult};
use dayfly_worker::process::{self, Command, Line, Sink};
use dayfly_worker::report::{NewRecord, Record, Reporter, Settings};
use futures::StreamExt as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// If none is asked for.
const USUAL_MEBIBYTES: usize = 64;

#[derive(Default)]
struct Received {
    log_bytes: AtomicU64,
    console_calls: AtomicU64,
}

async fn take(State(received): State<Arc<Received>>, method: Method, uri: Uri, body: Body) -> Response {
    let mut bytes = 0;
    let mut content = body.into_data_stream();
    while let Some(Ok(piece)) = content.next().await {
        bytes += piece.len() as u64;
    }
    let path = uri.path();
    if path.ends_with("/feed") {
        received.console_calls.fetch_add(1, Ordering::Relaxed);
        return StatusCode::NO_CONTENT.into_response();
    }
    if method == Method::PATCH {
        return Json(json!({"count": 0, "value": []})).into_response();
    }
    if !path.ends_with("/logs") {
        received.log_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    Json(json!({"id": 1, "path": "logs", "lineCount": 0})).into_response()
}

struct Log(Record, u64);

impl Sink for Log {
    async fn line(&mut self, line: Line<'_>) {
        self.1 += 1;
        self.0.line(line.text).await;
    }
}

/// `VmHWM` of this process.
fn peak_of_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or_else(|| "unknown".to_owned(), |peak| peak.trim().to_owned())
}

async fn run(mebibytes: usize) {
    let received = Arc::<Received>::default();
    let router = Router::new()
        .fallback(take)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/dayfly", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let folder = tempfile::tempdir().expect("a folder");
    let connection = Connection::new(
        &url.parse().expect("an address"),
        Credential::Bearer("token".to_owned().into()),
        HttpSettings::default(),
    );
    let masker = Masker::new();
    let secrets: Vec<String> = (0..50u64)
        .map(|number| format!("{:016x}-{number}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
        .collect();
    masker.add_values(secrets.iter().map(String::as_str));
    let reporter = Reporter::start(Settings {
        plan: connection.expect("a connection").plan(&TaskOrchestrationPlanReference::default()),
        timeline: Uuid::new_v4().into(),
        job: Uuid::new_v4().into(),
        masker,
        pages: folder.path().join("pages"),
        worker_name: "worker".to_owned(),
        feed_interval: None,
    });
    let record = reporter.record(NewRecord {
        id: RecordId(Uuid::new_v4()),
        parent: None,
        kind: "Task".to_owned(),
        name: "Long".to_owned(),
        ref_name: None,
        order: Some(1),
        task: None,
    });
    println!("before: peak of memory {}", peak_of_memory());
    let mut command = Command::new("/bin/sh", "/");
    let line =
        "test steps::continue_on_error_makes_an_issue_of_a_failure ... ok (0.123 s, 4 assertions, 0 retries)";
    command.arguments =
        vec!["-c".into(), format!("yes '{line}' | head -c {}", mebibytes * 1024 * 1024).into()];
    command.environment.insert("PATH".into(), "/usr/bin:/bin".into());
    let begin = Instant::now();
    let mut log = Log(record.clone(), 0);
    process::run(command, &CancellationToken::new(), &mut log).await.expect("it runs");
    let written = begin.elapsed();
    record.finish(TaskResult::Succeeded, None).await;
    let flushed = reporter.finish(Duration::from_secs(600)).await;
    let all = begin.elapsed();
    let lines = log.1 as f64;
    println!(
        "{mebibytes} MiB, {} lines: step took {written:.1?} ({:.0} lines/s)",
        log.1,
        lines / written.as_secs_f64()
    );
    println!("all sent after {all:.1?} ({:.0} lines/s); lost: {:?}", lines / all.as_secs_f64(), flushed.lost);
    println!(
        "service got {} MiB of logs (step and job) and {} calls with console lines",
        received.log_bytes.load(Ordering::Relaxed) / 1024 / 1024,
        received.console_calls.load(Ordering::Relaxed)
    );
    println!("after: peak of memory {}", peak_of_memory());
    server.abort();
}

fn main() {
    let mebibytes = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(USUAL_MEBIBYTES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(mebibytes));
}
