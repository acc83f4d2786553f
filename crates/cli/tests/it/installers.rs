//! Tasks that install a tool which this machine has, and steps that are left out.

use crate::project::Project;
use crate::run::{assert_has, assert_has_not};

#[test]
fn a_tool_that_is_here_is_found_and_put_first() {
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: UsePythonVersion@0\n  name: py\n  inputs: { versionSpec: 3.x }\n\
         - task: NodeTool@0\n  inputs: { versionSpec: '>=12' }\n- task: NuGetAuthenticate@1\n\
         - bash: python --version; node -e 'console.log(\"node runs\")'; echo at $(pythonLocation)\n",
    );
    let ended = project.run(&["--verbose"], 0);
    for text in ["Found Python 3.", "Found Node.js ", "node runs", "at /"] {
        assert_has(&ended, text);
    }
    assert_has(&ended, "This step has nothing to do: there is no login for package feeds here.");
    assert!(ended.stdout.lines().any(|line| line.trim_start().starts_with("Python 3.")), "{}", ended.stdout);
    assert!(!ended.stderr.contains("cannot run"), "{}", ended.stderr);
}

#[test]
fn a_version_that_is_not_here_fails_unless_any_will_do() {
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: UsePythonVersion@0\n  inputs: { versionSpec: '2.6' }\n- bash: python --version\n",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "This step wants Python 2.6. Here is 3.");
    assert_has(&ended, "dayfly run --tools any");
    let ended = project.run(&["--tools", "any"], 0);
    assert_has(&ended, "It is used all the same.");
    assert_has(&ended, "Python 3.");
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: UsePythonVersion@0\n  inputs: { versionSpec: the newest }\n",
    );
    assert_has(&project.run(&[], 1), "The version 'the newest' of Python cannot be understood");
}

#[test]
fn steps_of_a_task_are_left_out_on_request() {
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: AzureCLI@2\n- task: CmdLine@2\n  inputs: { script: echo never }\n- bash: echo the rest\n",
    );
    let ended =
        project.run(&["--skip-task", "azurecli", "--skip-task", "CmdLine@2", "--skip-task", "Go@0"], 0);
    assert_has(&ended, "the rest");
    assert_has_not(&ended, "never");
    assert!(
        ended.stderr.contains("`--skip-task Go@0`: the pipeline has no step of that task"),
        "{}",
        ended.stderr
    );
}
