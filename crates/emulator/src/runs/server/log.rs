//! What a step that needs no agent says: on the console and in its log, as a worker would.

use dayfly_mask::Masker;
use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::{DateTime, JobId, LogId, PlanId, RecordId};

use crate::app::App;
use crate::events::Event;
use crate::state;

/// The log of one step.
pub(super) struct StepLog {
    app: App,
    plan: PlanId,
    job: JobId,
    record: RecordId,
    id: LogId,
    masker: Masker,
    /// How many lines it has.
    lines: i64,
}

impl StepLog {
    /// Makes the log of a step.
    pub(super) fn open(
        app: &App,
        message: &AgentJobRequestMessage,
        record: RecordId,
        masker: Masker,
    ) -> state::Result<Self> {
        let (plan, job) = (message.plan.plan_id, message.job_id);
        let made = app.state().create_log(plan, format!("logs\\{record}"), app.now())?;
        Ok(Self { app: app.clone(), plan, job, record, id: made.id, masker, lines: 0 })
    }

    pub(super) fn id(&self) -> LogId {
        self.id
    }

    /// Hides secrets.
    pub(super) fn mask(&self, text: &str) -> String {
        self.masker.mask(text).into_owned()
    }

    /// Says something of one or more lines.
    pub(super) async fn line(&mut self, text: &str) {
        let lines: Vec<String> = self.mask(text).lines().map(str::to_owned).collect();
        let stamp = DateTime(self.app.now());
        let block: String = lines.iter().map(|line| format!("{stamp} {line}\n")).collect();
        let start_line = Some(self.lines + 1);
        self.lines += i64::try_from(lines.len()).unwrap_or(i64::MAX);
        let place = self.app.hub().place().await;
        let (plan, job, record) = (self.plan, self.job, self.record);
        self.app.hub().send(Event::Lines { plan, job, record, start_line, lines: lines.into() }, place);
        match self.app.append_to_log(self.plan, self.id, block.into_bytes()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(plan = %self.plan, %error, "a line of a server job is lost"),
            Err(error) => tracing::warn!(plan = %self.plan, %error, "a line of a server job is lost"),
        }
    }
}
