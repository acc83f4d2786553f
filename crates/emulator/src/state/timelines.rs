//! Timelines and their records, into which changes are merged.

use std::collections::HashMap;

use dayfly_protocol::timeline::{Issue, IssueType, Timeline, TimelineRecord};
use dayfly_protocol::{DateTime, JobId, PlanId, RecordId, TimelineId};
use jiff::Timestamp;

use super::{Error, Result, State};
use crate::events::{Event, Place};

/// At most so many errors, and so many warnings, are kept on a record; their numbers go on.
const ISSUES_PER_TYPE_MAX: usize = 10;

/// Output variables of one record. They add up over the record's changes.
const VARIABLES_PER_RECORD_MAX: usize = 5_000;

/// How much a timeline may hold.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    records: usize,
    /// What the plan's other timelines leave of what is allowed for all.
    bytes: usize,
    /// What is allowed for all, for the error.
    plan_bytes: usize,
}

/// A record with its weight.
#[derive(Debug)]
struct Kept {
    record: TimelineRecord,
    bytes: usize,
}

/// The records of a timeline.
#[derive(Debug, Default)]
pub(crate) struct TimelineData {
    records: HashMap<RecordId, Kept>,
    /// The weight of all records.
    bytes: usize,
    /// In the order in which they came.
    order: Vec<RecordId>,
    change_id: i32,
}

impl TimelineData {
    pub(crate) fn get(&self, id: RecordId) -> Option<&TimelineRecord> {
        self.records.get(&id).map(|kept| &kept.record)
    }

    /// The records in the order in which they came.
    pub(crate) fn records(&self) -> impl Iterator<Item = &TimelineRecord> {
        self.order.iter().filter_map(|id| self.get(*id))
    }

    /// The timeline as the wire shows it, with the records changed after `since`, if they are wanted.
    pub(crate) fn to_wire(&self, id: TimelineId, since: Option<i32>) -> Timeline {
        let records = match since {
            Some(since) => {
                let is_newer = |record: &&TimelineRecord| record.change_id.unwrap_or_default() > since;
                self.records().filter(is_newer).cloned().collect()
            }
            None => Vec::new(),
        };
        Timeline { id, change_id: self.change_id, records }
    }

    /// Merges changes, all of them or none. Gives the records as they are after each.
    fn merge(
        &mut self,
        changes: Vec<TimelineRecord>,
        bounds: Bounds,
        now: Timestamp,
    ) -> Result<Vec<TimelineRecord>> {
        let change_id = self.change_id + 1;
        let mut changed: HashMap<RecordId, Kept> = HashMap::new();
        let mut added = Vec::new();
        let mut all = self.bytes;
        let mut merged = Vec::with_capacity(changes.len());
        for change in changes {
            let id = change.id;
            let former = changed.get(&id).or_else(|| self.records.get(&id));
            check_variables(former.map(|kept| &kept.record), &change)?;
            if former.is_none() {
                if self.records.len() + added.len() >= bounds.records {
                    let limit = bounds.records as u64;
                    return Err(Error::LimitReached { what: "records in this timeline", limit });
                }
                added.push(id);
            }
            let (mut record, former_bytes) = match former {
                Some(kept) => (kept.record.clone(), kept.bytes),
                None => (TimelineRecord { id, ..TimelineRecord::default() }, 0),
            };
            record.merge(TimelineRecord { issues: first_issues(change.issues), ..change });
            record.change_id = Some(change_id);
            record.last_modified = Some(DateTime(now));
            let bytes = weight(&record);
            all = all.saturating_sub(former_bytes).saturating_add(bytes);
            if all > bounds.bytes {
                let limit = bounds.plan_bytes as u64;
                return Err(Error::LimitReached { what: "bytes of timeline records in this plan", limit });
            }
            changed.insert(id, Kept { record: record.clone(), bytes });
            merged.push(record);
        }
        self.change_id = change_id;
        self.bytes = all;
        self.order.extend(added);
        self.records.extend(changed);
        Ok(merged)
    }
}

/// Refuses what would make a record's variables too many.
fn check_variables(record: Option<&TimelineRecord>, change: &TimelineRecord) -> Result<()> {
    let known = record.map(|record| &record.variables);
    let is_new = |name: &&String| known.is_none_or(|known| !known.contains_key(*name));
    let all = known.map_or(0, |known| known.len()) + change.variables.keys().filter(is_new).count();
    if all <= VARIABLES_PER_RECORD_MAX {
        return Ok(());
    }
    let limit = VARIABLES_PER_RECORD_MAX as u64;
    Err(Error::LimitReached { what: "variables in this record", limit })
}

