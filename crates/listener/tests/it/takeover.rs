//! Agents that are taken over with their sessions, and sets that change while they run.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use dayfly_emulator::{Fault, FaultRule};
use dayfly_listener::{
    AgentEnd, AgentSet, Agents, Event, EventStream, OnExisting, Phase, Registrar, Registration,
    RegistrationStore, StoreError, StoreResult, Wanted,
};
use dayfly_protocol::{TaskResult, agent::AgentStatus, crypto::AgentKey};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

use crate::world::{Tuned, World, bounded, event, eventually, finish, start};

const SESSIONS: &str = "_apis/distributedtask/pools/*/sessions";
const POLLS: &str = "_apis/distributedtask/pools/*/messages";

/// Remembers what the agents were last, for as long as they are ours.
#[derive(Debug, Default)]
struct Registrations {
    agents: Mutex<Vec<Registration>>,
    is_lost: AtomicBool,
    /// What is to be saved never is.
    is_stuck: AtomicBool,
}

impl Registrations {
    fn ours(&self) -> StoreResult<()> {
        match self.is_lost.load(SeqCst) {
            true => Err(StoreError::NotOurs),
            false => Ok(()),
        }
    }

    fn all(&self) -> Vec<Registration> {
        self.agents.lock().expect("nobody panicked").clone()
    }
}

impl RegistrationStore for Registrations {
    fn check(&self) -> BoxFuture<'_, StoreResult<()>> {
        async { self.ours() }.boxed()
    }

    fn save(&self, registration: Registration) -> BoxFuture<'_, StoreResult<()>> {
        async move {
            self.ours()?;
            if self.is_stuck.load(SeqCst) {
                std::future::pending::<()>().await;
            }
            let mut agents = self.agents.lock().expect("nobody panicked");
            agents.retain(|agent| agent.name != registration.name);
            agents.push(registration);
            Ok(())
        }
        .boxed()
    }
}

struct Crew {
    key: Arc<AgentKey>,
    registrations: Arc<Registrations>,
}

impl Crew {
    async fn register(world: &World, names: &[&str]) -> Self {
        let key = Arc::new(AgentKey::generate().expect("a key"));
        let service = world.connection().connection_data().await.expect("the service answers");
        let registrar = Registrar::new(
            world.connection(),
            world.pool,
            key.clone(),
            OnExisting::Refuse,
            world.config(&[]).description.clone(),
            &service,
            world.emulator.url().clone(),
        );
        let registrations = Arc::new(Registrations::default());
        for name in names {
            let agent = registrar.register(name).await.expect("registered");
            registrations.save(agent).await.expect("it can");
        }
        Self { key, registrations }
    }

    fn config(&self, world: &World, wanted: watch::Receiver<Wanted>) -> Tuned {
        let mut config = world.config(&[]);
        config.agents = Agents::Wanted {
            connection: world.connection(),
            pool: world.pool,
            pool_name: "Default".to_owned(),
            key: self.key.clone(),
            wanted,
        };
        config.registrations = self.registrations.clone();
        config
    }

    /// All agents, as they were last.
    async fn start(&self, world: &World) -> (AgentSet, EventStream) {
        let wanted = Wanted { agents: self.registrations.all(), phase: Phase::Run };
        let config = self.config(world, watch::channel(wanted).1);
        let executor = world.script(&finish("succeeded"));
        let (set, events) = start(config, executor).await.expect("the set starts");
        let count = self.registrations.all().len();
        assert_eq!(bounded("agents are online", set.wait_online(count)).await, count);
        (set, events)
    }

    fn session(&self) -> Option<dayfly_protocol::SessionId> {
        self.registrations.all().first().and_then(|agent| agent.session.as_ref()).map(|session| session.id)
    }
}

/// Releases a set, and sees that it has.
async fn release(set: AgentSet) {
    set.release();
    let summary = bounded("the set has let go", set.wait()).await;
    assert_eq!((summary.released, summary.ended, summary.failed), (1, 0, 0), "{summary:?}");
}

