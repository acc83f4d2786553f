//! Repositories by the real git program over HTTP.

use std::path::Path;
use std::process::Output;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::git_program::{command, commit, files, git, repository, write};
use crate::pipeline::{Job, queue, register};
use crate::service::{PAT, Service, assert_error, eventually};

/// Runs git with a header, as agents do. The runtime's threads are kept free for the emulator.
async fn with_header(folder: &Path, header: &str, arguments: &[&str]) -> Output {
    let mut git = command(folder);
    // Nothing but the header logs in.
    git.env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "http.extraheader")
        .env("GIT_CONFIG_VALUE_0", header);
    git.env("GIT_ASKPASS", "true").args(arguments);
    tokio::task::spawn_blocking(move || git.output().unwrap()).await.unwrap()
}

fn basic(token: &str) -> String {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!(":{token}"));
    format!("AUTHORIZATION: basic {pair}")
}

async fn success(folder: &Path, header: &str, arguments: &[&str]) {
    let output = with_header(folder, header, arguments).await;
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn job_fetches_the_snapshot_by_commit_with_its_own_token() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), "steps: [ { script: echo } ]");
    write(folder.path(), "uncommitted", "new\n");
    let agent = service.online("agent-1").await;
    queue(&service, definition, json!({})).await;
    let job = Job::take(&service, &agent).await;
    let own = &job.message.resources.repositories[0].properties;
    let (url, version) = (own.url.clone().unwrap().to_string(), own.version.clone().unwrap());

    let into = tempfile::tempdir().unwrap();
    git(into.path(), &["init", "--quiet"]);
    let bearer = format!("AUTHORIZATION: bearer {}", job.own.token);
    let by_commit = format!("+{version}:refs/remotes/origin/{version}");
    success(into.path(), &bearer, &["fetch", "--depth=1", &url, &by_commit]).await;
    git(into.path(), &["checkout", "--quiet", &version]);
    assert_eq!(std::fs::read_to_string(into.path().join("uncommitted")).unwrap(), "new\n");
    assert_eq!(git(into.path(), &["rev-list", "--count", "HEAD"]), "1");
    success(into.path(), &basic(&job.own.token), &["fetch", "--unshallow", &url, "refs/heads/main"]).await;
    assert_eq!(git(into.path(), &["rev-list", "--count", "FETCH_HEAD"]), "2");
    job.complete(&service, "succeeded").await;
    service.emulator.stop().await;
}

#[tokio::test]
async fn repositories_are_cloned_in_both_protocols_and_parts() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path());
    write(folder.path(), "large", &"0123456789abcdef\n".repeat(100_000));
    let head = commit(folder.path(), "Large");
    service.emulator.add_repository("dayfly", "my repo", folder.path()).await.unwrap();
    let listed = service.get("dayfly/_apis/git/repositories").await;
    let url = listed["value"][0]["remoteUrl"].as_str().unwrap().to_owned();
    assert!(url.ends_with("/dayfly/_git/my%20repo"), "{url}");
    let into = tempfile::tempdir().unwrap();
    for (version, name) in [("0", "v0"), ("2", "v2")] {
        let option = format!("protocol.version={version}");
        success(into.path(), &basic(PAT), &["-c", &option, "clone", "--quiet", &url, name]).await;
        assert_eq!(git(&into.path().join(name), &["rev-parse", "HEAD"]), head);
        assert_eq!(files(&into.path().join(name), "HEAD").len(), 4);
    }
    success(into.path(), &basic(PAT), &["clone", "--quiet", "--bare", "--filter=blob:none", &url, "part"])
        .await;
    success(into.path(), &basic(PAT), &["ls-remote", "--exit-code", &url, "refs/heads/main"]).await;
    // Many wants and haves make git compress its request.
    for number in 0..300 {
        git(folder.path(), &["branch", &format!("b{number}")]);
    }
    success(&into.path().join("v2"), &basic(PAT), &["fetch", "--quiet", "origin"]).await;
    service.emulator.stop().await;
}