/// About how many bytes of memory a record takes.
fn weight(record: &TimelineRecord) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(size_of::<TimelineRecord>());
    match serde_json::to_writer(&mut count, record) {
        Ok(()) => count.0,
        // What has no weight could be any number.
        Err(_) => usize::MAX,
    }
}

/// The issues that are kept.
fn first_issues(all: Vec<Issue>) -> Vec<Issue> {
    let mut kept = Vec::new();
    for issue in all {
        push_issue(&mut kept, issue);
    }
    kept
}

/// Adds an issue where there is room for one of its type.
fn push_issue(issues: &mut Vec<Issue>, issue: Issue) {
    let same_type = issues.iter().filter(|other| other.issue_type == issue.issue_type).count();
    if same_type < ISSUES_PER_TYPE_MAX {
        issues.push(issue);
    }
}

impl State {
    /// Adds a timeline for details of a record.
    pub(crate) fn create_timeline(&mut self, plan: PlanId, id: TimelineId) -> Result<Timeline> {
        let limit = self.rules.limits.timelines_per_plan;
        let timelines = &mut self.plans.get_mut(plan)?.timelines;
        if timelines.contains_key(&id) {
            return Err(Error::TimelineExists(id));
        }
        if timelines.len() >= limit {
            return Err(Error::LimitReached { what: "timelines in this plan", limit: limit as u64 });
        }
        Ok(timelines.entry(id).or_default().to_wire(id, None))
    }

    /// Merges records into a timeline, all of them or none; returns them as they are now, and tells the
    /// subscribers.
    pub(crate) fn update_records(
        &mut self,
        plan: PlanId,
        timeline: TimelineId,
        changes: Vec<TimelineRecord>,
        now: Timestamp,
        place: Place,
    ) -> Result<Vec<TimelineRecord>> {
        let limits = &self.rules.limits;
        let timelines = &mut self.plans.get_mut(plan)?.timelines;
        let others: usize =
            timelines.iter().filter(|(id, _)| **id != timeline).map(|(_, data)| data.bytes).sum();
        let bounds = Bounds {
            records: limits.records_per_timeline,
            bytes: limits.record_bytes_per_plan.saturating_sub(others),
            plan_bytes: limits.record_bytes_per_plan,
        };
        let data = timelines.get_mut(&timeline).ok_or(Error::TimelineNotFound(timeline))?;
        let merged = data.merge(changes, bounds, now)?;
        let records = merged.clone().into();
        self.hub.send(Event::RecordsChanged { plan, timeline, records }, place);
        Ok(merged)
    }

    /// The record of a job.
    pub(crate) fn job_record(&self, plan: PlanId, job: JobId) -> Result<Option<&TimelineRecord>> {
        let plan = self.plans.get(plan)?;
        Ok(plan.timeline(plan.job(job)?.timeline)?.get(job.into()))
    }

    /// Merges records into the timeline of a job.
    pub(crate) fn update_job_timeline(
        &mut self,
        plan: PlanId,
        job: JobId,
        changes: Vec<TimelineRecord>,
        now: Timestamp,
    ) -> Result<()> {
        let timeline = self.plans.get(plan)?.job(job)?.timeline;
        self.update_records(plan, timeline, changes, now, Place::default())?;
        Ok(())
    }

    /// Adds an issue to the record of a job, and counts it.
    pub(crate) fn add_record_issue(
        &mut self,
        plan: PlanId,
        job: JobId,
        issue: Issue,
        now: Timestamp,
    ) -> Result<()> {
        let record = self.job_record(plan, job)?.ok_or(Error::RecordNotFound(job.into()))?;
        let mut change =
            TimelineRecord { id: job.into(), issues: record.issues.clone(), ..TimelineRecord::default() };
        match issue.issue_type {
            IssueType::Error => change.error_count = Some(record.error_count.unwrap_or_default() + 1),
            IssueType::Warning => change.warning_count = Some(record.warning_count.unwrap_or_default() + 1),
        }
        push_issue(&mut change.issues, issue);
        self.update_job_timeline(plan, job, vec![change], now)
    }
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::TaskResult;
    use dayfly_protocol::timeline::VariableValue;
    use uuid::Uuid;

    use super::*;

    const BOUNDS: Bounds = Bounds { records: 10, bytes: 4 << 20, plan_bytes: 4 << 20 };

