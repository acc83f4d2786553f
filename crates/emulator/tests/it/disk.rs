//! What reports take on disk, and how it comes back: whatever ends an upload.

use std::path::PathBuf;

use dayfly_emulator::{Fault, FaultRule};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::service::{QueuedJob, Service, assert_error, eventually, success};

/// All bytes that the emulators of these tests keep.
const ROOM: usize = 1_000;

/// A service with a job that runs and has a log, and the folder of its files.
async fn running(data: &tempfile::TempDir) -> (Service, QueuedJob, PathBuf) {
    let service = Service::start_with(|settings| {
        settings.data_folder = Some(data.path().to_owned());
        settings.limits.data_bytes = ROOM as u64;
        settings.limits.finished_plans = 0;
    })
    .await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    make_log(&service, &job).await;
    let own = std::fs::read_dir(data.path()).unwrap().next().unwrap().unwrap().path();
    let folder = own.join(job.plan.to_string());
    (service, job, folder)
}

async fn make_log(service: &Service, job: &QueuedJob) {
    success(job.call(service, Method::POST, "logs").json(&json!({ "path": "logs\\x" }))).await;
}

fn attachment(job: &QueuedJob, name: &str) -> String {
    job.path(&format!("timelines/{}/records/{}/attachments/kind/{name}", job.timeline, job.job))
}

/// A block for the log, or an attachment.
fn upload(service: &Service, job: &QueuedJob, path: &str, bytes: usize) -> reqwest::RequestBuilder {
    let method = if path.contains("attachments") { Method::PUT } else { Method::POST };
    service.bearer(&job.token, method, path).body("x".repeat(bytes))
}

/// Sends a part of an upload and cuts the connection.
async fn cut_off(service: &Service, job: &QueuedJob, path: &str) {
    let url = service.emulator.url();
    let mut connection = TcpStream::connect(("127.0.0.1", url.port().unwrap())).await.unwrap();
    let method = if path.contains("attachments") { "PUT" } else { "POST" };
    let head = format!(
        "{method} {}/{path}?api-version=7.1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {ROOM}\r\n\r\n",
        url.path(),
        job.token
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&[b'x'; ROOM / 2]).await.unwrap();
    connection.shutdown().await.unwrap();
}

#[tokio::test]
async fn uploads_that_are_cut_off_take_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (service, job, _) = running(&data).await;
    for path in [job.path("logs/1"), attachment(&job, "a")] {
        for _ in 0..3 {
            cut_off(&service, &job, &path).await;
        }
    }
    success(upload(&service, &job, &job.path("logs/1"), ROOM / 2)).await;
    success(upload(&service, &job, &attachment(&job, "a"), ROOM / 2)).await;
    let more = upload(&service, &job, &job.path("logs/1"), 1).send().await.unwrap();
    assert_error(more, StatusCode::INSUFFICIENT_STORAGE, "LimitReachedException").await;
    service.emulator.stop().await;
}

#[tokio::test]
async fn uploads_whose_answer_is_lost_count_once_and_until_their_plan_is_forgotten() {
    let data = tempfile::tempdir().unwrap();
    let (service, job, folder) = running(&data).await;
    for (path, pattern) in [(job.path("logs/1"), "**/logs/1"), (attachment(&job, "a"), "**/attachments/**")] {
        service.emulator.add_fault(FaultRule::new(pattern, Fault::DropAfter).times(1)).unwrap();
        assert!(upload(&service, &job, &path, 400).send().await.is_err());
    }
    let log = service.bearer(&job.token, Method::GET, &job.path("logs/1")).send().await.unwrap();
    assert_eq!(log.text().await.unwrap().trim_end().len(), 400);
    // The attachment sent once more is in place of the first.
    success(upload(&service, &job, &attachment(&job, "a"), 200)).await;
    success(upload(&service, &job, &attachment(&job, "b"), 400)).await;
    let more = upload(&service, &job, &attachment(&job, "c"), 1).send().await.unwrap();
    assert_error(more, StatusCode::INSUFFICIENT_STORAGE, "LimitReachedException").await;
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "a log and two attachments");

    job.complete(&service, "succeeded").await;
    eventually("the plan's folder to be deleted", async || !folder.exists()).await;
    let next = service.queue(&[]);
    make_log(&service, &next).await;
    success(upload(&service, &next, &next.path("logs/1"), ROOM)).await;
    service.emulator.stop().await;
}

#[tokio::test]
async fn uploads_that_cannot_be_written_take_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (service, job, folder) = running(&data).await;
    // A file where the plan's folder should be.
    std::fs::write(&folder, "").unwrap();
    for path in [job.path("logs/1"), attachment(&job, "a")] {
        let failed = upload(&service, &job, &path, ROOM).send().await.unwrap();
        assert_error(failed, StatusCode::INTERNAL_SERVER_ERROR, "VssServiceException").await;
    }
    std::fs::remove_file(&folder).unwrap();
    success(upload(&service, &job, &job.path("logs/1"), ROOM)).await;
    service.emulator.stop().await;
}
