//! `dayfly check`: says whether the connections and agent sets of a cluster work.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, FromArgMatches as _};
use dayfly_kubernetes::Checked;
use tokio::time::Instant;

use crate::commands::run::{self, RunArgs};
use crate::output;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `dayfly check`.
#[derive(Debug, Args)]
#[command(after_help = "The cluster is the one of KUBECONFIG, or the one the command runs in.\n\n\
With --job, `dayfly run --on kubernetes --agent-set` runs one step in a pod of each agent set.\n\n\
Exit codes: 0 all work, 1 one does not, or the cluster does not answer.")]
pub(crate) struct CheckArgs {
    /// Look only into this namespace; may be given several times [default: all namespaces]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// How many seconds to wait until all work
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    within: u32,
    /// Also run a job in a pod of each agent set, without Azure DevOps
    #[arg(long, requires = "dayfly_image")]
    job: bool,
    /// Dayfly's own image, from which those pods take the program
    #[arg(long, value_name = "IMAGE", requires = "job")]
    dayfly_image: Option<String>,
}

/// What is run in a pod of each agent set. It must do where there is no git.
const PIPELINE: &str = "steps:\n- checkout: none\n- script: echo \"A job runs in $(hostname).\"\n";

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
    if !checked.iter().all(Checked::is_ready) {
        return Ok(ExitCode::from(output::EXIT_FAILED));
    }
    if let Some(image) = args.dayfly_image.as_deref().filter(|_| args.job) {
        return run_jobs(&checked, image);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a job in a pod of each agent set, as a user would.
fn run_jobs(checked: &[Checked], dayfly_image: &str) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("could not make a folder for the job")?;
    let file = folder.path().join("check.yml");
    std::fs::write(&file, PIPELINE).with_context(|| format!("could not write `{}`", file.display()))?;
    let file = file.display().to_string();
    let mut worst = ExitCode::SUCCESS;
    for (namespace, name) in checked.iter().filter_map(Checked::agent_set) {
        output::write(&format!("A job in a pod of agentset/{name} in {namespace}:\n"))?;
        let typed = [
            "dayfly run",
            &file,
            "--on=kubernetes",
            &format!("--agent-set={name}"),
            &format!("--namespace={namespace}"),
            &format!("--dayfly-image={dayfly_image}"),
        ];
        let command = RunArgs::augment_args(clap::Command::new("dayfly run"));
        let code = run::run(RunArgs::from_arg_matches(&command.try_get_matches_from(typed)?)?)?;
        if code == ExitCode::from(run::EXIT_CANCELLED) {
            return Ok(code);
        }
        // The other sets are looked at even so.
        if code != ExitCode::SUCCESS {
            worst = code;
        }
    }
    Ok(worst)
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
