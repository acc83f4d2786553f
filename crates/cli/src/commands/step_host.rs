//! `dayfly step-host`: the first process of a container in which steps run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use dayfly_processes::orphans::Adopt;
use dayfly_worker::{StepUser, become_user};
use nix::sys::signal::{SigHandler, Signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::host;

/// Arguments of `dayfly step-host`.
#[derive(Debug, Args)]
pub(crate) struct StepHostArgs {
    /// Socket at which the worker listens
    #[arg(long, value_name = "PATH")]
    connect: PathBuf,
    /// Who steps run as, `UID:GID`, if this is started as root
    #[arg(long, value_name = "NUMBERS", value_parser = user_and_group, requires = "user_name")]
    user: Option<(u32, u32)>,
    /// What the user is called on the machine
    #[arg(long, value_name = "NAME", requires = "user")]
    user_name: Option<String>,
    /// What the user's group is called on the machine
    #[arg(long, value_name = "NAME", default_value = "users")]
    group_name: String,
    #[command(flatten)]
    authorities: Authorities,
}

fn user_and_group(text: &str) -> Result<(u32, u32), String> {
    let numbers =
        text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    numbers.ok_or_else(|| format!("`{text}` is not a user's number and a group's, as in `1000:1000`"))
}

/// Certificate authorities for everything in a container.
#[derive(Debug, Args)]
pub(super) struct Authorities {
    /// File with certificate authorities (PEM) that programs of this container trust besides the image's own
    #[arg(long, value_name = "FILE", requires = "ca_bundle")]
    add_ca: Option<PathBuf>,
    /// File into which those and the image's own are written together
    #[arg(long, value_name = "FILE", requires = "add_ca")]
    ca_bundle: Option<PathBuf>,
}

impl Authorities {
    /// The environment of this process, with the variables by which programs find the authorities.
    pub(super) fn environment(&self) -> anyhow::Result<Vec<(OsString, OsString)>> {
        let mut environment = std::env::vars_os().collect();
        if let (Some(more), Some(bundle)) = (&self.add_ca, &self.ca_bundle) {
            dayfly_worker::trust(more, bundle, &mut environment)?;
        }
        Ok(environment)
    }
}

/// Starts steps until the worker has no more.
pub(crate) fn run(args: StepHostArgs) -> anyhow::Result<ExitCode> {
    let mut environment = args.authorities.environment()?;
    if let (Some((id, group)), Some(name)) = (args.user, args.user_name) {
        let user = StepUser { id, group, name, group_name: args.group_name };
        become_user(&user, &mut environment)?;
    }
    host::protect();
    host::name_process();
    host::adopt_orphans(Adopt::All);
    forget_fault_handlers().context("signals cannot be given back")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the asynchronous runtime")?;
    let served = runtime.block_on(serve(&args.connect, environment));
    served.context("the steps' container could not serve its worker")?;
    Ok(ExitCode::SUCCESS)
}

/// Gives SIGSEGV and SIGBUS back to the kernel, which keeps them from the first process of a container as
/// long as it has no handler for them. Rust's own is for real faults: signals that steps send one after the
/// other make it abort the process.
fn forget_fault_handlers() -> nix::Result<()> {
    for fault in [Signal::SIGSEGV, Signal::SIGBUS] {
        #[expect(unsafe_code, reason = "there is no safe way to set what a signal does")]
        // SAFETY: the default is no handler, so nothing runs that would have to be safe in one.
        unsafe { nix::sys::signal::signal(fault, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// Only the worker says when it is over: it is told to stop together with this process, and still has steps
/// to run then.
async fn serve(connect: &Path, environment: Vec<(OsString, OsString)>) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("signals cannot be listened to")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("signals cannot be listened to")?;
    let mut serving = std::pin::pin!(dayfly_worker::serve_steps(connect, environment));
    let mut reaping = std::pin::pin!(host::reap_orphans());
    loop {
        tokio::select! {
            served = &mut serving => return Ok(served?),
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
            error = &mut reaping => return Err(error).context("ended processes cannot be noticed"),
        }
    }
}
