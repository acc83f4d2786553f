//! `ManualValidation@0` and `@1`: waits for somebody's decision (`Tasks/ManualValidationV1`). Who may decide
//! and who is notified is Azure DevOps' business: here it is whoever has the emulator.

use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::ended::{Asking, Ended};
use super::inputs::Inputs;
use super::log::StepLog;
use crate::app::App;
use crate::state::server_jobs::Verdict;

/// What is to be decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ManualValidation {
    instructions: String,
    on_timeout: OnTimeout,
}

/// What comes of it if nobody decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnTimeout {
    Reject,
    Resume,
}

impl ManualValidation {
    /// It waits no longer, whatever its step says (the help of `onTimeout` in task.json).
    pub(super) const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    pub(super) fn read(inputs: &Inputs<'_>) -> Result<Self, String> {
        let on_timeout = match inputs.get(&["onTimeout"]).unwrap_or("reject").trim() {
            text if text.eq_ignore_ascii_case("reject") => OnTimeout::Reject,
            text if text.eq_ignore_ascii_case("resume") => OnTimeout::Resume,
            text => {
                return Err(format!("the input `onTimeout` is `{text}`, and has to be `reject` or `resume`"));
            }
        };
        let instructions = inputs.get(&["instructions"]).unwrap_or_default().trim().to_owned();
        Ok(Self { instructions, on_timeout })
    }

    pub(super) async fn run(&self, asking: Asking<'_>, log: &mut StepLog) -> Ended {
        log.line("Waits for a validation.").await;
        if !self.instructions.is_empty() {
            log.line(&format!("Instructions:\n{}", self.instructions)).await;
        }
        let Asking { app, build, job, .. } = asking;
        let asked = app.state().ask_for_validation(build, job, log.mask(&self.instructions));
        let (id, answer) = match asked {
            Ok(asked) => asked,
            Err(error) => return Ended::Failed(format!("the validation cannot be asked for: {error}")),
        };
        let asked = Asked { app, id };
        let verdict = answered(answer).await;
        drop(asked);
        let comment =
            if verdict.comment.is_empty() { String::new() } else { format!(": {}", verdict.comment) };
        if verdict.approved {
            log.line(&format!("The validation was approved{comment}")).await;
            return Ended::Succeeded;
        }
        Ended::Failed(format!("The validation was rejected{comment}"))
    }

    pub(super) fn timed_out(&self) -> Ended {
        match self.on_timeout {
            OnTimeout::Resume => Ended::Succeeded,
            OnTimeout::Reject => {
                Ended::Failed("Nobody answered in time, so the validation was rejected".to_owned())
            }
        }
    }
}

/// Withdraws the validation when nobody waits for it any longer.
struct Asked<'a> {
    app: &'a App,
    id: Uuid,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.app.state().withdraw_validation(self.id);
    }
}

/// The answer. Who could give one is only gone when the emulator stops.
async fn answered(answer: oneshot::Receiver<Verdict>) -> Verdict {
    match answer.await {
        Ok(verdict) => verdict,
        Err(_) => std::future::pending().await,
    }
}
