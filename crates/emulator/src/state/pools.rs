//! Agent pools.

use std::collections::{BTreeMap, HashMap};

use dayfly_protocol::pool::TaskAgentPool;
use dayfly_protocol::{AgentId, DateTime, PoolId};
use jiff::Timestamp;

use super::agents::Agent;
use super::assignment::Queue;
use super::{Error, Result, State, check_name};

/// A pool with its agents and its waiting jobs.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) id: PoolId,
    pub(crate) name: String,
    pub(crate) created_on: Timestamp,
    pub(crate) auto_update: bool,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    /// Agents by their names in lower case.
    pub(crate) names: HashMap<String, AgentId>,
    pub(crate) queue: Queue,
}

impl Pool {
    pub(crate) fn to_wire(&self) -> TaskAgentPool {
        TaskAgentPool {
            id: self.id,
            name: self.name.clone(),
            scope: None,
            is_hosted: false,
            is_legacy: false,
            pool_type: Some("automation".to_owned()),
            size: i32::try_from(self.agents.len()).unwrap_or(i32::MAX),
            auto_update: Some(self.auto_update),
            auto_provision: Some(true),
            created_on: Some(DateTime(self.created_on)),
        }
    }
}

/// The pools by number.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: BTreeMap<PoolId, Pool>,
    last_id: i32,
}

impl Pools {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    pub(crate) fn get(&self, id: PoolId) -> Result<&Pool> {
        self.pools.get(&id).ok_or(Error::PoolNotFound(id))
    }

    pub(crate) fn get_mut(&mut self, id: PoolId) -> Result<&mut Pool> {
        self.pools.get_mut(&id).ok_or(Error::PoolNotFound(id))
    }

    /// A pool by its name in any case.
    pub(crate) fn find(&self, name: &str) -> Option<&Pool> {
        self.pools.values().find(|pool| pool.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn insert(&mut self, name: &str, now: Timestamp) -> PoolId {
        self.last_id += 1;
        let id = PoolId(self.last_id);
        let pool = Pool {
            id,
            name: name.to_owned(),
            created_on: now,
            auto_update: true,
            agents: BTreeMap::new(),
            names: HashMap::new(),
            queue: Queue::default(),
        };
        self.pools.insert(id, pool);
        id
    }
}

impl State {
    /// Adds a pool.
    pub(crate) fn create_pool(&mut self, name: &str, now: Timestamp) -> Result<PoolId> {
        check_name("pool name", name)?;
        if self.pools.find(name).is_some() {
            return Err(Error::PoolExists(name.to_owned()));
        }
        let limit = self.rules.limits.pools;
        if self.pools.pools.len() >= limit {
            return Err(Error::LimitReached { what: "agent pools", limit: limit as u64 });
        }
        Ok(self.pools.insert(name, now))
    }

    /// Renames a pool, or sets whether its agents may be told to update themselves.
    pub(crate) fn update_pool(
        &mut self,
        id: PoolId,
        name: Option<&str>,
        auto_update: Option<bool>,
    ) -> Result<()> {
        if let Some(name) = name {
            check_name("pool name", name)?;
            if self.pools.find(name).is_some_and(|other| other.id != id) {
                return Err(Error::PoolExists(name.to_owned()));
            }
        }
        let pool = self.pools.get_mut(id)?;
        if let Some(name) = name {
            pool.name = name.to_owned();
        }
        pool.auto_update = auto_update.unwrap_or(pool.auto_update);
        Ok(())
    }

    /// Removes a pool without agents and jobs.
    pub(crate) fn delete_pool(&mut self, id: PoolId) -> Result<()> {
        let pool = self.pools.get(id)?;
        if !pool.agents.is_empty() || self.requests.has_unfinished(id) {
            return Err(Error::PoolInUse(id));
        }
        self.pools.pools.remove(&id);
        self.requests.forget_pool(id);
        Ok(())
    }
}
