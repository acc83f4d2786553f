//! The service as reports see it: one job of one plan.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use dayfly_client::JobPlan;
use dayfly_protocol::logs::FeedLines;
use dayfly_protocol::timeline::TimelineRecord;
use dayfly_protocol::{LogId, RecordId, TimelineId};

/// One call with the client's own repetitions. The queues go on after that, with what has merged meanwhile.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// The same for an attachment, which may be large.
const ATTACH_DEADLINE: Duration = Duration::from_secs(600);

/// Why something could not be reported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service refused it or was not reached.
    #[error(transparent)]
    Service(#[from] dayfly_client::Error),
    /// The job's end did not leave the time.
    #[error("the deadline for the last reports of the job has passed")]
    Deadline,
    /// A file to be sent cannot be read.
    #[error("cannot read '{}'", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the same may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Error::Service(error) if error.is_retryable())
    }

    /// Whether the service surely did nothing.
    pub(super) fn left_untouched(&self) -> bool {
        matches!(self, Error::Service(error) if error.left_untouched())
    }

    /// When the service wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Service(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// The calls that reports need.
pub(super) struct Service {
    plan: JobPlan,
    timeline: TimelineId,
    job: RecordId,
}

impl Service {
    pub(super) fn new(plan: &JobPlan, timeline: TimelineId, job: RecordId) -> Service {
        Service { plan: plan.with_deadline(CALL_DEADLINE), timeline, job }
    }

    pub(super) async fn create_timeline(&self, timeline: TimelineId) -> Result<(), Error> {
        Ok(self.plan.create_timeline(timeline).await?)
    }

    pub(super) async fn update_records(
        &self,
        timeline: TimelineId,
        records: &[TimelineRecord],
    ) -> Result<(), Error> {
        self.plan.update_records(timeline, records.to_vec()).await?;
        Ok(())
    }

    /// Posts lines of `record`; `start` is the number of the first. A line is recognised by its number if it
    /// comes twice.
    pub(super) async fn post_lines(
        &self,
        record: RecordId,
        start: i64,
        lines: &[String],
    ) -> Result<(), Error> {
        let lines =
            FeedLines { count: lines.len(), value: lines.to_vec(), step_id: record, start_line: Some(start) };
        Ok(self.plan.post_lines(self.timeline, self.job, &lines).await?)
    }

    pub(super) async fn create_log(&self, record: RecordId) -> Result<LogId, Error> {
        Ok(self.plan.create_log(&format!(r"logs\{record}")).await?.id)
    }

    pub(super) async fn append_log(&self, log: LogId, content: Bytes) -> Result<(), Error> {
        self.plan.append_log(log, content).await?;
        Ok(())
    }

    /// How many lines the log has; none if the service does not list it.
    pub(super) async fn log_lines(&self, log: LogId) -> Result<Option<u64>, Error> {
        let logs = self.plan.logs().await?;
        Ok(logs.iter().find(|known| known.id == log).and_then(|known| u64::try_from(known.line_count).ok()))
    }

    pub(super) async fn attach(
        &self,
        record: RecordId,
        kind: &str,
        name: &str,
        path: &Path,
    ) -> Result<(), Error> {
        // Read while it is sent: attachments may be large.
        let plan = self.plan.with_deadline(ATTACH_DEADLINE);
        plan.attach(self.timeline, record, kind, name, path.to_owned().into()).await?;
        Ok(())
    }
}