#[tokio::test]
async fn strangers_and_pushes_are_refused() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path());
    service.emulator.add_repository("dayfly", "code", folder.path()).await.unwrap();
    let url = format!("{}/dayfly/_git/code", service.emulator.url());
    let into = tempfile::tempdir().unwrap();
    for header in [basic("wrong"), "AUTHORIZATION: bearer wrong".to_owned()] {
        let refused = with_header(into.path(), &header, &["clone", "--quiet", &url, "stranger"]).await;
        assert!(!refused.status.success());
    }
    success(into.path(), &basic(PAT), &["clone", "--quiet", &url, "mine"]).await;
    let mine = into.path().join("mine");
    commit_in(&mine);
    let refused = with_header(&mine, &basic(PAT), &["push", "--quiet", "origin", "HEAD"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("403"), "{said}");
    let missing = service.admin(Method::GET, "dayfly/_git/nothing/info/refs?service=git-upload-pack");
    assert_error(missing.send().await.unwrap(), StatusCode::NOT_FOUND, "GitRepositoryNotFoundException")
        .await;
    service.emulator.stop().await;
}

fn commit_in(folder: &Path) {
    write(folder, "more", "more\n");
    commit(folder, "More");
}

#[tokio::test]
async fn each_run_has_the_repository_as_it_was_when_it_was_queued() {
    let service = Service::start_with(|settings| settings.limits.finished_plans = 1).await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), "steps: [ { script: echo } ]");
    let agent = service.online("agent-1").await;
    for text in ["first\n", "second\n"] {
        write(folder.path(), "uncommitted", text);
        queue(&service, definition, json!({})).await;
    }
    for expected in ["first\n", "second\n"] {
        let job = Job::take(&service, &agent).await;
        let own = &job.message.resources.repositories[0].properties;
        let url = own.url.clone().unwrap().to_string();
        let into = tempfile::tempdir().unwrap();
        let bearer = format!("AUTHORIZATION: bearer {}", job.own.token);
        success(into.path(), &bearer, &["clone", "--quiet", &url, "."]).await;
        git(into.path(), &["checkout", "--quiet", own.version.as_deref().unwrap()]);
        assert_eq!(std::fs::read_to_string(into.path().join("uncommitted")).unwrap(), expected);
        job.complete(&service, "succeeded").await;
    }
    // What a forgotten run leaves is gone; what is served by that name now is not.
    eventually("the first run", async || service.get("dayfly/_apis/build/builds").await["count"] == 1).await;
    assert_eq!(service.get("dayfly/_apis/git/repositories").await["count"], 1);
    service.emulator.stop().await;
}

#[tokio::test]
async fn a_mistake_in_the_file_leaves_no_snapshot_behind() {
    let data = tempfile::tempdir().unwrap();
    let service =
        Service::start_with(|settings| settings.data_folder = Some(data.path().to_path_buf())).await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), "steps: [ { skript: echo } ]");
    let body = json!({ "definition": { "id": definition } });
    let refused = service.admin(Method::POST, "dayfly/_apis/build/builds").json(&body).send().await.unwrap();
    assert_error(refused, StatusCode::BAD_REQUEST, "PipelineValidationException").await;
    let preview = service.admin(Method::POST, &format!("dayfly/_apis/pipelines/{definition}/preview"));
    let refused = preview.json(&json!({ "previewRun": true })).send().await.unwrap();
    assert_error(refused, StatusCode::BAD_REQUEST, "PipelineValidationException").await;
    // Nor does a tree that cannot be taken: its index is damaged.
    write(folder.path(), "azure-pipelines.yml", "steps: [ { script: echo } ]");
    write(folder.path(), ".git/index", "no index");
    let refused = service.admin(Method::POST, "dayfly/_apis/build/builds").json(&body).send().await.unwrap();
    assert_error(refused, StatusCode::INTERNAL_SERVER_ERROR, "VssServiceException").await;
    let emulator = std::fs::read_dir(data.path()).unwrap().next().unwrap().unwrap().path();
    let left = || std::fs::read_dir(emulator.join("snapshots")).unwrap().count();
    eventually("the snapshots to be deleted", async || left() == 0).await;
    service.emulator.stop().await;
}
