//! When a container is there: steps can run in it, or it says that it is healthy.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::engine::{Failed, Kind};
use super::machine::Making;
use super::{Error, TELL_AFTER};
use crate::step_host::StepHosts;

/// Pauses between two questions after a service's health; the official agent's are from 2 to 32 seconds.
const HEALTH_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_HEALTH_PAUSE: Duration = Duration::from_secs(8);

impl Making<'_> {
    /// Waits until steps can run in a container. False: it has ended, and its log is told.
    pub(super) async fn has_step_host(&self, name: &str, id: &str, hosts: &StepHosts) -> Result<bool, Error> {
        if let Ok(host) = timeout(TELL_AFTER, hosts.of(name)).await {
            return Ok(host.map(|_| true)?);
        }
        tokio::select! {
            host = hosts.of(name) => return Ok(host.map(|_| true)?),
            ended = self.engine.ask(["wait", id], self.cancel) => { ended?; }
        }
        self.run(["logs", id].into()).await?;
        Ok(false)
    }

    /// Shows the log of a container that has ended already. What needs it will say so.
    pub(super) async fn check_runs(&self, id: &str) -> Result<(), Error> {
        let state = ["inspect", "--format", "{{.State.Status}}", id];
        let state = self.engine.ask(state, self.cancel).await?;
        if state.trim() != "running" {
            self.run(["logs", id].into()).await?;
            self.step.warning(&format!("Docker container {id} is not in running state.")).await;
        }
        Ok(())
    }

    /// Waits until a service that can say so is healthy.
    pub(super) async fn wait_for_health(&self, service: &str, id: &str) -> Result<(), Error> {
        let mut pause = HEALTH_PAUSE;
        loop {
            let health = self.health(id).await?;
            match health.as_str() {
                "" => return Ok(()),
                "healthy" => {
                    self.step.output(&format!("{service} service is healthy.")).await;
                    return Ok(());
                }
                "starting" => {}
                _ => {
                    self.run(["logs", id].into()).await?;
                    return Err(Error::Unhealthy { service: service.to_owned(), health });
                }
            }
            self.step.output(&format!("{service} service is starting.")).await;
            tokio::select! {
                () = sleep(pause) => {}
                () = self.cancel.cancelled() => return Err(Error::Canceled),
            }
            pause = (pause * 2).min(LONGEST_HEALTH_PAUSE);
        }
    }

    async fn health(&self, id: &str) -> Result<String, Error> {
        const HEALTH: &str = "{{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}";
        let said = self.engine.ask(["inspect", "--format", HEALTH, id], self.cancel).await?;
        let health = said.trim().to_lowercase();
        if self.engine.kind == Kind::Podman && health == "starting" {
            // It looks by itself only where systemd runs.
            match self.engine.ask(["healthcheck", "run", id], self.cancel).await {
                Ok(_) => return Ok("healthy".to_owned()),
                Err(Failed::Canceled) => return Err(Error::Canceled),
                Err(_) => {}
            }
        }
        Ok(health)
    }
}
