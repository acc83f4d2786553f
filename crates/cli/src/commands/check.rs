//! `dayfly check`: says whether the connections and agent sets of a cluster work.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use dayfly_kubernetes::Checked;
use tokio::time::Instant;

use crate::output;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `dayfly check`.
#[derive(Debug, Args)]
#[command(after_help = "The cluster is the one of KUBECONFIG, or the one the command runs in.\n\n\
Exit codes: 0 all work, 1 one does not, or the cluster does not answer.")]
pub(crate) struct CheckArgs {
    /// Look only into this namespace; may be given several times [default: all namespaces]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// How many seconds to wait until all work
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    within: u32,
}

/// Prints one line for each object.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checked = runtime.block_on(check(args))?;
    if checked.is_empty() {
        output::write("There is no connection and no agent set yet.\n")?;
    }
    for one in &checked {
        output::write(&format!("{one}\n"))?;
    }
    let all_work = checked.iter().all(Checked::is_ready);
    Ok(if all_work { ExitCode::SUCCESS } else { ExitCode::from(output::EXIT_FAILED) })
}

/// Looks again until all work or the time is over.
async fn check(args: &CheckArgs) -> anyhow::Result<Vec<Checked>> {
    let client = dayfly_kubernetes::connect().await.context("no cluster can be reached; set KUBECONFIG")?;
    let end = Instant::now() + Duration::from_secs(args.within.into());
    loop {
        let checked = dayfly_kubernetes::check(&client, &args.namespace).await.context(
            "cannot list connections and agent sets; `dayfly crds | kubectl apply -f -` makes the cluster \
             know them",
        )?;
        if checked.iter().all(Checked::is_ready) || Instant::now() >= end {
            return Ok(checked);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
