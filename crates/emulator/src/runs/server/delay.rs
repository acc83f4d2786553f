//! `Delay@1`: waits (`Tasks/DelayV1`).

use std::time::Duration;

use super::ended::Ended;
use super::inputs::Inputs;
use super::log::StepLog;
use crate::app::App;
use crate::clock::after;

/// How long to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Delay {
    minutes: u32,
}

impl Delay {
    pub(super) fn read(inputs: &Inputs<'_>) -> Result<Self, String> {
        let text = inputs.get(&["delayForMinutes"]).unwrap_or("0").trim();
        let minutes = text.parse().map_err(|_| {
            format!(
                "the input `delayForMinutes` is `{text}`, and has to be a whole number of minutes from 0 on"
            )
        })?;
        Ok(Self { minutes })
    }

    pub(super) async fn run(&self, app: &App, log: &mut StepLog) -> Ended {
        let until = after(app.now(), Duration::from_secs(60 * u64::from(self.minutes)));
        let minutes = if self.minutes == 1 { "minute" } else { "minutes" };
        log.line(&format!("Waits for {} {minutes}, until {until:.0}", self.minutes)).await;
        app.clock().sleep_until(until).await;
        Ended::Succeeded
    }
}
