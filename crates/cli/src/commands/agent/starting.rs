//! Sets the agent off, and does not keep silent meanwhile: the first calls are repeated for some time before
//! they are given up.

use std::{sync::Arc, time::Duration};

use dayfly_listener::{AgentSet, Config, Error as SetError, EventStream, Executor};

use super::{super::metrics::Metrics, teller::Teller};
use crate::signals::Signals;

/// How long people wait without being told why.
const SILENCE: Duration = Duration::from_secs(3);

/// Starts the set; `None` when a signal came first.
pub(super) async fn start(
    config: Config,
    executor: Arc<dyn Executor>,
    signals: &mut Signals,
    metrics: &Metrics,
    teller: Teller,
) -> Result<Option<(AgentSet, EventStream)>, SetError> {
    let url = config.server_url.clone();
    let mut starting = std::pin::pin!(AgentSet::start(config, executor));
    tokio::select! {
        set = &mut starting => return set.map(Some),
        () = signals.next() => return Ok(None),
        () = tokio::time::sleep(SILENCE) => {}
    }
    // Making the agent's key takes a while too, which is nothing to be told.
    if let Some(trouble) = metrics.trouble() {
        teller.still_connecting(format!("Not connected to {url} yet: {trouble}. Still trying."));
    }
    tokio::select! {
        set = starting => set.map(Some),
        () = signals.next() => Ok(None),
    }
}
