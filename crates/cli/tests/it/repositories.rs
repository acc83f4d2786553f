//! Templates of other repositories.

use std::fs;
use std::path::Path;

use crate::project::Project;
use crate::run::assert_has;

const PIPELINE: &str = "resources:\n  repositories:\n  - repository: Templates\n    type: git\n    name: shared/templates\n    ref: refs/heads/stable\n\
                        extends:\n  template: ci/whole.yml@templates\n  parameters: { who: world }\n";

/// The repository with the templates.
fn templates(folder: &Path) {
    fs::create_dir_all(folder.join("ci/steps")).unwrap();
    let whole = "parameters:\n- name: who\nsteps:\n- checkout: none\n- template: steps/greet.yml\n  parameters: { who: '${{ parameters.who }}' }\n\
                 - template: own.yml@self\n";
    fs::write(folder.join("ci/whole.yml"), whole).unwrap();
    let greet = "parameters:\n- name: who\nsteps:\n- bash: echo hello ${{ parameters.who }}\n";
    fs::write(folder.join("ci/steps/greet.yml"), greet).unwrap();
}

#[test]
fn templates_come_from_a_folder_that_is_given_and_from_there_again() {
    let project = Project::with_pipeline(PIPELINE);
    project.write("own.yml", "steps:\n- bash: echo from the own repository\n");
    let other = tempfile::tempdir().unwrap();
    templates(other.path());
    let given = format!("templates={}", other.path().display());
    let ended = project.run(&["--repository", &given], 0);
    assert_has(&ended, "hello world");
    assert_has(&ended, "from the own repository");
    fs::write(other.path().join("ci/steps/greet.yml"), "steps:\n- bsh: x\n").unwrap();
    let ended = project.run(&["--repository", &given], 2);
    assert!(ended.stderr.contains("ci/steps/greet.yml@templates:2:3"), "{}", ended.stderr);
    fs::remove_file(other.path().join("ci/steps/greet.yml")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", other.path().join("ci/steps/greet.yml")).unwrap();
    let ended = project.run(&["--repository", &given], 2);
    assert!(ended.stderr.contains("it is a link that leaves its repository"), "{}", ended.stderr);
}

/// By the user's own git, which here takes a folder for the service; afterwards without it.
#[test]
fn templates_are_cloned_once_and_there_without_a_network() {
    let project = Project::with_pipeline(PIPELINE);
    project.write("own.yml", "steps: []\n");
    let service = tempfile::tempdir().unwrap();
    let other = service.path().join("shared/_git/templates");
    templates(&other);
    let git = |arguments: &[&str]| {
        let done = std::process::Command::new("git").current_dir(&other).args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "--quiet", "--initial-branch", "stable"]);
    git(&["add", "."]);
    git(&["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "x"]);
    project.git(&["init", "--quiet"]);
    project.git(&["remote", "add", "origin", &format!("file://{}/own/_git/app", service.path().display())]);
    let cache = tempfile::tempdir().unwrap();
    let run = |code: i32| {
        let ended = project.command(&["run"]).env("XDG_CACHE_HOME", cache.path()).output().unwrap();
        let text = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(ended.status.code(), Some(code), "{text}");
        text
    };
    assert!(run(0).contains("hello world"));
    service.close().unwrap();
    assert!(run(0).contains("hello world"), "the copy is taken");
    fs::remove_dir_all(cache.path().join("dayfly")).unwrap();
    let text = run(2);
    assert!(text.contains("cannot be copied") && text.contains("--repository Templates=FOLDER"), "{text}");
}

#[test]
fn a_repository_that_nobody_declares_is_told() {
    let project = Project::with_pipeline("steps:\n- template: a.yml@nowhere\n");
    let ended = project.run(&[], 2);
    assert!(ended.stderr.contains("declares no repository `nowhere`"), "{}", ended.stderr);
    let ended = project.run(&["--repository", "nowhere"], 2);
    assert!(ended.stderr.contains("expected ALIAS=FOLDER"), "{}", ended.stderr);
}
