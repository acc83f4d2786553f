//! Drives the runs: does what each orchestration says is next, and tells it which jobs have ended.
//!
//! ```text
//! start_run -> advance -> stages, phases, jobs become records -> queue_job -> ... -> job signal -> advance
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dayfly_pipelines::message::{BuildContext, EnvironmentContext, PipelineContext, RepositoryContext};
use dayfly_pipelines::orchestration::RunCounters;
use dayfly_pipelines::{Action, JobInstance, Orchestration, Plan, RunContext, RunInputs, run_number};
use dayfly_protocol::job::{AgentJobRequestMessage, ServiceEndpoint, Variables};
use dayfly_protocol::plan::{
    TaskOrchestrationOwner, TaskOrchestrationPlanReference, WORKER_REPORTS_FROM_VERSION,
};
use dayfly_protocol::timeline::{TimelineRecord, TimelineRecordState, VariableValue};
use dayfly_protocol::{
    BuildId, ContainerId, DateTime, JobId, PlanId, PoolId, ProjectId, RecordId, TaskResult, TimelineId,
};
use jiff::Timestamp;
use url::Url;

use super::definitions::Definition;
use super::garbage::Left;
use super::jobs::NewJob;
use super::plans::NewPlan;
use super::records::{
    IN_PROGRESS, completed, failure, job_of_run, job_record, phase_alone, phase_record, stage_alone,
    stage_record,
};
use super::runs::{Run, RunJob, RunStatus, new_ids, person_id};
use super::secure_files::KeptFile;
use super::test_runs::TestResults;
use super::{Error, Result, State};
use crate::events::{Event, JobChange, JobOfRun, JobSignal, Place, RunChange};
use crate::state::runs::{Placement, RunReason, RunRepository};

/// A run to be started.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) project: ProjectId,
    pub(crate) definition: i32,
    pub(crate) plan: Arc<Plan>,
    /// The pipeline's own repository, which is served under its name.
    pub(crate) repository: RunRepository,
    /// Other repositories which the file names as resources.
    pub(crate) resources: Vec<ResourceRepository>,
    /// The runs that stand behind `resources.pipelines`.
    pub(crate) pipelines: Vec<PipelineContext>,
    pub(crate) variables: BTreeMap<String, VariableValue>,
    pub(crate) parameters: BTreeMap<String, serde_json::Value>,
    pub(crate) stages: Vec<String>,
    pub(crate) jobs: Vec<String>,
    pub(crate) placement: Placement,
    pub(crate) reason: RunReason,
    pub(crate) requested_for: String,
    pub(crate) container: ContainerId,
    pub(crate) endpoints: Vec<ServiceEndpoint>,
    pub(crate) environments: Vec<EnvironmentContext>,
    pub(crate) secure_files: Vec<KeptFile>,
    pub(crate) collection: Url,
}

/// A run that ended elsewhere. Its artifacts are in the container.
#[derive(Debug)]
pub(crate) struct PastRun {
    pub(crate) project: ProjectId,
    /// The pipeline's name. One is made if there is none of that name.
    pub(crate) pipeline: String,
    /// Its number; one is made if there is none.
    pub(crate) number: Option<String>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) repository: RunRepository,
    pub(crate) requested_for: String,
    pub(crate) container: ContainerId,
    pub(crate) collection: Url,
}

/// A repository that is served here, under the name that the file gives it.
#[derive(Clone, Debug)]
pub(crate) struct ResourceRepository {
    pub(crate) alias: String,
    pub(crate) repository: RunRepository,
    /// The name of the repository that is served.
    pub(crate) served_as: String,
    /// What checkouts of it do unless they say otherwise.
    pub(crate) checkout: BTreeMap<String, String>,
}

impl State {
    /// Starts a run: its first jobs are in the queues when this returns.
    pub(crate) fn start_run(&mut self, new: NewRun, now: Timestamp) -> Result<BuildId> {
        let limit = self.rules.limits.unfinished_requests;
        if self.runs.unfinished() >= limit {
            return Err(Error::LimitReached { what: "unfinished builds", limit: limit as u64 });
        }
        let id = self.add_run(new, now)?;
        let run = self.runs.any(id)?;
        let pipeline = self.definitions.get(run.project, run.definition)?.name.clone();
        let number = run.number.clone();
        self.tell(id, RunChange::Started { pipeline, number });
        self.advance_run(id, now);
        Ok(id)
    }

