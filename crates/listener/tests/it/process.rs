//! The process executor with real child processes: a shell plays the worker.

use std::{ffi::OsString, sync::Arc, time::Duration};

use dayfly_listener::{
    AcceptedJob, Ending, Executor, InMemory, JobLabel, Ledger, ProcessExecutor, Progress, Reported,
    RunningJob, WorkerEvent, WorkerExit,
};
use dayfly_protocol::{
    JobId, RequestId, TaskResult,
    channel::{Cancel, CancelReason, SecretJson, StepStarted, WorkerSettings},
    job::AgentJobRequestMessage,
};
use dayfly_testing::PATIENCE;

use crate::world::HELLO;

const FINISHED: &str = r#"{"course":{"finished":{"result":"succeeded","reported":true}}}"#;
const REPORTING: &str = r#"{"course":"reporting"}"#;

/// The worker has said hello when `script` begins.
fn executor(script: &str) -> ProcessExecutor {
    bare(&format!("echo '{HELLO}'; {script}"))
}

fn bare(script: &str) -> ProcessExecutor {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ProcessExecutor::new("/bin/sh", vec!["-c".into(), script.into()], vec![(OsString::from("PATH"), path)])
}

fn job() -> AcceptedJob {
    let request = RequestId(7);
    let body = br#"{"jobDisplayName":"the job's name","ofTomorrow":{"kept":[1, 2]}}"#;
    AcceptedJob {
        label: JobLabel { request, id: JobId::default(), build: None, name: Arc::from("the job's name") },
        body: Arc::new(SecretJson::new(body).expect("it is JSON")),
        message: Arc::new(AgentJobRequestMessage::default()),
        worker: WorkerSettings::default(),
        claimed: None,
        ledger: Ledger::open(request, Arc::new(InMemory::default())),
        lock: Duration::from_secs(60),
    }
}

fn start(script: &str) -> RunningJob {
    executor(script).run(job())
}

/// How the worker itself ended.
fn ending(exit: &WorkerExit) -> &str {
    match &exit.ending {
        Ending::Ended(text) => text,
        Ending::NotStarted(text) => panic!("it was not started: {text}"),
    }
}

fn step(name: &str, number: u32, total: u32) -> Progress {
    Progress::Step(StepStarted { name: name.to_owned(), number, total })
}

async fn end(running: &mut RunningJob) -> (Vec<Progress>, WorkerExit) {
    let mut progress = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, running.next()).await.expect("the worker ends") {
            WorkerEvent::Progress(step) => progress.push(step),
            WorkerEvent::Ended(exit) => return (progress, exit),
        }
    }
}

#[tokio::test]
async fn a_worker_gets_its_job_and_tells_its_result() {
    let script = format!(
        r#"read -r job; case "$job" in '{{"welcome":{{"job":{{"message":{{'*"the job's name"*'"ofTomorrow":{{"kept":[1, 2]}}}}'*) ;; *) echo "$job" >&2; exit 9;; esac
        echo '{{"course":{{"step":{{"name":"build","number":1,"total":2}}}}}}'; echo 'stray words'; echo '{FINISHED}'; exit 100"#
    );
    let (progress, exit) = end(&mut start(&script)).await;
    assert_eq!(progress, [Progress::Claimed, step("build", 1, 2)]);
    assert_eq!((exit.result, exit.reported), (Some(TaskResult::Succeeded), Reported::Yes), "{exit:?}");
    assert_eq!(exit.last_lines, ["stray words"]);
}

