//! Whatever a poll is answered with: an agent neither asks more often than one that waits in vain, nor fills
//! its log.

use std::{sync::Arc, time::Duration};

use dayfly_emulator::{Fault, FaultRule};
use dayfly_listener::{AgentSet, Agents, Event, EventStream, NextEvent};
use dayfly_protocol::crypto::AgentKey;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::world::{self, World, bounded};

const POLLS: &str = "_apis/distributedtask/pools/*/messages";

/// The rule that counts polls, and changes nothing about them.
const COUNT: u64 = 1;

/// After so many polls the log is looked at: as many as an agent makes in a few minutes.
const POLLED: u64 = 30;

/// What all polls of an agent are answered with.
#[derive(Clone)]
struct Answer {
    name: &'static str,
    faults: Vec<FaultRule>,
    /// How many polls there may be at once.
    polls: u64,
    /// The agent ends by it.
    is_end: bool,
}

fn always(name: &'static str, fault: Fault) -> Answer {
    Answer { name, faults: vec![FaultRule::new(POLLS, fault).method("GET")], polls: 2, is_end: false }
}

fn ends(name: &'static str, fault: Fault, polls: u64) -> Answer {
    Answer { polls, is_end: true, ..always(name, fault) }
}

fn body(name: &'static str, status: u16, content_type: &str, body: &str) -> Answer {
    always(name, Fault::Body { status, content_type: content_type.to_owned(), body: body.to_owned() })
}

fn json(name: &'static str, text: &str) -> Answer {
    body(name, 200, "application/json", text)
}

fn status(name: &'static str, status: u16, type_key: Option<&str>) -> Answer {
    always(name, refusal(status, type_key))
}

fn refusal(status: u16, type_key: Option<&str>) -> Fault {
    let type_key = type_key.map(str::to_owned);
    Fault::Status { status, type_key, message: None, headers: Default::default() }
}

fn message(id: usize, kind: &str, body: &str) -> Value {
    json!({"messageId": id, "messageType": kind, "body": body})
}

/// Ever new messages.
fn in_a_row(name: &'static str, polls: u64, kind: impl Fn(usize) -> String, body: &str) -> Answer {
    let rule = |id| {
        let body = message(id, &kind(id), body).to_string();
        let fault = Fault::Body { status: 200, content_type: "application/json".to_owned(), body };
        FaultRule::new(POLLS, fault).method("GET").after(id as u64 - 1).times(1)
    };
    Answer { name, faults: (1..=POLLED as usize + 10).map(rule).collect(), polls, is_end: false }
}

