//! The process executor with real child processes: a shell plays the worker.

use std::{ffi::OsString, sync::Arc, time::Duration};

use dayfly_listener::{
    AcceptedJob, Command, Executor, ProcessExecutor, Progress, Reported, RunningJob, WorkerEvent, WorkerExit,
};
use dayfly_protocol::{
    TaskResult,
    channel::{CancelReason, WorkerSettings},
    job::AgentJobRequestMessage,
};

/// Far longer than anything here takes; a bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(60);

const READY: &str = r#"{"type":"ready","version":"1","pid":1}"#;
const FINISHED: &str = r#"{"type":"finished","result":"succeeded","reported":true}"#;

fn executor(script: &str) -> ProcessExecutor {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let script = format!("echo '{READY}'; {script}");
    ProcessExecutor::new("/bin/sh", vec!["-c".into(), script.into()], vec![(OsString::from("PATH"), path)])
}

fn job() -> AcceptedJob {
    let message = AgentJobRequestMessage {
        job_display_name: "the job's name".to_owned(),
        ..AgentJobRequestMessage::default()
    };
    AcceptedJob { message: Arc::new(message), worker: WorkerSettings::default() }
}

async fn start(script: &str) -> RunningJob {
    executor(script).start(job()).await.expect("sh starts")
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
        r#"read -r job; case "$job" in '{{"type":"job"'*"the job's name"*) ;; *) echo "$job" >&2; exit 9;; esac
        echo '{{"type":"stepStarted","name":"build","number":1,"total":2}}'; echo 'stray words'; echo '{FINISHED}'; exit 100"#
    );
    let (progress, exit) = end(&mut start(&script).await).await;
    assert_eq!(progress, [Progress::StepStarted { name: "build".to_owned(), number: 1, total: 2 }]);
    assert_eq!((exit.result, exit.reported), (Some(TaskResult::Succeeded), Reported::Yes), "{exit:?}");
    assert_eq!(exit.last_lines, ["stray words"]);
}

