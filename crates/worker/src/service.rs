//! What the job loop itself asks of the service: the job's result, the build's number and tags, artifacts.

use std::sync::Mutex;
use std::time::Duration;

use dayfly_client::{
    Again, Connection, Credential, ErrorKind, HttpSettings, JobPlan, ProxySettings, RetryPolicy,
};
use dayfly_protocol::channel::WorkerSettings;
use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::{BuildId, ContainerId, JobId, ProjectId, TaskId, TaskResult};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::Surroundings;
use crate::artifacts::Artifacts;
use crate::context::lock;

/// How often the result is sent before it is given up, at least five seconds apart (`JobRunner.cs`).
const COMPLETION: RetryPolicy =
    RetryPolicy { attempts: 5, first_pause: Duration::from_secs(10), longest_pause: Duration::from_secs(10) };

/// Why the service could not be asked or did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The message is not complete.
    #[error("the job message has no endpoint SystemVssConnection with a URL and a token")]
    NoConnection,
    /// The job belongs to no build.
    #[error("the job has no variable Build.BuildId, so there is no build to change")]
    NoBuild,
    /// The connection could not be made.
    #[error("could not set up the connection to the service")]
    Connect(#[source] dayfly_client::Error),
    /// A call failed.
    #[error("{doing} failed")]
    Call {
        /// What was tried.
        doing: &'static str,
        /// The client's error.
        #[source]
        source: dayfly_client::Error,
    },
}

pub(crate) fn call(doing: &'static str) -> impl FnOnce(dayfly_client::Error) -> Error {
    move |source| Error::Call { doing, source }
}

/// The service with the job's own token.
pub(crate) struct Service {
    plan: JobPlan,
    project: ProjectId,
    job: JobId,
    build: Option<BuildId>,
    container: Option<ContainerId>,
    /// Ends with the latest change of the build's number.
    numbering: Mutex<Option<oneshot::Receiver<()>>>,
}

/// A place in the order of the changes of the build's number.
pub(crate) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    /// Its drop ends the turn.
    _done: oneshot::Sender<()>,
}

impl Service {
    /// Sets the connection up; nothing is sent yet.
    pub(crate) fn connect(
        message: &AgentJobRequestMessage,
        settings: &WorkerSettings,
        surroundings: &Surroundings,
    ) -> Result<Service, Error> {
        let endpoint = message.resources.system_connection().ok_or(Error::NoConnection)?;
        let url = endpoint.url.as_ref().ok_or(Error::NoConnection)?;
        let token = endpoint.access_token().ok_or(Error::NoConnection)?;
        let http = HttpSettings {
            ca_files: settings.ca_files.clone(),
            proxy: settings.proxy.as_ref().map_or_else(|| surroundings.proxy.clone(), ProxySettings::from),
            ..HttpSettings::default()
        };
        let connection =
            Connection::new(url, Credential::Bearer(token.into()), http).map_err(Error::Connect)?;
        let number = |name: &str| message.variable(name)?.trim().parse::<i64>().ok();
        Ok(Service {
            plan: connection.plan(&message.plan),
            project: message.plan.scope_identifier,
            job: message.job_id,
            build: number("build.buildId").and_then(|id| i32::try_from(id).ok()).map(BuildId),
            container: number("build.containerId").map(ContainerId),
            numbering: Mutex::default(),
        })
    }

    /// The plan's part of the service.
    pub(crate) fn plan(&self) -> &JobPlan {
        &self.plan
    }

    fn connection(&self) -> &Connection {
        self.plan.connection()
    }

    /// The build the job belongs to.
    pub(crate) fn build(&self) -> Result<BuildId, Error> {
        self.build.ok_or(Error::NoBuild)
    }

    /// Downloads the package of a task into a writer.
    pub(crate) async fn download_task(
        &self,
        task: TaskId,
        version: &str,
        sink: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<u64, dayfly_client::Error> {
        self.connection().download_task(task, version, sink).await
    }

    /// Downloads a secure file into a writer, by the ticket that the job got for it.
    pub(crate) async fn download_secure_file(
        &self,
        file: Uuid,
        ticket: &str,
        sink: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<u64, dayfly_client::Error> {
        self.connection().download_secure_file(self.project, file, ticket, sink).await
    }

    /// Reports the job's result, five times at the most; a plan that does not want it is not asked again.
    pub(crate) async fn job_completed(
        &self,
        message: &AgentJobRequestMessage,
        result: TaskResult,
        agent_goes_away: bool,
    ) -> Result<(), Error> {
        let complete = || self.plan.complete_job(message.job_id, message.request_id, result, agent_goes_away);
        let again = |error: &dayfly_client::Error, attempt| {
            if is_final(error.kind()) {
                return Again::No;
            }
            tracing::warn!(%error, attempt, "could not report the result of the job yet");
            Again::Yes
        };
        COMPLETION.retry(complete, again).await.map_err(call("reporting the result of the job"))
    }

    /// Takes a turn in changing the build's number. Taken when the command is read, so that the last command
    /// wins.
    pub(crate) fn take_turn(&self) -> Turn {
        let (done, ended) = oneshot::channel();
        Turn { before: lock(&self.numbering).replace(ended), _done: done }
    }

    /// Gives the build another number, after those whose turn is before.
    pub(crate) async fn update_build_number(&self, mut turn: Turn, number: &str) -> Result<(), Error> {
        if let Some(before) = turn.before.take() {
            // Nothing is ever sent: it ends by being dropped.
            let _ = before.await;
        }
        let build = self.build()?;
        self.connection()
            .update_build_number(self.project, build, number)
            .await
            .map_err(call("changing the build's number"))
    }

    /// Adds a tag to the build and answers all its tags.
    pub(crate) async fn add_build_tag(&self, tag: &str) -> Result<Vec<String>, Error> {
        let build = self.build()?;
        self.connection()
            .add_build_tag(self.project, build, tag)
            .await
            .map_err(call("adding a tag to the build"))
    }

    /// Where the build of the job is.
    pub(crate) fn build_place(&self) -> Result<(Connection, ProjectId, BuildId), Error> {
        Ok((self.connection().clone(), self.project, self.build()?))
    }

    /// The artifacts of the build the job belongs to.
    pub(crate) fn artifacts(&self) -> Result<Artifacts, Error> {
        Ok(Artifacts::new(self.connection().clone(), self.project, self.build()?, self.container, self.job))
    }
}

/// Whether trying again cannot help: nobody waits for the result, or this token may not give it.
fn is_final(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PlanRejected
            | ErrorKind::JobNotFound
            | ErrorKind::NotFound
            | ErrorKind::Forbidden
            | ErrorKind::Unauthorized
    )
}