    /// Adds a run that ended elsewhere: nothing is told of it, and it has no jobs.
    pub(crate) fn add_past_run(&mut self, past: PastRun, now: Timestamp) -> Result<BuildId> {
        let definition = self.definitions.named_or_insert(past.project, &past.pipeline, now)?.id;
        let new = NewRun {
            project: past.project,
            definition,
            plan: past.plan,
            repository: past.repository,
            resources: Vec::new(),
            pipelines: Vec::new(),
            variables: BTreeMap::new(),
            parameters: BTreeMap::new(),
            stages: Vec::new(),
            jobs: Vec::new(),
            placement: Placement::AsWritten,
            reason: RunReason::Manual,
            requested_for: past.requested_for,
            container: past.container,
            endpoints: Vec::new(),
            environments: Vec::new(),
            secure_files: Vec::new(),
            collection: past.collection,
        };
        let id = self.add_run(new, now)?;
        if let Some(number) = past.number {
            self.runs.any_mut(id)?.number = number;
        }
        self.end_run(id, TaskResult::Succeeded, now);
        Ok(id)
    }

    /// Writes a run down. Nothing of it has begun.
    fn add_run(&mut self, new: NewRun, now: Timestamp) -> Result<BuildId> {
        let pool = self.default_pool(&new.placement)?;
        let (plan_id, timeline) = new_ids();
        let id = self.runs.next_id();
        let mut context = self.context(&new, id, plan_id, timeline, now)?;
        let definition = self.definitions.get_mut(new.project, new.definition)?;
        let mut inputs = RunInputs {
            variables: run_variables(&context, &new.variables),
            stages: new.stages,
            jobs: new.jobs,
            attempt: 1,
            start_time: context.start_time.clone(),
            counters: RunCounters::new(definition.counters()),
        };
        let orchestrate = |inputs| {
            Orchestration::new(Arc::clone(&new.plan), inputs).map_err(|error| Error::Invalid {
                what: "the choice of stages and jobs",
                reason: error.to_string(),
            })
        };
        // The number may use variables, and variables and conditions the number: it is put in when it is
        // known.
        let draft = orchestrate(inputs.clone())?;
        let utc = now.to_zoned(jiff::tz::TimeZone::UTC).datetime();
        let revision = |prefix: &str| definition.next_revision(prefix);
        let number = run_number::format(new.plan.name.as_deref(), &draft.variables(), utc, revision)
            .map_err(|error| Error::Invalid { what: "the run number", reason: error.to_string() })?;
        context.build.number.clone_from(&number);
        inputs.variables = run_variables(&context, &new.variables);
        let orchestration = orchestrate(inputs)?;
        self.create_plan(NewPlan {
            id: plan_id,
            project: new.project,
            plan_type: "Build".to_owned(),
            timeline,
            ends_with_jobs: false,
        })?;
        self.runs.insert(Run {
            id,
            project: new.project,
            definition: new.definition,
            plan_id,
            timeline,
            container: new.container,
            orchestration,
            context,
            number,
            reason: new.reason,
            requested_for: new.requested_for,
            repository: new.repository,
            parameters: new.parameters,
            placement: new.placement,
            pool,
            status: RunStatus::InProgress,
            result: None,
            queue_time: now,
            start_time: Some(now),
            finish_time: None,
            changed_on: now,
            tags: BTreeSet::new(),
            artifacts: Vec::new(),
            tests: TestResults::default(),
            secure_files: new.secure_files,
            jobs: HashMap::new(),
        });
        Ok(id)
    }

