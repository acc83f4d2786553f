//! Registration, sessions and the end of agents.

use std::{sync::Arc, time::Duration};

use dayfly_client::{AgentCredential, describe};
use dayfly_emulator::{CompletionReason, Fault, FaultRule};
use dayfly_listener::{AgentEnd, AgentSet, Agents, Event, ExistingAgent, OWNER_CAPABILITY, OnExisting};
use dayfly_protocol::{
    TaskResult,
    agent::{AgentStatus, TaskAgent, TaskAgentAuthorization},
    crypto::AgentKey,
};

use crate::world::{Tuned, World, bounded, event, eventually, finish, start};

const SESSIONS: &str = "_apis/distributedtask/pools/*/sessions";
const POLLS: &str = "_apis/distributedtask/pools/*/messages";

fn managed(config: &mut Tuned, with: OnExisting, remove: bool) {
    let Agents::Managed { on_existing, remove_at_end, .. } = &mut config.agents else {
        panic!("they are managed")
    };
    (*on_existing, *remove_at_end) = (with, remove);
}

async fn agent(world: &World, name: &str) -> Option<TaskAgent> {
    world.connection().find_agent(world.pool, name).await.expect("the pool can be asked")
}

/// Registers an agent as a controller would, for a listener that may not.
async fn preregistered(world: &World, name: &str) -> ExistingAgent {
    let key = Arc::new(AgentKey::generate().expect("a key"));
    let wanted = TaskAgent {
        name: name.to_owned(),
        version: Some("4.264.0".to_owned()),
        authorization: Some(TaskAgentAuthorization {
            public_key: Some(key.public_key().to_wire()),
            ..Default::default()
        }),
        ..TaskAgent::default()
    };
    let agent = world.connection().create_agent(world.pool, &wanted).await.expect("an agent");
    let authorization = agent.authorization.expect("an authorization");
    let url = authorization.authorization_url.expect("an address").to_string();
    let credential = AgentCredential {
        client_id: authorization.client_id.expect("a client id"),
        authorization_url: url.as_str().into(),
        token_url: Arc::new(url.parse().expect("an address")),
        key,
    };
    ExistingAgent { id: agent.id, name: Arc::from(name), credential, session: None }
}

fn existing(world: &World, agent: &ExistingAgent) -> Tuned {
    let mut config = world.config(&[]);
    config.agents = Agents::Registered {
        connection: world.connection(),
        pool: world.pool,
        pool_name: "Default".to_owned(),
        agents: vec![ExistingAgent {
            id: agent.id,
            name: agent.name.clone(),
            credential: agent.credential.clone(),
            session: None,
        }],
    };
    config
}

async fn ended(set: AgentSet) -> (dayfly_listener::Summary, String) {
    let summary = bounded("the set has ended", set.wait()).await;
    let reason = summary.failures.first().map(|(_, reason)| reason.clone()).unwrap_or_default();
    (summary, reason)
}

#[tokio::test]
async fn agents_register_with_what_they_can_do_and_leave_without_a_trace() {
    let world = World::new().await;
    let mut config = world.config(&["a", "b", "c"]);
    managed(&mut config, OnExisting::Refuse, true);
    let set = world.set(config, 3, world.script("exit 100")).await;
    let found = world
        .connection()
        .get_agent(world.pool, agent(&world, "b").await.expect("it is there").id)
        .await
        .expect("an agent");
    assert_eq!(found.status, Some(AgentStatus::Online));
    let capabilities = found.system_capabilities.expect("capabilities");
    assert_eq!((capabilities["flavour"].as_str(), capabilities["Agent.Name"].as_str()), ("small", "b"));
    set.drain();
    let (summary, _) = ended(set).await;
    assert_eq!((summary.ended, summary.failed), (3, 0));
    assert!(agent(&world, "b").await.is_none());
}

#[tokio::test]
async fn an_agent_that_exists_is_refused_adopted_or_replaced() {
    let world = World::new().await;
    let before = preregistered(&world, "a").await;
    let mut config = world.config(&["a"]);
    managed(&mut config, OnExisting::Refuse, false);
    let (summary, reason) = ended(start(config, world.script("exit 100")).await.expect("it starts").0).await;
    assert_eq!(summary.failed, 1);
    assert_eq!(reason, "the pool already has an agent named `a`; pick another name, or replace it");

    let adopted = world.agents(&["a"], world.script("exit 100")).await;
    assert_eq!(agent(&world, "a").await.map(|agent| agent.id), Some(before.id), "it keeps its number");

    let (second, _) = start(world.config(&["a"]), world.script("exit 100")).await.expect("it starts");
    let (_, reason) = ended(second).await;
    assert_eq!(
        reason,
        "agent `a` is online: another process is using this name; stop it, pick another `--name`, or pass `--replace`"
    );

    adopted.drain();
    ended(adopted).await;
    let mut config = world.config(&["a"]);
    managed(&mut config, OnExisting::Replace, false);
    let replaced = world.set(config, 1, world.script("exit 100")).await;
    assert_eq!(agent(&world, "a").await.map(|agent| agent.id), Some(before.id));
    replaced.drain();
    ended(replaced).await;
}

