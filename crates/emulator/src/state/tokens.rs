//! Who a token belongs to, and what it may do.
//!
//! Tokens are kept as SHA-256 digests only. Three kinds: personal access tokens from the settings, agents'
//! access tokens from the token endpoint, and the tokens of jobs, each good for its own plan only.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dayfly_protocol::{AgentId, JobId, PlanId, PoolId, ProjectId};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{Error, Result, State, named_id};
use crate::clock::after;
use crate::settings::{Scope, Settings};

/// Tokens an agent may have at a time; the oldest ends when one more is asked for. One listener asks once per
/// connection, and has three.
const TOKENS_PER_AGENT: usize = 8;
/// Assertions remembered against replay, in all. Each is forgotten when it expires, five minutes after it was
/// made.
const ASSERTIONS_MAX: usize = 200_000;
/// Tokens of deleted agents that are kept, in all.
const DEPARTED_MAX: usize = 10_000;
/// How long a job's token is good for after the job has ended: late reports get a proper answer.
const JOB_TOKEN_GRACE: Duration = Duration::from_secs(5 * 60);

type Digest = [u8; 32];

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// A person's.
    Person {
        /// A stable id made from the token.
        id: Uuid,
        /// What it may do.
        scopes: Arc<[Scope]>,
    },
    /// An agent's.
    Agent {
        /// Its pool.
        pool: PoolId,
        /// The agent.
        agent: AgentId,
        /// Its client id.
        client: Uuid,
    },
    /// A job's.
    Job {
        /// Its project.
        project: ProjectId,
        /// Its plan.
        plan: PlanId,
        /// The job.
        job: JobId,
    },
}

/// All tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    people: Vec<(Digest, Principal)>,
    clients: HashMap<Uuid, Client>,
    agents: HashMap<Digest, AgentToken>,
    /// Tokens of agents that were deleted, the oldest first. They stay good until they expire, so that the
    /// agent is told that it is gone, not that it has to log in.
    departed: VecDeque<Digest>,
    jobs: HashMap<Digest, JobToken>,
    /// Tokens of each plan's jobs.
    plans: HashMap<PlanId, Vec<Digest>>,
    /// Assertions by the second in which they expire.
    assertions: BTreeMap<(i64, Digest), ()>,
    last_agent: i32,
}

#[derive(Debug)]
struct Client {
    pool: PoolId,
    agent: AgentId,
    tokens: VecDeque<Digest>,
}

#[derive(Debug)]
struct AgentToken {
    pool: PoolId,
    agent: AgentId,
    client: Uuid,
    expires: Timestamp,
}

#[derive(Debug)]
struct JobToken {
    principal: Principal,
    /// None until the job has ended.
    expires: Option<Timestamp>,
}

/// Why an assertion is not taken though its signature is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// It was used before.
    Used,
    /// There are too many to remember one more.
    TooMany,
}

impl Tokens {
    pub(crate) fn new(settings: &Settings) -> Self {
        let full = (&settings.pat, Arc::from([Scope::Full]));
        let others = settings.tokens.iter().map(|token| (&token.token, Arc::from(token.scopes.as_slice())));
        let people = std::iter::once(full)
            .chain(others)
            .map(|(token, scopes)| {
                let digest = digest_of(token.expose_secret());
                let id = named_id("person", &URL_SAFE_NO_PAD.encode(digest));
                (digest, Principal::Person { id, scopes })
            })
            .collect();
        Self {
            people,
            clients: HashMap::new(),
            agents: HashMap::new(),
            departed: VecDeque::new(),
            jobs: HashMap::new(),
            plans: HashMap::new(),
            assertions: BTreeMap::new(),
            last_agent: 0,
        }
    }

    /// Whose token this is; none when it is unknown or has expired.
    pub(crate) fn authenticate(&self, token: &SecretString, now: Timestamp) -> Option<Principal> {
        let digest = digest_of(token.expose_secret());
        if let Some((_, principal)) = self.people.iter().find(|(known, _)| *known == digest) {
            return Some(principal.clone());
        }
        if let Some(AgentToken { pool, agent, client, expires }) = self.agents.get(&digest) {
            let principal = Principal::Agent { pool: *pool, agent: *agent, client: *client };
            return (now < *expires).then_some(principal);
        }
        let job = self.jobs.get(&digest)?;
        job.expires.is_none_or(|expires| now < expires).then(|| job.principal.clone())
    }

