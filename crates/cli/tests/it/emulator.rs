//! `dayfly emulator` and `dayfly agent` as two processes, driven over HTTP.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// What a test waits for comes within this time, or never.
const SOON: Duration = Duration::from_secs(60);
const PAT: &str = "token-of-the-emulator-test";

/// A process that is killed when the test ends early.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn terminate(mut self) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

fn dayfly(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
    command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Starts an emulator with more arguments; gives it and the collection's address.
fn start(folder: &Path, more: &[&str]) -> (Process, String) {
    let pat = folder.join("pat");
    std::fs::write(&pat, format!("{PAT}\n")).unwrap();
    let mut command = dayfly(&["emulator", "--pat-file", pat.to_str().unwrap()]);
    let mut child = command.args(more).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Process(child), line.trim().to_owned())
}

async fn get(client: &reqwest::Client, url: &str) -> Value {
    let response = client.get(url).basic_auth("", Some(PAT)).send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).unwrap()
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "{what} should come to be");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_runs_what_is_queued_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let code = folder.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::write(code.join("greeting"), "from the work tree\n").unwrap();
    let yaml = "steps:\n- checkout: self\n- bash: cat greeting\n  displayName: Say it\n";
    std::fs::write(code.join("azure-pipelines.yml"), yaml).unwrap();
    let pipeline = format!("hello={}", code.join("azure-pipelines.yml").display());
    let (emulator, url) = start(folder.path(), &["--pipeline", &pipeline]);
    let client = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();

    let pat = folder.path().join("pat");
    let work = folder.path().join("work");
    let mut agent = dayfly(&["agent", "--url", &url, "--token-file", pat.to_str().unwrap(), "--name", "one"]);
    agent.args(["--work", work.to_str().unwrap(), "--once", "--allow-root"]).current_dir(folder.path());
    let mut agent = Process(agent.stdout(Stdio::null()).spawn().unwrap());
    let agents = format!("{url}/_apis/distributedtask/pools/1/agents");
    eventually("the agent", async || get(&client, &agents).await["value"][0]["status"] == "online").await;

    let body = json!({ "definition": { "id": 1 } }).to_string();
    let queue =
        client.post(format!("{url}/dayfly/_apis/build/builds?api-version=7.1")).basic_auth("", Some(PAT));
    let queued = queue.header("content-type", "application/json").body(body).send().await.unwrap();
    let queued: Value = serde_json::from_str(&queued.text().await.unwrap()).unwrap();
    let build = queued["url"].as_str().unwrap_or_else(|| panic!("{queued}")).to_owned();
    eventually("the build", async || get(&client, &build).await["status"] == "completed").await;
    assert_eq!(get(&client, &build).await["result"], "succeeded");
    let timeline = get(&client, &format!("{build}/timeline")).await;
    let records = timeline["records"].as_array().unwrap();
    let step = records.iter().find(|record| record["name"] == "Say it").unwrap();
    let log = client.get(step["log"]["url"].as_str().unwrap()).basic_auth("", Some(PAT));
    let log = log.send().await.unwrap().text().await.unwrap();
    assert!(log.contains("from the work tree"), "{log}");
    // With `--once` the agent takes itself out of its pool and ends.
    eventually("the agent's end", async || agent.0.try_wait().unwrap().is_some()).await;
    assert_eq!(get(&client, &agents).await["count"], 0);
    assert_eq!(emulator.terminate(), Some(0));
}

#[tokio::test]
async fn the_token_is_asked_for_and_faults_strike() {
    let folder = tempfile::tempdir().unwrap();
    let rule = r#"{"path":"_apis/projects","count":1,"fault":{"kind":"status","status":503}}"#;
    let (emulator, url) = start(folder.path(), &["--fault", rule, "--project", "mine", "--pool", "own"]);
    let client = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
    let pools = format!("{url}/_apis/distributedtask/pools");
    let refused = client.get(&pools).basic_auth("", Some("wrong")).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(get(&client, &pools).await["value"][0]["name"], "own");
    let projects = format!("{url}/_apis/projects");
    let fault = client.get(&projects).basic_auth("", Some(PAT)).send().await.unwrap();
    assert_eq!(fault.status(), 503);
    assert_eq!(get(&client, &projects).await["value"][0]["name"], "mine");
    assert_eq!(emulator.terminate(), Some(0));
}

#[test]
fn what_cannot_be_is_told_with_the_right_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let pat = folder.path().join("pat");
    std::fs::write(&pat, "x").unwrap();
    let pat = pat.to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, code, expected) in [
        (vec!["--pat-file", "/nothing/here"], 2, "cannot be read"),
        (vec!["--pat-file", pat, "--fault", "{"], 2, "not a fault rule"),
        (vec!["--pat-file", pat, "--listen", &address], 1, "could not listen"),
        (vec!["--pat-file", pat, "--tasks-dir", "/nothing/here"], 1, "tasks"),
        (vec!["--pat-file", pat, "--pipeline", "a=/nothing/here"], 1, "cannot be found"),
        (vec!["--pat-file", pat, "--organization", "a/b"], 1, "a/b"),
    ] {
        let output = dayfly(&["emulator"]).args(&arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}