#[tokio::test]
async fn a_successor_goes_on_with_the_session_that_was_recorded() {
    // An agent that is taken over is online once the service has answered its first poll.
    let mut world = World::with(|settings| settings.poll_hold = Duration::from_secs(1)).await;
    let crew = Crew::register(&world, &["a"]).await;
    let (set, _) = crew.start(&world).await;
    let session = crew.session().expect("it is recorded");
    release(set).await;
    assert_eq!(world.emulator.statistics().sessions, 1, "it was left alone");
    // No other could be made, not for minutes.
    let refuse = FaultRule::new(SESSIONS, Fault::RefuseSession).method("POST");
    world.emulator.add_fault(refuse).expect("a fault");
    let (set, _) = crew.start(&world).await;
    assert_eq!(crew.session(), Some(session));
    let job = world.queue("after");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    set.drain();
    set.wait().await;
    assert_eq!((world.emulator.statistics().sessions, crew.session()), (0, None));
}

#[tokio::test]
async fn a_session_that_has_expired_is_made_anew() {
    let mut world = World::new().await;
    let crew = Crew::register(&world, &["a"]).await;
    let (set, _) = crew.start(&world).await;
    let session = crew.session();
    release(set).await;
    let expire = FaultRule::new(POLLS, Fault::ExpireSession).method("GET").times(1);
    world.emulator.add_fault(expire).expect("a fault");
    let (set, _) = crew.start(&world).await;
    let job = world.queue("after");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    assert!(crew.session().is_some() && crew.session() != session);
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_recorded_session_that_is_in_the_way_is_deleted() {
    let mut world = World::new().await;
    let crew = Crew::register(&world, &["a"]).await;
    let (set, _) = crew.start(&world).await;
    let session = crew.session();
    release(set).await;
    // The service says that the session has expired, and yet that the agent has one.
    let keep = FaultRule::new(POLLS, Fault::KeepSession).method("GET").times(1);
    world.emulator.add_fault(keep).expect("a fault");
    let (set, _) = crew.start(&world).await;
    let job = world.queue("after");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    assert!(crew.session().is_some() && crew.session() != session);
    assert_eq!(world.emulator.statistics().sessions, 1);
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_session_that_is_held_in_between_is_asked_for_again() {
    let mut world = World::new().await;
    let crew = Crew::register(&world, &["a"]).await;
    let (set, _) = crew.start(&world).await;
    release(set).await;
    // First the recorded one is in the way, and then one of which nobody knows.
    let expire = FaultRule::new(POLLS, Fault::ExpireSession).method("GET").times(1);
    world.emulator.add_fault(expire).expect("a fault");
    let refuse = FaultRule::new(SESSIONS, Fault::RefuseSession).method("POST").times(3);
    let refuse = world.emulator.add_fault(refuse).expect("a fault");
    let (set, _) = crew.start(&world).await;
    assert_eq!(world.strikes(refuse), 3);
    let job = world.queue("after");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    set.drain();
    set.wait().await;
}

/// The service keeps a session for minutes after its last poll: longer than an agent by itself would wait.
#[tokio::test]
async fn a_session_that_was_made_and_not_recorded_is_waited_for_however_long_it_lives() {
    let mut world = World::new().await;
    let crew = Crew::register(&world, &["a"]).await;
    crew.registrations.is_stuck.store(true, SeqCst);
    let wanted = Wanted { agents: crew.registrations.all(), phase: Phase::Run };
    let (_sender, receiver) = watch::channel(wanted);
    let config = crew.config(&world, receiver.clone());
    let (set, _) = start(config, world.script("")).await.expect("the set starts");
    eventually("a session is made", || (world.emulator.statistics().sessions == 1).then_some(())).await;
    // It dies before the session is written down.
    drop(set);
    crew.registrations.is_stuck.store(false, SeqCst);
    assert_eq!(crew.session(), None);

    let tries = Fault::Latency { milliseconds: 0, jitter: 0 };
    let tries = world.emulator.add_fault(FaultRule::new(SESSIONS, tries).method("POST")).expect("a fault");
    let config = crew.config(&world, receiver);
    let script = world.script(&finish("succeeded"));
    let (set, mut events) = start(config, script).await.expect("the set starts");
    let warning = event(&mut events, "it says what is in its way", |event| match event {
        Event::Warning { message, .. } => Some(message.clone()),
        _ => None,
    })
    .await;
    assert!(warning.contains("still has a session"), "{warning}");
    // More often than others try until they give up.
    world.struck(tries, 20).await;
    assert_eq!(world.emulator.lose_sessions(), 1);
    assert_eq!(bounded("the agent is online", set.wait_online(1)).await, 1);
    let job = world.queue("after");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    set.drain();
    assert_eq!(set.wait().await.ended, 1);
}

#[tokio::test]
async fn who_has_lost_its_agents_makes_no_session() {
    let world = World::new().await;
    let crew = Crew::register(&world, &["a"]).await;
    let (set, _) = crew.start(&world).await;
    crew.registrations.is_lost.store(true, SeqCst);
    assert_eq!(world.emulator.lose_sessions(), 1);
    let summary = bounded("the set has let go", set.wait()).await;
    assert_eq!((summary.released, summary.failed), (1, 0), "{summary:?}");
    assert_eq!(world.emulator.statistics().sessions, 0);
}

#[tokio::test]
async fn a_set_grows_shrinks_pauses_and_ends_as_it_is_wanted() {
    let mut world = World::new().await;
    let crew = Crew::register(&world, &["a", "b", "c"]).await;
    let agents = crew.registrations.all();
    let (wanted, receiver) = watch::channel(Wanted { agents: agents[..1].to_vec(), phase: Phase::Run });
    let config = crew.config(&world, receiver);
    let script = format!(
        "while [ ! -e {}/go ]; do sleep 0.01; done; {}",
        world.folder.path().display(),
        finish("succeeded")
    );
    let (set, mut events) = start(config, world.script(&script)).await.expect("the set starts");
    online(&world, &["a"]).await;

    wanted.send_modify(|wanted| wanted.agents = agents.clone());
    online(&world, &["a", "b", "c"]).await;

    // A job keeps its agent, although that is wanted no more, or is to pause.
    let job = world.queue("kept");
    let agent = world.started(job).await;
    wanted.send_modify(|wanted| wanted.agents.retain(|other| other.name == agent));
    online(&world, &[&agent]).await;
    wanted.send_modify(|wanted| wanted.phase = Phase::Pause);
    std::fs::write(world.folder.path().join("go"), "").expect("written");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    online(&world, &[]).await;
    assert_eq!(world.emulator.statistics().sessions, 0);

    wanted.send_modify(|wanted| wanted.phase = Phase::Run);
    online(&world, &[&agent]).await;
    let job = world.queue("again");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);

    wanted.send_modify(|wanted| wanted.agents.clear());
    online(&world, &[]).await;
    wanted.send_modify(|wanted| wanted.agents = agents.clone());
    online(&world, &["a", "b", "c"]).await;
    wanted.send_modify(|wanted| wanted.phase = Phase::Drain);
    let summary = bounded("the set has ended", set.wait()).await;
    assert_eq!((summary.ended, summary.failed, summary.released), (6, 0, 0), "{summary:?}");
    let last = event(&mut events, "an agent has ended", |event| match event {
        Event::Ended { end, .. } => Some(end.clone()),
        _ => None,
    })
    .await;
    assert!(matches!(last, AgentEnd::Stopped), "{last:?}");
}

/// Waits until these agents are online, and no others.
async fn online(world: &World, names: &[&str]) {
    let connection = world.connection();
    bounded(&format!("{names:?} are online"), async {
        loop {
            let mut found = Vec::new();
            for name in ["a", "b", "c"] {
                let agent = connection.find_agent(world.pool, name).await.expect("an answer");
                if agent.is_some_and(|agent| agent.status == Some(AgentStatus::Online)) {
                    found.push(name);
                }
            }
            if found == names {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
