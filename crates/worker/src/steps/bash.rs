//! `bash:` steps, the task Bash (`BashV3/bash.ts`).

use dayfly_protocol::TaskResult;

use super::program::{environment_of, which};
use super::shell::{Shell, not_found, print_one_liner, write_script};
use super::{Prepared, StepError};
use crate::context::StepContext;
use crate::files;

pub(super) async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let directory = inputs.directory("workingDirectory", &prepared.place).await?;
    let mut environment = environment_of(step, prepared).await?;
    if let Some(value) = inputs.get("bashEnvValue") {
        let key = std::ffi::OsString::from("BASH_ENV");
        if let Some(present) = environment.get(&key).filter(|present| !present.is_empty()) {
            step.output(&format!(
                "The BASH_ENV environment variable has already been set to a '{}', the task will override \
                    it with '{value}'",
                present.to_string_lossy()
            ))
            .await;
        }
        environment.insert(key, value.into());
        step.debug(&format!("The BASH_ENV environment variable was set to {value}")).await;
    }
    let from_file = inputs.text("targetType").eq_ignore_ascii_case("filePath");
    if from_file {
        check_file(inputs.text("filePath")).await?;
    }
    step.output("Generating script.").await;
    let program = which("bash", &environment, &prepared.place)
        .await
        .ok_or_else(|| not_found(step, "bash", &prepared.place))?;
    let contents = if from_file {
        let sources = environment
            .get(std::ffi::OsStr::new("AZP_BASHV3_OLD_SOURCE_BEHAVIOR"))
            .is_some_and(|value| !value.is_empty());
        let contents = file_command(inputs.text("filePath"), inputs.text("arguments"), sources);
        step.output(&format!("Formatted command: {contents}")).await;
        contents
    } else {
        print_one_liner(step, inputs.text("script")).await;
        inputs.text("script").to_owned()
    };
    let file = write_script(step, "sh", &contents).await?;
    let shell = Shell {
        name: "Bash",
        program,
        arguments: vec![file.into()],
        directory,
        fail_on_stderr: inputs.flag("failOnStderr"),
        explains_137: true,
    };
    shell.run(step, environment, &prepared.place).await
}

async fn check_file(path: &str) -> Result<(), StepError> {
    if files::is_file(path).await {
        Ok(())
    } else {
        Err(StepError::Failed(format!("Invalid file path '{path}'.")))
    }
}

/// The line that runs a script file: with `exec bash`, or sourced as old versions of the task did.
fn file_command(path: &str, arguments: &str, sources: bool) -> String {
    let path = path.replace('\'', r"'\''");
    let start = if sources { "." } else { "exec bash" };
    format!("{start} '{path}' {arguments}").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_run_by_a_second_bash_unless_it_is_to_be_sourced() {
        assert_eq!(file_command("/a/b.sh", "", false), "exec bash '/a/b.sh'");
        assert_eq!(
            file_command("/a/it's.sh", "--x \"y z\"", false),
            r#"exec bash '/a/it'\''s.sh' --x "y z""#
        );
        assert_eq!(file_command("/a/b.sh", "1", true), ". '/a/b.sh' 1");
    }
}
