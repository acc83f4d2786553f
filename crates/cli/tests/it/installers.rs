//! Tasks that install a tool which this machine has, and steps that are left out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
        "steps:\n- checkout: none\n- task: UsePythonVersion@0\n  inputs: { versionSpec: '3.99' }\n- bash: python --version\n",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "This step wants Python 3.99. Here is 3.");
    assert_has(&ended, "dayfly run --tools any");
    let ended = project.run(&["--tools", "any"], 0);
    assert_has(&ended, "is used all the same.");
    assert_has(&ended, "Python 3.");
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: UsePythonVersion@0\n  inputs: { versionSpec: the newest }\n",
    );
    assert_has(&project.run(&[], 1), "The version 'the newest' of Python cannot be understood");
}

#[test]
fn each_job_has_a_virtual_environment_for_its_packages() {
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: UsePythonVersion@0\n- task: UsePythonVersion@0\n\
         - bash: |\n    python -c 'import sys; print(\"isolated:\", sys.prefix != sys.base_prefix)'\n    \
         python -c 'import sys; print(\"located:\", sys.prefix == \"$(pythonLocation)\")'\n    \
         command -v pip\n",
    );
    let ended = project.run(&[], 0);
    assert_has(&ended, "isolated: True");
    assert_has(&ended, "located: True");
    assert!(
        ended
            .stdout
            .lines()
            .any(|line| line.contains("/_temp/dayfly-python-3.") && line.ends_with("/bin/pip")),
        "{}",
        ended.stdout
    );
}

/// A folder with a version of a tool, as a version manager keeps it.
fn keep(folder: &Path, version: &str, program: &str, says: &str) {
    let bin = folder.join(version).join("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join(program);
    fs::write(&path, format!("#!/bin/sh\necho {says}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_version_that_a_version_manager_keeps_is_found_where_that_on_the_path_does_not_do() {
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: UsePythonVersion@0\n  inputs: { versionSpec: '9.8' }\n\
         - task: UseNode@1\n  inputs: { version: 97.x }\n- bash: python --version; node --version\n",
    );
    let managers = tempfile::tempdir().unwrap();
    let (pyenv, nvm) = (managers.path().join("pyenv"), managers.path().join("nvm"));
    keep(&pyenv.join("versions"), "9.8.7", "python", "Python 9.8.7");
    keep(&pyenv.join("versions"), "9.9.1", "python", "Python 9.9.1");
    keep(&nvm.join("versions/node"), "v97.1.0", "node", "v97.1.0");
    let run = |arguments: &[&str]| {
        let all = ["run"].iter().chain(arguments).copied().collect::<Vec<_>>();
        let mut command = project.command(&all);
        let output = command.env("PYENV_ROOT", &pyenv).env("NVM_DIR", &nvm).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), text)
    };
    let (code, text) = run(&["--verbose"]);
    assert_eq!(code, Some(0), "{text}");
    for expected in ["Found Python 9.8.7 at ", "Found Node.js 97.1.0 at ", "  Python 9.8.7", "  v97.1.0"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    fs::remove_dir_all(pyenv.join("versions/9.8.7")).unwrap();
    let (code, text) = run(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("This step wants Python 9.8. Here is 3."), "{text}");
    assert!(text.contains("9.9.1 at "), "{text}");
}

#[test]
fn the_nearest_version_is_taken_where_any_will_do() {
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: NodeTool@0\n  inputs: { versionSpec: 97.2.x }\n- bash: node --version\n",
    );
    let nvm = tempfile::tempdir().unwrap();
    for version in ["96.9.0", "97.4.1", "99.0.0"] {
        keep(&nvm.path().join("versions/node"), version, "node", &format!("v{version}"));
    }
    let mut command = project.command(&["run", "--tools", "any"]);
    let output = command.env("NVM_DIR", nvm.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("The nearest, 97.4.1, is used all the same."), "{text}");
    assert!(text.lines().any(|line| line.trim() == "v97.4.1"), "{text}");
}

#[test]
fn a_tool_that_does_not_stop_telling_its_version_is_taken_at_its_word() {
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: NodeTool@0\n  inputs: { versionSpec: 97.x }\n",
    );
    let nvm = tempfile::tempdir().unwrap();
    keep(&nvm.path().join("versions/node"), "97.1.0", "node", "v97.1.0; while :; do echo v97.1.0; done");
    let mut command = project.command(&["run", "--verbose"]);
    let output = command.env("NVM_DIR", nvm.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Found Node.js 97.1.0 at "), "{text}");
}

#[test]
fn steps_of_a_task_are_left_out_on_request() {
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: AzureCLI@2\n- task: CmdLine@2\n  inputs: { script: echo never }\n\
         - task: some.extension.its-task.Replace@3\n- bash: echo the rest\n",
    );
    let skipped = ["azurecli", "CmdLine@2", "Go@0", "replace@3"].map(|task| ["--skip-task", task]).concat();
    let ended = project.run(&skipped, 0);
    assert_has(&ended, "the rest");
    assert_has_not(&ended, "never");
    assert!(
        ended.stderr.contains("`--skip-task Go@0`: the pipeline has no step of that task"),
        "{}",
        ended.stderr
    );
}