    /// Gives a new agent its number, and lets it ask for tokens as `client`.
    pub(crate) fn register(&mut self, client: Uuid, pool: PoolId) -> AgentId {
        self.last_agent += 1;
        let agent = AgentId(self.last_agent);
        self.clients.insert(client, Client { pool, agent, tokens: VecDeque::new() });
        agent
    }

    /// Lets an agent ask for tokens as `client` from now on, and ends what it had.
    pub(crate) fn replace(&mut self, former: Uuid, client: Uuid) {
        if let Some(owner) = self.clients.get(&former) {
            let owner = Client { pool: owner.pool, agent: owner.agent, tokens: VecDeque::new() };
            self.unregister(former);
            self.clients.insert(client, owner);
        }
    }

    /// The agent was deleted: it gets no more tokens.
    pub(crate) fn depart(&mut self, client: Uuid) {
        self.departed.extend(self.clients.remove(&client).map(|client| client.tokens).unwrap_or_default());
        while self.departed.len() > DEPARTED_MAX {
            if let Some(oldest) = self.departed.pop_front() {
                self.agents.remove(&oldest);
            }
        }
    }

    /// Ends an agent's tokens at once.
    fn unregister(&mut self, client: Uuid) {
        for token in self.clients.remove(&client).map(|client| client.tokens).unwrap_or_default() {
            self.agents.remove(&token);
        }
    }

    /// The agent of a client id.
    pub(crate) fn client(&self, client: Uuid) -> Option<(PoolId, AgentId)> {
        self.clients.get(&client).map(|owner| (owner.pool, owner.agent))
    }

    /// Makes an access token for an agent.
    pub(crate) fn issue_agent_token(
        &mut self,
        client: Uuid,
        lifetime: Duration,
        now: Timestamp,
    ) -> Option<SecretString> {
        let token = random_token();
        let digest = digest_of(token.expose_secret());
        let owner = self.clients.get_mut(&client)?;
        owner.tokens.push_back(digest);
        if owner.tokens.len() > TOKENS_PER_AGENT
            && let Some(oldest) = owner.tokens.pop_front()
        {
            self.agents.remove(&oldest);
        }
        let (pool, agent) = (owner.pool, owner.agent);
        self.agents.insert(digest, AgentToken { pool, agent, client, expires: after(now, lifetime) });
        Some(token)
    }

    /// Makes the token of a job. It is good until the job has ended, and a little longer.
    pub(crate) fn issue_job_token(&mut self, project: ProjectId, plan: PlanId, job: JobId) -> SecretString {
        let token = random_token();
        let digest = digest_of(token.expose_secret());
        let principal = Principal::Job { project, plan, job };
        self.jobs.insert(digest, JobToken { principal, expires: None });
        self.plans.entry(plan).or_default().push(digest);
        token
    }

    /// Ends one token at once. Tokens of people stay.
    pub(crate) fn revoke(&mut self, token: &SecretString) {
        let digest = digest_of(token.expose_secret());
        if let Some(token) = self.agents.remove(&digest)
            && let Some(owner) = self.clients.get_mut(&token.client)
        {
            owner.tokens.retain(|other| *other != digest);
        }
        if let Some(JobToken { principal: Principal::Job { plan, .. }, .. }) = self.jobs.remove(&digest)
            && let Some(tokens) = self.plans.get_mut(&plan)
        {
            tokens.retain(|other| *other != digest);
        }
    }

    /// The job has ended, and its token ends soon.
    pub(crate) fn end_job(&mut self, plan: PlanId, job: JobId, now: Timestamp) {
        for digest in self.plans.get(&plan).into_iter().flatten() {
            if let Some(token) = self.jobs.get_mut(digest)
                && matches!(token.principal, Principal::Job { job: owner, .. } if owner == job)
            {
                token.expires = Some(after(now, JOB_TOKEN_GRACE));
            }
        }
    }

    /// The plan is forgotten, and so are the tokens of its jobs.
    pub(crate) fn end_plan(&mut self, plan: PlanId) {
        for digest in self.plans.remove(&plan).unwrap_or_default() {
            self.jobs.remove(&digest);
        }
    }

