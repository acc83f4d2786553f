//! What an emulator says of what happens in it: a line for each agent that comes or goes, each run, each job.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use dayfly_emulator::Event;
use dayfly_emulator::runs::{RunChange, SERVER};
use dayfly_pipelines::identifiers::shown;
use dayfly_protocol::BuildId;
use tokio::sync::mpsc;

use crate::output;
use crate::run::lines::sanitize;
use crate::run::words::{duration, word};

/// How many lines may wait for whoever reads them. Further ones are left out: a reader that sleeps must not
/// hold up the emulator.
const MAX_WAITING: usize = 1_000;
/// How long the end of the emulator waits for its last lines to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Writes lines to standard error from a thread of its own.
pub(super) struct Lines {
    sender: SyncSender<String>,
    /// Ends when the thread does.
    done: Receiver<()>,
    left_out: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        let (sender, lines) = sync_channel::<String>(MAX_WAITING);
        let (running, done) = sync_channel::<()>(0);
        std::thread::spawn(move || {
            for line in lines {
                output::note(&line);
            }
            drop(running);
        });
        Self { sender, done, left_out: 0 }
    }

    pub(super) fn say(&mut self, line: String) {
        if self.left_out > 0 {
            let notice = format!("({} lines were left out, as nobody read them)", self.left_out);
            if self.sender.try_send(notice).is_ok() {
                self.left_out = 0;
            }
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(line) {
            self.left_out += 1;
        }
    }

    /// Waits until all is written, but not for a reader that does not read.
    pub(super) fn close(self) {
        drop(self.sender);
        // An error is what is waited for: the thread has ended.
        let _ = self.done.recv_timeout(LAST_LINES);
    }
}

/// Says what happens, until the emulator stops.
pub(super) async fn tell(mut events: mpsc::Receiver<Event>, lines: &mut Lines) {
    let mut activity = Activity::default();
    while let Some(event) = events.recv().await {
        if let Some(line) = activity.line(event) {
            let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
            lines.say(format!("{now} {}", sanitize(&line)));
        }
    }
}

/// The runs under way, by what people call them.
#[derive(Debug, Default)]
struct Activity {
    runs: HashMap<BuildId, Run>,
}

#[derive(Debug)]
struct Run {
    pipeline: String,
    number: String,
}

impl Activity {
    fn line(&mut self, event: Event) -> Option<String> {
        match event {
            Event::AgentChanged { pool, agent, is_online } => {
                let change = if is_online { "is online" } else { "went offline" };
                Some(format!("agent {agent} {change} (pool {pool})"))
            }
            Event::RunChanged { build, change, .. } => self.run_line(build, change),
            _ => None,
        }
    }

    fn run_line(&mut self, build: BuildId, change: RunChange) -> Option<String> {
        if let RunChange::Started { pipeline, number } = &change {
            self.runs.insert(build, Run { pipeline: pipeline.clone(), number: number.clone() });
        }
        let is_over = matches!(change, RunChange::Completed { .. });
        let run = self.runs.get_mut(&build)?;
        let what = match change {
            RunChange::Started { .. } => "queued".to_owned(),
            RunChange::NumberChanged { number } => {
                run.number = number;
                return None;
            }
            RunChange::JobStarted { job, agent } if agent == SERVER => {
                format!("job {} started without an agent", shown(&job.identifier))
            }
            RunChange::ValidationPending { validation } => format!(
                "job {} waits for a validation: POST /_dayfly/validations/{}",
                shown(&validation.job.identifier),
                validation.id
            ),
            RunChange::JobStarted { job, agent } => {
                format!("job {} assigned to agent {agent}", shown(&job.identifier))
            }
            RunChange::JobCompleted { job, result, started, finished, reason } => {
                let took = started.map(|started| finished.duration_since(started).as_secs_f64());
                let took = took.map(|seconds| format!(" in {}", duration(seconds))).unwrap_or_default();
                let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("job {} {}{took}{reason}", shown(&job.identifier), word(result))
            }
            RunChange::Completed { result, .. } => word(result).to_owned(),
            _ => return None,
        };
        let line = format!("run {} of {}: {what}", run.number, run.pipeline);
        if is_over {
            self.runs.remove(&build);
        }
        Some(line)
    }
}
