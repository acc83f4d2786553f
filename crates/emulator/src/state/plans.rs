//! Plans: one run of a pipeline as the task service sees it, with its jobs, timelines, logs and attachments.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;

use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::timeline::{TimelineRecord, TimelineRecordState, VariableValue};
use dayfly_protocol::{JobId, LogId, PlanId, ProjectId, RecordId, RequestId, TaskResult, TimelineId};
use jiff::Timestamp;

use super::attachments::{Attachment, AttachmentKey};
use super::garbage::Left;
use super::logs::Log;
use super::timelines::TimelineData;
use super::{Error, Result, State};
use crate::stores::disk::Reserved;

/// A plan to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewPlan {
    /// Its id.
    pub(crate) id: PlanId,
    /// The project.
    pub(crate) project: ProjectId,
    /// `Build` for pipelines; the name of the hub in addresses.
    pub(crate) plan_type: String,
    /// The plan's main timeline.
    pub(crate) timeline: TimelineId,
    /// Whether the plan is done when its last job is. Otherwise whoever made it says when.
    pub(crate) ends_with_jobs: bool,
}

/// Records whose console lines are counted.
const MOST_CONSOLES: usize = 100_000;

/// A plan.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: PlanId,
    pub(crate) project: ProjectId,
    pub(crate) plan_type: String,
    /// The main timeline.
    pub(crate) timeline: TimelineId,
    pub(crate) timelines: HashMap<TimelineId, TimelineData>,
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) attachments: BTreeMap<AttachmentKey, Attachment>,
    /// The number of the last console line of each record.
    console: HashMap<RecordId, i64>,
    jobs: HashMap<JobId, Job>,
    unfinished_jobs: usize,
    ends_with_jobs: bool,
    is_done: bool,
    /// The folder of its files.
    pub(crate) folder: PathBuf,
    /// The bytes of its logs.
    pub(crate) log_bytes: Reserved,
}

/// A job of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) request: RequestId,
    pub(crate) timeline: TimelineId,
    pub(crate) result: Option<TaskResult>,
    /// How many results were refused since it had one.
    pub(crate) refused_completions: u64,
}

impl Plan {
    /// How many of so many console lines came before: agents send lines again when an answer was lost. Lines
    /// without numbers are all new.
    pub(crate) fn known_console_lines(
        &mut self,
        record: RecordId,
        start: Option<i64>,
        count: usize,
    ) -> usize {
        let (Some(start), Ok(length)) = (start, i64::try_from(count)) else { return 0 };
        if self.console.len() >= MOST_CONSOLES && !self.console.contains_key(&record) {
            return 0;
        }
        let last = self.console.entry(record).or_default();
        let known = last.saturating_sub(start).saturating_add(1).clamp(0, length);
        *last = (*last).max(start.saturating_add(length - 1));
        usize::try_from(known).unwrap_or(count)
    }

    pub(crate) fn job(&self, job: JobId) -> Result<Job> {
        self.jobs.get(&job).copied().ok_or(Error::PlanJobNotFound { plan: self.id, job })
    }

    pub(crate) fn log(&self, id: LogId) -> Result<&Log> {
        self.logs.get(&id).ok_or(Error::LogNotFound(id))
    }

    pub(crate) fn timeline(&self, id: TimelineId) -> Result<&TimelineData> {
        self.timelines.get(&id).ok_or(Error::TimelineNotFound(id))
    }

    /// Output variables of a job's steps: those on records below the job's, as `step.variable`.
    fn outputs(&self, job: JobId) -> BTreeMap<String, VariableValue> {
        let timeline = self.jobs.get(&job).and_then(|job| self.timelines.get(&job.timeline));
        let records = timeline.into_iter().flat_map(TimelineData::records);
        let mut outputs = BTreeMap::new();
        for record in records.filter(|record| record.parent_id == Some(job.into())) {
            let step = record.ref_name.as_deref().unwrap_or_default();
            for (name, value) in &record.variables {
                outputs.insert(format!("{step}.{name}"), value.clone());
            }
        }
        outputs
    }
}

/// The plans by id.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    plans: HashMap<PlanId, Plan>,
    /// Plans that are done, the oldest first.
    done: VecDeque<PlanId>,
    refused_completions: u64,
}

impl Plans {
    pub(crate) fn get(&self, id: PlanId) -> Result<&Plan> {
        self.plans.get(&id).ok_or(Error::PlanNotFound(id))
    }

    pub(crate) fn get_mut(&mut self, id: PlanId) -> Result<&mut Plan> {
        self.plans.get_mut(&id).ok_or(Error::PlanNotFound(id))
    }

    /// Notes a result that came after the first.
    pub(crate) fn count_refused_completion(&mut self, plan: PlanId, job: JobId) {
        self.refused_completions += 1;
        if let Some(job) = self.plans.get_mut(&plan).and_then(|plan| plan.jobs.get_mut(&job)) {
            job.refused_completions += 1;
        }
    }

