//! Random things happen to agents, sessions and jobs, in any order, and what must always hold does.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::LazyLock;

use dayfly_protocol::agent::{TaskAgent, TaskAgentAuthorization, TaskAgentPublicKey, TaskAgentReference};
use dayfly_protocol::crypto::AgentKey;
use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::plan::TaskOrchestrationPlanReference;
use dayfly_protocol::session::TaskAgentSession;
use dayfly_protocol::timeline::TimelineReference;
use dayfly_protocol::{
    AgentId, JobId, MessageId, PlanId, PoolId, RequestId, SessionId, TaskResult, TimelineId,
};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::jobs::NewJob;
use super::plans::NewPlan;
use super::*;
use crate::clock::after;
use crate::events::{JobChange, JobSignal};

const POOL: PoolId = PoolId(1);
const STEPS: usize = 400;
const SEEDS: u64 = 30;

static KEY: LazyLock<TaskAgentPublicKey> =
    LazyLock::new(|| AgentKey::generate().unwrap().public_key().to_wire());

struct Chaos {
    state: State,
    signals: UnboundedReceiver<JobSignal>,
    now: Timestamp,
    random: fastrand::Rng,
    agents: Vec<AgentId>,
    sessions: Vec<SessionId>,
    messages: Vec<(SessionId, MessageId)>,
    jobs: Vec<(PlanId, JobId, RequestId)>,
    completions: HashMap<JobId, usize>,
    names: usize,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut settings = Settings::new("pat".into());
        settings.parallel_jobs = NonZeroU32::new(1 + (seed % 4) as u32);
        settings.limits.finished_requests = 10;
        settings.limits.finished_plans = 10;
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (sender, signals) = mpsc::unbounded_channel();
        Self {
            state: State::new(
                &settings,
                PathBuf::new(),
                crate::stores::disk::Disk::new(0),
                Arc::new(Hub::new(1)),
                sender,
                now,
            ),
            signals,
            now,
            random: fastrand::Rng::with_seed(seed),
            agents: Vec::new(),
            sessions: Vec::new(),
            messages: Vec::new(),
            jobs: Vec::new(),
            completions: HashMap::new(),
            names: 0,
        }
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.random.usize(..bound.max(1))
    }

    fn pick<T: Copy>(&mut self, from: impl Fn(&Self) -> &Vec<T>) -> Option<T> {
        let place = self.below(from(self).len());
        from(self).get(place).copied()
    }

    /// Does one thing. What is refused is refused: everything may come at the wrong time.
    fn step(&mut self) {
        match self.below(14) {
            0 => self.register(),
            1 | 2 => self.open_session(),
            3 | 4 => self.queue(),
            5 | 6 => self.fetch(),
            7 | 8 => {
                if let Some((session, message)) = self.pick(|chaos| &chaos.messages) {
                    let _ = self.state.delete_message(POOL, session, message, self.now);
                }
            }
            9 => {
                let agent = self.pick(|chaos| &chaos.agents);
                if let (Some((_, _, request)), Some(_)) = (self.pick(|chaos| &chaos.jobs), agent) {
                    let _ = self.state.renew(POOL, request, agent, self.now);
                }
            }
            10 => {
                if let Some((plan, job, request)) = self.pick(|chaos| &chaos.jobs) {
                    let _ = match self.below(3) {
                        0 => self.state.complete_job(plan, job, TaskResult::Succeeded, self.now),
                        1 => self.state.cancel_job(plan, job, Duration::from_secs(60), self.now),
                        _ => self.state.finish_request(POOL, request, None, TaskResult::Failed, self.now),
                    };
                }
            }
            11 => {
                if let Some(session) = self.pick(|chaos| &chaos.sessions) {
                    self.state.end_session(session, self.now);
                }
            }
            12 => {
                self.now = after(self.now, Duration::from_secs(self.below(400) as u64));
                self.state.expire(self.now);
            }
            _ => {
                if let Some(agent) = self.pick(|chaos| &chaos.agents) {
                    if self.below(4) == 0 {
                        let _ = self.state.delete_agent(POOL, agent, self.now);
                    } else {
                        let enabled = Some(self.below(3) > 0);
                        let change = TaskAgent { enabled, ..TaskAgent::default() };
                        let _ = self.state.update_agent(POOL, agent, change, self.now);
                    }
                }
            }
        }
    }

    fn register(&mut self) {
        self.names += 1;
        let capabilities =
            if self.below(2) == 0 { vec![] } else { vec![("java".to_owned(), "1".to_owned())] };
        let agent = TaskAgent {
            name: format!("agent-{}", self.names),
            system_capabilities: Some(capabilities.into_iter().collect()),
            authorization: Some(TaskAgentAuthorization {
                public_key: Some(KEY.clone()),
                ..TaskAgentAuthorization::default()
            }),
            ..TaskAgent::default()
        };
        self.agents.push(self.state.create_agent(POOL, agent, self.now).unwrap());
    }

    fn open_session(&mut self) {
        let Some(id) = self.pick(|chaos| &chaos.agents) else { return };
        let agent = TaskAgentReference { id, ..TaskAgentReference::default() };
        let wanted = TaskAgentSession { agent, ..TaskAgentSession::default() };
        if let Ok(session) = self.state.create_session(POOL, wanted, None, self.now) {
            self.sessions.push(session);
        }
    }

    fn queue(&mut self) {
        let (plan, job, timeline) =
            (PlanId(Uuid::new_v4()), JobId(Uuid::new_v4()), TimelineId(Uuid::new_v4()));
        let project = self.state.projects.all()[0].id;
        let plan_type = "Build".to_owned();
        self.state
            .create_plan(NewPlan { id: plan, project, plan_type, timeline, ends_with_jobs: true })
            .unwrap();
        let message = AgentJobRequestMessage {
            plan: TaskOrchestrationPlanReference {
                plan_id: plan,
                ..TaskOrchestrationPlanReference::default()
            },
            timeline: TimelineReference { id: timeline, ..TimelineReference::default() },
            job_id: job,
            ..AgentJobRequestMessage::default()
        };
        let demands = if self.below(2) == 0 { vec![] } else { vec!["java".to_owned()] };
        let timeout = (self.below(3) == 0).then_some(Duration::from_secs(300));
        let new = NewJob {
            pool: POOL,
            demands,
            message: Box::new(message),
            definition: None,
            owner: None,
            timeout,
            cancel_timeout: Duration::from_secs(60),
        };
        match self.state.queue_job(new, self.now) {
            Ok(request) => self.jobs.push((plan, job, request)),
            Err(error) => assert!(matches!(error, Error::NoAgentMatches { .. }), "{error}"),
        }
    }

    fn fetch(&mut self) {
        let Some(session) = self.pick(|chaos| &chaos.sessions) else { return };
        if self.state.begin_poll(POOL, session, self.now).is_ok() {
            if let Ok(Some(delivery)) = self.state.next_message(POOL, session, None) {
                self.messages.push((session, delivery.id));
            }
            self.state.end_poll(session, self.now);
        }
    }

    fn check(&mut self) {
        while let Ok(signal) = self.signals.try_recv() {
            if let JobChange::Completed { .. } = signal.change {
                *self.completions.entry(signal.job).or_default() += 1;
            }
        }
        assert!(self.completions.values().all(|count| *count == 1), "a job has one result");
        let pool = self.state.pools.get(POOL).unwrap();
        let active: BTreeSet<_> = pool.agents.values().filter_map(|agent| agent.active).collect();
        assert_eq!(active.len(), self.state.requests.assigned(), "what is counted is what there is");
        assert!(self.state.rules.parallel_jobs.is_none_or(|limit| active.len() <= limit));
        for agent in pool.agents.values() {
            if let Some(request) = agent.active {
                let request = self.state.requests.get(request).expect("an active request is known");
                assert!(request.result.is_none());
                assert_eq!(request.agent.as_ref().map(|holder| holder.id), Some(agent.id));
            }
            if let Some(session) = agent.session {
                assert!(self.state.sessions.is_open(session));
            }
        }
        let has_slot = self.state.rules.parallel_jobs.is_none_or(|limit| active.len() < limit);
        for (_, _, id) in &self.jobs {
            let Some(request) = self.state.requests.get(*id).filter(|request| request.result.is_none())
            else {
                continue;
            };
            match &request.agent {
                Some(agent) => assert_eq!(pool.agents[&agent.id].active, Some(*id)),
                None => {
                    let able = pool
                        .agents
                        .values()
                        .find(|agent| agent.is_idle() && request.demands.are_met_by(&agent.capabilities()));
                    assert!(!has_slot || able.is_none(), "no job waits while an agent could run it");
                }
            }
        }
    }

    /// All agents are lost; whatever was accepted ends, and whatever waits is cancelled.
    fn end(mut self) {
        self.state.end_all_sessions(self.now);
        self.now = after(self.now, Duration::from_secs(24 * 3600));
        self.state.expire(self.now);
        for (plan, job, _) in self.jobs.clone() {
            let _ = self.state.cancel_job(plan, job, Duration::ZERO, self.now);
        }
        self.check();
        assert_eq!(self.completions.len(), self.jobs.len(), "every job has a result");
        assert_eq!(self.state.requests.unfinished_count(), 0);
        assert_eq!(self.state.requests.assigned(), 0);
    }
}

#[test]
fn every_job_has_exactly_one_result_whatever_happens() {
    for seed in 0..SEEDS {
        let mut chaos = Chaos::new(seed);
        for _ in 0..STEPS {
            chaos.step();
            chaos.check();
        }
        chaos.end();
    }
}
