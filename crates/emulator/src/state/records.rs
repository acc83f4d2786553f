//! The records of a run's parts: stages, phases and jobs, as the orchestration names them.

use std::collections::BTreeMap;

use dayfly_pipelines::orchestration::{JobReference, PhaseReference, StageReference};
use dayfly_protocol::timeline::{Issue, IssueType, TimelineRecord, TimelineRecordState};
use dayfly_protocol::{DateTime, JobId, RecordId, TaskResult};
use jiff::Timestamp;

use crate::events::JobOfRun;

pub(super) const IN_PROGRESS: Option<TimelineRecordState> = Some(TimelineRecordState::InProgress);

pub(super) fn stage_record(stage: &StageReference) -> TimelineRecord {
    TimelineRecord {
        id: RecordId(stage.record_id),
        record_type: Some("Stage".to_owned()),
        name: Some(stage.display_name.clone()),
        ref_name: Some(stage.name.clone()),
        identifier: Some(stage.identifier.clone()),
        order: i32::try_from(stage.order).ok(),
        attempt: i32::try_from(stage.attempt).ok(),
        ..TimelineRecord::default()
    }
}

pub(super) fn phase_record(stage: &StageReference, phase: &PhaseReference) -> TimelineRecord {
    TimelineRecord {
        id: RecordId(phase.record_id),
        parent_id: Some(RecordId(stage.record_id)),
        record_type: Some("Phase".to_owned()),
        name: Some(phase.display_name.clone()),
        ref_name: Some(phase.name.clone()),
        identifier: Some(phase.identifier.clone()),
        order: i32::try_from(phase.order).ok(),
        attempt: i32::try_from(phase.attempt).ok(),
        ..TimelineRecord::default()
    }
}

pub(super) fn job_record(phase: &PhaseReference, job: &JobReference) -> TimelineRecord {
    TimelineRecord {
        id: job.id.into(),
        parent_id: Some(RecordId(phase.record_id)),
        record_type: Some("Job".to_owned()),
        name: Some(job.display_name.clone()),
        ref_name: Some(job.name.clone()),
        identifier: Some(job.identifier.clone()),
        order: i32::try_from(job.order).ok(),
        attempt: i32::try_from(job.attempt).ok(),
        ..TimelineRecord::default()
    }
}

/// The record's end. Why something failed without a job is an issue; why it was skipped is beside the result.
pub(super) fn completed(
    record: TimelineRecord,
    result: TaskResult,
    reason: Option<String>,
    now: Timestamp,
) -> TimelineRecord {
    let mut record = TimelineRecord {
        state: Some(TimelineRecordState::Completed),
        result: Some(result),
        finish_time: Some(DateTime(now)),
        ..record
    };
    match reason {
        Some(message) if result == TaskResult::Failed => {
            record.error_count = Some(1);
            let (issue_type, category) = (IssueType::Error, Some("General".to_owned()));
            record.issues = vec![Issue { issue_type, category, message, data: BTreeMap::new() }];
        }
        reason => record.result_code = reason,
    }
    record
}

/// Why something failed that had no jobs.
pub(super) fn failure(result: TaskResult, reason: &Option<String>) -> Option<String> {
    reason.clone().filter(|_| result == TaskResult::Failed)
}

pub(super) fn stage_alone(stage: &StageReference) -> JobOfRun {
    JobOfRun {
        id: JobId(stage.record_id),
        identifier: stage.identifier.clone(),
        // The only stage of a file without stages has no name that its author would know.
        display_name: match stage.name == dayfly_pipelines::identifiers::DEFAULT_NAME {
            true => "pipeline".to_owned(),
            false => stage.display_name.clone(),
        },
        stage: stage.name.clone(),
    }
}

pub(super) fn phase_alone(stage: &StageReference, phase: &PhaseReference) -> JobOfRun {
    JobOfRun {
        id: JobId(phase.record_id),
        identifier: phase.identifier.clone(),
        display_name: phase.display_name.clone(),
        stage: stage.name.clone(),
    }
}

pub(super) fn job_of_run(stage: &StageReference, job: &JobReference) -> JobOfRun {
    JobOfRun {
        id: job.id,
        identifier: job.identifier.clone(),
        display_name: job.display_name.clone(),
        stage: stage.name.clone(),
    }
}
