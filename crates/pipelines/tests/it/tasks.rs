//! Tasks that nobody knows without the organization.

use std::sync::Arc;

use dayfly_pipelines::{AnyTasks, Inputs};

use crate::compile::compile_with;

/// The tasks of a file in which every task is taken, and what is said about them.
fn compiled(tasks: &[&str]) -> (Vec<String>, String) {
    let steps: String = tasks.iter().map(|task| format!("- task: {task}\n")).collect();
    let inputs = Inputs { tasks: Arc::new(AnyTasks), ..Inputs::default() };
    let compiled = compile_with(&format!("steps:\n- checkout: none\n{steps}"), &inputs);
    let steps = &compiled.plan.stages[0].jobs[0].steps;
    let found = steps.iter().map(|step| format!("{}@{}", step.task.name, step.task.version)).collect();
    let reports = compiled.warnings.reports();
    let told = reports.iter().map(|report| format!("{} [{}]", report.message, report.help.join("; ")));
    (found, told.collect::<Vec<_>>().join("\n"))
}

#[test]
fn tasks_of_extensions_are_taken_whatever_they_resemble() {
    let (found, told) = compiled(&[
        "YarnInstaller@3",
        "S3Upload@1",
        "S3Upload@1",
        "1ES.PublishBuildArtifacts@1",
        "AWSShellScript@1",
        "rustInstaller@1",
        "UseGitVersion@5",
        "publisher.extension.task.CmdLin@2",
        "SonarQubePrepare@7",
        "CmdLin@2",
        "PublishBuildArtifact@1",
    ]);
    assert_eq!(found[..3], ["YarnInstaller@3.0.0", "S3Upload@1.0.0", "S3Upload@1.0.0"]);
    insta::assert_snapshot!(told, @r"
`CmdLin` is not one of Azure Pipelines' own tasks [did you mean `CmdLine@2`? Ignore this if an extension provides `CmdLin`]
`PublishBuildArtifact` is not one of Azure Pipelines' own tasks [did you mean `PublishBuildArtifacts@1`? Ignore this if an extension provides `PublishBuildArtifact`]
");
}

#[test]
fn versions_that_the_list_lacks_are_taken() {
    let (found, told) = compiled(&["CopyFiles@1", "PowerShell@1", "Xcode@3", "UseDotNet@1", "Bash@4"]);
    assert_eq!(
        found,
        ["CopyFiles@1.0.0", "PowerShell@1.0.0", "Xcode@3.0.0", "UseDotNet@1.0.0", "Bash@4.0.0"]
    );
    // The first three are old, and known to be.
    insta::assert_snapshot!(told, @r"
Dayfly does not know version 1 of the task `UseDotNet` [the newest known version is `UseDotNet@2`]
Dayfly does not know version 4 of the task `Bash` [the newest known version is `Bash@3`]
");
}
