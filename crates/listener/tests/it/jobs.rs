//! Jobs from their message to their result.

use std::time::Duration;

use dayfly_emulator::{CompletionReason, Fault, FaultRule};
use dayfly_listener::{Event, ProcessExecutor};
use dayfly_protocol::{TaskResult, timeline::VariableValue};

use crate::world::{World, event, eventually, finish};

const MESSAGES: &str = "_apis/distributedtask/pools/*/messages/*";
const REQUESTS: &str = "_apis/distributedtask/pools/*/jobrequests/*";
const EVENTS: &str = "*/_apis/distributedtask/hubs/*/plans/*/events";

#[tokio::test]
async fn a_job_runs_once_and_its_result_arrives() {
    let mut world = World::new().await;
    let set = world.agents(&["a"], world.script(&finish("succeededWithIssues"))).await;
    let job = world.queue("build");
    assert_eq!(world.completed(job).await, (TaskResult::SucceededWithIssues, CompletionReason::Event));
    assert_eq!(world.runs().into_values().collect::<Vec<_>>(), [1]);
    set.drain();
    let summary = set.wait().await;
    assert_eq!((summary.ended, summary.failed), (1, 0), "{summary:?}");
    assert_eq!(world.emulator.statistics().sessions, 0, "the session is deleted");
    world.stop().await;
}

