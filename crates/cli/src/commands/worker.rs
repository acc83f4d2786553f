//! `dayfly worker`: runs one job for a listener, which speaks over standard input and output.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use dayfly_client::ProxySettings;
use dayfly_processes::orphans::{self, Adopt};
use dayfly_worker::Surroundings;
use tokio::signal::unix::{SignalKind, signal};

use crate::host;

/// Pause between two looks for orphans that have ended.
const REAP_PAUSE: Duration = Duration::from_millis(250);

/// Runs the job and answers its result as the exit code: 100 plus the result's number.
pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let outcome = tokio::select! {
        outcome = dayfly_worker::serve(tokio::io::stdin(), tokio::io::stdout(), surroundings()) => outcome,
        error = reap_orphans() => return Err(error).context("ended processes cannot be noticed"),
    };
    let outcome = outcome.context("the worker could not run a job")?;
    Ok(ExitCode::from(u8::try_from(outcome.exit_code()).context("a result has no exit code")?))
}

/// Runs it on a runtime of its own, which does not wait for the thread that reads standard input. A panic, which ends a program with
/// 101 and so with the code of a result, becomes an error.
pub(crate) fn run_to_the_end() -> anyhow::Result<ExitCode> {
    host::leave_terminal();
    host::name_process();
    host::adopt_orphans(Adopt::All);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime could not be started")?;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run())))
        .unwrap_or_else(|_| bail!("the worker panicked; its job's result is not known"));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Takes away orphans of the job that have ended, which nobody else waits for: a long job may make more of them than the system has numbers for.
async fn reap_orphans() -> anyhow::Error {
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => return error.into(),
    };
    while ended.recv().await.is_some() {
        orphans::reap();
        // Jobs end thousands of processes in a second; who has ended can wait.
        tokio::time::sleep(REAP_PAUSE).await;
    }
    std::future::pending().await
}

fn surroundings() -> Surroundings {
    // As elsewhere, lower case wins: upper-case HTTP_PROXY can be set by a request to a CGI program.
    let variable = |lower: &str, upper: &str| {
        std::env::var(lower).or_else(|_| std::env::var(upper)).ok().filter(|value| !value.is_empty())
    };
    Surroundings {
        environment: std::env::vars_os().collect(),
        proxy: ProxySettings {
            http: variable("http_proxy", "HTTP_PROXY"),
            https: variable("https_proxy", "HTTPS_PROXY"),
            no_proxy: variable("no_proxy", "NO_PROXY"),
        },
    }
}
