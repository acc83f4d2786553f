//! Job requests: the jobs of the pools' queues, from queued to finished.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dayfly_protocol::agent::TaskAgentReference;
use dayfly_protocol::job_request::TaskAgentJobRequest;
use dayfly_protocol::plan::TaskOrchestrationOwner;
use dayfly_protocol::{AgentId, DateTime, JobId, PlanId, PoolId, ProjectId, RequestId, TaskResult};
use jiff::Timestamp;
use secrecy::SecretString;

use super::demands::Demands;
use super::{Error, Result, State};

/// One job of a pool's queue.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) pool: PoolId,
    pub(crate) project: ProjectId,
    pub(crate) plan: PlanId,
    pub(crate) plan_type: String,
    pub(crate) plan_group: Option<String>,
    pub(crate) job: JobId,
    pub(crate) job_name: String,
    pub(crate) orchestration_id: Option<String>,
    pub(crate) definition: Option<TaskOrchestrationOwner>,
    pub(crate) owner: Option<TaskOrchestrationOwner>,
    pub(crate) demands: Demands,
    pub(crate) queue_time: DateTime,
    pub(crate) assign_time: Option<DateTime>,
    pub(crate) receive_time: Option<DateTime>,
    pub(crate) finish_time: Option<DateTime>,
    pub(crate) result: Option<TaskResult>,
    pub(crate) locked_until: Option<Timestamp>,
    /// The agent it is assigned to, or ran on.
    pub(crate) agent: Option<TaskAgentReference>,
    /// The plaintext of its message, until it is finished.
    pub(crate) message: Option<Arc<SecretString>>,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// How long it may take to end when its timeout cancels it.
    pub(crate) cancel_timeout: Duration,
    /// Until when it has to end, once it was cancelled.
    pub(crate) cancelled: Option<Cancellation>,
    pub(crate) status_message: Option<String>,
}

/// A cancellation under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cancellation {
    /// What the agent is told.
    pub(crate) timeout: Duration,
    /// When the emulator gives up waiting.
    pub(crate) deadline: Timestamp,
}

/// The requests by number.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    requests: HashMap<RequestId, Request>,
    unfinished: BTreeMap<PoolId, BTreeSet<RequestId>>,
    finished: BTreeMap<PoolId, VecDeque<RequestId>>,
    unfinished_count: usize,
    assigned: usize,
    last_id: i64,
}

impl Requests {
    pub(crate) fn get(&self, id: RequestId) -> Option<&Request> {
        self.requests.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.requests.get_mut(&id)
    }

    /// A request which has no result yet.
    pub(crate) fn unfinished_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.requests.get_mut(&id).filter(|request| request.result.is_none())
    }

    /// How many requests have no result.
    pub(crate) fn unfinished_count(&self) -> usize {
        self.unfinished_count
    }

    /// How many requests are assigned to agents and have no result.
    pub(crate) fn assigned(&self) -> usize {
        self.assigned
    }

    pub(crate) fn count_assigned(&mut self, change: isize) {
        self.assigned = self.assigned.saturating_add_signed(change);
    }

    pub(crate) fn next_id(&mut self) -> RequestId {
        self.last_id += 1;
        RequestId(self.last_id)
    }

    pub(crate) fn insert(&mut self, request: Request) {
        self.unfinished.entry(request.pool).or_default().insert(request.id);
        self.unfinished_count += 1;
        self.requests.insert(request.id, request);
    }

    /// Whether the agent has taken the job, and it is not finished.
    pub(crate) fn is_received(&self, id: RequestId) -> bool {
        self.get(id).is_some_and(|request| request.receive_time.is_some() && request.result.is_none())
    }

    pub(crate) fn has_unfinished(&self, pool: PoolId) -> bool {
        self.unfinished.get(&pool).is_some_and(|requests| !requests.is_empty())
    }

    /// Moves a request to the finished ones, and forgets the oldest of these beyond `keep`.
    pub(crate) fn settle(&mut self, id: RequestId, keep: usize) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.message = None;
        if self.unfinished.get_mut(&request.pool).is_some_and(|requests| requests.remove(&id)) {
            self.unfinished_count = self.unfinished_count.saturating_sub(1);
        }
        let finished = self.finished.entry(request.pool).or_default();
        finished.push_back(id);
        while finished.len() > keep {
            if let Some(oldest) = finished.pop_front() {
                self.requests.remove(&oldest);
            }
        }
    }

    pub(crate) fn forget_pool(&mut self, pool: PoolId) {
        self.unfinished.remove(&pool);
        for id in self.finished.remove(&pool).unwrap_or_default() {
            self.requests.remove(&id);
        }
    }
}

/// Which requests a caller asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestFilter {
    /// How many finished ones at most; none means [`COMPLETED_DEFAULT`].
    pub(crate) completed: Option<usize>,
    /// Those of these agents only.
    pub(crate) agents: Option<Vec<AgentId>>,
    /// Those of this plan only.
    pub(crate) plan: Option<PlanId>,
    /// Those of this job only.
    pub(crate) job: Option<JobId>,
    /// At most so many in all.
    pub(crate) top: Option<usize>,
    /// After so many.
    pub(crate) skip: usize,
}