/// Two clusters may serve one pool with sets of the same name.
#[tokio::test]
async fn an_agent_of_another_owner_is_not_taken_over_even_when_it_is_offline() {
    let world = World::new().await;
    let owned_by = |owner: Option<&str>| {
        let mut config = world.config(&["a"]);
        managed(&mut config, OnExisting::Adopt, false);
        let owner = owner.map(|owner| (OWNER_CAPABILITY.to_owned(), owner.to_owned()));
        config.description.capabilities = Arc::new(owner.into_iter().collect());
        config
    };
    let first = world.set(owned_by(Some("one")), 1, world.script("exit 100")).await;
    first.drain();
    ended(first).await;
    for other in [Some("two"), None] {
        let (other, _) = start(owned_by(other), world.script("exit 100")).await.expect("it starts");
        let (_, reason) = ended(other).await;
        assert_eq!(
            reason,
            "agent `a` of the pool belongs to somebody else (dayfly.owner one); pick another name, or delete \
             that agent"
        );
    }
    let again = world.set(owned_by(Some("one")), 1, world.script("exit 100")).await;
    again.drain();
    ended(again).await;
}

/// Its name is refused before anybody can have asked for events.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_first_is_told() {
    let world = World::new().await;
    let first = world.agents(&["a"], world.script("")).await;
    let shared = Arc::new(AgentKey::generate().expect("a key"));
    for round in 0..100 {
        let mut config = world.config(&["a"]);
        if let Agents::Managed { key, .. } = &mut config.agents {
            *key = Some(shared.clone());
        }
        let (second, mut events) = start(config, world.script("")).await.expect("it starts");
        let (summary, reason) = ended(second).await;
        assert_eq!(summary.failed, 1, "round {round}");
        let told = event(&mut events, "it says why", |event| match event {
            Event::Ended { end: AgentEnd::Failed(told), .. } => Some(describe(told)),
            _ => None,
        });
        assert_eq!(told.await, reason, "round {round}");
    }
    first.drain();
    ended(first).await;
}

#[tokio::test]
async fn an_agent_that_was_replaced_leaves_its_place_to_the_other_one() {
    let mut world = World::new().await;
    let mut config = world.config(&["a"]);
    managed(&mut config, OnExisting::Adopt, true);
    let first = world.set(config, 1, world.script("exit 100")).await;
    let mut config = world.config(&["a"]);
    managed(&mut config, OnExisting::Replace, true);
    let second = world.set(config, 1, world.script(&finish("succeeded"))).await;
    let (summary, reason) = ended(first).await;
    assert_eq!(summary.failed, 1);
    // Which call is the first to find out differs.
    assert!(reason.contains("another process has"), "{reason}");
    let id = agent(&world, "a").await.expect("it is the second one's").id;
    let job = world.queue("after");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    assert_eq!(agent(&world, "a").await.map(|agent| agent.id), Some(id), "it was never away");
    second.drain();
    ended(second).await;
    assert!(agent(&world, "a").await.is_none());
}

#[tokio::test]
async fn an_unknown_pool_is_named() {
    let world = World::new().await;
    let mut config = world.config(&["a"]);
    if let Agents::Managed { pool, .. } = &mut config.agents {
        *pool = "Nowhere".to_owned();
    }
    let error = start(config, world.script("")).await.expect_err("there is none");
    let text = error.to_string();
    assert!(text.starts_with("cannot find the agent pool \"Nowhere\": "), "{text}");
}

#[tokio::test]
async fn a_session_that_is_held_is_waited_for_and_given_up_in_the_end() {
    let world = World::new().await;
    let registered = preregistered(&world, "a").await;
    let first = world.set(existing(&world, &registered), 1, world.script("")).await;
    let mut patient = existing(&world, &registered);
    patient.timings.conflict_limit = Duration::from_secs(600);
    let (second, _) = start(patient, world.script("")).await.expect("it starts");
    let (third, _) = start(existing(&world, &registered), world.script("")).await.expect("it starts");
    let (_, reason) = ended(third).await;
    assert!(
        reason.starts_with(
            "another process holds the session of agent `a`; stop it, or give this agent another name"
        ),
        "{reason}"
    );
    first.drain();
    ended(first).await;
    assert_eq!(bounded("the second gets its session", second.wait_online(1)).await, 1);
    second.drain();
    assert_eq!(ended(second).await.0.ended, 1);
}

