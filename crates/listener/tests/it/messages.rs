//! Messages that are no jobs, and jobs that cannot be read.

use std::time::Duration;

use dayfly_emulator::{CompletionReason, Fault, FaultRule};
use dayfly_listener::{AgentSet, Event, EventStream};
use dayfly_protocol::{JobId, TaskResult, json};
use dayfly_testing::PAT;
use serde_json::{Value, json};

use crate::world::{World, bounded, event, eventually, finish, start};

const POLLS: &str = "_apis/distributedtask/pools/*/messages";
const MESSAGES: &str = "_apis/distributedtask/pools/*/messages/*";

/// A message without encryption, which an agent takes in any session. Its number is below all that the
/// service gives.
fn plain(kind: &str, body: &str) -> Fault {
    document(&json!({"messageId": 0, "messageType": kind, "body": body}))
}

/// The message of a job that cannot be read.
fn broken(world: &World, job: JobId) -> Fault {
    let mut message = whole(world, job);
    message["steps"] = "none".into();
    plain("PipelineAgentJobRequest", &message.to_string())
}

fn whole(world: &World, job: JobId) -> Value {
    serde_json::from_slice(&json::to_vec(&world.message(job)).expect("JSON")).expect("JSON")
}

/// A message of which the half of a block is left.
fn undecryptable() -> Fault {
    document(
        &json!({"messageId": 7, "messageType": "PipelineAgentJobRequest", "iv": "AAAAAAAAAAAAAAAAAAAAAA==", "body": "AAAAAAAAAAA="}),
    )
}

fn document(body: &Value) -> Fault {
    Fault::Body { status: 200, content_type: "application/json".to_owned(), body: body.to_string() }
}

/// Counts how often messages are deleted, and changes nothing about it.
fn deletions() -> FaultRule {
    FaultRule::new(MESSAGES, Fault::Latency { milliseconds: 0, jitter: 0 }).method("DELETE")
}

async fn warning(events: &mut EventStream, text: &str) {
    event(events, text, |event| match event {
        Event::Warning { message, .. } if message.contains(text) => Some(()),
        _ => None,
    })
    .await;
}

/// A job runs once on the set, which then ends as it should.
async fn goes_on(mut world: World, set: AgentSet, job: Option<JobId>) {
    let job = job.unwrap_or_else(|| world.queue("afterwards"));
    assert_eq!(world.completed(job).await, (TaskResult::Succeeded, CompletionReason::Event));
    assert_eq!(world.runs(), [(job.to_string(), 1)].into());
    assert_eq!(world.emulator.statistics().refused_completions, 0);
    set.drain();
    let summary = bounded("the set has ended", set.wait()).await;
    assert_eq!((summary.ended, summary.failed), (1, 0), "{summary:?}");
}

/// Wishes all agents another version.
async fn wish(world: &World, body: &'static str) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let address = format!(
        "{}/_apis/distributedtask/pools/{}/messages?api-version=5.1",
        world.emulator.url(),
        world.pool
    );
    // An empty body's length is told as well, as the service demands it.
    let wish = client.post(&address).basic_auth("", Some(PAT)).header("Content-Length", body.len());
    let wish = wish.body(body).send().await.expect("an answer");
    assert!(wish.status().is_success(), "{wish:?}");
}