    /// What the service knows of a run.
    fn context(
        &self,
        new: &NewRun,
        id: BuildId,
        plan: PlanId,
        timeline: TimelineId,
        now: Timestamp,
    ) -> Result<RunContext> {
        let project = self.projects.find(&new.project.to_string())?;
        let definition = self.definitions.get(new.project, new.definition)?;
        // The file may list it to set the options of its checkouts.
        let mut listed = new.plan.resources.repositories.iter();
        let listed = listed.find(|resource| resource.alias.eq_ignore_ascii_case("self"));
        let own = ResourceRepository {
            alias: "self".to_owned(),
            repository: new.repository.clone(),
            served_as: new.repository.name.clone(),
            checkout: listed.map(|resource| resource.checkout.clone()).unwrap_or_default(),
        };
        let repositories = std::iter::once(&own).chain(&new.resources);
        let repositories: Result<Vec<_>> =
            repositories.map(|resource| self.repository_context(new, &project.name, resource)).collect();
        Ok(RunContext {
            plan: TaskOrchestrationPlanReference {
                scope_identifier: new.project,
                plan_type: "Build".to_owned(),
                version: WORKER_REPORTS_FROM_VERSION,
                plan_id: plan,
                plan_group: Some(format!("Build:{}:{id}", new.project)),
                artifact_uri: Some(format!("vstfs:///Build/Build/{id}")),
                definition: Some(definition_owner(&new.collection, new.project, definition)),
                owner: Some(run_owner(&new.collection, new.project, id, &id.to_string())),
            },
            timeline,
            collection_url: new.collection.clone(),
            collection_id: self.organization_id(),
            project: new.project,
            project_name: project.name.clone(),
            build: BuildContext {
                id: id.0,
                number: String::new(),
                reason: new.reason.name().to_owned(),
                definition_id: definition.id,
                definition_name: definition.name.clone(),
                definition_version: 1,
                requested_for: new.requested_for.clone(),
                requested_for_id: person_id(&new.requested_for),
                requested_for_email: String::new(),
                container_id: new.container.0,
            },
            repositories: repositories?,
            pipelines: new.pipelines.clone(),
            endpoints: new.endpoints.clone(),
            environments: new.environments.clone(),
            secure_files: new.secure_files.iter().map(|kept| kept.file.clone()).collect(),
            start_time: now.strftime("%Y-%m-%d %H:%M:%S+00:00").to_string(),
        })
    }