/// How many finished requests are listed when the caller does not say.
const COMPLETED_DEFAULT: usize = 25;

/// Lists of matched agents longer than this are replaced by `matchesAllAgentsInPool` when all agents match.
const MATCHED_AGENTS_MAX: usize = 100;

/// A part of a list, and where the next part begins.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<usize>,
}

impl State {
    /// A request of a pool.
    pub(crate) fn request(&self, pool: PoolId, id: RequestId) -> Result<&Request> {
        self.pools.get(pool)?;
        self.requests.get(id).filter(|request| request.pool == pool).ok_or(Error::JobNotFound(id))
    }

    /// The requests of a pool: unfinished ones first, the oldest first, then finished ones, the latest first.
    pub(crate) fn list_requests(
        &self,
        pool: PoolId,
        filter: &RequestFilter,
    ) -> Result<Page<TaskAgentJobRequest>> {
        self.pools.get(pool)?;
        let wanted = |request: &&Request| {
            let agent = request.agent.as_ref().map(|agent| agent.id);
            filter.agents.as_ref().is_none_or(|ids| agent.is_some_and(|agent| ids.contains(&agent)))
                && filter.plan.is_none_or(|plan| plan == request.plan)
                && filter.job.is_none_or(|job| job == request.job)
        };
        let unfinished = self.requests.unfinished.get(&pool).into_iter().flatten();
        let finished = self.requests.finished.get(&pool).into_iter().flatten().rev();
        let get = |id: &RequestId| self.requests.get(*id);
        let mut all = unfinished
            .filter_map(get)
            .filter(wanted)
            .chain(
                finished.filter_map(get).filter(wanted).take(filter.completed.unwrap_or(COMPLETED_DEFAULT)),
            )
            .skip(filter.skip);
        let top = filter.top.unwrap_or(usize::MAX);
        let page: Vec<_> = all.by_ref().take(top).collect();
        let next = all.next().map(|_| filter.skip + page.len());
        let mut matched = BTreeMap::new();
        let items = page
            .into_iter()
            .map(|request| {
                let mut wire = self.request_to_wire(request, false);
                if request.result.is_none() {
                    matched
                        .entry(&request.demands)
                        .or_insert_with(|| self.matched_agents(pool, &request.demands))
                        .clone()
                        .apply(&mut wire);
                }
                wire
            })
            .collect();
        Ok(Page { items, next })
    }

    /// A request as the wire shows it.
    pub(crate) fn request_to_wire(
        &self,
        request: &Request,
        with_matched_agents: bool,
    ) -> TaskAgentJobRequest {
        let mut wire = TaskAgentJobRequest {
            request_id: request.id,
            queue_time: Some(request.queue_time),
            assign_time: request.assign_time,
            receive_time: request.receive_time,
            finish_time: request.finish_time,
            result: request.result,
            locked_until: request.locked_until.map(DateTime),
            service_owner: Some(SERVICE_OWNER),
            host_id: Some(self.organization_id()),
            scope_id: Some(request.project.0),
            plan_type: request.plan_type.clone(),
            plan_id: request.plan,
            job_id: request.job,
            job_name: Some(request.job_name.clone()),
            plan_group: request.plan_group.clone(),
            demands: request.demands.texts(),
            reserved_agent: request.agent.clone(),
            matched_agents: None,
            matches_all_agents_in_pool: None,
            definition: request.definition.clone(),
            owner: request.owner.clone(),
            data: BTreeMap::from([
                ("ParallelismTag".to_owned(), "Private".to_owned()),
                ("IsScheduledKey".to_owned(), "False".to_owned()),
            ]),
            queue_id: Some(self.queue_id(request.project, request.pool)),
            pool_id: Some(request.pool),
            orchestration_id: request.orchestration_id.clone(),
            status_message: request.status_message.clone(),
        };
        if with_matched_agents && request.result.is_none() {
            self.matched_agents(request.pool, &request.demands).apply(&mut wire);
        }
        wire
    }

    fn matched_agents(&self, pool: PoolId, demands: &Demands) -> MatchedAgents {
        let Ok(pool) = self.pools.get(pool) else { return MatchedAgents::Some(Vec::new()) };
        let matched: Vec<_> =
            pool.agents.values().filter(|agent| demands.are_met_by(&agent.capabilities())).collect();
        if matched.len() == pool.agents.len() && matched.len() > MATCHED_AGENTS_MAX {
            return MatchedAgents::All;
        }
        MatchedAgents::Some(matched.into_iter().map(|agent| agent.reference()).collect())
    }
}

/// The instance type of the service which queues builds.
const SERVICE_OWNER: uuid::Uuid = uuid::uuid!("00025394-6065-48ca-87d9-7f5672854ef7");

/// Agents that could run a job, online or not.
#[derive(Clone)]
enum MatchedAgents {
    All,
    Some(Vec<TaskAgentReference>),
}

impl MatchedAgents {
    fn apply(self, wire: &mut TaskAgentJobRequest) {
        match self {
            Self::All => wire.matches_all_agents_in_pool = Some(true),
            Self::Some(agents) => wire.matched_agents = Some(agents),
        }
    }
}