    fn error(message: &str) -> Issue {
        Issue {
            issue_type: IssueType::Error,
            category: None,
            message: message.to_owned(),
            data: Default::default(),
        }
    }

    /// Merges one change.
    fn one(data: &mut TimelineData, change: TimelineRecord, bounds: Bounds) -> Result<TimelineRecord> {
        Ok(data.merge(vec![change], bounds, Timestamp::UNIX_EPOCH)?.remove(0))
    }

    #[test]
    fn variables_of_a_record_do_not_add_up_without_end() {
        let id = RecordId(Uuid::new_v4());
        let mut data = TimelineData::default();
        let change = |from: usize, to: usize| TimelineRecord {
            id,
            variables: (from..to).map(|n| (format!("v{n}"), VariableValue::public("x"))).collect(),
            ..TimelineRecord::default()
        };
        one(&mut data, change(0, VARIABLES_PER_RECORD_MAX), BOUNDS).unwrap();
        one(&mut data, change(0, 10), BOUNDS).unwrap();
        let more = change(VARIABLES_PER_RECORD_MAX, VARIABLES_PER_RECORD_MAX + 1);
        assert!(matches!(one(&mut data, more, BOUNDS), Err(Error::LimitReached { .. })));
    }

    #[test]
    fn number_of_records_and_issues_is_bounded() {
        let mut data = TimelineData::default();
        let record = |number: u128| TimelineRecord {
            id: RecordId(Uuid::from_u128(number)),
            issues: vec![error("x"); 20],
            ..TimelineRecord::default()
        };
        let bounds = Bounds { records: 1, ..BOUNDS };
        assert_eq!(one(&mut data, record(1), bounds).unwrap().issues.len(), ISSUES_PER_TYPE_MAX);
        assert!(matches!(one(&mut data, record(2), bounds), Err(Error::LimitReached { limit: 1, .. })));
    }

    #[test]
    fn bytes_of_records_are_bounded_and_come_back() {
        let mut data = TimelineData::default();
        let record = |number: u128, length: usize| TimelineRecord {
            id: RecordId(Uuid::from_u128(number)),
            name: Some("x".repeat(length)),
            ..TimelineRecord::default()
        };
        let bounds = Bounds { bytes: 10_000, ..BOUNDS };
        one(&mut data, record(1, 6_000), bounds).unwrap();
        let limit = BOUNDS.plan_bytes as u64;
        let refused = one(&mut data, record(2, 6_000), bounds).unwrap_err();
        assert!(matches!(refused, Error::LimitReached { limit: told, .. } if told == limit));
        assert!(data.get(record(2, 0).id).is_none());
        // Replacing a member gives its bytes back.
        one(&mut data, record(1, 10), bounds).unwrap();
        one(&mut data, record(2, 6_000), bounds).unwrap();
    }

    #[test]
    fn a_batch_is_merged_wholly_or_not_at_all() {
        let mut data = TimelineData::default();
        let record = |number: u128, name: &str| TimelineRecord {
            id: RecordId(Uuid::from_u128(number)),
            name: Some(name.to_owned()),
            ..TimelineRecord::default()
        };
        one(&mut data, record(1, "as it was"), BOUNDS).unwrap();
        let (before, change_id) = (format!("{data:?}"), data.change_id);
        let bounds = Bounds { records: 2, ..BOUNDS };
        let batch = vec![record(1, "changed"), record(2, "new"), record(3, "one too many")];
        assert!(matches!(
            data.merge(batch, bounds, Timestamp::UNIX_EPOCH),
            Err(Error::LimitReached { limit: 2, .. })
        ));
        assert_eq!(format!("{data:?}"), before);
        // A record may come several times in a batch: each change builds on the one before.
        let end = TimelineRecord { result: Some(TaskResult::Failed), ..record(2, "newer") };
        let batch = vec![record(2, "new"), record(1, "changed"), end];
        let merged = data.merge(batch, bounds, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            merged.iter().map(|record| record.name.as_deref().unwrap()).collect::<Vec<_>>(),
            ["new", "changed", "newer"]
        );
        assert!(merged.iter().all(|record| record.change_id == Some(change_id + 1)));
        let kept: Vec<_> =
            data.records().map(|record| (record.name.as_deref().unwrap(), record.result)).collect();
        assert_eq!(kept, [("changed", None), ("newer", Some(TaskResult::Failed))]);
        assert_eq!(data.bytes, data.records.values().map(|kept| weight(&kept.record)).sum::<usize>());
    }
}
