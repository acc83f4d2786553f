//! Attacks on what is checked out, and on the login that git is given for it.

use dayfly_protocol::TaskResult;

use super::World;

/// What is needed to put an object in the place of another.
const OBJECTS: &str = r#"set -e
      printf evil > evil; evil=$(git hash-object -w evil); rm evil; blob=$(git rev-parse HEAD:file)
      path() { echo ".git/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-)"; }"#;

#[tokio::test]
async fn nothing_that_a_job_did_to_a_repository_decides_what_the_next_one_builds() {
    let world = World::new().await;
    let plants = [
        "git update-index --skip-worktree file; printf evil > file",
        "git replace -f $blob $evil; rm file",
        "git replace -f $blob $evil; git pack-refs --all; rm file",
        "mkdir -p $(dirname $(path $blob)); cp -f $(path $evil) $(path $blob); rm file; git checkout -f HEAD file; grep -q evil file",
        "git config core.hooksPath $PWD/../hooks; mkdir ../hooks; printf '#!/bin/sh\\nprintf evil > file' > ../hooks/post-checkout; chmod +x ../hooks/post-checkout",
    ];
    let mut jobs = String::from("jobs:\n");
    let mut before = String::new();
    // One after the other in one folder: each takes over what the one before left.
    for (number, plant) in plants.iter().enumerate() {
        jobs.push_str(&format!(
            "- job: Plant{number}\n{before}  steps:\n  - checkout: self\n    clean: true\n  - bash: |\n      {OBJECTS}\n      {plant}\n\
             - job: Use{number}\n  dependsOn: Plant{number}\n  steps:\n  - checkout: self\n    clean: true\n  - bash: echo \"{number} holds $(cat file)\"\n"
        ));
        before = format!("  dependsOn: Use{number}\n");
    }
    let (result, said) = world.service.pipeline(&jobs).await;
    assert_eq!(result, TaskResult::Succeeded, "{said}");
    for (number, plant) in plants.iter().enumerate() {
        assert!(said.contains(&format!("{number} holds true")), "{plant}: {said}");
    }
}

#[tokio::test]
async fn no_step_chooses_the_program_that_is_given_the_login() {
    let world = World::new().await;
    let jobs = r###"steps:
- bash: |
    mkdir -p ../bin; printf '#!/bin/sh\necho caught >> "%s"\nexit 1\n' "$HOME/caught" > ../bin/git; chmod +x ../bin/git
    for name in git-remote-http git-remote-https askpass; do cp ../bin/git ../bin/$name; done
    for name in PATH GIT_EXEC_PATH; do echo "##vso[task.setvariable variable=$name]$PWD/../bin"; done
    for name in GIT_ASKPASS GIT_SSH LD_PRELOAD GIT_PROXY_COMMAND; do echo "##vso[task.setvariable variable=$name]$PWD/../bin/askpass"; done
    for name in GIT_TRACE_CURL GIT_TRACE; do echo "##vso[task.setvariable variable=$name]$HOME/caught"; done
    echo "##vso[task.setvariable variable=GIT_CONFIG_COUNT]1"; echo "##vso[task.setvariable variable=GIT_CONFIG_KEY_0]http.proxy"
    echo "##vso[task.setvariable variable=GIT_CONFIG_VALUE_0]http://127.0.0.1:9"
    echo "##vso[task.prependpath]$PWD/../bin"
- checkout: self
"###;
    let (result, said) = world.service.pipeline(jobs).await;
    let caught = std::fs::read_to_string(world.service.path("home/caught"));
    assert!(caught.is_err(), "{caught:?}");
    assert_eq!(result, TaskResult::Succeeded, "{said}");
    let file = std::fs::read_to_string(world.service.path("work/victim/1/s/file"));
    assert_eq!(file.unwrap(), "true", "{said}");
}
