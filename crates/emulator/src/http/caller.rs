//! Who is calling, and what they may do.

use std::path::PathBuf;

use axum::extract::FromRequestParts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_protocol::{AgentId, BuildId, ContainerId, JobId, PlanId, PoolId, ProjectId};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use secrecy::{ExposeSecret as _, SecretString};

use super::error::ApiError;
use crate::settings::Scope;
use crate::state::State;
use crate::state::runs::Run;
use crate::state::tokens::Principal;

/// The authenticated caller of a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Principal);

impl Caller {
    /// Lets people with this right pass.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.has(scope) { Ok(()) } else { Err(self.denied(&format!("it needs the right {scope:?}"))) }
    }

    /// Whether the caller is a person with this right.
    pub(crate) fn has(&self, scope: Scope) -> bool {
        match &self.0 {
            Principal::Person { scopes, .. } => scopes.iter().any(|own| implies(*own, scope)),
            Principal::Agent { .. } | Principal::Job { .. } => false,
        }
    }

    /// Lets the agents of a pool pass, and people who may see it.
    pub(crate) fn require_pool_read(&self, pool: PoolId) -> Result<(), ApiError> {
        match &self.0 {
            Principal::Agent { pool: own, .. } if *own == pool => Ok(()),
            _ => self.require(Scope::AgentPoolsRead),
        }
    }

    /// Lets one agent pass, and people who manage its pool. Returns the agent when it is the caller itself.
    pub(crate) fn require_agent(&self, pool: PoolId, agent: AgentId) -> Result<(), ApiError> {
        match &self.0 {
            Principal::Agent { pool: own_pool, agent: own, .. } if *own_pool == pool && *own == agent => {
                Ok(())
            }
            _ => self.require(Scope::AgentPoolsManage),
        }
    }

    /// Lets agents of the pool pass, and people who manage it; returns which agent it is. None is a person.
    pub(crate) fn require_any_agent(&self, pool: PoolId) -> Result<Option<AgentId>, ApiError> {
        match &self.0 {
            Principal::Agent { pool: own, agent, .. } if *own == pool => Ok(Some(*agent)),
            _ => self.require(Scope::AgentPoolsManage).map(|()| None),
        }
    }

    /// Lets the jobs of a plan pass, and people with this right.
    pub(crate) fn require_plan(&self, plan: PlanId, scope: Scope) -> Result<(), ApiError> {
        match &self.0 {
            Principal::Job { plan: own, .. } if *own == plan => Ok(()),
            _ => self.require(scope),
        }
    }

    /// Lets one job of a plan pass, and people with all rights.
    pub(crate) fn require_job(&self, plan: PlanId, job: JobId) -> Result<(), ApiError> {
        match &self.0 {
            Principal::Job { plan: own_plan, job: own, .. } if *own_plan == plan && *own == job => Ok(()),
            _ => self.require(Scope::Full),
        }
    }

    /// Lets jobs of a project pass, and people who may read its repositories.
    pub(crate) fn require_code_read(&self, project: ProjectId) -> Result<(), ApiError> {
        match &self.0 {
            Principal::Job { project: own, .. } if *own == project => Ok(()),
            _ => self.require(Scope::CodeRead),
        }
    }

    /// Lets jobs of a project pass, as the project's build service may, and people who may see builds.
    pub(crate) fn require_builds_read(&self, project: ProjectId) -> Result<(), ApiError> {
        match &self.0 {
            Principal::Job { project: own, .. } if *own == project => Ok(()),
            _ => self.require(Scope::BuildRead),
        }
    }

    /// Lets everybody pass who works with pools: agents, jobs (tasks are downloaded with their tokens),
    /// people.
    pub(crate) fn require_tasks_read(&self) -> Result<(), ApiError> {
        match &self.0 {
            Principal::Agent { .. } | Principal::Job { .. } => Ok(()),
            Principal::Person { .. } => self.require(Scope::AgentPoolsRead),
        }
    }

    /// The plan whose job is calling.
    pub(crate) fn plan(&self) -> Option<PlanId> {
        match &self.0 {
            Principal::Job { plan, .. } => Some(*plan),
            Principal::Person { .. } | Principal::Agent { .. } => None,
        }
    }

    fn denied(&self, reason: &str) -> ApiError {
        let who = match &self.0 {
            Principal::Person { .. } => "this personal access token",
            Principal::Agent { .. } => "this agent's token",
            Principal::Job { .. } => "this job's token",
        };
        ApiError::denied(format!("{who} may not do that: {reason}"))
    }
}

