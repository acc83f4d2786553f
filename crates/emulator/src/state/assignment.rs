//! Which waiting job goes to which agent.
//!
//! Waiting jobs are kept by their demands, and each such bucket knows the idle agents that meet them. So a
//! job that is queued, or an agent that becomes idle, costs a look at the buckets, never at all agents; polls
//! cost nothing.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_protocol::{AgentId, DateTime, PoolId, RequestId};
use jiff::Timestamp;

use super::State;
use super::agents::Agent;
use super::deadlines::Deadline;
use super::demands::Demands;
use crate::clock::after;
use crate::events::JobChange;

/// The waiting jobs and the idle agents of a pool.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    buckets: BTreeMap<Demands, Bucket>,
    idle: BTreeSet<AgentId>,
}

/// Waiting jobs with the same demands.
#[derive(Debug, Default)]
struct Bucket {
    /// In the order in which they were queued, which is that of their numbers.
    waiting: BTreeSet<RequestId>,
    /// Idle agents which meet the demands.
    idle: BTreeSet<AgentId>,
}

impl Queue {
    fn push(&mut self, demands: &Demands, request: RequestId, agents: &BTreeMap<AgentId, Agent>) {
        if let Some(bucket) = self.buckets.get_mut(demands) {
            bucket.waiting.insert(request);
            return;
        }
        let meets =
            |id: &&AgentId| agents.get(id).is_some_and(|agent| demands.are_met_by(&agent.capabilities()));
        let idle = self.idle.iter().filter(meets).copied().collect();
        self.buckets.insert(demands.clone(), Bucket { waiting: BTreeSet::from([request]), idle });
    }

    /// Takes a job out.
    pub(crate) fn withdraw(&mut self, demands: &Demands, request: RequestId) {
        if let Some(bucket) = self.buckets.get_mut(demands) {
            bucket.waiting.remove(&request);
            if bucket.waiting.is_empty() {
                self.buckets.remove(demands);
            }
        }
    }

    fn add_agent(&mut self, agent: &Agent) {
        self.idle.insert(agent.id);
        for (demands, bucket) in &mut self.buckets {
            if demands.are_met_by(&agent.capabilities()) {
                bucket.idle.insert(agent.id);
            }
        }
    }

    /// Takes an agent out: it is busy, offline, disabled or gone.
    pub(crate) fn remove_agent(&mut self, agent: AgentId) {
        if self.idle.remove(&agent) {
            for bucket in self.buckets.values_mut() {
                bucket.idle.remove(&agent);
            }
        }
    }

    /// The job that waits longest of those an idle agent can run, and that agent.
    fn next(&self) -> Option<(RequestId, AgentId)> {
        self.buckets
            .values()
            .filter_map(|bucket| Some((*bucket.waiting.first()?, *bucket.idle.first()?)))
            .min_by_key(|(request, _)| *request)
    }
}

impl State {
    /// Puts a request into its pool's queue.
    pub(crate) fn enqueue(&mut self, id: RequestId, now: Timestamp) {
        let Some(request) = self.requests.get(id) else { return };
        if let Ok(pool) = self.pools.get_mut(request.pool) {
            pool.queue.push(&request.demands, id, &pool.agents);
        }
        self.signal(id, JobChange::Queued);
        self.dispatch(now);
    }

    /// To be called when anything about an agent changed that bears on whether it may get a job.
    pub(crate) fn reconsider_agent(&mut self, pool: PoolId, id: AgentId, now: Timestamp) {
        let Ok(pool) = self.pools.get_mut(pool) else { return };
        pool.queue.remove_agent(id);
        if let Some(agent) = pool.agents.get(&id).filter(|agent| agent.is_idle()) {
            pool.queue.add_agent(agent);
        }
        self.dispatch(now);
    }

    /// Gives jobs to agents for as long as there are both, and jobs may run.
    pub(crate) fn dispatch(&mut self, now: Timestamp) {
        while self.rules.parallel_jobs.is_none_or(|limit| self.requests.assigned() < limit) {
            let next =
                self.pools.iter().filter_map(|pool| pool.queue.next()).min_by_key(|(request, _)| *request);
            let Some((request, agent)) = next else { break };
            self.assign(request, agent, now);
        }
    }

    fn assign(&mut self, id: RequestId, agent_id: AgentId, now: Timestamp) {
        let locked_until = after(now, self.rules.lock_duration);
        let Some(request) = self.requests.get_mut(id) else { return };
        let Ok(pool) = self.pools.get_mut(request.pool) else { return };
        pool.queue.withdraw(&request.demands, id);
        pool.queue.remove_agent(agent_id);
        let Some(agent) = pool.agents.get_mut(&agent_id) else { return };
        agent.active = Some(id);
        let name = agent.name.clone();
        let session = agent.session;
        request.agent = Some(agent.reference());
        request.assign_time = Some(DateTime(now));
        request.locked_until = Some(locked_until);
        let message = request.message.clone();
        self.requests.count_assigned(1);
        self.deadlines.set(locked_until, Deadline::Lock(id));
        if let (Some(session), Some(message)) = (session, message) {
            self.push_job_message(session, id, message);
        }
        self.signal(id, JobChange::Assigned { agent: name });
    }

    /// Takes a request from an agent which has not received it, and puts it back into the queue at its old
    /// place.
    pub(crate) fn requeue(&mut self, id: RequestId, now: Timestamp) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.assign_time = None;
        request.locked_until = None;
        let (pool, agent) = (request.pool, request.agent.take());
        if let Some(agent) = agent {
            self.requests.count_assigned(-1);
            if let Ok(agent) = self.agent_mut(pool, agent.id) {
                agent.active = None;
            }
        }
        self.enqueue(id, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demands(texts: &[&str]) -> Demands {
        Demands::parse(texts).unwrap()
    }

    #[test]
    fn oldest_job_with_an_able_idle_agent_is_next() {
        let mut queue = Queue::default();
        let agents = BTreeMap::new();
        queue.push(&demands(&["java"]), RequestId(1), &agents);
        queue.push(&demands(&[]), RequestId(2), &agents);
        queue.push(&demands(&[]), RequestId(3), &agents);
        assert_eq!(queue.next(), None);
        queue.idle.insert(AgentId(7));
        queue.buckets.get_mut(&demands(&[])).unwrap().idle.insert(AgentId(7));
        assert_eq!(queue.next(), Some((RequestId(2), AgentId(7))));
        queue.withdraw(&demands(&[]), RequestId(2));
        assert_eq!(queue.next(), Some((RequestId(3), AgentId(7))));
        queue.remove_agent(AgentId(7));
        assert_eq!(queue.next(), None);
        queue.withdraw(&demands(&[]), RequestId(3));
        queue.withdraw(&demands(&["java"]), RequestId(1));
        assert!(queue.buckets.is_empty());
    }
}
