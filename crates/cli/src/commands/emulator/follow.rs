//! A run on a service, followed by the public API and shown as `dayfly run` shows its own.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use dayfly_client::Connection;
use dayfly_emulator::runs::JobOfRun;
use dayfly_protocol::build::Build;
use dayfly_protocol::timeline::{TimelineRecord, TimelineRecordState};
use dayfly_protocol::{BuildId, JobId, LogId, RecordId, TaskResult};

use crate::run::console::{Console, Look};
use crate::run::model::{LAST_LINE, Model};

/// How often the service is asked.
const PAUSE: Duration = Duration::from_millis(400);
/// How many lines of a log are asked for at a time.
const LINES: u64 = 1_000;
/// Room for the names of most jobs.
const LABEL_WIDTH: usize = 12;

/// A run that is followed.
pub(super) struct Followed<'a> {
    connection: &'a Connection,
    project: &'a str,
    build: BuildId,
    model: Model,
    console: Console,
    /// Jobs by how far they were shown.
    jobs: BTreeMap<RecordId, Shown>,
    /// The next line of each log, from 1; none when its last one was shown.
    logs: BTreeMap<LogId, Option<u64>>,
}

/// How far a job was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Waiting,
    Running,
    Completed,
}

impl<'a> Followed<'a> {
    pub(super) fn new(connection: &'a Connection, project: &'a str, build: BuildId, verbose: bool) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let look = Look { terminal, verbose, many_jobs: true, grouped: false, label_width: LABEL_WIDTH };
        Self {
            connection,
            project,
            build,
            model: Model::default(),
            console: Console::new(look),
            jobs: BTreeMap::new(),
            logs: BTreeMap::new(),
        }
    }

    /// Shows it until it is over.
    pub(super) async fn follow_to_end(&mut self) -> anyhow::Result<Build> {
        loop {
            // Asked for before the records: those of a build that is over are whole.
            let build = self.connection.build(self.project, self.build).await?;
            let is_over = build.status == "completed";
            self.look(is_over).await?;
            if is_over {
                self.console.close()?;
                return Ok(build);
            }
            self.console.tick()?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Shows what is new, or all that is left.
    async fn look(&mut self, is_last: bool) -> anyhow::Result<()> {
        let timeline = self.connection.build_timeline(self.project, self.build).await?;
        let mut records = timeline.records;
        records.sort_by_key(|record| record.order);
        let is = |record: &TimelineRecord, kind: &str| record.record_type.as_deref() == Some(kind);
        for job in records.iter().filter(|record| is(record, "Job")) {
            let steps = records.iter().filter(|step| step.parent_id == Some(job.id) && is(step, "Task"));
            self.job(job, steps, is_last).await?;
        }
        Ok(())
    }

    async fn job(
        &mut self,
        record: &TimelineRecord,
        steps: impl Iterator<Item = &TimelineRecord>,
        is_last: bool,
    ) -> anyhow::Result<()> {
        let id = JobId(record.id.0);
        let shown = self.jobs.get(&record.id).copied();
        if shown == Some(Shown::Completed) {
            return Ok(());
        }
        let is_over = record.state == Some(TimelineRecordState::Completed);
        let agent = record.worker_name.clone().filter(|_| record.start_time.is_some());
        match (shown, agent) {
            (None | Some(Shown::Waiting), Some(agent)) => {
                let started = self.model.job_started(job_of(record), agent);
                self.jobs.insert(record.id, Shown::Running);
                self.console.show(&[started])?;
            }
            (None, None) if !is_over => {
                self.jobs.insert(record.id, Shown::Waiting);
                self.console.show(&[Model::job_queued(job_of(record))])?;
            }
            _ => {}
        }
        let changes = self.model.record(id, record.clone());
        self.console.show(&changes)?;
        // Logs come in any order; a step's lines have to be shown before those of the next one.
        let mut is_next = true;
        for step in steps {
            let changes = self.model.record(id, step.clone());
            self.console.show(&changes)?;
            let is_whole = match &step.log {
                Some(log) if is_next || is_last => self.lines(id, step.id, log.id).await?,
                _ => false,
            };
            is_next &= is_whole || step.result == Some(TaskResult::Skipped);
        }
        // A job's record may be complete before the last of its logs is there.
        if is_over && (is_next || is_last) {
            let seconds = match (record.start_time, record.finish_time) {
                (Some(start), Some(finish)) => finish.0.duration_since(start.0).as_secs_f64(),
                _ => 0.0,
            };
            let result = record.result.unwrap_or(TaskResult::Abandoned);
            let changes = self.model.job_completed(job_of(record), result, seconds, None);
            self.jobs.insert(record.id, Shown::Completed);
            self.console.show(&changes)?;
        }
        Ok(())
    }

    /// Shows the lines of a step that were not shown yet; whether its last one is among those shown.
    async fn lines(&mut self, job: JobId, step: RecordId, log: LogId) -> anyhow::Result<bool> {
        loop {
            let first = match self.logs.entry(log).or_insert(Some(1)) {
                Some(first) => *first,
                None => return Ok(true),
            };
            let last = first + LINES - 1;
            let lines = self.connection.build_log(self.project, self.build, log, first, last).await?;
            let count = lines.len() as u64;
            let lines: Vec<_> = lines.iter().map(|line| without_time(line).to_owned()).collect();
            let is_whole = lines.last().is_some_and(|line| line.starts_with(LAST_LINE));
            self.logs.insert(log, Some(first + count).filter(|_| !is_whole));
            if !lines.is_empty() {
                let changes = self.model.lines(job, step, lines);
                self.console.show(&changes)?;
            }
            if is_whole || count < LINES {
                return Ok(is_whole);
            }
        }
    }
}

/// A job as events name it.
fn job_of(record: &TimelineRecord) -> JobOfRun {
    let display_name = record.name.clone().unwrap_or_default();
    JobOfRun {
        id: JobId(record.id.0),
        identifier: record.identifier.clone().unwrap_or_else(|| display_name.clone()),
        display_name,
        stage: String::new(),
    }
}

/// A line of a log without the time that stands before it.
fn without_time(line: &str) -> &str {
    match line.split_once(' ') {
        Some((time, rest)) if time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok() => rest,
        _ => line,
    }
}