#[tokio::test]
async fn a_lost_session_is_made_again_and_jobs_go_on() {
    let mut world = World::new().await;
    let set = world.agents(&["a", "b"], world.script(&finish("succeeded"))).await;
    let mut events = set.events();
    assert_eq!(world.emulator.lose_sessions(), 2);
    for _ in 0..2 {
        event(&mut events, "an agent is online again", |event| {
            matches!(event, Event::Online { .. }).then_some(())
        })
        .await;
    }
    let job = world.queue("after the loss");
    assert_eq!(world.completed(job).await, (TaskResult::Succeeded, CompletionReason::Event));
    set.drain();
    assert_eq!(ended(set).await.0.ended, 2);
}

#[tokio::test]
async fn a_session_lost_during_a_job_does_not_touch_the_job() {
    let mut world = World::new().await;
    let go = world.folder.path().join("go");
    let body = format!(
        "echo up > '{}/up'; while [ ! -e '{}' ]; do sleep 0.02; done; {}",
        world.folder.path().display(),
        go.display(),
        finish("succeeded")
    );
    let set = world.agents(&["a"], world.script(&body)).await;
    let mut events = set.events();
    let job = world.queue("steady");
    world.file("up").await;
    world.emulator.lose_sessions();
    event(&mut events, "the agent is online again", |event| {
        matches!(event, Event::Online { .. }).then_some(())
    })
    .await;
    std::fs::write(&go, "").expect("a file");
    assert_eq!(world.completed(job).await, (TaskResult::Succeeded, CompletionReason::Event));
    assert_eq!(world.runs().into_values().collect::<Vec<_>>(), [1]);
    set.drain();
    ended(set).await;
}

#[tokio::test]
async fn a_deleted_agent_is_registered_again_by_who_may_and_ends_otherwise() {
    let mut world = World::new().await;
    let ours = world.agents(&["ours"], world.script(&finish("succeeded"))).await;
    let registered = preregistered(&world, "theirs").await;
    let theirs = world.set(existing(&world, &registered), 1, world.script("")).await;
    let mut events = ours.events();
    let before = agent(&world, "ours").await.expect("it is there").id;
    for id in [before, registered.id] {
        world.connection().delete_agent(world.pool, id).await.expect("it is deleted");
    }
    let (summary, reason) = ended(theirs).await;
    assert_eq!(summary.failed, 1, "{reason}");
    event(&mut events, "our agent is online again", |event| {
        matches!(event, Event::Online { .. }).then_some(())
    })
    .await;
    assert_ne!(agent(&world, "ours").await.expect("it is there again").id, before);
    let job = world.queue("after all");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    ours.drain();
    ended(ours).await;
}

#[tokio::test]
async fn a_revoked_login_is_a_clean_end() {
    let world = World::new().await;
    let set = world.agents(&["a"], world.script("")).await;
    let mut events = set.events();
    let revoked = Fault::Status {
        status: 401,
        type_key: Some("TaskAgentAccessTokenExpiredException".to_owned()),
        message: Some("revoked".to_owned()),
        headers: Default::default(),
    };
    world.emulator.add_fault(FaultRule::new(POLLS, revoked).method("GET")).expect("a fault");
    world.emulator.lose_sessions();
    let end = event(&mut events, "the agent has ended", |event| match event {
        Event::Ended { end, .. } => Some(end.clone()),
        _ => None,
    })
    .await;
    assert!(matches!(end, AgentEnd::Revoked), "{end:?}");
    let (summary, _) = ended(set).await;
    assert_eq!((summary.revoked, summary.failed), (1, 0));
}

#[tokio::test]
async fn a_throttled_agent_waits_as_it_is_told() {
    let mut world = World::new().await;
    world
        .emulator
        .add_fault(FaultRule::new(POLLS, Fault::Throttle { retry_after: 1 }).method("GET").times(1))
        .expect("a fault");
    let begun = std::time::Instant::now();
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let job = world.queue("slow");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    assert!(begun.elapsed() >= Duration::from_secs(1), "it did not wait");
    set.drain();
    ended(set).await;
}

