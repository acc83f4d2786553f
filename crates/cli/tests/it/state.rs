//! `dayfly agent --state-dir`: what it keeps outlives it, and so do its jobs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use dayfly_protocol::{JobId, TaskResult};
use nix::sys::signal::Signal;

use crate::service::{PAT, Process, Service, bounded, children, eventually, is_alive};

/// An agent with a state folder, for the first time.
fn first(service: &Service, name: &str) -> Command {
    let mut command = service.agent(name, &["--state-dir"]);
    command.arg(service.path("state"));
    command
}

/// The same once more, without a token and without being told who it is.
fn again(service: &Service, name: &str) -> Command {
    let mut command = first(service, name);
    for variable in ["AZP_URL", "AZP_TOKEN", "AZP_AGENT_NAME"] {
        command.env_remove(variable);
    }
    command
}

/// A job that notes itself in the journal, waits for the file `go`, and notes its end.
fn patient(service: &mut Service, go: &str) -> JobId {
    let (journal, go) = (service.path("journal"), service.path(go));
    let begin = format!(
        "echo '$JOB begin' >> {0}; while [ ! -e {1} ]; do sleep 0.02; done",
        journal.display(),
        go.display()
    );
    let end = format!("echo '$JOB end' >> {}", journal.display());
    service.queue("Patient", &[&begin, &end])
}

async fn has_begun(service: &Service, job: JobId) {
    let journal = service.path("journal");
    let begin = format!("{job} begin\n");
    eventually("the job has begun", || {
        fs::read_to_string(&journal).ok().filter(|text| text.contains(&begin)).map(drop)
    })
    .await;
}

/// How often each part of a job ran.
fn runs(service: &Service, job: JobId) -> [usize; 2] {
    let journal = fs::read_to_string(service.path("journal")).unwrap();
    ["begin", "end"].map(|part| journal.lines().filter(|line| *line == format!("{job} {part}")).count())
}

/// Kills an agent without a word; its worker lives on.
fn kill(agent: Process) -> u32 {
    let workers = children(agent.0.id());
    assert_eq!(workers.len(), 1, "one worker");
    drop(agent);
    assert!(is_alive(workers[0]), "the worker outlives its listener");
    workers[0]
}

async fn stop(agent: Process) {
    agent.signal(Signal::SIGTERM);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
}

#[tokio::test]
async fn a_killed_agent_goes_on_with_its_job_and_its_session() {
    let mut service = Service::new(|_| {}).await;
    let mut agent = Process::spawn(&mut first(&service, "phoenix"));
    service.online("phoenix").await;
    let job = patient(&mut service, "go");
    has_begun(&service, job).await;
    let mut worker = None;
    for _ in 0..3 {
        let killed = match worker {
            None => kill(agent),
            // The worker is nobody's child by now.
            Some(worker) => {
                drop(agent);
                worker
            }
        };
        worker = Some(killed);
        agent = Process::spawn(&mut again(&service, "phoenix"));
        agent.told("Job Patient goes on").await;
    }
    assert_eq!(service.emulator.statistics().sessions, 1, "it is the same session");
    fs::write(service.path("go"), "").unwrap();
    assert_eq!(service.result(job).await, TaskResult::Succeeded);
    assert_eq!(runs(&service, job), [1, 1]);
    let worker = worker.unwrap();
    eventually("the worker has ended", || (!is_alive(worker)).then_some(())).await;
    let next = service.queue("Next", &["true"]);
    assert_eq!(service.result(next).await, TaskResult::Succeeded);
    stop(agent).await;
    assert_eq!(service.emulator.statistics().sessions, 0);
    assert_eq!(service.emulator.statistics().refused_completions, 0);
    let pool = service.emulator.pool("Default").unwrap();
    assert!(service.connection().find_agent(pool, "phoenix").await.unwrap().is_some(), "it stays registered");
}

#[tokio::test]
async fn what_happened_while_the_agent_was_dead_is_made_good() {
    let mut service = Service::new(|_| {}).await;
    let agent = Process::spawn(&mut first(&service, "late"));
    service.online("late").await;

    let cancelled = patient(&mut service, "never");
    has_begun(&service, cancelled).await;
    kill(agent);
    service.cancel(cancelled);
    let mut agent = Process::spawn(&mut again(&service, "late"));
    agent.told("Job Patient completed with result: Canceled").await;
    assert_eq!(service.result(cancelled).await, TaskResult::Canceled);
    assert_eq!(runs(&service, cancelled), [1, 0]);

    let finished = patient(&mut service, "go");
    has_begun(&service, finished).await;
    let worker = kill(agent);
    fs::write(service.path("go"), "").unwrap();
    assert_eq!(service.result(finished).await, TaskResult::Succeeded, "the worker has told it itself");
    eventually("the worker has ended", || (!is_alive(worker)).then_some(())).await;

    let mut agent = Process::spawn(&mut again(&service, "late"));
    agent.told("Job Patient completed with result: Succeeded").await;
    let next = patient(&mut service, "go");
    assert_eq!(service.result(next).await, TaskResult::Succeeded);

    fs::remove_file(service.path("go")).unwrap();
    let doomed = patient(&mut service, "go");
    has_begun(&service, doomed).await;
    let worker = kill(agent);
    nix::sys::signal::kill(crate::service::pid(worker), Signal::SIGKILL).unwrap();
    let mut agent = Process::spawn(&mut again(&service, "late"));
    assert_eq!(service.result(doomed).await, TaskResult::Failed, "nobody has it any more");
    agent.told("Job Patient completed with result: Failed").await;
    stop(agent).await;
    assert_eq!(service.emulator.statistics().refused_completions, 0);
}

#[tokio::test]
async fn a_state_folder_is_private_and_of_one_agent_at_a_time() {
    let mut service = Service::new(|_| {}).await;
    let agent = Process::spawn(&mut first(&service, "owner"));
    service.online("owner").await;
    let job = patient(&mut service, "go");
    has_begun(&service, job).await;
    let mut files = vec![service.path("state")];
    while let Some(path) = files.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        if metadata.is_file() {
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
            assert!(!has_text(&path, PAT), "the token is in {}", path.display());
        }
    }
    let second = Process::spawn(&mut again(&service, "owner"));
    let (code, _, error) = second.ended().await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("another process uses the state folder"), "{error}");
    fs::write(service.path("go"), "").unwrap();
    assert_eq!(service.result(job).await, TaskResult::Succeeded);
    stop(agent).await;

    let other = Process::spawn(&mut first(&service, "somebody-else"));
    let (code, _, error) = bounded("it refuses", other.ended()).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("holds agent `owner` of pool `Default`"), "{error}");

    let mut nobody = service.agent("owner", &["--state-dir"]);
    nobody.arg(service.path("empty")).env_remove("AZP_URL");
    let (code, _, error) = Process::spawn(&mut nobody).ended().await;
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--url"), "{error}");
}

fn has_text(file: &Path, text: &str) -> bool {
    fs::read(file).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
}
