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

/// The file with what an emulator said on standard error.
const SAID: &str = "said";

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
    command.env("XDG_STATE_HOME", folder).stderr(std::fs::File::create(folder.join(SAID)).unwrap());
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

/// Writes a pipeline into a folder of its own; gives the argument that names it.
fn pipeline(folder: &Path, name: &str, yaml: &str) -> String {
    let code = folder.join(name);
    std::fs::create_dir(&code).unwrap();
    std::fs::write(code.join("azure-pipelines.yml"), yaml).unwrap();
    format!("{name}={}", code.join("azure-pipelines.yml").display())
}

/// Groups, connections and secure files of the file that `--config` names reach the jobs of agents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_have_the_library_of_the_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let files = [
        ("word", "s3cret-of-a-group\n"),
        ("certificate", "a certificate\n"),
        (
            "dayfly.toml",
            "[variable-groups.shop]\ncolour = 'red'\nword = { file = 'word' }\n\n\
             [secure-files]\n'shop.pem' = 'certificate'\n",
        ),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let shop = pipeline(
        folder,
        "shop",
        "variables: [{ group: shop }]\nsteps:\n- checkout: none\n\
         - task: DownloadSecureFile@1\n  name: pem\n  inputs: { secureFile: shop.pem }\n\
         - bash: |\n    cat $(pem.secureFilePath)\n    echo $(colour), ${WORD:-none}, ${#GIVEN}, $GIVEN\n  \
         env: { GIVEN: $(word) }\n",
    );
    let config = folder.join("dayfly.toml");
    let (emulator, url) = start(folder, &["--pipeline", &shop, "--config", config.to_str().unwrap()]);
    let agent = start_agent(folder, &url, "one");
    has_said(folder, "agent one is online (pool Default)").await;
    let (code, output, errors) = queue(folder, &["shop"]);
    assert_eq!(code, Some(0), "{output}{errors}");
    assert!(output.contains("a certificate") && output.contains("red, none, 17, ***"), "{output}");
    assert!(!output.contains("s3cret"), "{output}");
    // What is given for the run counts.
    let (code, output, errors) = queue(folder, &["shop", "--variable", "WORD=given"]);
    assert!(code == Some(0) && output.contains("red, given, 5, given"), "{output}{errors}");
    drop(agent);
    assert_eq!(emulator.terminate(), Some(0));

    std::fs::remove_file(folder.join("word")).unwrap();
    let refused = dayfly(&["emulator", "--config", config.to_str().unwrap()]).output().unwrap();
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{errors}");
    assert!(errors.contains("dayfly.toml:3:8") && errors.contains("word"), "{errors}");
}

/// A pipeline that publishes an artifact; its second run is on a branch and its third one fails.
const LIBRARY: &str = "\
parameters: [{ name: word, type: string, default: first }, { name: end, type: string, default: 'true' }]
steps:
- checkout: none
- bash: mkdir -p out && echo ${{ parameters.word }} >out/word && echo '##vso[build.addbuildtag]${{ parameters.word }}'
- publish: out
  artifact: lib
- bash: ${{ parameters.end }}
";

/// One that downloads it in every way.
const APP: &str = "\
parameters: [{ name: id, type: number }]
resources:
  pipelines:
  - { pipeline: upstream, source: team\\library }
  - { pipeline: tagged, source: library, tags: [first] }
  - { pipeline: elsewhere, source: library, branch: none }
steps:
- checkout: none
- ${{ each how in split('runVersion=latest;allowFailedBuilds=true;tags=first', ';') }}:
  - task: DownloadPipelineArtifact@2
    inputs:
      source: specific
      project: $(System.TeamProject)
      pipeline: library
      artifact: lib
      path: got
      ${{ split(how, '=')[0] }}: ${{ split(how, '=')[1] }}
  - bash: echo ${{ split(how, '=')[0] }} got $(cat got/word) of $(BuildNumber); rm -r got
- task: DownloadPipelineArtifact@2
  inputs: { source: specific, runVersion: specific, runId: '${{ parameters.id }}', artifact: lib, path: got }
- bash: echo by number got $(cat got/word); rm -r got
- task: DownloadBuildArtifacts@1
  inputs: { buildType: specific, pipeline: 1, buildVersionToDownload: latest, artifactName: lib, downloadPath: got }