    /// Notes that an assertion was used. `expires` is when it cannot be used any more anyway.
    pub(crate) fn use_assertion(
        &mut self,
        client: Uuid,
        id: &str,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), Replay> {
        let live = self.assertions.split_off(&(now.as_second(), [0; 32]));
        self.assertions = live;
        let key = (expires.as_second(), digest_of(&format!("{client}/{id}")));
        if self.assertions.contains_key(&key) {
            return Err(Replay::Used);
        }
        if self.assertions.len() >= ASSERTIONS_MAX {
            return Err(Replay::TooMany);
        }
        self.assertions.insert(key, ());
        Ok(())
    }
}

impl State {
    /// Makes the token of a job of a plan.
    pub(crate) fn issue_job_token(&mut self, plan: PlanId, job: JobId) -> Result<SecretString> {
        let project = self.plans.get(plan).map_err(|_| Error::PlanNotFound(plan))?.project;
        Ok(self.tokens.issue_job_token(project, plan, job))
    }
}

fn digest_of(token: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

/// 256 random bits as text.
pub(super) fn random_token() -> SecretString {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random numbers do not run out");
    SecretString::from(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new(&Settings::new("pat".into()))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn agent_tokens_expire_and_new_ones_end_with_the_agent() {
        let mut tokens = tokens();
        let client = Uuid::new_v4();
        let agent = tokens.register(client, PoolId(1));
        let token = tokens.issue_agent_token(client, Duration::from_secs(10), at(0)).unwrap();
        let principal = Principal::Agent { pool: PoolId(1), agent, client };
        assert_eq!(tokens.authenticate(&token, at(9)), Some(principal));
        assert_eq!(tokens.authenticate(&token, at(10)), None);
        let token = tokens.issue_agent_token(client, Duration::from_secs(10), at(0)).unwrap();
        tokens.depart(client);
        assert!(tokens.authenticate(&token, at(1)).is_some());
        assert!(tokens.issue_agent_token(client, Duration::from_secs(10), at(0)).is_none());
    }

    #[test]
    fn replacing_an_agent_ends_its_tokens() {
        let mut tokens = tokens();
        let (former, client) = (Uuid::new_v4(), Uuid::new_v4());
        let agent = tokens.register(former, PoolId(1));
        let token = tokens.issue_agent_token(former, Duration::from_secs(10), at(0)).unwrap();
        tokens.replace(former, client);
        assert_eq!(tokens.authenticate(&token, at(1)), None);
        assert_eq!(tokens.client(client), Some((PoolId(1), agent)));
        assert_eq!(tokens.client(former), None);
    }

    #[test]
    fn number_of_tokens_of_an_agent_is_bounded() {
        let mut tokens = tokens();
        let client = Uuid::new_v4();
        tokens.register(client, PoolId(1));
        for _ in 0..100 {
            tokens.issue_agent_token(client, Duration::from_secs(10), at(0)).unwrap();
        }
        assert_eq!(tokens.agents.len(), TOKENS_PER_AGENT);
    }

    #[test]
    fn job_token_ends_a_while_after_the_job() {
        let mut tokens = tokens();
        let (plan, job) = (PlanId(Uuid::new_v4()), JobId(Uuid::new_v4()));
        let token = tokens.issue_job_token(ProjectId::default(), plan, job);
        let is_good = |tokens: &Tokens, seconds| tokens.authenticate(&token, at(seconds)).is_some();
        assert!(is_good(&tokens, 1_000_000));
        tokens.end_job(plan, job, at(0));
        assert!(is_good(&tokens, 299));
        assert!(!is_good(&tokens, 300));
        tokens.end_plan(plan);
        assert!(tokens.jobs.is_empty() && tokens.plans.is_empty());
    }

    #[test]
    fn assertion_is_good_once_and_forgotten_when_it_expires() {
        let mut tokens = tokens();
        let client = Uuid::new_v4();
        assert_eq!(tokens.use_assertion(client, "a", at(300), at(0)), Ok(()));
        assert_eq!(tokens.use_assertion(client, "a", at(300), at(1)), Err(Replay::Used));
        assert_eq!(tokens.use_assertion(Uuid::new_v4(), "a", at(300), at(1)), Ok(()));
        assert_eq!(tokens.use_assertion(client, "b", at(700), at(301)), Ok(()));
        assert_eq!(tokens.assertions.len(), 1);
    }
}