#[tokio::test]
async fn the_job_comes_when_the_worker_is_ready_and_not_before() {
    // It may take a while to say so; an order that is there before it is read would fail the job.
    let script = format!(
        r#"if read -r -t 0.3 job; then echo "too early" >&2; exit 9; fi; echo '{HELLO}'; read -r job; echo '{FINISHED}'"#
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let executor =
        ProcessExecutor::new("/bin/bash", vec!["-c".into(), script.into()], vec![("PATH".into(), path)]);
    let (_, exit) = end(&mut executor.run(job())).await;
    assert_eq!((exit.result, exit.reported), (Some(TaskResult::Succeeded), Reported::Yes), "{exit:?}");
}

#[tokio::test]
async fn the_channel_cannot_be_opened_through_proc() {
    let script = format!(
        r#"exec 4>&1; for end in 0 4 2; do
            kind=$(readlink /proc/self/fd/$end)
            case $kind in socket:*) ;; *) echo "$end is $kind" >&2;; esac
        done; echo '{FINISHED}'"#
    );
    let (_, exit) = end(&mut start(&script)).await;
    assert_eq!((exit.result, exit.last_lines), (Some(TaskResult::Succeeded), Vec::new()));
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_nothing_else() {
    let script = format!(r#"env | cut -d= -f1 | sort >&2; echo '{FINISHED}'"#);
    let (_, exit) = end(&mut start(&script)).await;
    let mut names = exit.last_lines;
    // The shell adds these by itself.
    names.retain(|name| !matches!(name.as_str(), "PWD" | "OLDPWD" | "SHLVL" | "_"));
    assert_eq!(names, ["DAYFLY_JOB_MARKER", "PATH"]);
}

#[tokio::test]
async fn a_worker_that_dies_leaves_its_last_words() {
    let (_, exit) =
        end(&mut start("i=0; while [ $i -lt 100 ]; do echo \"line $i\" >&2; i=$((i+1)); done; exit 3")).await;
    assert_eq!((exit.result, exit.reported), (None, Reported::No));
    assert_eq!(ending(&exit), "it ended with exit code 3");
    assert_eq!(exit.last_lines.len(), 20);
    assert_eq!(exit.last_lines.last().map(String::as_str), Some("line 99"));
}

#[tokio::test]
async fn a_killed_worker_is_known_by_its_signal_and_whether_it_may_have_reported() {
    let (_, exit) = end(&mut start("kill -9 $$")).await;
    assert_eq!((exit.result, exit.reported), (None, Reported::No));
    assert_eq!(ending(&exit), "it was killed by signal 9 (SIGKILL)");
    let (_, exit) = end(&mut start(&format!(
        "read -r job; read -r orders; echo '{REPORTING}'; read -r heard; kill -9 $$"
    )))
    .await;
    assert_eq!((exit.result, exit.reported), (None, Reported::Perhaps));
}

#[tokio::test]
async fn an_exit_code_alone_tells_the_result_but_not_the_report() {
    let (_, exit) = end(&mut start("exit 102")).await;
    assert_eq!((exit.result, exit.reported), (Some(TaskResult::Failed), Reported::Perhaps));
}

#[tokio::test]
async fn a_panic_is_a_death_and_no_result() {
    // Rust's panics end a process with 101, which is also how a worker would say "succeeded with issues".
    let (_, exit) = end(&mut start("echo 'thread main panicked' >&2; exit 101")).await;
    assert_eq!((exit.result, exit.reported), (None, Reported::No));
    assert_eq!(ending(&exit), "it ended with exit code 101");
    let (_, exit) = end(&mut start(&format!("read -r job; echo '{REPORTING}'; exit 101"))).await;
    assert_eq!((exit.result, exit.reported), (Some(TaskResult::SucceededWithIssues), Reported::Perhaps));
}

#[tokio::test]
async fn orders_reach_the_worker_as_the_state_that_holds() {
    // What is ordered before the worker is there holds when it comes.
    let script = format!(
        r#"read -r job; read -r a; echo '{{"course":"beginning"}}'; echo '{{"course":{{"step":{{"name":"one","number":1,"total":1}}}}}}'; read -r b; printf '%s\n' "$a" "$b" >&2; echo '{FINISHED}'"#
    );
    let mut running = start(&script);
    running.order(|orders| orders.feed_interval_millis = Some(500));
    let cancel = Cancel { reason: CancelReason::Requested, timeout_seconds: 60 };
    running.order(|orders| orders.cancel = Some(cancel));
    for expected in [Progress::Claimed, step("one", 1, 1)] {
        let next = tokio::time::timeout(PATIENCE, running.next()).await.expect("the worker is up");
        assert_eq!(next, WorkerEvent::Progress(expected));
    }
    running.order(|orders| orders.flush_logs = true);
    let (_, exit) = end(&mut running).await;
    let cancel = r#""cancel":{"reason":"requested","timeoutSeconds":60}"#;
    assert_eq!(
        exit.last_lines,
        [
            format!(r#"{{"orders":{{{cancel},"feedIntervalMillis":500}}}}"#),
            format!(r#"{{"orders":{{{cancel},"flushLogs":true,"feedIntervalMillis":500}}}}"#),
        ]
    );
}

#[tokio::test]
async fn a_worker_of_another_version_is_sent_away_with_a_clear_word() {
    for first in [
        r#"{"type":"ready","version":"0.0.9","pid":1}"#,
        r#"{"hello":{"protocol":3,"version":"0.0.9","process":1,"resume":"key","course":"waiting"}}"#,
    ] {
        let mut running =
            bare(&format!("echo '{first}'; read -r answer; echo \"$answer\" >&2; sleep 600")).run(job());
        let (_, exit) = end(&mut running).await;
        assert_eq!((exit.result, exit.reported), (None, Reported::No));
        let text = ending(&exit);
        assert!(text.contains("its version 0.0.9 speaks another protocol"), "{text}");
        let own = env!("CARGO_PKG_VERSION");
        let refusal =
            format!(r#"{{"welcome":{{"refused":{{"protocol":{{"protocol":2,"version":"{own}"}}}}}}}}"#);
        assert!(exit.last_lines.is_empty() || exit.last_lines == [refusal], "{exit:?}");
    }
}

#[tokio::test]
async fn a_kill_takes_everything_along() {
    let mut running = start(
        "read -r job; setsid sleep 600 & echo $! >&2; trap '' TERM INT; sleep 600 & echo $! >&2; echo '{\"course\":{\"step\":{\"name\":\"up\",\"number\":1,\"total\":1}}}'; wait; sleep 600",
    );
    up(&mut running).await;
    running.kill();
    let (_, exit) = end(&mut running).await;
    assert_eq!(ending(&exit), "it was killed by signal 9 (SIGKILL), because it did not stop when told to");
    assert_eq!(exit.last_lines.len(), 2);
    for process in exit.last_lines {
        wait_until_gone(&process).await;
    }
}

#[tokio::test]
async fn a_dropped_job_is_killed() {
    let mut running = start(
        "read -r job; echo \"{\\\"course\\\":{\\\"step\\\":{\\\"name\\\":\\\"$$\\\",\\\"number\\\":1,\\\"total\\\":1}}}\"; sleep 600",
    );
    let process = up(&mut running).await;
    drop(running);
    wait_until_gone(&process).await;
}

#[tokio::test]
async fn what_a_job_left_behind_is_killed_at_its_end() {
    let script = format!(r#"setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $! >&2; echo '{FINISHED}'"#);
    let (_, exit) = end(&mut start(&script)).await;
    assert_eq!(exit.reported, Reported::Yes);
    wait_until_gone(&exit.last_lines[0]).await;
}

#[tokio::test]
async fn a_flood_of_garbage_does_not_stop_a_worker() {
    let script = format!(
        r#"head -c 3000000 /dev/zero | tr '\0' 'x' >&2; head -c 100000 /dev/urandom >&2; head -c 3000000 /dev/zero; echo; echo '{FINISHED}'"#
    );
    let (_, exit) = end(&mut start(&script)).await;
    assert_eq!((exit.result, exit.reported), (Some(TaskResult::Succeeded), Reported::Yes));
}

#[tokio::test]
async fn a_worker_that_is_not_there_says_so() {
    let mut running = ProcessExecutor::new("/nowhere/dayfly", Vec::new(), Vec::new()).run(job());
    let (_, exit) = end(&mut running).await;
    let Ending::NotStarted(text) = exit.ending else { panic!("{exit:?}") };
    assert!(text.starts_with("cannot run `/nowhere/dayfly`: No such file"), "{text}");
}

/// Waits until the worker tells its first step, and returns that step's name.
async fn up(running: &mut RunningJob) -> String {
    loop {
        match tokio::time::timeout(PATIENCE, running.next()).await.expect("it is up") {
            WorkerEvent::Progress(Progress::Step(step)) => return step.name,
            WorkerEvent::Progress(_) => {}
            WorkerEvent::Ended(exit) => panic!("it ended: {exit:?}"),
        }
    }
}

/// Waits until a process is gone or a zombie.
async fn wait_until_gone(process: &str) {
    let is_alive = || {
        std::fs::read_to_string(format!("/proc/{process}/stat"))
            .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
    };
    let limit = tokio::time::Instant::now() + PATIENCE;
    while is_alive() {
        assert!(tokio::time::Instant::now() < limit, "process {process} is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