#[tokio::test]
async fn a_wish_for_another_version_is_told_and_deleted() {
    let world = World::with(|settings| settings.faults = vec![deletions()]).await;
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let mut events = set.events();
    for (body, told) in [
        (r#"{"agentId":1,"targetVersion":"5.0.1","timeout":"00:05:00"}"#, "asks for agent version 5.0.1"),
        ("", "asks for agent version"),
    ] {
        wish(&world, body).await;
        warning(&mut events, told).await;
    }
    world.struck(1, 2).await;
    goes_on(world, set, None).await;
}

#[tokio::test]
async fn messages_of_unknown_types_are_told_and_deleted() {
    let hologram = document(&json!({"messageId": -1, "messageType": "HologramRequest", "body": "{}"}));
    let hologram = FaultRule::new(POLLS, hologram).method("GET").times(1);
    let oddity =
        FaultRule::new(POLLS, document(&json!({"messageId": 0, "messageType": "", "body": "not even JSON"})))
            .method("GET")
            .after(1)
            .times(1);
    let world = World::with(|settings| settings.faults = vec![deletions(), hologram, oddity]).await;
    let (set, mut events) =
        start(world.config(&["a"]), world.script(&finish("succeeded"))).await.expect("it starts");
    warning(&mut events, "unknown type `HologramRequest`").await;
    warning(&mut events, "unknown type ``").await;
    world.struck(1, 2).await;
    goes_on(world, set, None).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_decrypted_costs_the_session_and_no_job() {
    let mut world = World::new().await;
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let mut events = set.events();
    let rule = FaultRule::new(POLLS, undecryptable()).method("GET").times(2);
    world.emulator.add_fault(rule).expect("a fault");
    // Ends the poll that is open; the next ones, and with them the job's own message, are struck.
    world.emulator.lose_sessions();
    warning(&mut events, "could not decrypt message 7").await;
    let job = world.queue("hidden");
    goes_on(world, set, Some(job)).await;
}

#[tokio::test]
async fn an_agent_that_can_decrypt_nothing_ends_with_the_reason() {
    let world =
        World::with(|settings| settings.faults = vec![FaultRule::new(POLLS, undecryptable()).method("GET")])
            .await;
    let (set, _) = start(world.config(&["a"]), world.script("")).await.expect("it starts");
    let summary = bounded("the set has ended", set.wait()).await;
    assert_eq!((summary.ended, summary.failed), (0, 1), "{summary:?}");
    let reason = &summary.failures[0].1;
    assert!(reason.starts_with("could not decrypt message 7; "), "{reason}");
    assert!(reason.contains("is not the one it was registered with, so replace the agent: "), "{reason}");
    assert_eq!(world.emulator.statistics().sessions, 0, "the session is deleted");
}

#[tokio::test]
async fn a_job_whose_message_has_a_wrong_type_fails_with_the_reason_and_later_ones_run() {
    let away = Fault::Status { status: 503, type_key: None, message: None, headers: Default::default() };
    let mut world = World::new().await;
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    // Nothing is received until the broken message is in place of the job's own.
    let away = world.emulator.add_fault(FaultRule::new(POLLS, away).method("GET")).expect("a fault");
    world.emulator.lose_sessions();
    let job = world.queue("broken");
    let broken = FaultRule::new(POLLS, broken(&world, job)).method("GET");
    let broken = world.emulator.add_fault(broken).expect("a fault");
    world.emulator.remove_fault(away);
    assert_eq!(world.completed(job).await, (TaskResult::Failed, CompletionReason::Event));
    world.emulator.remove_fault(broken);
    let issues = world.issues(job).await;
    assert_eq!(issues.len(), 1, "{issues:?}");
    assert!(
        issues[0].starts_with("The agent could not run this job, because its message is not a job message: "),
        "{issues:?}"
    );
    assert!(world.runs().is_empty(), "{:?}", world.runs());
    goes_on(world, set, None).await;
}

#[tokio::test]
async fn an_agent_polls_on_while_a_result_cannot_be_reported_and_ends_when_it_is() {
    let away = Fault::Status { status: 503, type_key: None, message: None, headers: Default::default() };
    let mut world = World::new().await;
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let mut events = set.events();
    let polls = FaultRule::new(POLLS, away.clone()).method("GET");
    let polls = world.emulator.add_fault(polls).expect("a fault");
    world.emulator.lose_sessions();
    let job = world.queue("broken");
    let reports = FaultRule::new(world.events_of(job), away).method("POST");
    let reports = world.emulator.add_fault(reports).expect("a fault");
    // Once: after it comes the job's own message, which could be run, but the job is refused already.
    let rule = FaultRule::new(POLLS, broken(&world, job)).method("GET").times(1);
    world.emulator.add_fault(rule).expect("a fault");
    world.emulator.remove_fault(polls);
    warning(&mut events, ", because its message is not a job message").await;
    world.struck(reports, 1).await;
    // Polls go on.
    wish(&world, "{}").await;
    warning(&mut events, "asks for agent version").await;
    // Who shuts down waits for the result.
    set.drain();
    let mut ended = std::pin::pin!(set.wait());
    tokio::select! {
        summary = &mut ended => panic!("the set has ended without the result: {summary:?}"),
        () = world.struck(reports, 20) => {}
    }
    world.emulator.remove_fault(reports);
    let summary = bounded("the set has ended", ended).await;
    assert_eq!((summary.ended, summary.failed), (1, 0), "{summary:?}");
    assert_eq!(world.completed(job).await, (TaskResult::Failed, CompletionReason::Event));
    assert!(world.runs().is_empty(), "{:?}", world.runs());
    assert_eq!(world.emulator.statistics().refused_completions, 0);
    assert_eq!(world.emulator.statistics().sessions, 0, "the session is deleted");
}

/// A job that runs until the file `go` is there.
async fn lingering(world: &mut World) -> (AgentSet, JobId) {
    let mut config = world.config(&["a"]);
    // Its worker is not killed in the course of a test.
    config.timings.zombie_grace = Duration::from_secs(600);
    let folder = world.folder.path().display();
    let script = format!(
        "echo up >> {folder}/up; while [ ! -e {folder}/go ]; do sleep 0.01; done; {}",
        finish("succeeded")
    );
    let set = world.set(config, 1, world.script(&script)).await;
    let job = world.queue("lingering");
    world.file("up").await;
    (set, job)
}

fn let_go(world: &World) {
    std::fs::write(world.folder.path().join("go"), "").expect("a file");
}

/// Waits until the agent has seen to its last message and polls again.
async fn polled(world: &World) {
    eventually("the agent polls", || (world.emulator.statistics().open_polls > 0).then_some(())).await;
}

#[tokio::test]
async fn jobs_that_come_while_another_one_runs_are_all_run_in_their_turn() {
    let mut world = World::new().await;
    let (set, first) = lingering(&mut world).await;
    let (second, third) = (world.queue("second"), world.queue("third"));
    polled(&world).await;
    // The open poll brings the second, once the first is over for the service; the next one the third, which
    // comes too early.
    let early = document(
        &json!({"messageId": 1000, "messageType": "PipelineAgentJobRequest", "body": whole(&world, third).to_string()}),
    );
    let early = FaultRule::new(POLLS, early).method("GET").times(1);
    let early = world.emulator.add_fault(early).expect("a fault");
    world.finish_by_itself(first, TaskResult::Succeeded).await;
    world.struck(early, 1).await;
    polled(&world).await;
    let_go(&world);
    for job in [second, third] {
        assert_eq!(world.completed(job).await, (TaskResult::Succeeded, CompletionReason::Event));
    }
    assert_eq!(world.runs(), [first, second, third].map(|job| (job.to_string(), 1)).into());
    set.drain();
    assert_eq!(bounded("the set has ended", set.wait()).await.failed, 0);
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_it_waits_for_another_one_never_runs() {
    let mut world = World::new().await;
    let (set, first) = lingering(&mut world).await;
    let second = world.queue("second");
    polled(&world).await;
    let cancellation = json!({"jobId": second.to_string(), "timeout": "00:01:00"}).to_string();
    let cancellation = FaultRule::new(POLLS, plain("JobCancellation", &cancellation)).method("GET").times(1);
    let cancellation = world.emulator.add_fault(cancellation).expect("a fault");
    world.finish_by_itself(first, TaskResult::Succeeded).await;
    world.struck(cancellation, 1).await;
    polled(&world).await;
    let_go(&world);
    assert_eq!(world.completed(second).await, (TaskResult::Canceled, CompletionReason::Event));
    assert_eq!(world.runs(), [(first.to_string(), 1)].into());
    set.drain();
    assert_eq!(bounded("the set has ended", set.wait()).await.failed, 0);
}

#[tokio::test]
async fn an_agent_whose_login_is_revoked_asks_no_more_and_carries_its_job_to_the_end() {
    let mut world = World::new().await;
    let (set, job) = lingering(&mut world).await;
    polled(&world).await;
    let revoked = Fault::Status {
        status: 403,
        type_key: Some("TaskAgentAccessTokenExpiredException".to_owned()),
        message: None,
        headers: Default::default(),
    };
    let revoked = world.emulator.add_fault(FaultRule::new(POLLS, revoked).method("GET")).expect("a fault");
    world.emulator.cut_connections();
    world.struck(revoked, 1).await;
    let_go(&world);
    assert_eq!(world.completed(job).await, (TaskResult::Succeeded, CompletionReason::Event));
    let summary = bounded("the set has ended", set.wait()).await;
    assert_eq!((summary.revoked, summary.failed), (1, 0), "{summary:?}");
    assert_eq!(world.strikes(revoked), 1, "it has not polled any more");
}
