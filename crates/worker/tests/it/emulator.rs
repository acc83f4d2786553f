//! A job from the emulator's queue to its result: an agent that takes the message by hand, and the worker
//! that runs it.

use std::sync::Arc;
use std::time::Duration;

use dayfly_client::{AgentCredential, Connection, Credential, HttpSettings};
use dayfly_emulator::{Emulator, Settings};
use dayfly_protocol::agent::{TaskAgent, TaskAgentAuthorization, TaskAgentReference};
use dayfly_protocol::channel::Heard;
use dayfly_protocol::crypto::{AgentKey, SessionKey, open_message};
use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::session::TaskAgentSession;
use dayfly_protocol::timeline::VariableValue;
use dayfly_protocol::{PoolId, TaskResult};
use dayfly_worker::{Control, Surroundings, run};
use tokio::sync::{mpsc, watch};

use crate::job::script_step;

const POOL: PoolId = PoolId(1);

/// Registers an agent, takes the one job that is queued, and answers its message.
async fn accept(administrator: &Connection) -> (Connection, AgentJobRequestMessage) {
    let key = Arc::new(AgentKey::generate().expect("a key"));
    let agent = TaskAgent {
        name: "by-hand".to_owned(),
        version: Some(dayfly_worker::AGENT_VERSION.to_owned()),
        max_parallelism: Some(1),
        authorization: Some(TaskAgentAuthorization {
            public_key: Some(key.public_key().to_wire()),
            ..TaskAgentAuthorization::default()
        }),
        ..TaskAgent::default()
    };
    let agent = administrator.create_agent(POOL, &agent).await.expect("registered");
    let authorization = agent.authorization.as_ref().expect("a login");
    let url = authorization.authorization_url.clone().expect("a token address");
    let credential = AgentCredential {
        client_id: authorization.client_id.expect("a client id"),
        token_url: Arc::new(url.parse().expect("an address")),
        authorization_url: url.as_str().into(),
        key: Arc::clone(&key),
    };
    let connection = administrator.with_credential(Credential::Agent(credential));
    let session = TaskAgentSession {
        owner_name: "test".to_owned(),
        agent: TaskAgentReference { id: agent.id, name: agent.name.clone(), ..TaskAgentReference::default() },
        ..TaskAgentSession::default()
    };
    let session = connection.create_session(POOL, &session).await.expect("a session");
    let session_key =
        session.encryption_key.as_ref().map(|wire| SessionKey::from_wire(wire, &key).expect("ours"));
    let message = loop {
        if let Some(message) = connection.next_message(POOL, session.session_id, None).await.expect("a poll")
        {
            break message;
        }
    };
    let body = open_message(session_key.flatten().as_ref(), &message).expect("opened");
    connection.delete_message(POOL, session.session_id, message.message_id).await.expect("deleted");
    let job: AgentJobRequestMessage =
        dayfly_protocol::json::from_slice(body.expose()).expect("a job message");
    connection.renew_job_request(POOL, job.request_id).await.expect("renewed");
    (connection, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_the_emulator_ends_with_its_timeline_its_log_and_one_result() {
    let emulator = Emulator::start(Settings::new("a-pat-for-this-test".into())).await.expect("started");
    let administrator = Connection::new(
        emulator.url(),
        Credential::PersonalAccessToken("a-pat-for-this-test".into()),
        HttpSettings::default(),
    )
    .expect("settings are right");
    let mut new = emulator.single_job(POOL, "Job").expect("a plan");
    let (plan, timeline) = (new.message.plan.clone(), new.message.timeline.id);
    new.message.variables = [
        ("system.hosttype".to_owned(), VariableValue::public("build")),
        ("system.servertype".to_owned(), VariableValue::public("Hosted")),
        ("hush".to_owned(), VariableValue::secret("sesame-open")),
    ]
    .into();
    new.message.steps = vec![
        script_step(
            "work",
            "echo \"$(hush) is hidden\"; echo '##vso[task.setvariable variable=out;isOutput=true]7'",
        ),
        script_step("fail", "exit 2"),
    ];
    // The agent is there first: the service fails a job that no agent can take.
    let queued = async {
        loop {
            match emulator.queue_job(new.clone()) {
                Ok(request) => break request,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let taken =
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(queued, accept(&administrator)) });
    let (request, (connection, message)) = taken.await.expect("the job is taken");
    assert_eq!(message.request_id, request);

    let folder = tempfile::tempdir().expect("a folder");
    let settings = dayfly_protocol::channel::WorkerSettings {
        work_directory: folder.path().join("work"),
        home_directory: folder.path().to_owned(),
        agent_name: "by-hand".to_owned(),
        ..Default::default()
    };
    let surroundings = Surroundings { environment: std::env::vars_os().collect(), ..Surroundings::default() };
    let control = Control { heard: Heard::Finished, ..Control::default() };
    let (orders, control) = watch::channel(control);
    let (progress, _told) = mpsc::channel(64);
    let outcome = run(message, settings, surroundings, control, progress).await;
    drop(orders);
    assert_eq!((outcome.result, outcome.reported), (TaskResult::Failed, true));

    let ended = connection.get_job_request(POOL, request).await.expect("there");
    assert_eq!(ended.result, Some(TaskResult::Failed));
    assert_eq!(emulator.statistics().refused_completions, 0);
    let records = administrator.plan(&plan).timeline(timeline).await.expect("there").records;
    let record = |name: &str| {
        records
            .iter()
            .find(|record| record.name.as_deref() == Some(name))
            .unwrap_or_else(|| panic!("no {name}"))
    };
    for (name, result) in [
        ("Initialize job", TaskResult::Succeeded),
        ("work", TaskResult::Succeeded),
        ("fail", TaskResult::Failed),
        ("Finalize Job", TaskResult::Succeeded),
    ] {
        assert_eq!(record(name).result, Some(result), "{name}");
        assert!(record(name).log.is_some(), "{name} has a log");
    }
    assert_eq!(record("work").variables["out"].value.as_deref(), Some("7"));
    assert_eq!(record("fail").issues[0].message, "Bash exited with code '2'.");
    emulator.stop().await;
}
