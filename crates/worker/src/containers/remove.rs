//! How what was made for a job is removed: after it, or before the agent's next one.

use std::ffi::OsString;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::engine::{Call, Engine, Kind};
use super::machine::Making;
use crate::context::StepContext;

/// How long the removal of one container or network may take.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(30);

impl Making<'_> {
    /// Removes what an earlier job of this agent has left, whose worker was killed.
    pub(super) async fn remove_stale(&self) -> Result<(), Error> {
        let filter = format!("label={}", self.label);
        let all = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter];
        let prune = ["network", "prune", "--force", "--filter", &filter];
        // Mostly there is nothing, and then both are over at once.
        let (stale, mut pruned) =
            tokio::join!(self.engine.ask(all, self.cancel), self.engine.ask(prune, self.cancel));
        let stale = stale?;
        for id in stale.lines().filter(|line| !line.is_empty()) {
            remove(self.engine, Some(self.step), removal(self.engine.kind, id)).await;
        }
        if !stale.trim().is_empty() {
            pruned = self.engine.ask(prune, self.cancel).await;
        }
        if let Err(error) = pruned {
            self.step.warning(&format!("Networks of earlier jobs could not be removed: {error}")).await;
        }
        Ok(())
    }
}

/// Removes one thing, whatever becomes of the job meanwhile.
pub(super) async fn remove(engine: &Engine, step: Option<&StepContext>, arguments: Vec<OsString>) {
    let late = CancellationToken::new();
    let removed = timeout(REMOVAL_PATIENCE, async {
        match step {
            Some(step) => {
                let call = Call { arguments, ..Call::default() };
                engine.run(step, call, &late).await
            }
            None => engine.ask(arguments, &late).await,
        }
    });
    let problem = match removed.await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it takes longer than {} seconds", REMOVAL_PATIENCE.as_secs()),
    };
    match step {
        Some(step) => step.warning(&format!("What was started for the job stays: {problem}")).await,
        None => tracing::warn!(problem, "a container of the job stays"),
    }
}

/// How a container is removed, with the volumes that have no name.
pub(super) fn removal(kind: Kind, id: &str) -> Vec<OsString> {
    let mut line: Vec<OsString> = ["rm", "--force", "--volumes"].map(OsString::from).into();
    if kind == Kind::Podman {
        // Else it asks first, and waits.
        line.extend(["--time", "0"].map(OsString::from));
    }
    line.push(id.into());
    line
}