- bash: echo by the older task got $(cat got/lib/word)
- task: DownloadPipelineArtifact@2
  inputs: { source: specific, pipeline: nobody, artifact: lib, path: got }
  continueOnError: true
- task: DownloadPipelineArtifact@2
  inputs: { source: specific, pipeline: library, runVersion: latestFromBranch, runBranch: refs/heads/none, path: got }
  continueOnError: true
- download: upstream
- download: tagged
  artifact: lib
  patterns: '**/word'
- bash: |
    cd $(Pipeline.Workspace)
    echo by alias got $(cat upstream/lib/word) and $(cat tagged/lib/word)
    echo of $(resources.pipeline.upstream.pipelineName) $(resources.pipeline.upstream.runID)
- download: elsewhere
  continueOnError: true
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_come_from_other_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (library, app) = (pipeline(folder, "library", LIBRARY), pipeline(folder, "app", APP));
    let (emulator, url) = start(folder, &["--pipeline", &library, "--pipeline", &app]);
    let agent = start_agent(folder, &url, "one");
    has_said(folder, "agent one is online (pool Default)").await;
    for (word, end, code) in [("first", "true", 0), ("second", "true", 0), ("broken", "false", 1)] {
        let arguments = ["library", "-p", &format!("word={word}"), "-p", &format!("end={end}")];
        let (ended, output, errors) = queue(folder, &arguments);
        assert_eq!(ended, Some(code), "{output}{errors}");
    }
    let (code, output, errors) = queue(folder, &["app", "-p", "id=1"]);
    // Three steps fail, which does not matter to the run's exit code.
    assert_eq!(code, Some(0), "{output}{errors}");
    for text in [
        "runVersion got second of 2",
        "allowFailedBuilds got broken of 3",
        "tags got first of 1",
        "by number got first",
        "by the older task got second",
        "The following pipeline does not exist: nobody. Please verify the name of the pipeline.",
        "No builds currently exist in the pipeline definition supplied.",
        "by alias got second and first",
        "of library 2",
        "The pipeline resource 'elsewhere' has no run whose artifacts could be downloaded.",
    ] {
        assert!(output.contains(text), "{text}: {output}{errors}");
    }
    assert_eq!(agent.terminate(), Some(0));
    assert_eq!(emulator.terminate(), Some(0));
}

/// Starts an agent of the pool.
fn start_agent(folder: &Path, url: &str, name: &str) -> Process {
    let (pat, work) = (folder.join("pat"), folder.join(format!("work-{name}")));
    let mut agent = dayfly(&["agent", "--url", url, "--token-file", pat.to_str().unwrap(), "--name", name]);
    agent.args(["--work", work.to_str().unwrap(), "--allow-root"]).current_dir(folder);
    Process(agent.stdout(Stdio::null()).spawn().unwrap())
}

/// What the emulator said on standard error so far, without the times before its lines.
fn said(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(SAID)).unwrap();
    let is_time = |word: &str| word.len() == 8 && word.split(':').count() == 3;
    let line = |line: &str| match line.split_once(' ') {
        Some((time, rest)) if is_time(time) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect()
}

async fn has_said(folder: &Path, expected: &str) {
    eventually(expected, async || said(folder).iter().any(|line| line == expected)).await;
}