    /// How many results were refused, in all plans.
    pub(crate) fn refused_completions(&self) -> u64 {
        self.refused_completions
    }

    /// How many plans there are.
    pub(crate) fn len(&self) -> usize {
        self.plans.len()
    }

    /// Notes a job's result; returns its outputs.
    pub(crate) fn complete_job(
        &mut self,
        plan: PlanId,
        job: JobId,
        result: TaskResult,
    ) -> BTreeMap<String, VariableValue> {
        let Some(plan) = self.plans.get_mut(&plan) else { return BTreeMap::new() };
        if let Some(job) = plan.jobs.get_mut(&job) {
            job.result = Some(result);
            plan.unfinished_jobs = plan.unfinished_jobs.saturating_sub(1);
        }
        plan.outputs(job)
    }
}

impl State {
    /// Makes a plan with an empty main timeline.
    pub(crate) fn create_plan(&mut self, new: NewPlan) -> Result<()> {
        if self.plans.plans.contains_key(&new.id) {
            return Err(Error::PlanExists(new.id));
        }
        let plan = Plan {
            id: new.id,
            project: new.project,
            plan_type: new.plan_type,
            timeline: new.timeline,
            timelines: HashMap::from([(new.timeline, TimelineData::default())]),
            logs: BTreeMap::new(),
            console: HashMap::new(),
            attachments: BTreeMap::new(),
            jobs: HashMap::new(),
            unfinished_jobs: 0,
            ends_with_jobs: new.ends_with_jobs,
            is_done: false,
            folder: self.plan_folder(new.id),
            log_bytes: self.disk.nothing(),
        };
        self.plans.plans.insert(new.id, plan);
        Ok(())
    }

    fn plan_folder(&self, id: PlanId) -> PathBuf {
        self.rules.data.join(id.to_string())
    }

    /// The plan into whose folder something was written. If it was forgotten meanwhile, the folder has come
    /// back.
    pub(crate) fn plan_written(&mut self, id: PlanId) -> Result<&mut Plan> {
        if self.plans.get(id).is_err() {
            self.garbage.push(Left::Folder(self.plan_folder(id)));
        }
        self.plans.get_mut(id)
    }

    /// The plan of an address, if project and hub are its own.
    pub(crate) fn plan_at(&self, project: &str, hub: &str, id: PlanId) -> Result<&Plan> {
        let plan = self.plans.get(id)?;
        let is_home = self.projects.find(project).is_ok_and(|project| project.id == plan.project);
        if is_home && plan.plan_type.eq_ignore_ascii_case(hub) {
            Ok(plan)
        } else {
            Err(Error::PlanSecurity(id))
        }
    }

    /// Adds a job to its plan, with its timeline and its record where they are not there yet.
    pub(crate) fn add_job(
        &mut self,
        plan_id: PlanId,
        message: &AgentJobRequestMessage,
        request: RequestId,
        now: Timestamp,
    ) -> Result<()> {
        let timeline = message.timeline.id;
        let job = message.job_id;
        let plan = self.plans.get_mut(plan_id)?;
        if plan.jobs.contains_key(&job) {
            return Err(Error::JobExists { plan: plan_id, job });
        }
        let records = plan.timelines.entry(timeline).or_default();
        // A job whose record is refused is none of the plan's.
        if records.get(job.into()).is_none() {
            let record = TimelineRecord {
                id: job.into(),
                record_type: Some("Job".to_owned()),
                name: Some(message.job_display_name.clone()),
                ref_name: Some(message.job_name.clone()),
                state: Some(TimelineRecordState::Pending),
                attempt: Some(1),
                ..TimelineRecord::default()
            };
            self.update_records(plan_id, timeline, vec![record], now, Default::default())?;
        }
        let plan = self.plans.get_mut(plan_id)?;
        plan.jobs.insert(job, Job { request, timeline, result: None, refused_completions: 0 });
        plan.unfinished_jobs += 1;
        Ok(())
    }

    /// The plan is done: it is kept for a while, then forgotten with its files.
    pub(crate) fn finish_plan(&mut self, id: PlanId) {
        let Ok(plan) = self.plans.get_mut(id) else { return };
        if std::mem::replace(&mut plan.is_done, true) {
            return;
        }
        self.plans.done.push_back(id);
        while self.plans.done.len() > self.rules.limits.finished_plans {
            if let Some(oldest) = self.plans.done.pop_front() {
                self.remove_plan(oldest);
            }
        }
    }

    /// Forgets a plan and its files.
    pub(crate) fn remove_plan(&mut self, id: PlanId) {
        self.plans.done.retain(|done| *done != id);
        if let Some(plan) = self.plans.plans.remove(&id) {
            self.garbage.push(Left::Folder(plan.folder));
        }
        self.tokens.end_plan(id);
    }

    pub(crate) fn retire_plan_if_done(&mut self, id: PlanId) {
        if self.plans.get(id).is_ok_and(|plan| plan.ends_with_jobs && plan.unfinished_jobs == 0) {
            self.finish_plan(id);
        }
    }
}
