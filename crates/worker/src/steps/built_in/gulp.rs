//! gulp (`GulpV1/gulptask.ts`, `GulpV0/gulptask.ts`) and Grunt (`GruntV0/grunttask.ts`).

use std::path::Path;

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{path, text};
use super::super::program::{environment_of, which};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::java;
use super::program::{Program, words};
use crate::context::StepContext;
use crate::files;

pub(super) static GULP: Task = Task {
    definition: Definition {
        friendly_name: "gulp",
        description: "Run the gulp Node.js streaming task-based build system",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/build/gulp",
        inputs: &[
            path("gulpFile").or("gulpfile.js"),
            text("targets", ""),
            text("arguments", ""),
            path("cwd").called(&["workingDirectory"]),
            text("gulpjs", ""),
            java::PUBLISHES,
            text("testResultsFiles", "**/TEST-*.xml"),
            java::TEST_RUN_TITLE,
            text("enableCodeCoverage", "false"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared, &OF_GULP).boxed(),
};

pub(super) static GULP_0: Task = Task {
    definition: Definition {
        inputs: &[
            path("gulpFile").or("gulpfile.js"),
            text("targets", ""),
            text("arguments", ""),
            path("cwd").called(&["workingDirectory"]),
            text("gulpjs", "node_modules/gulp/bin/gulp.js"),
            java::PUBLISHES,
            text("testResultsFiles", "**/TEST-*.xml"),
            java::TEST_RUN_TITLE,
            text("enableCodeCoverage", "false"),
        ],
        ..GULP.definition
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared, &Runner { prefers_path: true, ..OF_GULP }).boxed(),
};

pub(super) static GRUNT: Task = Task {
    definition: Definition {
        friendly_name: "Grunt",
        description: "Run the Grunt JavaScript task runner",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/build/grunt",
        inputs: &[
            path("gruntFile").or("gruntfile.js"),
            text("targets", ""),
            text("arguments", ""),
            path("cwd").called(&["workingDirectory"]),
            text("gruntCli", "node_modules/grunt-cli/bin/grunt"),
            java::PUBLISHES,
            text("testResultsFiles", "**/TEST-*.xml"),
            java::TEST_RUN_TITLE,
            text("enableCodeCoverage", "false"),
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared, &OF_GRUNT).boxed(),
};

/// What tells the tasks apart.
struct Runner {
    name: &'static str,
    /// The program on the PATH.
    program: &'static str,
    /// The inputs with the file of the build, and with the script that Node.js can run instead.
    file: &'static str,
    script: &'static str,
    /// The option before the file.
    option: &'static str,
    /// Whether the script is for where the PATH has no program; else it goes first if it is given.
    prefers_path: bool,
}

const OF_GULP: Runner = Runner {
    name: "gulp",
    program: "gulp",
    file: "gulpFile",
    script: "gulpjs",
    option: "--gulpfile",
    prefers_path: false,
};

const OF_GRUNT: Runner = Runner {
    name: "Grunt",
    program: "grunt",
    file: "gruntFile",
    script: "gruntCli",
    option: "--gruntfile",
    prefers_path: true,
};

async fn run(step: &StepContext, prepared: &Prepared, runner: &Runner) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let file = inputs.required(runner.file)?;
    if !files::exists(file).await {
        return Err(StepError::Failed(format!("Not found {}: {file}", runner.file)));
    }
    let folder = Path::new(inputs.text("cwd"));
    tokio::fs::create_dir_all(folder).await.map_err(|error| {
        StepError::Failed(format!("Could not make the folder {}: {error}", folder.display()))
    })?;
    if inputs.flag("enableCodeCoverage") {
        step.warning(
            "Dayfly runs this step without Istanbul, so without code coverage. Let the build measure it.",
        )
        .await;
    }
    let (program, script) = program(step, prepared, runner, folder).await?;
    let mut line: Vec<_> = script.into_iter().map(Into::into).collect();
    line.extend(inputs.text("targets").split_whitespace().map(Into::into));
    line.extend([runner.option.into(), file.into()]);
    line.extend(words(inputs.text("arguments")));
    let code = Program::new(program, line, folder).run(step, prepared).await?;
    java::tell_of_tests(step, inputs).await?;
    match code {
        0 => {
            step.output(&format!("{} exited with return code: 0", runner.name)).await;
            Ok(TaskResult::Succeeded)
        }
        code => Err(StepError::Failed(format!(
            "{} failed with error: The process '{program}' failed with exit code {code}",
            runner.name
        ))),
    }
}

/// The program to run, and the script for it if it is Node.js.
async fn program(
    step: &StepContext,
    prepared: &Prepared,
    runner: &Runner,
    folder: &Path,
) -> Result<(&'static str, Option<String>), StepError> {
    let script = prepared.inputs.get(runner.script).filter(|script| !script.is_empty());
    let environment = environment_of(step, prepared).await?;
    let is_on_path = which(runner.program, &environment, &prepared.place).await.is_some();
    let Some(script) = script.filter(|_| !(runner.prefers_path && is_on_path)) else {
        return Ok((runner.program, None));
    };
    let script = folder.join(script);
    match files::exists(&script).await {
        true => Ok(("node", Some(script.to_string_lossy().into_owned()))),
        false => Err(StepError::Failed(format!(
            "{} is not installed globally (or is not in the path of the user the agent is running as) and it \
             is not in the local working folder: {}",
            runner.name,
            script.display()
        ))),
    }
}