    fn repository_context(
        &self,
        new: &NewRun,
        project: &str,
        resource: &ResourceRepository,
    ) -> Result<RepositoryContext> {
        let ResourceRepository { alias, repository, served_as, checkout } = resource;
        let served = self.repositories.find(new.project, served_as)?;
        let mut url = new.collection.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend([project, "_git", &served.name]);
        }
        Ok(RepositoryContext {
            alias: alias.clone(),
            id: served.id.to_string(),
            repository_type: "Git".to_owned(),
            name: repository.name.clone(),
            url,
            reference: repository.reference.clone(),
            version: repository.commit.clone(),
            default_branch: served.default_branch.clone(),
            author: repository.author.clone(),
            message: repository.message.clone(),
            checkout: checkout.clone(),
        })
    }

    /// The pool of jobs that name none.
    fn default_pool(&self, placement: &Placement) -> Result<PoolId> {
        let found = match placement {
            Placement::Everything { pool } => self.pools.find(pool),
            Placement::AsWritten => self.pools.iter().next(),
        };
        let missing = || Error::Invalid { what: "the agent pool", reason: "it does not exist".to_owned() };
        found.map(|pool| pool.id).ok_or_else(missing)
    }

    /// Cancels a run: jobs that wait never start, jobs that run are told, and what is to run nevertheless
    /// does.
    pub(crate) fn cancel_run(&mut self, id: BuildId, now: Timestamp) -> Result<()> {
        let run = self.runs.any_mut(id)?;
        if run.is_completed() || run.status == RunStatus::Cancelling {
            return Ok(());
        }
        run.status = RunStatus::Cancelling;
        run.changed_on = now;
        run.orchestration.cancel();
        self.advance_run(id, now);
        Ok(())
    }

    /// Gives a run another number (`build.updatebuildnumber`).
    pub(crate) fn set_run_number(&mut self, id: BuildId, number: &str, now: Timestamp) -> Result<()> {
        let number = number.trim();
        let is_bad = |letter: char| letter.is_control() || "\"/\\[]:|<>+=;?*,".contains(letter);
        if number.is_empty()
            || number.chars().count() > 255
            || number.contains(is_bad)
            || number.ends_with('.')
        {
            let reason = format!(
                "`{number}` is empty, too long, ends with a full stop, or has one of \"/\\[]:|<>+=;?*,"
            );
            return Err(Error::Invalid { what: "the build number", reason });
        }
        let run = self.runs.any_mut(id)?;
        if run.number != number {
            number.clone_into(&mut run.number);
            run.changed_on = now;
            self.tell(id, RunChange::NumberChanged { number: number.to_owned() });
        }
        Ok(())
    }

    /// A job of a plan came a step further.
    pub(crate) fn apply_signal(&mut self, signal: JobSignal, now: Timestamp) {
        let Some(id) = self.runs.of_plan(signal.plan) else { return };
        match signal.change {
            JobChange::Started { agent } => self.job_started(id, signal.job, agent, now),
            JobChange::Completed { result, outputs, .. } => {
                self.job_ended(id, signal.job, result, outputs, None, now);
                self.advance_run(id, now);
            }
            JobChange::Queued | JobChange::Assigned { .. } => {}
        }
    }

    fn job_started(&mut self, id: BuildId, job_id: JobId, agent: String, now: Timestamp) {
        let Ok(run) = self.runs.any_mut(id) else { return };
        let Some(job) = run.jobs.get_mut(&job_id).filter(|job| job.started.is_none()) else { return };
        job.started = Some(now);
        let job = job.shown.clone();
        let (plan, job_record) = (run.plan_id, RecordId::from(job_id));
        // A quick worker may have said more than that already.
        let is_pending = self
            .job_record(plan, job_id)
            .ok()
            .flatten()
            .is_some_and(|record| record.state.is_none_or(|state| state == TimelineRecordState::Pending));
        let record = TimelineRecord {
            id: job_record,
            state: IN_PROGRESS.filter(|_| is_pending),
            start_time: is_pending.then_some(DateTime(now)),
            worker_name: Some(agent.clone()),
            ..TimelineRecord::default()
        };
        self.write_record(id, record, now);
        self.tell(id, RunChange::JobStarted { job, agent });
    }

    pub(super) fn job_ended(
        &mut self,
        id: BuildId,
        job_id: JobId,
        result: TaskResult,
        outputs: BTreeMap<String, VariableValue>,
        reason: Option<String>,
        now: Timestamp,
    ) {
        let Ok(run) = self.runs.any_mut(id) else { return };
        let Some(counted) = run.orchestration.job_completed(job_id, result, outputs) else { return };
        let Some(job) = run.jobs.get(&job_id) else { return };
        let (job, started) = (job.shown.clone(), job.started);
        if counted != result {
            let result = Some(counted);
            self.write_record(
                id,
                TimelineRecord { id: job_id.into(), result, ..TimelineRecord::default() },
                now,
            );
        }
        self.tell(id, RunChange::JobCompleted { job, result: counted, started, finished: now, reason });
    }

    /// Does what is next, until there is nothing to do but to wait for jobs.
    pub(super) fn advance_run(&mut self, id: BuildId, now: Timestamp) {
        loop {
            let Ok(run) = self.runs.any_mut(id) else { return };
            let actions = run.orchestration.advance();
            if actions.is_empty() {
                return;
            }
            run.changed_on = now;
            for action in actions {
                self.perform(id, action, now);
            }
        }
    }

    fn perform(&mut self, id: BuildId, action: Action, now: Timestamp) {
        match action {
            Action::StageStarted { stage } => {
                let record = TimelineRecord {
                    state: IN_PROGRESS,
                    start_time: Some(DateTime(now)),
                    ..stage_record(&stage)
                };
                self.write_record(id, record, now);
                self.tell(
                    id,
                    RunChange::StageStarted { stage: stage.name, display_name: stage.display_name },
                );
            }
            Action::StageCompleted { stage, result, reason } => {
                self.write_record(id, completed(stage_record(&stage), result, reason.clone(), now), now);
                if let Some(reason) = failure(result, &reason) {
                    self.tell_failure(id, stage_alone(&stage), reason, now);
                }
                let (stage, display_name) = (stage.name, stage.display_name);
                self.tell(id, RunChange::StageCompleted { stage, display_name, result, reason });
            }
            Action::PhaseStarted { stage, phase } => {
                let record = phase_record(&stage, &phase);
                let record = TimelineRecord { state: IN_PROGRESS, start_time: Some(DateTime(now)), ..record };
                self.write_record(id, record, now);
            }
            Action::PhaseCompleted { stage, phase, result, reason } => {
                let record = completed(phase_record(&stage, &phase), result, reason.clone(), now);
                self.write_record(id, record, now);
                if let Some(reason) = failure(result, &reason) {
                    self.tell_failure(id, phase_alone(&stage, &phase), reason, now);
                }
            }
            Action::StartJob(instance) => self.start_job(id, &instance, now),
            Action::JobSkipped { stage, phase, job, result, reason } => {
                let record = completed(job_record(&phase, &job), result, reason.clone(), now);
                self.write_record(id, record, now);
                let job = job_of_run(&stage, &job);
                self.tell(id, RunChange::JobCompleted { job, result, started: None, finished: now, reason });
            }
            Action::CancelJob(job) => self.cancel_job_of(id, job, now),
            Action::RunCompleted { result } => self.complete_run(id, result, now),
        }
    }

    fn start_job(&mut self, id: BuildId, instance: &JobInstance, now: Timestamp) {
        let job = instance.job.id;
        let shown = job_of_run(&instance.stage, &instance.job);
        let record = job_record(&instance.phase, &instance.job);
        self.write_record(id, TimelineRecord { state: Some(TimelineRecordState::Pending), ..record }, now);
        let cancel_timeout = Duration::from_secs(60 * u64::from(instance.cancel_timeout_in_minutes));
        let Ok(run) = self.runs.any_mut(id) else { return };
        run.jobs.insert(job, RunJob { shown: shown.clone(), cancel_timeout, started: None, on_server: None });
        self.tell(id, RunChange::JobQueued { job: shown });
        let queued = match instance.pool.server {
            true => self.queue_server_job(id, instance),
            false => self.queue_run_job(id, instance, now),
        };
        if let Err(error) = queued {
            let message = error.to_string();
            let name = &instance.job.identifier;
            tracing::info!(build = %id, job = %name, %message, "could not queue a job");
            let record = TimelineRecord { id: job.into(), ..TimelineRecord::default() };
            let reason = Some(message);
            self.write_record(id, completed(record, TaskResult::Failed, reason.clone(), now), now);
            self.job_ended(id, job, TaskResult::Failed, BTreeMap::new(), reason, now);
        }
    }

    fn queue_run_job(&mut self, id: BuildId, instance: &JobInstance, now: Timestamp) -> Result<()> {
        let run = self.runs.any(id)?;
        let (pool, demands) = self.place(run, instance)?;
        let message = self.job_message(id, instance)?;
        let run = self.runs.any(id)?;
        let minutes = instance.timeout_in_minutes;
        self.queue_job(
            NewJob {
                pool,
                demands,
                message: Box::new(message),
                definition: None,
                owner: Some(run_owner(&run.context.collection_url, run.project, id, &run.number)),
                // No limit of the pool's own, as for self-hosted ones.
                timeout: (minutes > 0).then(|| Duration::from_secs(60 * u64::from(minutes))),
                cancel_timeout: Duration::from_secs(60 * u64::from(instance.cancel_timeout_in_minutes)),
            },
            now,
        )?;
        Ok(())
    }

    /// The message of a job, with its own token.
    pub(super) fn job_message(
        &mut self,
        id: BuildId,
        instance: &JobInstance,
    ) -> Result<AgentJobRequestMessage> {
        let plan = self.runs.any(id)?.plan_id;
        let token = self.issue_job_token(plan, instance.job.id)?;
        let context = &self.runs.any(id)?.context;
        dayfly_pipelines::message::message(instance, context, &token)
            .map_err(|error| Error::Invalid { what: "the job", reason: error.to_string() })
    }

    /// The pool of a job, and what its agent has to offer.
    fn place(&self, run: &Run, instance: &JobInstance) -> Result<(PoolId, Vec<String>)> {
        match &run.placement {
            Placement::Everything { .. } => Ok((run.pool, Vec::new())),
            Placement::AsWritten => {
                let demands = instance.pool.demands.clone();
                let Some(name) = instance.pool.name.as_deref().filter(|_| instance.pool.vm_image.is_none())
                else {
                    return Ok((run.pool, demands));
                };
                let pool = self.pools.find(name).ok_or_else(|| Error::Invalid {
                    what: "the job's pool",
                    reason: format!("agent pool `{name}` does not exist"),
                })?;
                Ok((pool.id, demands))
            }
        }
    }

    fn cancel_job_of(&mut self, id: BuildId, job: JobId, now: Timestamp) {
        let Ok(run) = self.runs.any(id) else { return };
        let known = run.jobs.get(&job);
        if let Some(cancel) = known.and_then(|job| job.on_server.as_ref()) {
            return cancel.cancel();
        }
        let timeout = known.map_or(Duration::ZERO, |job| job.cancel_timeout);
        if let Err(error) = self.cancel_job(run.plan_id, job, timeout, now) {
            // It ended in the meantime; its signal is on its way.
            tracing::debug!(build = %id, %job, %error, "a job needs no cancellation");
        }
    }

    fn complete_run(&mut self, id: BuildId, result: TaskResult, now: Timestamp) {
        let Ok(run) = self.runs.any(id) else { return };
        let number = run.number.clone();
        self.tell(id, RunChange::Completed { number, result });
        self.end_run(id, result, now);
    }

    /// Notes how a run ended, and forgets the oldest one if there are too many.
    fn end_run(&mut self, id: BuildId, result: TaskResult, now: Timestamp) {
        let Ok(run) = self.runs.any_mut(id) else { return };
        run.status = RunStatus::Completed;
        run.result = Some(result);
        run.finish_time = Some(now);
        run.changed_on = now;
        let plan = run.plan_id;
        self.finish_plan(plan);
        for forgotten in self.runs.complete(id, self.rules.limits.finished_plans) {
            self.garbage.push(Left::Container(forgotten.container));
            if forgotten.repository.is_temporary {
                self.repositories.forget(&forgotten.repository.directory);
                self.garbage.push(Left::Folder(forgotten.repository.directory));
            }
            self.remove_plan(forgotten.plan_id);
        }
    }

    /// Something failed before it had jobs: it is told as a job of its own, since nothing else would be seen
    /// of it.
    fn tell_failure(&self, id: BuildId, job: JobOfRun, reason: String, now: Timestamp) {
        let (result, reason) = (TaskResult::Failed, Some(reason));
        self.tell(id, RunChange::JobCompleted { job, result, started: None, finished: now, reason });
    }

    pub(crate) fn write_record(&mut self, id: BuildId, record: TimelineRecord, now: Timestamp) {
        let Ok(run) = self.runs.any(id) else { return };
        let (plan, timeline) = (run.plan_id, run.timeline);
        if let Err(error) = self.update_records(plan, timeline, vec![record], now, Place::default()) {
            tracing::warn!(build = %id, %error, "could not write a record of a build");
        }
    }

    pub(super) fn tell(&self, id: BuildId, change: RunChange) {
        if let Ok(run) = self.runs.any(id) {
            self.hub.send(Event::RunChanged { build: id, plan: run.plan_id, change }, Place::default());
        }
    }
}

