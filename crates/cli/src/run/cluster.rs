//! `--on kubernetes`: the run's place in a cluster, from before anything is there until nothing is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use dayfly_emulator::Emulator;
use dayfly_kubernetes::{OpenRun, RunPlace, RunSettings, Traces};
use dayfly_listener::Executor;

use super::warnings;
use crate::output;
use crate::signals::Signals;

/// The place of a run whose jobs may come.
pub(super) struct Cluster {
    place: OpenRun,
    /// The authority of the service's certificate, as pods reach it.
    pub(super) ca_file: PathBuf,
}

impl Cluster {
    pub(super) fn executor(&self) -> Arc<dyn Executor> {
        Arc::clone(&self.place.executor)
    }
}

/// Finds the cluster; none if the user interrupts that. Nothing is made there.
pub(super) async fn find(
    settings: &RunSettings,
    signals: &mut Signals,
    as_json: bool,
) -> anyhow::Result<Option<RunPlace>> {
    tokio::select! {
        place = RunPlace::prepare(settings.clone()) => Ok(Some(place?)),
        never = warnings::tell_if_slow("asking the cluster what it allows", as_json) => match never {},
        () = signals.next() => Ok(None),
    }
}

/// Lets the pods reach the emulator, and jobs get pods.
pub(super) async fn open(
    place: RunPlace,
    emulator: &Emulator,
    folder: &Path,
    as_json: bool,
) -> anyhow::Result<Cluster> {
    let ca_file = folder.join("authority.pem");
    std::fs::write(&ca_file, place.authority())
        .with_context(|| format!("could not write `{}`", ca_file.display()))?;
    let traces = place.traces();
    let place = place.open(emulator.address()).await?;
    if !as_json {
        let (name, namespace) = (traces.name(), traces.namespace());
        output::note(&format!("jobs run in pods `{name}-*` of namespace `{namespace}`"));
    }
    Ok(Cluster { place, ca_file })
}

/// Deletes what the run has made in the cluster. Says what is left if that cannot be done or the user does
/// not want to wait; the run's result is what it is.
pub(super) async fn clear(traces: &Traces, signals: &mut Signals, as_json: bool) -> anyhow::Result<()> {
    tokio::select! {
        removed = traces.remove() => {
            if let Err(error) = removed {
                let error = dayfly_client::describe(&error);
                warnings::tell(&error, as_json)?;
            }
        }
        never = warnings::tell_if_slow("deleting the run's pods", as_json) => match never {},
        () = signals.next() => {
            let left = "something of the run may be left in the cluster; this deletes it";
            warnings::tell(&format!("{left}: `{}`", traces.command()), as_json)?;
        }
    }
    Ok(())
}
