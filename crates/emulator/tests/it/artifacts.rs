//! Artifacts: uploaded in chunks by a job, associated with its build, downloaded by people.

use std::io::Read as _;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::pipeline::{Job, queue, register};
use crate::service::{Service, assert_error, success};

async fn job(service: &Service, folder: &std::path::Path) -> (Value, Job) {
    let definition = register(service, folder, "steps: [ { script: echo } ]");
    let agent = service.online("agent-1").await;
    let queued = queue(service, definition, json!({})).await;
    (queued["id"].clone(), Job::take(service, &agent).await)
}

fn upload(
    job: &Job,
    service: &Service,
    container: &str,
    path: &str,
    range: &str,
    bytes: &[u8],
) -> reqwest::RequestBuilder {
    let request = job.call(service, Method::PUT, &format!("_apis/resources/Containers/{container}"));
    request.query(&[("itemPath", path), ("scope", "x")]).header("content-range", range).body(bytes.to_vec())
}

fn artifact(container: &str, name: &str) -> Value {
    let data = format!("#/{container}/{name}");
    json!({ "name": name, "resource": { "type": "Container", "data": data, "properties": { "artifactsize": "10" } } })
}

#[tokio::test]
async fn artifact_goes_up_in_chunks_and_down_as_a_zip() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (id, job) = job(&service, folder.path()).await;
    let container = job.variable("build.containerId").to_owned();
    let part =
        upload(&job, &service, &container, "drop/a b.txt", "bytes 0-4/10", b"01234").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::ACCEPTED);
    let whole =
        upload(&job, &service, &container, "drop/a b.txt", "bytes 5-9/10", b"56789").send().await.unwrap();
    assert_eq!(whole.status(), StatusCode::CREATED);
    // A file without a byte has no range.
    let empty = job.call(&service, Method::PUT, &format!("_apis/resources/Containers/{container}"));
    let empty =
        empty.query(&[("itemPath", "drop/empty")]).header("content-length", "0").send().await.unwrap();
    assert_eq!(empty.status(), StatusCode::CREATED);
    let path = format!("dayfly/_apis/build/builds/{id}/artifacts");
    let made = success(job.call(&service, Method::POST, &path).json(&artifact(&container, "drop"))).await;
    assert_eq!(made["id"], 1);
    // The same once more, as a second upload to the artifact sends it.
    success(job.call(&service, Method::POST, &path).json(&artifact(&container, "drop"))).await;
    job.complete(&service, "succeeded").await;

    assert_eq!(service.get(&path).await["count"], 1);
    let one = service.get(&format!("{path}?artifactName=DROP")).await;
    let download = one["resource"]["downloadUrl"].as_str().unwrap();
    let packed = service.http.get(download).basic_auth("", Some(crate::service::PAT)).send().await.unwrap();
    assert_eq!(packed.headers()["content-type"], "application/zip");
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(packed.bytes().await.unwrap())).unwrap();
    let mut text = String::new();
    archive.by_name("drop/a b.txt").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "0123456789");
    let items = service.get(&format!("_apis/resources/Containers/{container}?itemPath=drop")).await;
    assert_eq!(items["value"][1]["path"], "drop/a b.txt");
    let into = tempfile::tempdir().unwrap();
    let build = serde_json::from_value(id).unwrap();
    let artifacts = service.emulator.run_artifacts(build).unwrap();
    assert_eq!(service.emulator.copy_artifact(&artifacts[0], into.path()).await.unwrap(), 2);
    assert_eq!(std::fs::read(into.path().join("empty")).unwrap(), b"");
    assert_eq!(std::fs::read_to_string(into.path().join("a b.txt")).unwrap(), "0123456789");
    service.emulator.stop().await;
}

#[tokio::test]
async fn what_does_not_belong_there_is_refused() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (id, job) = job(&service, folder.path()).await;
    let container = job.variable("build.containerId").to_owned();
    for path in ["../../etc/passwd", "drop/../../x", "..\\x"] {
        let refused = upload(&job, &service, &container, path, "bytes 0-0/1", b"x").send().await.unwrap();
        assert_error(refused, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    }
    let wrong = upload(&job, &service, &container, "drop/x", "bytes 0-5/6", b"x").send().await.unwrap();
    assert_error(wrong, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    let path = format!("dayfly/_apis/build/builds/{id}/artifacts");
    let empty =
        job.call(&service, Method::POST, &path).json(&artifact(&container, "nothing")).send().await.unwrap();
    assert_error(empty, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    success(upload(&job, &service, &container, "drop/x", "bytes 0-0/1", b"x")).await;
    for (numbers, fits) in [(0..600, true), (600..1_200, false)] {
        let properties: serde_json::Map<_, _> =
            numbers.map(|number| (format!("p{number}"), json!("x"))).collect();
        let mut artifact = artifact(&container, "drop");
        artifact["resource"]["properties"] = properties.into();
        let sent = job.call(&service, Method::POST, &path).json(&artifact).send().await.unwrap();
        assert_eq!(sent.status().is_success(), fits);
    }
    let mut heavy = artifact(&container, "drop");
    heavy["resource"]["properties"] = json!({ "text": "x".repeat(65_536) });
    let refused = job.call(&service, Method::POST, &path).json(&heavy).send().await.unwrap();
    assert_error(refused, StatusCode::INSUFFICIENT_STORAGE, "LimitReachedException").await;
    let other = job.call(&service, Method::POST, &path).json(&artifact("999", "drop")).send().await.unwrap();
    assert_error(other, StatusCode::FORBIDDEN, "AccessDeniedException").await;
    // Another build's job may read, as the project's build service may, and not write here.
    let stranger = service.queue(&[]);
    let reads =
        service.bearer(&stranger.token, Method::GET, &format!("_apis/resources/Containers/{container}"));
    assert!(reads.send().await.unwrap().status().is_success());
    let writes = service
        .bearer(&stranger.token, Method::PUT, &format!("_apis/resources/Containers/{container}?itemPath=x"))
        .header("content-range", "bytes 0-0/1")
        .body("x");
    assert_error(writes.send().await.unwrap(), StatusCode::FORBIDDEN, "AccessDeniedException").await;
    service.emulator.stop().await;
}
