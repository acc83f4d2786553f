//! The tasks that need no agent.

use std::time::Duration;

use dayfly_protocol::job::{JobResources, Step};
use dayfly_protocol::task::{DELAY, INVOKE_REST_API, MANUAL_VALIDATION};
use uuid::Uuid;

use super::delay::Delay;
use super::ended::{Asking, Ended};
use super::inputs::Inputs;
use super::invoke_rest_api::InvokeRestApi;
use super::log::StepLog;
use super::manual_validation::ManualValidation;

/// Whether a task can run in a job of `pool: server` here.
#[must_use]
pub fn runs_on_server(task: Uuid) -> bool {
    [DELAY, INVOKE_REST_API, MANUAL_VALIDATION].contains(&task)
}

/// A task with its inputs.
pub(super) enum Task {
    Delay(Delay),
    ManualValidation(ManualValidation),
    InvokeRestApi(Box<InvokeRestApi>),
}

impl Task {
    /// What a step asks for.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn read(step: &Step, inputs: &Inputs<'_>, resources: &JobResources) -> Result<Self, String> {
        let task = step.reference.clone().unwrap_or_default();
        match task.id.0 {
            DELAY => Delay::read(inputs).map(Self::Delay),
            MANUAL_VALIDATION => ManualValidation::read(inputs).map(Self::ManualValidation),
            INVOKE_REST_API => {
                InvokeRestApi::read(inputs, resources).map(|call| Self::InvokeRestApi(Box::new(call)))
            }
            _ => Err(format!(
                "Dayfly cannot run the task `{}` in a job of `pool: server`; it runs Delay, InvokeRESTAPI \
                 and ManualValidation there",
                task.name
            )),
        }
    }

    /// How long it may run when its step says so many minutes, 0 for as long as the job.
    pub(super) fn longest(&self, minutes: i32) -> Option<Duration> {
        let minutes = u64::try_from(minutes).unwrap_or_default();
        let of_step = (minutes > 0).then(|| Duration::from_secs(60 * minutes));
        match self {
            Self::ManualValidation(_) => {
                Some(of_step.unwrap_or(ManualValidation::LONGEST).min(ManualValidation::LONGEST))
            }
            Self::Delay(_) | Self::InvokeRestApi(_) => of_step,
        }
    }

    pub(super) async fn run(&self, asking: Asking<'_>, log: &mut StepLog) -> Ended {
        match self {
            Self::Delay(delay) => delay.run(asking.app, log).await,
            Self::ManualValidation(validation) => validation.run(asking, log).await,
            Self::InvokeRestApi(call) => call.run(asking, log).await,
        }
    }

    /// What comes of it when its time is over.
    pub(super) fn timed_out(&self) -> Ended {
        match self {
            Self::ManualValidation(validation) => validation.timed_out(),
            Self::Delay(_) | Self::InvokeRestApi(_) => Ended::Failed("The task has timed out.".to_owned()),
        }
    }
}
