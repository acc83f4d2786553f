//! Messages that are no jobs, and jobs that cannot be read.

use std::time::Duration;

use dayfly_emulator::{
    events::CompletionReason,
    faults::{Fault, FaultRule},
};
use dayfly_listener::{AgentSet, Event, EventStream};
use dayfly_protocol::{JobId, TaskResult, json};
use serde_json::{Value, json};

use crate::world::{PAT, World, bounded, event, finish};

const POLLS: &str = "_apis/distributedtask/pools/*/messages";
const MESSAGES: &str = "_apis/distributedtask/pools/*/messages/*";

/// A message without encryption, which an agent takes in any session. Its number is below all that the service gives.
fn plain(kind: &str, body: &str) -> Fault {
    document(&json!({"messageId": 0, "messageType": kind, "body": body}))
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

/// How often the first rule has struck.
async fn struck(world: &World) -> u64 {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let faults = client.get(format!("{}/_dayfly/faults", world.emulator.url())).basic_auth("", Some(PAT));
    let faults: Value = faults.send().await.expect("an answer").json().await.expect("rules");
    faults["value"][0]["struck"].as_u64().expect("a number")
}

async fn deleted(world: &World, count: u64) {
    bounded("the message is deleted", async {
        while struck(world).await < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
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

#[tokio::test]
async fn a_wish_for_another_version_is_told_and_deleted() {
    let world = World::with(|settings| settings.faults = vec![deletions()]).await;
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let mut events = set.events();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let address = format!(
        "{}/_apis/distributedtask/pools/{}/messages?api-version=5.1",
        world.emulator.url(),
        world.pool
    );
    for (body, told) in [
        (r#"{"agentId":1,"targetVersion":"5.0.1","timeout":"00:05:00"}"#, "asks for agent version 5.0.1"),
        ("", "asks for agent version"),
    ] {
        let refresh =
            client.post(&address).basic_auth("", Some(PAT)).body(body).send().await.expect("an answer");
        assert!(refresh.status().is_success(), "{refresh:?}");
        warning(&mut events, told).await;
    }
    deleted(&world, 2).await;
    goes_on(world, set, None).await;
}

#[tokio::test]
async fn messages_of_unknown_types_are_told_and_deleted() {
    let hologram = FaultRule::new(POLLS, plain("HologramRequest", "{}")).method("GET").times(1);
    let oddity = FaultRule::new(POLLS, plain("", "not even JSON")).method("GET").after(1).times(1);
    let world = World::with(|settings| settings.faults = vec![deletions(), hologram, oddity]).await;
    // Asked for before the agent can have begun.
    let set =
        AgentSet::start(world.config(&["a"]), world.script(&finish("succeeded"))).await.expect("it starts");
    let mut events = set.events();
    warning(&mut events, "unknown type `HologramRequest`").await;
    warning(&mut events, "unknown type ``").await;
    deleted(&world, 2).await;
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
    warning(&mut events, "message 7 could not be decrypted").await;
    let job = world.queue("hidden");
    goes_on(world, set, Some(job)).await;
}

#[tokio::test]
async fn an_agent_that_can_decrypt_nothing_ends_with_the_reason() {
    let world =
        World::with(|settings| settings.faults = vec![FaultRule::new(POLLS, undecryptable()).method("GET")])
            .await;
    let set = AgentSet::start(world.config(&["a"]), world.script("")).await.expect("it starts");
    let summary = bounded("the set has ended", set.wait()).await;
    assert_eq!((summary.ended, summary.failed), (0, 1), "{summary:?}");
    let reason = &summary.failures[0].1;
    assert!(reason.starts_with("message 7 could not be decrypted: "), "{reason}");
    assert!(reason.ends_with("is not the one it was registered with, so replace the agent"), "{reason}");
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
    let mut message: Value =
        serde_json::from_slice(&json::to_vec(&world.remains(job)).expect("JSON")).expect("JSON");
    message["steps"] = "none".into();
    let broken = FaultRule::new(POLLS, plain("PipelineAgentJobRequest", &message.to_string())).method("GET");
    let broken = world.emulator.add_fault(broken).expect("a fault");
    world.emulator.remove_fault(away);
    assert_eq!(world.completed(job).await, (TaskResult::Failed, CompletionReason::Event));
    world.emulator.remove_fault(broken);
    let issues = world.issues(job).await;
    assert_eq!(issues.len(), 1, "{issues:?}");
    assert!(
        issues[0].starts_with("This job could not be run, since its message could not be read: "),
        "{issues:?}"
    );
    assert!(world.runs().is_empty(), "{:?}", world.runs());
    goes_on(world, set, None).await;
}
