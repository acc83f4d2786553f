//! How many agents of a set are online: those that run jobs, and a few spare ones.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use dayfly_listener::Event;
use dayfly_protocol::RequestId;
use tokio::time::Instant;

use crate::api::Agents;

/// All agents of a set that is not greater than this are spare ones, unless it says otherwise.
const SMALL_SET: u16 = 20;

/// The spare agents of a greater set.
const SPARE: u16 = 5;

/// How long there must be too many agents before some go offline.
const IDLE: Duration = Duration::from_secs(600);

/// What is noted of a job for whose pod there is no room.
const NO_ROOM: [&str; 2] = ["scheduling", "quota"];

/// How long a job waits for room before it counts: a pod is seldom scheduled at once.
const STUCK: Duration = Duration::from_secs(30);

/// What the agents of a set are doing.
#[derive(Debug)]
pub(super) struct Crew {
    /// The agents that are online, and the job that each one has.
    online: HashSet<Arc<str>>,
    jobs: BTreeMap<Arc<str>, RequestId>,
    /// Jobs that a worker has.
    running: HashSet<RequestId>,
    level: usize,
    needed_at: Instant,
    /// Jobs for whose pods there is no room, and since when.
    stuck: BTreeMap<RequestId, Instant>,
}

impl Crew {
    pub(super) fn new() -> Self {
        Self {
            online: HashSet::new(),
            jobs: BTreeMap::new(),
            running: HashSet::new(),
            level: 0,
            needed_at: Instant::now(),
            stuck: BTreeMap::new(),
        }
    }

    /// Takes in what happened.
    pub(super) fn note(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Online { agent } | Event::Reconnected { agent } => {
                self.online.insert(agent.clone());
            }
            Event::Disconnected { agent, .. } => drop(self.online.remove(agent)),
            Event::Ended { agent, .. } => {
                self.online.remove(agent);
                self.jobs.remove(agent);
            }
            Event::JobAccepted { agent, job, .. } => drop(self.jobs.insert(agent.clone(), job.request)),
            Event::JobStarted { agent, job } | Event::JobResumed { agent, job } => {
                self.jobs.insert(agent.clone(), job.request);
                self.running.insert(job.request);
                self.stuck.remove(&job.request);
            }
            Event::Noted { job, note, .. } if NO_ROOM.contains(&note.word) => {
                self.stuck.entry(job.request).or_insert(now);
            }
            // It has a node by now, and waits for something else there.
            Event::Noted { job, .. } => drop(self.stuck.remove(&job.request)),
            Event::JobFinished { agent, job, .. } => {
                self.jobs.remove(agent);
                self.running.remove(&job.request);
                self.stuck.remove(&job.request);
            }
            _ => {}
        }
    }

    /// How many jobs have waited for room for a while.
    pub(super) fn stuck(&self, now: Instant) -> usize {
        self.stuck.values().filter(|since| now.duration_since(**since) >= STUCK).count()
    }

    /// How many agents are to be online now; no spare ones while the cluster is full.
    pub(super) fn wanted(&mut self, agents: &Agents, is_full: bool, now: Instant) -> usize {
        if is_full {
            self.level = self.jobs.len();
        }
        let spare = match agents.spare {
            _ if is_full => 0,
            Some(spare) => spare,
            None if agents.max <= SMALL_SET => agents.max,
            None => SPARE,
        };
        let needed = usize::from(agents.max).min(self.jobs.len() + usize::from(spare));
        if needed >= self.level || now.duration_since(self.needed_at) >= IDLE {
            (self.level, self.needed_at) = (needed, now);
        }
        self.level = self.level.min(usize::from(agents.max).max(self.jobs.len()));
        self.level
    }

    /// Whether this agent has a job.
    pub(super) fn is_busy(&self, agent: &str) -> bool {
        self.jobs.contains_key(agent)
    }

    pub(super) fn online(&self) -> u32 {
        u32::try_from(self.online.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn running(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn pending(&self) -> u32 {
        u32::try_from(self.jobs.len().saturating_sub(self.running.len())).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use dayfly_listener::{JobLabel, Note};
    use dayfly_protocol::JobId;

    use super::*;

    fn job(number: i64) -> JobLabel {
        JobLabel { request: RequestId(number), id: JobId::default(), build: None, name: Arc::from("job") }
    }

    fn accepted(crew: &mut Crew, number: i64) {
        crew.note(
            &Event::JobAccepted { agent: Arc::from(format!("a-{number}")), job: job(number), queued: None },
            Instant::now(),
        );
    }

    #[test]
    fn each_job_brings_another_agent_online_up_to_the_most() {
        let (mut crew, now) = (Crew::new(), Instant::now());
        let agents = Agents { max: 30, spare: None, name_prefix: None };
        assert_eq!(crew.wanted(&agents, false, now), 5);
        accepted(&mut crew, 1);
        assert_eq!(crew.wanted(&agents, false, now), 6);
        (2..=29).for_each(|number| accepted(&mut crew, number));
        assert_eq!(crew.wanted(&agents, false, now), 30);
        assert_eq!(crew.pending(), 29);
    }

    #[test]
    fn agents_that_are_too_many_leave_only_after_a_while() {
        let (mut crew, now) = (Crew::new(), Instant::now());
        let agents = Agents { max: 30, spare: Some(1), name_prefix: None };
        accepted(&mut crew, 1);
        assert_eq!(crew.wanted(&agents, false, now), 2);
        let finished =
            Event::JobFinished { agent: Arc::from("a-1"), job: job(1), result: None, reason: None };
        crew.note(&finished, now);
        assert_eq!(crew.wanted(&agents, false, now + IDLE / 2), 2);
        assert_eq!(crew.wanted(&agents, false, now + IDLE), 1);
    }

    #[test]
    fn a_smaller_set_shrinks_at_once_but_keeps_what_runs() {
        let (mut crew, now) = (Crew::new(), Instant::now());
        let agents = |max| Agents { max, spare: None, name_prefix: None };
        assert_eq!(crew.wanted(&agents(10), false, now), 10);
        (1..=3).for_each(|number| accepted(&mut crew, number));
        assert_eq!(crew.wanted(&agents(2), false, now), 3);
    }

    #[test]
    fn spare_agents_are_offline_while_jobs_wait_for_room() {
        let (mut crew, now) = (Crew::new(), Instant::now());
        let agents = Agents { max: 10, spare: Some(3), name_prefix: None };
        accepted(&mut crew, 1);
        assert_eq!(crew.wanted(&agents, false, now), 4);
        let note = Note { word: "scheduling", text: String::new(), advice: None, is_problem: true };
        crew.note(&Event::Noted { agent: Arc::from("a-1"), job: job(1), note }, now);
        assert_eq!((crew.stuck(now), crew.stuck(now + STUCK)), (0, 1));
        assert_eq!(crew.wanted(&agents, true, now), 1);
        crew.note(&Event::JobStarted { agent: Arc::from("a-1"), job: job(1) }, now);
        assert_eq!((crew.stuck(now + STUCK), crew.wanted(&agents, false, now)), (0, 4));
    }
}
