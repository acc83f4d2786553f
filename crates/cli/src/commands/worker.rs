//! `dayfly worker`: runs one job for a listener, which speaks over standard input and output, or waits for
//! the worker at an address.

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use dayfly_client::ProxySettings;
use dayfly_processes::orphans::Adopt;
use dayfly_worker::{Once, Outcome, ServeError, Surroundings, Tls, Unix, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::step_host::Authorities;
use crate::host;

/// How long the worker waits after its job for the controller to delete the pod. When it ends before that,
/// the pod ends by itself, and services that ignore SIGTERM keep it for all of its grace period, which
/// deleting it at that moment does not always cut short.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `dayfly worker`.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// Where the listener waits, `unix:PATH` or `tls:HOST:PORT` [default: standard input and output]
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<String>,
    /// File with the authority (PEM) that the listener's certificate must be by
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// File with the token that proves which place the worker runs in
    #[arg(long, value_name = "FILE")]
    claim_file: Option<PathBuf>,
    /// Folder with the sockets of the containers in which steps run [default: they run beside the worker]
    #[arg(long, value_name = "FOLDER")]
    step_hosts: Option<PathBuf>,
    #[command(flatten)]
    authorities: Authorities,
}

/// Runs the job and answers its result as the exit code: 100 plus the result's number. In a pod it is 0,
/// since with any other code the pod counts as failed, whatever the job's result, and is alerted on.
async fn run(args: WorkerArgs) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let is_in_pod = args.claim_file.is_some();
    // A pod that must leave its node is told so by this signal.
    let mut terminated = signal(SignalKind::terminate()).context("signals cannot be listened to")?;
    let outcome = {
        let mut job = std::pin::pin!(serve_at(args, stop.clone()));
        let mut reaping = std::pin::pin!(host::reap_orphans());
        loop {
            tokio::select! {
                outcome = &mut job => break outcome?,
                _ = terminated.recv() => stop.cancel(),
                error = &mut reaping => return Err(error).context("ended processes cannot be noticed"),
            }
        }
    };
    let outcome = outcome.context("the worker could not run a job")?;
    if is_in_pod {
        if !stop.is_cancelled() {
            let _ = timeout(REMOVAL_PATIENCE, terminated.recv()).await;
        }
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(u8::try_from(outcome.exit_code()).context("a result has no exit code")?))
}

async fn serve_at(args: WorkerArgs, stop: CancellationToken) -> anyhow::Result<Result<Outcome, ServeError>> {
    let surroundings = surroundings(args.step_hosts, args.authorities.environment()?);
    let Some(address) = args.connect else {
        let dial = Once::new(tokio::io::stdin(), tokio::io::stdout());
        return Ok(serve(dial, stop, surroundings).await);
    };
    if let Some(path) = address.strip_prefix("unix:") {
        return Ok(serve(Unix::new(path.into()), stop, surroundings).await);
    }
    let Some(address) = address.strip_prefix("tls:") else {
        bail!("`{address}` is not the address of a listener; expected unix:PATH or tls:HOST:PORT");
    };
    let ca_file = args.ca_file.context("the listener's authority is not known; give --ca-file")?;
    Ok(serve(Tls::new(address, &ca_file, args.claim_file)?, stop, surroundings).await)
}

/// Runs it on a runtime of its own, which does not wait for the thread that reads standard input. A panic,
/// which ends a program with 101 and so with the code of a result, becomes an error.
pub(crate) fn run_to_the_end(args: WorkerArgs) -> anyhow::Result<ExitCode> {
    host::leave_terminal();
    host::name_process();
    host::adopt_orphans(Adopt::All);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the asynchronous runtime")?;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(args))))
        .unwrap_or_else(|_| bail!("the worker panicked; its job's result is not known"));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn surroundings(step_hosts: Option<PathBuf>, environment: Vec<(OsString, OsString)>) -> Surroundings {
    // As elsewhere, lower case wins: upper-case HTTP_PROXY can be set by a request to a CGI program.
    let variable = |lower: &str, upper: &str| {
        std::env::var(lower).or_else(|_| std::env::var(upper)).ok().filter(|value| !value.is_empty())
    };
    Surroundings {
        environment,
        proxy: ProxySettings {
            http: variable("http_proxy", "HTTP_PROXY"),
            https: variable("https_proxy", "HTTPS_PROXY"),
            no_proxy: variable("no_proxy", "NO_PROXY"),
        },
        // The listener names the file here, and starts a copy of it.
        program: std::env::args_os().next().map(PathBuf::from).filter(|program| program.is_absolute()),
        step_hosts,
    }
}
