//! The tasks that drive the runs and tidy up behind them.

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::events::JobSignal;
use crate::state::garbage::Left;
use crate::stores::delete_folder;

/// Carries the ends of jobs to their runs until `stop`.
pub(crate) async fn drive(app: App, mut signals: UnboundedReceiver<JobSignal>, stop: CancellationToken) {
    while let Some(Some(signal)) = stop.run_until_cancelled(signals.recv()).await {
        app.state().apply_signal(signal, app.now());
    }
}

/// Deletes what forgotten plans and runs leave, until `stop`; then all goes with the emulator's folder.
pub(crate) async fn sweep(app: App, stop: CancellationToken) {
    let more = app.state().garbage.more();
    while stop.run_until_cancelled(more.notified()).await.is_some() {
        let garbage = app.state().garbage.take();
        for left in garbage {
            if stop.is_cancelled() {
                return;
            }
            match left {
                Left::Folder(folder) => delete_folder(&folder).await,
                Left::Container(container) => app.containers().remove(container.0).await,
            }
        }
    }
}