fn answers() -> Vec<Answer> {
    let nobody = r#"{"jobId":"11111111-2222-3333-4444-555555555555","timeout":"00:01:00"}"#;
    let secret =
        json!({"messageId": 7, "messageType": "X", "iv": "AAAAAAAAAAAAAAAAAAAAAA==", "body": "AAAAAAAAAAA="});
    let document = |value: &Value| Fault::Body {
        status: 200,
        content_type: "application/json".to_owned(),
        body: value.to_string(),
    };
    vec![
        json("an object without anything", "{}"),
        json("a list", "[]"),
        json("null", "null"),
        json("a text", r#""hello""#),
        json("a health page in JSON", r#"{"status":"ok","version":"1.2"}"#),
        json("a message without a type", r#"{"messageId":5,"body":"{}"}"#),
        json("a message without a number", r#"{"messageType":"JobCancellation","body":"{}"}"#),
        json("half of a message", r#"{"messageId":5,"messageTy"#),
        json("no JSON", "hello"),
        json("spaces", "  \n"),
        json("nothing", ""),
        json("the same message of an unknown type", &message(5, "Hologram", "{}").to_string()),
        json("the same cancellation of an unknown job", &message(5, "JobCancellation", nobody).to_string()),
        json("the same cancellation of nothing", &message(5, "JobCancellation", "[1]").to_string()),
        json("the same wish", &message(5, "AgentRefresh", "{}").to_string()),
        json("the same change of pace", &message(5, "JobMetadataUpdate", "{}").to_string()),
        json("the same job that is none", &message(5, "PipelineAgentJobRequest", "5").to_string()),
        in_a_row("messages of one unknown type", 2, |_| "Hologram".to_owned(), "{}"),
        in_a_row("messages of ever new types", 2, |id| format!("Hologram{id}"), "{}"),
        in_a_row("changes of pace that cannot be read", 9, |_| "JobMetadataUpdate".to_owned(), "x"),
        in_a_row("cancellations of unknown jobs", 9, |_| "JobCancellation".to_owned(), nobody),
        in_a_row("cancellations that cannot be read", 2, |_| "JobCancellation".to_owned(), "x"),
        in_a_row("jobs that cannot be read", 2, |_| "PipelineAgentJobRequest".to_owned(), "x"),
        body("a page", 200, "text/html", "<html><title>Welcome</title></html>"),
        body("the page of a gateway", 502, "text/html", "<html>bad gateway</html>"),
        body("no content", 204, "application/json", ""),
        body("accepted", 202, "application/json", ""),
        body("elsewhere", 301, "text/plain", "moved"),
        status("400", 400, None),
        status("404", 404, None),
        status("405", 405, None),
        status("409", 409, None),
        status("409 of a session", 409, Some("TaskAgentSessionConflictException")),
        status("410", 410, None),
        status("418", 418, None),
        status("500", 500, None),
        status("501", 501, None),
        status("503", 503, None),
        always("a session that ends at once", Fault::ExpireSession),
        always("429", Fault::Throttle { retry_after: 0 }),
        always("a connection that is closed", Fault::DropBefore),
        ends("a login that is revoked", refusal(401, Some("TaskAgentAccessTokenExpiredException")), 3),
        // The service, which knows better, gives it another one when it has deleted the first.
        ends("a session that is said to be over", refusal(404, Some("TaskAgentSessionExpiredException")), 2),
        ends("401", refusal(401, None), 3),
        ends("403", refusal(403, None), 1),
        ends(
            "a sign-in page",
            Fault::Body { status: 203, content_type: "text/html".to_owned(), body: "<html>".to_owned() },
            1,
        ),
        ends("an agent that is not there", refusal(404, Some("TaskAgentNotFoundException")), 1),
        ends("a message that cannot be decrypted", document(&secret), 3),
    ]
}

/// An agent whose polls are answered so.
async fn start(answer: &Answer, shared: &Arc<AgentKey>, pause: Duration) -> (World, AgentSet, EventStream) {
    let count = FaultRule::new(POLLS, Fault::Latency { milliseconds: 0, jitter: 0 }).method("GET");
    let rules = [vec![count], answer.faults.clone()].concat();
    let world = World::with(|settings| settings.faults = rules).await;
    let mut config = world.config(&["a"]);
    config.timings.retry_first = pause;
    config.timings.retry_limit = pause;
    config.timings.empty_poll_pause = pause;
    if let Agents::Managed { key, .. } = &mut config.agents {
        *key = Some(shared.clone());
    }
    let (set, events) = world::start(config, world.script("")).await.expect("it starts");
    (world, set, events)
}

/// The lines that a user saw within a time, and whether the agent ended.
async fn lines(events: &mut EventStream, within: Duration) -> (Vec<String>, bool) {
    let (mut lines, mut is_end) = (Vec::new(), false);
    let watch = async {
        loop {
            match events.next().await {
                NextEvent::Event(Event::Ended { .. }) => is_end = true,
                NextEvent::Event(event @ (Event::Warning { .. } | Event::Disconnected { .. })) => {
                    lines.push(format!("{event:?}"));
                }
                NextEvent::Event(_) => {}
                NextEvent::Missed(_) | NextEvent::Closed => break,
            }
        }
    };
    let _ = tokio::time::timeout(within, watch).await;
    (lines, is_end)
}

#[tokio::test]
async fn no_answer_makes_an_agent_poll_at_once_again_and_again() {
    // Longer than any test.
    let pause = Duration::from_secs(10_000);
    let key = &Arc::new(AgentKey::generate().expect("a key"));
    for some in answers().chunks(8) {
        join_all(some.iter().map(|answer| async move {
            let (world, _set, mut events) = start(answer, key, pause).await;
            world.struck(COUNT, 1).await;
            // Whoever polls at once would have done so hundreds of times by then.
            let (lines, is_end) = lines(&mut events, Duration::from_millis(500)).await;
            let polls = world.strikes(COUNT);
            let name = answer.name;
            assert!((1..=answer.polls).contains(&polls), "{name}: {polls} polls");
            assert!(answer.is_end || !is_end, "{name}: {lines:?}");
        }))
        .await;
    }
}

#[tokio::test]
async fn no_answer_fills_the_log() {
    let answers: Vec<Answer> = answers().into_iter().filter(|answer| !answer.is_end).collect();
    let key = &Arc::new(AgentKey::generate().expect("a key"));
    for some in answers.chunks(8) {
        join_all(some.iter().map(|answer| async move {
            let (world, set, mut events) = start(answer, key, Duration::from_millis(1)).await;
            world.struck(COUNT, POLLED).await;
            set.stop(Duration::ZERO);
            bounded("the set has ended", set.wait()).await;
            let (lines, _) = lines(&mut events, dayfly_testing::PATIENCE).await;
            let bound = if answer.name.contains("ever new") { 17 } else { 3 };
            assert!(lines.len() <= bound, "{}: {lines:#?}", answer.name);
        }))
        .await;
    }
}