#[tokio::test]
async fn fifty_agents_run_two_hundred_jobs_exactly_once() {
    let mut world = World::new().await;
    let names: Vec<String> = (0..50).map(|number| format!("agent-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let set = world.agents(&names, world.script(&finish("succeeded"))).await;
    let jobs: Vec<_> = (0..200).map(|number| world.queue(&format!("job {number}"))).collect();
    for job in &jobs {
        assert_eq!(world.completed(*job).await, (TaskResult::Succeeded, CompletionReason::Event));
    }
    let runs = world.runs();
    assert_eq!(runs.len(), 200);
    assert!(runs.values().all(|count| *count == 1), "{runs:?}");
    assert_eq!(world.emulator.statistics().refused_completions, 0);
    set.drain();
    assert_eq!(set.wait().await.ended, 50);
    world.stop().await;
}

#[tokio::test]
async fn the_listener_finishes_jobs_of_old_plans() {
    let mut world = World::new().await;
    world.plan_version(7);
    let set = world
        .agents(
            &["a"],
            world.script("echo '{\"course\":{\"finished\":{\"result\":\"failed\",\"reported\":true}}}'"),
        )
        .await;
    let job = world.queue("old");
    assert_eq!(world.completed(job).await, (TaskResult::Failed, CompletionReason::Request));
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_worker_that_dies_fails_its_job_with_the_reason_and_without_secrets() {
    let mut world = World::new().await;
    let set = world
        .agents(&["a"], world.script("echo \"password is hunter2, $job\" | cut -c1-200 >&2; kill -9 $$"))
        .await;
    let job = world.queue_with("doomed", |message| {
        message.variables.insert("password".to_owned(), VariableValue::secret("hunter2"));
    });
    assert_eq!(world.completed(job).await, (TaskResult::Failed, CompletionReason::Event));
    let issues = world.issues(job).await;
    assert_eq!(issues.len(), 1, "{issues:?}");
    assert!(issues[0].contains("it was killed by signal 9 (SIGKILL)"), "{issues:?}");
    assert!(issues[0].contains("password is ***") && !issues[0].contains("hunter2"), "{issues:?}");
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_timeline_that_does_not_answer_keeps_no_result_back() {
    let mut world = World::new().await;
    let never = Fault::Latency { milliseconds: 600_000, jitter: 0 };
    world.emulator.add_fault(FaultRule::new("**/timelines/**", never)).expect("a fault");
    let slow = Fault::Latency { milliseconds: 300, jitter: 0 };
    world.emulator.add_fault(FaultRule::new("**/jobrequests/*", slow).method("GET")).expect("a fault");
    let mut config = world.config(&["a"]);
    config.timings.call = std::time::Duration::from_millis(1_000);
    // Beyond the patience of this test: the first try must do.
    config.timings.report_limit = std::time::Duration::from_secs(600);
    let set = world.set(config, 1, world.script("kill -9 $$")).await;
    let job = world.queue("doomed");
    assert_eq!(world.completed(job).await, (TaskResult::Failed, CompletionReason::Event));
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_worker_that_cannot_be_started_fails_its_job_with_the_reason() {
    let mut world = World::new().await;
    let set = world
        .agents(&["a"], std::sync::Arc::new(ProcessExecutor::new("/nowhere/dayfly", Vec::new(), Vec::new())))
        .await;
    let job = world.queue("unlucky");
    assert_eq!(world.completed(job).await, (TaskResult::Failed, CompletionReason::Event));
    let issues = world.issues(job).await;
    assert!(
        issues[0].starts_with("Could not start the worker of this job: cannot run `/nowhere/dayfly`: "),
        "{issues:?}"
    );
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_worker_that_died_while_reporting_is_not_contradicted() {
    // The first report of the listener plays the worker's: it is handled, but its answer is lost.
    let mut world = World::new().await;
    world
        .emulator
        .add_fault(FaultRule::new(EVENTS, Fault::DropAfter).method("POST").times(1))
        .expect("a fault");
    let set = world.agents(&["a"], world.script("exit 102")).await;
    let job = world.queue("ambiguous");
    assert_eq!(world.completed(job).await, (TaskResult::Failed, CompletionReason::Event));
    set.drain();
    assert_eq!(set.wait().await.failed, 0);
}

#[tokio::test]
async fn a_job_whose_token_is_void_is_ended_by_its_agent() {
    let mut world = World::new().await;
    world.emulator.add_fault(FaultRule::new(EVENTS, Fault::ExpireToken).method("POST")).expect("a fault");
    let set = world.agents(&["a"], world.script(&finish("succeededWithIssues"))).await;
    let job = world.queue("locked out");
    assert_eq!(world.completed(job).await, (TaskResult::SucceededWithIssues, CompletionReason::Request));
    set.drain();
    assert_eq!(set.wait().await.failed, 0);
    assert_eq!(world.emulator.statistics().refused_completions, 0);
}

#[tokio::test]
async fn a_cancelled_job_is_asked_then_killed() {
    let mut world = World::new().await;
    let body = format!(
        "echo up > '{0}/up'; read -r order; echo \"$order\" > '{0}/order'; read -r order; echo \"$order\" > '{0}/second'; trap '' TERM; sleep 600",
        world.folder.path().display()
    );
    let set = world.agents(&["a"], world.script(&body)).await;
    let job = world.queue("endless");
    world.file("up").await;
    world.cancel(job);
    assert_eq!(world.completed(job).await, (TaskResult::Canceled, CompletionReason::Event));
    assert_eq!(
        world.file("order").await,
        "{\"orders\":{\"cancel\":{\"reason\":\"requested\",\"timeoutSeconds\":0}}}\n"
    );
    assert_eq!(
        world.file("second").await,
        "{\"orders\":{\"cancel\":{\"reason\":\"requested\",\"timeoutSeconds\":0},\"flushLogs\":true}}\n"
    );
    assert_eq!(world.issues(job).await, ["The job was cancelled, and did not end in time."]);
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_worker_that_obeys_its_cancellation_has_the_last_word() {
    let mut world = World::new().await;
    let body =
        format!("echo up > '{}/up'; read -r order; {}", world.folder.path().display(), finish("canceled"));
    let set = world.agents(&["a"], world.script(&body)).await;
    let job = world.queue("obedient");
    world.file("up").await;
    world.cancel(job);
    assert_eq!(world.completed(job).await, (TaskResult::Canceled, CompletionReason::Event));
    assert!(world.issues(job).await.is_empty());
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_before_its_start_never_starts() {
    let mut world = World::new().await;
    // The message cannot be deleted for a while, so the job is accepted but not started when the cancellation
    // comes.
    let fault = Fault::Status { status: 503, type_key: None, message: None, headers: Default::default() };
    let fault = world.emulator.add_fault(FaultRule::new(MESSAGES, fault).method("DELETE")).expect("a fault");
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let job = world.queue("never");
    world.started(job).await;
    world.cancel(job);
    // The cancellation is a message too: it has been handled once its deletion is tried.
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.emulator.remove_fault(fault);
    assert_eq!(world.completed(job).await, (TaskResult::Canceled, CompletionReason::Event));
    assert!(world.runs().is_empty(), "{:?}", world.runs());
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_job_that_is_being_taken_when_the_agent_stops_has_its_result_at_once() {
    let mut world = World::new().await;
    let slow = Fault::Latency { milliseconds: 1_000, jitter: 0 };
    let slow = FaultRule::new(REQUESTS, slow).method("PATCH").times(1);
    let slow = world.emulator.add_fault(slow).expect("a fault");
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let job = world.queue("late");
    world.struck(slow, 1).await;
    set.stop(Duration::from_secs(60));
    assert_eq!(world.completed(job).await, (TaskResult::Canceled, CompletionReason::Event));
    assert_eq!(world.issues(job).await, ["The agent was shut down before the job began."]);
    assert!(world.runs().is_empty(), "{:?}", world.runs());
    assert_eq!(set.wait().await.failed, 0);
}

#[tokio::test]
async fn a_message_that_comes_again_is_not_run_again() {
    let mut world = World::new().await;
    // Handled, but the answer is lost: the message is gone and the listener does not know.
    world
        .emulator
        .add_fault(FaultRule::new(MESSAGES, Fault::DropAfter).method("DELETE").times(2))
        .expect("a fault");
    let set = world.agents(&["a"], world.script(&format!("sleep 0.3; {}", finish("succeeded")))).await;
    let job = world.queue("once");
    world.started(job).await;
    // A new session gets every message that was not deleted.
    world.emulator.lose_sessions();
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    let second = world.queue("after");
    assert_eq!(world.completed(second).await.0, TaskResult::Succeeded);
    assert_eq!(world.runs().into_values().collect::<Vec<_>>(), [1, 1]);
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_lock_that_cannot_be_had_leaves_the_job_to_the_queue() {
    let mut world = World::new().await;
    let fault = Fault::Status { status: 500, type_key: None, message: None, headers: Default::default() };
    // More failures than the first renewal bears, so the job is given back and comes again.
    world.emulator.add_fault(FaultRule::new(REQUESTS, fault).method("PATCH").times(8)).expect("a fault");
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let job = world.queue("patient");
    assert_eq!(world.completed(job).await, (TaskResult::Succeeded, CompletionReason::Event));
    assert_eq!(world.runs().into_values().collect::<Vec<_>>(), [1]);
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_job_that_may_not_be_taken_is_not_asked_for_again() {
    let mut world = World::with(|settings| settings.lock_duration = Duration::from_millis(500)).await;
    let fault = Fault::Status { status: 403, type_key: None, message: None, headers: Default::default() };
    // Once: if the job came again, it would run.
    world.emulator.add_fault(FaultRule::new(REQUESTS, fault).method("PATCH").times(1)).expect("a fault");
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let job = world.queue("forbidden");
    assert_eq!(world.completed(job).await, (TaskResult::Abandoned, CompletionReason::LockLost));
    let second = world.queue("after");
    assert_eq!(world.completed(second).await.0, TaskResult::Succeeded);
    assert_eq!(world.runs().len(), 1, "only the second has run");
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_lost_lock_kills_the_worker_and_reports_nothing() {
    let mut world = World::with(|settings| settings.lock_duration = Duration::from_millis(300)).await;
    let body = format!("echo up > '{}/up'; trap '' TERM; sleep 600", world.folder.path().display());
    let set = world.agents(&["a"], world.script(&body)).await;
    let mut events = set.events();
    let job = world.queue("abandoned");
    world.file("up").await;
    let fault = Fault::Status { status: 503, type_key: None, message: None, headers: Default::default() };
    world.emulator.add_fault(FaultRule::new(REQUESTS, fault).method("PATCH")).expect("a fault");
    assert_eq!(world.completed(job).await, (TaskResult::Abandoned, CompletionReason::LockLost));
    let result = event(&mut events, "the job is over here too", |event| match event {
        Event::JobFinished { result, .. } => Some(*result),
        _ => None,
    })
    .await;
    assert_eq!(result, Some(TaskResult::Abandoned), "the service was asked");
    assert_eq!(world.emulator.statistics().refused_completions, 0, "nothing was reported");
    set.drain();
    set.wait().await;
}

/// What a user is warned of when the service no longer knows a job whose worker ends with these last words.
async fn warnings_of_a_job_that_is_gone(last_words: &str) -> Vec<String> {
    let mut world = World::new().await;
    let up = world.folder.path().join("up");
    let body = format!("echo up > '{}'; read -r cancelled; {last_words}", up.display());
    let set = world.agents(&["a"], world.script(&body)).await;
    let mut events = set.events();
    world.queue("gone");
    world.file("up").await;
    let fault = Fault::Status {
        status: 404,
        type_key: Some("TaskAgentJobNotFoundException".to_owned()),
        message: None,
        headers: Default::default(),
    };
    world.emulator.add_fault(FaultRule::new(REQUESTS, fault).method("PATCH")).expect("a fault");
    let mut warnings = Vec::new();
    event(&mut events, "the job is over here", |event| {
        if let Event::Warning { message, .. } = event {
            warnings.push(message.clone());
        }
        matches!(event, Event::JobFinished { .. }).then_some(())
    })
    .await;
    set.drain();
    set.wait().await;
    warnings
}

#[tokio::test]
async fn a_job_that_is_over_since_its_worker_reported_it_is_not_called_lost() {
    let reported = r#"echo '{"course":{"finished":{"result":"succeeded","reported":true}}}'"#;
    assert_eq!(warnings_of_a_job_that_is_gone(reported).await, [""; 0]);
}

#[tokio::test]
async fn a_job_that_was_taken_from_its_worker_is_called_lost() {
    let lost = "the lock on job `gone` was lost, so the job is cancelled here";
    assert_eq!(warnings_of_a_job_that_is_gone("kill -9 $$").await, [lost]);
}

#[tokio::test]
async fn a_lock_is_renewed_for_as_long_as_the_job_runs() {
    let mut world = World::with(|settings| settings.lock_duration = Duration::from_millis(400)).await;
    let set = world.agents(&["a"], world.script(&format!("sleep 1.5; {}", finish("succeeded")))).await;
    let job = world.queue("long");
    assert_eq!(world.completed(job).await, (TaskResult::Succeeded, CompletionReason::Event));
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_result_is_reported_when_the_service_is_back() {
    let mut world = World::new().await;
    let fault = Fault::Status { status: 503, type_key: None, message: None, headers: Default::default() };
    let fault = world.emulator.add_fault(FaultRule::new(EVENTS, fault).method("POST")).expect("a fault");
    let set = world.agents(&["a"], world.script(&format!("{}; exit 100", finish("succeeded")))).await;
    let job = world.queue("waiting");
    eventually("the worker has run", || (world.runs().len() == 1).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.emulator.remove_fault(fault);
    assert_eq!(world.completed(job).await, (TaskResult::Succeeded, CompletionReason::Event));
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn with_once_an_agent_takes_one_job_and_goes() {
    let mut world = World::new().await;
    let mut config = world.config(&["a"]);
    config.once = true;
    let set = world.set(config, 1, world.script(&format!("sleep 0.2; {}", finish("succeeded")))).await;
    let (first, second) = (world.queue("first"), world.queue("second"));
    assert_eq!(world.completed(first).await.0, TaskResult::Succeeded);
    let summary = set.wait().await;
    assert_eq!((summary.ended, summary.failed), (1, 0), "{summary:?}");
    assert_eq!(world.runs().len(), 1, "the second is left in the queue");
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    assert_eq!(world.completed(second).await.0, TaskResult::Succeeded);
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn work_folders_of_many_agents_are_their_own() {
    let mut world = World::new().await;
    let body = format!(
        "work=${{job##*'\"workDirectory\":\"'}}; echo \"${{work%%'\"'*}}\" >> '{}/folders'; {}",
        world.folder.path().display(),
        finish("succeeded")
    );
    let set = world.agents(&["a", "b ..c"], world.script(&body)).await;
    let jobs: Vec<_> = (0..8).map(|number| world.queue(&number.to_string())).collect();
    for job in jobs {
        assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    }
    let work = world.folder.path().join("work");
    let folders = world.file("folders").await;
    assert!(
        folders.lines().all(|folder| folder == work.join("a").to_string_lossy()
            || folder == work.join("b~20~..c").to_string_lossy()),
        "{folders}"
    );
    set.drain();
    set.wait().await;
}