#[tokio::test]
async fn the_job_comes_when_the_worker_is_ready_and_not_before() {
    // It may take a while to say so; an order that is there before it is read would fail the job.
    let script = format!(
        r#"if read -r -t 0.3 job; then echo "too early" >&2; exit 9; fi; echo '{READY}'; read -r job; echo '{FINISHED}'"#
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let executor =
        ProcessExecutor::new("/bin/bash", vec!["-c".into(), script.into()], vec![("PATH".into(), path)]);
    let (_, exit) = end(&mut executor.start(job()).await.expect("bash starts")).await;
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
    let (_, exit) = end(&mut start(&script).await).await;
    assert_eq!((exit.result, exit.last_lines), (Some(TaskResult::Succeeded), Vec::new()));
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_nothing_else() {
    let script = format!(r#"env | cut -d= -f1 | sort >&2; echo '{FINISHED}'"#);
    let (_, exit) = end(&mut start(&script).await).await;
    let mut names = exit.last_lines;
    // The shell adds these by itself.
    names.retain(|name| !matches!(name.as_str(), "PWD" | "OLDPWD" | "SHLVL" | "_"));
    assert_eq!(names, ["DAYFLY_JOB_MARKER", "PATH"]);
}

#[tokio::test]
async fn a_worker_that_dies_leaves_its_last_words() {
    let (_, exit) =
        end(&mut start("i=0; while [ $i -lt 100 ]; do echo \"line $i\" >&2; i=$((i+1)); done; exit 3").await)
            .await;
    assert_eq!((exit.result, exit.reported), (None, Reported::No));
    assert_eq!(exit.ending, "it ended with exit code 3");
    assert_eq!(exit.last_lines.len(), 20);
    assert_eq!(exit.last_lines.last().map(String::as_str), Some("line 99"));
}

#[tokio::test]
async fn a_killed_worker_is_known_by_its_signal_and_whether_it_may_have_reported() {
    let (_, exit) = end(&mut start("kill -9 $$").await).await;
    assert_eq!((exit.result, exit.reported), (None, Reported::No));
    assert_eq!(exit.ending, "it was killed by signal 9 (SIGKILL)");
    let (_, exit) = end(&mut start(r#"echo '{"type":"reporting"}'; sleep 0.1; kill -9 $$"#).await).await;
    assert_eq!((exit.result, exit.reported), (None, Reported::Perhaps));
}

#[tokio::test]
async fn an_exit_code_alone_tells_the_result_but_not_the_report() {
    let (_, exit) = end(&mut start("exit 102").await).await;
    assert_eq!((exit.result, exit.reported), (Some(TaskResult::Failed), Reported::Perhaps));
}

#[tokio::test]
async fn a_panic_is_a_death_and_no_result() {
    // Rust's panics end a process with 101, which is also how a worker would say "succeeded with issues".
    let (_, exit) = end(&mut start("echo 'thread main panicked' >&2; exit 101").await).await;
    assert_eq!((exit.result, exit.reported), (None, Reported::No));
    assert_eq!(exit.ending, "it ended with exit code 101");
    let (_, exit) = end(&mut start(r#"echo '{"type":"reporting"}'; exit 101"#).await).await;
    assert_eq!((exit.result, exit.reported), (Some(TaskResult::SucceededWithIssues), Reported::Perhaps));
}

#[tokio::test]
async fn commands_reach_the_worker_in_order() {
    let script = format!(
        r#"read -r job; read -r a; read -r b; read -r c; printf '%s\n' "$a" "$b" "$c" >&2; echo '{FINISHED}'"#
    );
    let mut running = start(&script).await;
    assert!(running.tell(Command::Metadata { post_lines_frequency_millis: 500 }));
    assert!(
        running.tell(Command::Cancel { timeout: Duration::from_secs(60), reason: CancelReason::Requested })
    );
    assert!(running.tell(Command::FlushLogs));
    let (_, exit) = end(&mut running).await;
    assert_eq!(
        exit.last_lines,
        [
            r#"{"type":"metadata","postLinesFrequencyMillis":500}"#,
            r#"{"type":"cancel","timeoutSeconds":60,"reason":"requested"}"#,
            r#"{"type":"flushLogs"}"#
        ]
    );
}

#[tokio::test]
async fn a_kill_takes_everything_along() {
    let mut running = start("setsid sleep 600 & echo $! >&2; trap '' TERM INT; sleep 600 & echo $! >&2; echo '{\"type\":\"stepStarted\",\"name\":\"up\",\"number\":1,\"total\":1}'; wait; sleep 600").await;
    let up = tokio::time::timeout(PATIENCE, running.next()).await.expect("the worker is up");
    assert!(matches!(up, WorkerEvent::Progress(_)), "{up:?}");
    running.kill();
    let (_, exit) = end(&mut running).await;
    assert_eq!(exit.ending, "it was killed by signal 9 (SIGKILL), since it was told to stop and did not");
    assert_eq!(exit.last_lines.len(), 2);
    for process in exit.last_lines {
        wait_until_gone(&process).await;
    }
}

#[tokio::test]
async fn a_dropped_job_is_killed() {
    let mut running = start("echo $$ >&2; echo \"{\\\"type\\\":\\\"stepStarted\\\",\\\"name\\\":\\\"$$\\\",\\\"number\\\":1,\\\"total\\\":1}\"; sleep 600").await;
    let WorkerEvent::Progress(Progress::StepStarted { name: process, .. }) =
        tokio::time::timeout(PATIENCE, running.next()).await.expect("it is up")
    else {
        panic!("it ended");
    };
    drop(running);
    wait_until_gone(&process).await;
}

#[tokio::test]
async fn what_a_job_left_behind_is_killed_at_its_end() {
    let script = format!(r#"setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $! >&2; echo '{FINISHED}'"#);
    let (_, exit) = end(&mut start(&script).await).await;
    assert_eq!(exit.reported, Reported::Yes);
    wait_until_gone(&exit.last_lines[0]).await;
}

#[tokio::test]
async fn a_flood_of_garbage_does_not_stop_a_worker() {
    let script = format!(
        r#"head -c 3000000 /dev/zero | tr '\0' 'x' >&2; head -c 100000 /dev/urandom >&2; head -c 3000000 /dev/zero; echo; echo '{FINISHED}'"#
    );
    let (_, exit) = end(&mut start(&script).await).await;
    assert_eq!((exit.result, exit.reported), (Some(TaskResult::Succeeded), Reported::Yes));
}

#[tokio::test]
async fn a_worker_that_is_not_there_says_so() {
    let error = ProcessExecutor::new("/nowhere/dayfly", Vec::new(), Vec::new())
        .start(job())
        .await
        .expect_err("it is not there");
    assert_eq!(error.to_string(), "the worker `/nowhere/dayfly` could not be started");
    assert!(std::error::Error::source(&error).is_some());
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
