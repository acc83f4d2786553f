//! Jobs of `pool: server`: no agent has them, their tasks run here.
//!
//! `job` goes from step to step, `task` knows which tasks there are; each task is a file.

mod delay;
mod ended;
mod inputs;
mod invoke_rest_api;
mod job;
mod log;
mod manual_validation;
mod task;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;

pub use task::runs_on_server;

/// Runs these jobs, side by side, until `stop`.
pub(crate) async fn drive(app: App, stop: CancellationToken) {
    let more = app.state().server_jobs.more();
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = more.notified() => {
                let jobs = app.state().server_jobs.take();
                for job in jobs {
                    running.spawn(job::run(app.clone(), job));
                }
            }
            Some(ended) = running.join_next() => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "a server job broke off");
                }
            }
        }
    }
    running.shutdown().await;
}