#[tokio::test]
async fn passing_failures_of_every_kind_are_outlived() {
    let mut world = World::new().await;
    let faults = [
        FaultRule::new(
            SESSIONS,
            Fault::Status { status: 503, type_key: None, message: None, headers: Default::default() },
        )
        .times(2),
        FaultRule::new(SESSIONS, Fault::DropBefore).after(2).times(1),
        FaultRule::new(
            POLLS,
            Fault::Body {
                status: 502,
                content_type: "text/html".to_owned(),
                body: "<html>bad gateway</html>".to_owned(),
            },
        )
        .times(2),
        FaultRule::new(POLLS, Fault::DropBefore).after(2).times(2),
        FaultRule::new(POLLS, Fault::Truncate { bytes: 20 }).after(4).times(1),
        FaultRule::new(POLLS, Fault::ExpireToken).after(5).times(2),
    ];
    for fault in faults {
        world.emulator.add_fault(fault).expect("a fault");
    }
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let jobs = [world.queue("one"), world.queue("two"), world.queue("three")];
    for job in jobs {
        assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    }
    assert!(world.runs().values().all(|count| *count == 1));
    set.drain();
    ended(set).await;
}

#[tokio::test]
async fn a_drained_set_finishes_its_jobs_and_takes_no_more() {
    let mut world = World::new().await;
    let go = world.folder.path().join("go");
    let body = format!(
        "echo up > '{}/up'; while [ ! -e '{}' ]; do sleep 0.02; done; {}",
        world.folder.path().display(),
        go.display(),
        finish("succeeded")
    );
    let set = world.agents(&["busy", "idle"], world.script(&body)).await;
    let mut events = set.events();
    let job = world.queue("long");
    world.file("up").await;
    set.drain();
    event(&mut events, "the idle agent has left", |event| {
        matches!(event, Event::Ended { end: AgentEnd::Stopped, .. }).then_some(())
    })
    .await;
    let left = world.queue("left");
    std::fs::write(&go, "").expect("a file");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    let (summary, _) = ended(set).await;
    assert_eq!((summary.ended, summary.failed), (2, 0));
    assert_eq!(world.runs().len(), 1);
    let set = world.agents(&["busy"], world.script(&finish("succeeded"))).await;
    assert_eq!(world.completed(left).await.0, TaskResult::Succeeded, "the job was left in the queue");
    set.drain();
    ended(set).await;
}

#[tokio::test]
async fn a_stopped_set_cancels_its_jobs_and_reports_them_in_time() {
    let mut world = World::new().await;
    let body = format!(
        "echo up > '{0}/up'; read -r order; echo \"$order\" > '{0}/order'; trap '' TERM; sleep 600",
        world.folder.path().display()
    );
    let set = world.agents(&["a"], world.script(&body)).await;
    let job = world.queue("stubborn");
    world.file("up").await;
    set.stop(Duration::from_secs(2));
    assert_eq!(world.completed(job).await, (TaskResult::Canceled, CompletionReason::Event));
    assert!(world.file("order").await.contains(r#""reason":"agentShutdown""#));
    assert_eq!(world.issues(job).await, ["The agent was shut down, and the job did not end in time."]);
    let (summary, _) = ended(set).await;
    assert_eq!((summary.ended, summary.failed), (1, 0));
    assert_eq!(world.emulator.statistics().sessions, 0);
}

#[tokio::test]
async fn a_second_stop_kills_at_once() {
    let mut world = World::new().await;
    let body = format!("echo up > '{}/up'; trap '' TERM; sleep 600", world.folder.path().display());
    let set = world.agents(&["a"], world.script(&body)).await;
    let job = world.queue("stubborn");
    world.file("up").await;
    // More than a clock can hold.
    set.stop(Duration::MAX);
    set.stop(Duration::ZERO);
    assert_eq!(world.completed(job).await.0, TaskResult::Canceled);
    ended(set).await;
}

#[tokio::test]
async fn a_set_that_is_stopped_while_it_registers_ends() {
    let world = World::new().await;
    let names: Vec<String> = (0..40).map(|number| format!("agent-{number}")).collect();
    let mut config = world.config(&names.iter().map(String::as_str).collect::<Vec<_>>());
    config.connecting = 2;
    managed(&mut config, OnExisting::Refuse, true);
    let (set, _) = start(config, world.script("")).await.expect("it starts");
    set.stop(Duration::from_secs(30));
    let (summary, reason) = ended(set).await;
    assert_eq!((summary.ended, summary.failed), (40, 0), "{reason}");
    eventually("no session is left", || (world.emulator.statistics().sessions == 0).then_some(())).await;
}