/// The predefined variables of a run and those given for it, which do not replace them.
fn run_variables(context: &RunContext, given: &BTreeMap<String, VariableValue>) -> Variables {
    let mut variables = context.variables();
    for (name, value) in given {
        if !variables.keys().any(|known| known.eq_ignore_ascii_case(name)) {
            variables.insert(name.clone(), value.clone());
        }
    }
    variables
}

/// A pipeline or a run as requests and messages refer to it. `page` and `resource` are its places below the
/// project.
fn owner(
    collection: &Url,
    project: ProjectId,
    (id, name): (i32, &str),
    page: &str,
    resource: &str,
) -> TaskOrchestrationOwner {
    let link = |place: &str| serde_json::json!({ "href": format!("{collection}{project}/{place}{id}") });
    let links = [("web", link(page)), ("self", link(resource))].map(|(name, link)| (name.to_owned(), link));
    TaskOrchestrationOwner { id, name: name.to_owned(), links: links.into() }
}

fn definition_owner(collection: &Url, project: ProjectId, definition: &Definition) -> TaskOrchestrationOwner {
    let (page, resource) = ("_build/definition?definitionId=", "_apis/build/Definitions/");
    owner(collection, project, (definition.id, &definition.name), page, resource)
}

fn run_owner(collection: &Url, project: ProjectId, id: BuildId, name: &str) -> TaskOrchestrationOwner {
    owner(collection, project, (id.0, name), "_build/results?buildId=", "_apis/build/Builds/")
}
