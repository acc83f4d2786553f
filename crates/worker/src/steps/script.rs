//! `script:` steps, the task CmdLine (`CmdLineV2/cmdline.ts`).

use dayfly_protocol::TaskResult;

use super::program::{environment_of, which};
use super::shell::{Shell, not_found, print_one_liner, write_script};
use super::{Prepared, StepError};
use crate::context::StepContext;
use crate::files;

pub(super) async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let mut script = prepared.inputs.text("script").to_owned();
    let directory = prepared.inputs.directory("workingDirectory", &prepared.place).await?;
    // A script that is the name of a file is that file.
    if !script.is_empty() && files::exists(&script).await {
        script = format!("exec {script}");
    }
    step.output("Generating script.").await;
    let file = write_script(step, "sh", &script).await?;
    print_one_liner(step, &script).await;
    let environment = environment_of(step, prepared).await?;
    let shell = Shell {
        name: "Bash",
        program: which("bash", &environment, &prepared.place)
            .await
            .ok_or_else(|| not_found(step, "bash", &prepared.place))?,
        arguments: vec!["--noprofile".into(), "--norc".into(), file.into()],
        directory,
        fail_on_stderr: prepared.inputs.flag("failOnStderr"),
        explains_137: false,
    };
    shell.run(step, environment, &prepared.place).await
}