fn queue(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = dayfly(&["emulator", "queue"]);
    let output = command.args(arguments).env("XDG_STATE_HOME", folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const GREET: &str = "\
name: run-$(Rev:r)
parameters:
- { name: who, type: string }
jobs:
- job: greet
  steps:
  - bash: echo Hello ${{ parameters.who }} from $(place)
    displayName: Say <it>
";
const FAIL: &str =
    "name: run-$(Rev:r)\njobs:\n- job: fail\n  steps:\n  - bash: exit 3\n    displayName: Break\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_queued_from_another_shell_and_the_emulator_tells_what_happens() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (greet, fail) = (pipeline(folder, "greet", GREET), pipeline(folder, "fail", FAIL));
    let broken = pipeline(folder, "broken", "setps:\n- bash: exit\n");
    let arguments = ["--pipeline", &greet, "--pipeline", &fail, "--pipeline", &broken];
    let (emulator, url) = start(folder, &arguments);
    // What does not compile is told at once, with its place; a parameter that waits for its value is no
    // mistake.
    eventually("the complaint", async || {
        said(folder).iter().any(|line| line.contains("azure-pipelines.yml:1:1"))
    })
    .await;
    let text = said(folder).join("\n");
    assert!(text.contains("warning: the pipeline `broken` does not compile:"), "{text}");
    assert!(!text.contains("`greet`"), "{text}");

    let agent = start_agent(folder, &url, "one");
    has_said(folder, "agent one is online (pool Default)").await;
    let (code, stdout, stderr) = queue(folder, &["Greet", "-p", "who=Ada", "--variable", "place=here"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.starts_with("run run-1 of greet queued: "), "{stdout}");
    assert!(stdout.contains("Hello Ada from here"), "{stdout}");
    assert!(stdout.ends_with("run run-1 succeeded\n"), "{stdout}");
    for line in ["queued", "job greet assigned to agent one", "succeeded"] {
        has_said(folder, &format!("run run-1 of greet: {line}")).await;
    }
    let done = "run run-1 of greet: job greet succeeded in ";
    assert!(said(folder).iter().any(|line| line.starts_with(done)), "{:?}", said(folder));

    let page = stdout.lines().next().unwrap().rsplit(' ').next().unwrap();
    let client = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
    let answer = client.get(page).basic_auth("", Some(PAT)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let html = answer.text().await.unwrap();
    assert!(html.contains("Say &lt;it&gt;") && !html.contains("<script"), "{html}");

    let (code, stdout, stderr) = queue(folder, &["fail"]);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.ends_with("run run-1 failed\n"), "{stdout}");
    let (code, stdout, _) = queue(folder, &["fail", "--no-wait"]);
    assert_eq!((code, stdout.lines().count()), (Some(0), 1), "{stdout}");
    has_said(folder, "run run-2 of fail: failed").await;

    for (arguments, expected) in [
        (&["greet"][..], "the parameter `who` needs a value"),
        (&["broken"], "azure-pipelines.yml:1:1"),
        (&["nothing"], "has no pipeline `nothing`; it has `greet`, `fail`, `broken`"),
        (&["fail", "--url", &url], "--pat-file"),
    ] {
        let (code, stdout, stderr) = queue(folder, arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    assert_eq!(agent.terminate(), Some(0));
    has_said(folder, "agent one went offline (pool Default)").await;
    assert_eq!(emulator.terminate(), Some(0));
    let (code, _, stderr) = queue(folder, &["fail"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("found no running emulator"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_emulators_are_told_apart_and_killed_ones_are_forgotten() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (home, other) = (first.path(), second.path());
    let fail = pipeline(home, "fail", FAIL);
    let (one, url) = start(home, &["--pipeline", &fail, "--quiet"]);
    let pat = other.join("pat");
    std::fs::write(&pat, PAT).unwrap();
    let mut command =
        dayfly(&["emulator", "--quiet", "--pat-file", pat.to_str().unwrap(), "--pipeline", &fail]);
    let child = command.env("XDG_STATE_HOME", home).stdout(Stdio::piped()).spawn().unwrap();
    let mut two = Process(child);
    let mut line = String::new();
    BufReader::new(two.0.stdout.take().unwrap()).read_line(&mut line).unwrap();

    let (code, _, stderr) = queue(home, &["fail"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains(&url) && stderr.contains(line.trim()), "{stderr}");
    let own = home.join("pat");
    let (code, stdout, stderr) =
        queue(home, &["fail", "--no-wait", "--url", &url, "--pat-file", own.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    // Killed, it cannot take its file away.
    two.0.kill().unwrap();
    two.0.wait().unwrap();
    let (code, stdout, stderr) = queue(home, &["fail", "--no-wait"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains(&url), "{stdout}");
    assert_eq!(std::fs::read_dir(home.join("dayfly/emulators")).unwrap().count(), 1);
    assert_eq!(said(home), Vec::<String>::new());
    assert_eq!(one.terminate(), Some(0));
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
        (vec!["--pat-file", "/nothing/here"], 2, "cannot read `/nothing/here`"),
        (vec!["--pat-file", pat, "--fault", "{"], 2, "not a fault rule"),
        (vec!["--pat-file", pat, "--listen", &address], 1, "could not listen"),
        (vec!["--pat-file", pat, "--tasks-dir", "/nothing/here"], 1, "tasks"),
        (vec!["--pat-file", pat, "--pipeline", "a=/nothing/here"], 1, "cannot find the file"),
        (vec!["--pat-file", pat, "--organization", "a/b"], 1, "a/b"),
    ] {
        let output = dayfly(&["emulator"]).args(&arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}