impl State {
    /// A run of a project, for people who may see builds and for the project's jobs.
    pub(crate) fn run_for(&self, caller: &Caller, project: &str, id: BuildId) -> Result<&Run, ApiError> {
        let project = self.projects.find(project)?.id;
        // Who may not see builds does not learn which there are.
        caller.require_builds_read(project)?;
        Ok(self.runs.get(project, id)?)
    }

    /// The folder of a repository for those who may read it. The jobs of a run get their pipeline's own
    /// repository as it was when the run was queued, whatever is served under its name by now.
    pub(crate) fn repository_for(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
    ) -> Result<PathBuf, ApiError> {
        let project = self.projects.find(project)?.id;
        caller.require_code_read(project)?;
        let own = caller.plan().and_then(|plan| self.runs.any(self.runs.of_plan(plan)?).ok());
        if let Some(run) = own.filter(|run| run.repository.name.eq_ignore_ascii_case(name)) {
            return Ok(run.repository.directory.clone());
        }
        Ok(self.repositories.find(project, name)?.directory.clone())
    }

    /// Lets people who may see builds pass, and jobs of the project of the container's run.
    pub(crate) fn require_container_read(
        &self,
        caller: &Caller,
        container: ContainerId,
    ) -> Result<(), ApiError> {
        match self.runs.of_container(container) {
            Some(run) => caller.require_builds_read(run.project),
            None => caller.require(Scope::BuildRead),
        }
    }

    /// Lets the jobs of the container's own run pass, and people who may queue builds.
    pub(crate) fn require_container_write(
        &self,
        caller: &Caller,
        container: ContainerId,
    ) -> Result<(), ApiError> {
        match self.runs.of_container(container) {
            Some(run) => caller.require_plan(run.plan_id, Scope::BuildExecute),
            None => caller.require(Scope::BuildExecute),
        }
    }
}

/// Whether who has `own` has `wanted` too.
fn implies(own: Scope, wanted: Scope) -> bool {
    use Scope::{AgentPoolsManage, AgentPoolsRead, BuildExecute, BuildRead, CodeRead, Full, ProjectRead};
    own == wanted
        || match own {
            Full => true,
            AgentPoolsManage => wanted == AgentPoolsRead,
            BuildExecute => matches!(wanted, BuildRead | ProjectRead),
            BuildRead | CodeRead => wanted == ProjectRead,
            AgentPoolsRead | ProjectRead => false,
        }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Authentication comes before routing, so only routes that need none could miss it.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ApiError::denied("a token is required"))
    }
}

/// The token in a request: that of `Bearer`, or the password of `Basic`.
pub(crate) fn presented_token(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(SecretString::from(rest));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = SecretString::from(String::from_utf8(STANDARD.decode(rest).ok()?).ok()?);
        return pair.expose_secret().split_once(':').map(|(_, password)| SecretString::from(password));
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn token_comes_from_bearer_or_basic() {
        let token = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            presented_token(&headers).map(|token| token.expose_secret().to_owned())
        };
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token(&format!("basic {}", STANDARD.encode("user:a:b"))).as_deref(), Some("a:b"));
        assert_eq!(token("Negotiate abc"), None);
        assert_eq!(token("Basic !"), None);
    }

    #[test]
    fn wider_rights_imply_narrower_ones_only() {
        assert!(implies(Scope::Full, Scope::BuildExecute));
        assert!(implies(Scope::AgentPoolsManage, Scope::AgentPoolsRead));
        assert!(!implies(Scope::AgentPoolsRead, Scope::AgentPoolsManage));
        assert!(!implies(Scope::AgentPoolsManage, Scope::BuildRead));
        assert!(!implies(Scope::CodeRead, Scope::BuildRead));
    }
}
