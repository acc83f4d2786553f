//! Artifacts from one job to another: what arrives is what was published.

use dayfly_emulator::{Fault, FaultRule};
use dayfly_protocol::TaskResult;

use crate::project::Project;
use crate::run::{assert_has, assert_has_not};
use crate::service::{Process, Service};

/// Makes a tree with all that is hard to carry. Names that only pipeline artifacts can have are in `odd`.
const TREE: &str = r#"
    set -e
    rm -rf p beside
    mkdir -p p/lib/deep p/odd p/none && cd p
    echo 1 > lib/a && echo 2 > lib/deep/b && touch lib/__init__.py
    ln -s lib lib64 && ln -s lib/a current && ln -s deep lib/same
    mkdir ../beside && echo out > ../beside/far && ln -s ../beside outside
    echo x > .hidden && echo p > '100%25.txt' && echo s > ' both ends ' && echo u > 'grün+ß&=#;.txt'
    echo l > "$(printf 'n%.0s' {1..250})" && echo c > CASE && echo c2 > case && echo d > -dash
    printf '#!/bin/sh\n' > run.sh && chmod 755 run.sh
    echo o > 'odd/a:b?c*"<>|' && echo q > "odd/it's"
"#;

/// A pipeline that deploys what another one has built.
const DEPLOY: &str = "\
resources:
  pipelines:
  - { pipeline: Build, source: shop-ci, version: '20261128.7', trigger: true }
jobs:
- job: Look
  steps:
  - checkout: none
  - download: build
  - download: build
    artifact: docs
    path: $(Pipeline.Workspace)/only
  - bash: |
      cd $(Pipeline.Workspace)
      find build only -type f | sort
      echo from $(resources.pipeline.build.pipelineName) $(resources.pipeline.build.runName)
- deployment: Ship
  environment: shop
  strategy:
    runOnce:
      deploy:
        steps: [bash: 'echo shipped; ls $(Pipeline.Workspace)/Build']
";

#[test]
fn artifacts_of_another_pipeline_come_from_a_folder() {
    let build = Project::with_pipeline(
        "steps:\n- checkout: none\n- bash: mkdir -p app/bin docs; echo 1 >app/bin/shop; echo 2 >docs/a.md\n\
         - publish: app\n- publish: docs\n  artifact: docs\n",
    );
    build.run(&["--artifacts-dir", "out"], 0);
    let out = build.path().join("out");
    let deploy = Project::with_pipeline(DEPLOY);
    let ended = deploy.run(&["--artifacts-of", &format!("BUILD={}", out.display())], 0);
    for text in ["build/docs/a.md", "only/a.md", "/bin/shop", "from shop-ci 20261128.7", "  docs\n"] {
        assert_has(&ended, text);
    }
    // Without the folder it is said before the run and by the step. What deployments download by themselves
    // is what there is.
    let ended = deploy.run(&[], 1);
    assert_has(&ended, "shipped");
    assert_has(&ended, "The pipeline resource 'build' has no run whose artifacts could be downloaded.");
    let advice = "give a folder with its artifacts by `--artifacts-of build=FOLDER`";
    assert!(ended.stderr.contains(advice), "{}", ended.stderr);
    let refused = deploy.run(&["--strict"], 2).stderr;
    assert!(refused.contains(advice), "{refused}");
    assert_has(&deploy.run(&["--list"], 0), "not available here");
    let unknown = Project::with_pipeline("steps:\n- download: nobody\n").run(&["--strict"], 2).stderr;
    let reason = "from the pipeline `nobody` will fail: `resources.pipelines` does not have it";
    assert!(unknown.contains(reason), "{unknown}");
    let wrong = deploy.run(&["--artifacts-of", "other=."], 2).stderr;
    let reason = "the pipeline has no pipeline `other`; under `resources.pipelines` it has `Build`";
    assert!(wrong.contains(reason), "{wrong}");
}

/// A step that runs a script.
fn bash(script: &str) -> String {
    format!("  - bash: |\n      {}\n", script.trim().replace('\n', "\n      "))
}

#[test]
fn what_was_published_is_downloaded() {
    let make = bash(&format!("{TREE}    ln -s .. lib/up"));
    let compare = bash(&format!(
        "{TREE}    rm -r none && cd ..
    diff -r p $(Pipeline.Workspace)/drop && echo pipeline artifact is whole
    rm -r p/odd && diff -r p $(Pipeline.Workspace)/built && echo build artifact is whole
    test ! -x $(Pipeline.Workspace)/drop/run.sh && echo permissions are not kept"
    ));
    let project = Project::with_pipeline(&format!(
        "jobs:
- job: Make
  steps:
  - checkout: none
{make}  - publish: p
    artifact: drop
  - bash: rm -r p/odd
  - task: PublishBuildArtifacts@1
    inputs: {{ PathtoPublish: p, ArtifactName: built }}
- job: Use
  dependsOn: Make
  steps:
  - checkout: none
  - download: current
{compare}"
    ));
    let ended = project.run(&[], 0);
    for text in ["pipeline artifact is whole", "build artifact is whole", "permissions are not kept"] {
        assert_has(&ended, text);
    }
    assert_has(&ended, "/up', a link to a folder that holds it, and 1 more");
}

#[test]
fn artifactignore_says_what_stays_here() {
    let list = bash(
        "cd $(Pipeline.Workspace) && for a in chosen plain git built; do echo $a: $(cd $a && find . -type f | sort); done",
    );
    let project = Project::with_pipeline(&format!(
        "jobs:
- job: Make
  steps:
  - checkout: none
  - bash: mkdir -p out .git && echo o > out/o && echo k > .env && echo g > .git/config
  - publish: .
    artifact: plain
  - bash: touch .artifactignore
  - publish: .
    artifact: git
  - bash: printf '**/*\\n!out/**\\n' > .artifactignore
  - publish: $(System.DefaultWorkingDirectory)
    artifact: chosen
  - task: PublishBuildArtifacts@1
    inputs: {{ PathtoPublish: ., ArtifactName: built }}
- job: Use
  dependsOn: Make
  steps:
  - checkout: none
  - download: current
{list}"
    ));
    let ended = project.run(&[], 0);
    assert_has(&ended, "chosen: ./out/o\n");
    assert_has(&ended, "plain: ./.env ./out/o\n");
    assert_has(&ended, "git: ./.artifactignore ./.env ./.git/config ./out/o\n");
    assert_has(&ended, "built: ./.artifactignore ./.env ./.git/config ./out/o\n");
    assert_has(&ended, "Left out .git; an .artifactignore, also an empty one, takes it in");
}

#[test]
fn a_name_of_a_pipeline_artifact_is_used_once() {
    let publish = "  - checkout: none\n  - bash: mkdir -p d && echo $(System.JobDisplayName) > d/f\n  - publish: d\n    artifact: drop\n";
    let twice = Project::with_pipeline(&format!(
        "jobs:\n- job: A\n  steps:\n{publish}  - publish: d\n    artifact: DROP\n"
    ));
    assert_has(&twice.run(&[], 1), "Artifact DROP already exists for build 1.");
    let both =
        Project::with_pipeline(&format!("jobs:\n- job: A\n  steps:\n{publish}- job: B\n  steps:\n{publish}"));
    assert_has(&both.run(&[], 1), "Artifact drop already exists for build 1.");
    let other_kind = Project::with_pipeline(&format!(
        "jobs:\n- job: A\n  steps:\n{publish}  - task: PublishBuildArtifacts@1\n    inputs: {{ PathtoPublish: d }}\n"
    ));
    assert_has(&other_kind.run(&[], 1), "Artifact drop already exists for build 1.");
    let merged = "  - checkout: none\n  - bash: mkdir d && echo x > d/$(System.JobDisplayName)\n  - task: PublishBuildArtifacts@1\n    inputs: { PathtoPublish: d }\n";
    let merged = Project::with_pipeline(&format!(
        "jobs:\n- job: A\n  steps:\n{merged}- job: B\n  steps:\n{merged}- job: C\n  dependsOn: [A, B]\n  steps:\n  - checkout: none\n  - download: current\n  - bash: echo files $(ls $(Pipeline.Workspace)/drop)\n"
    ));
    assert_has(&merged.run(&[], 0), "files A B");
}

#[test]
fn what_cannot_be_kept_fails_at_once_and_says_why() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: mkfifo ff && mkdir fifo link colon back && mkfifo fifo/ff && ln -s nowhere link/l && touch colon/12:30 'back/a\\b'
- publish: ff
  artifact: a1
  continueOnError: true
- publish: fifo
  artifact: a2
  continueOnError: true
- publish: link
  artifact: a3
  continueOnError: true
- publish: back
  artifact: a4
  continueOnError: true
- task: PublishBuildArtifacts@1
  inputs: { PathtoPublish: ff, ArtifactName: b1 }
  continueOnError: true
- task: PublishBuildArtifacts@1
  inputs: { PathtoPublish: colon, ArtifactName: b2 }
  continueOnError: true
- bash: echo '##vso[artifact.upload artifactname=c1]fifo'
  continueOnError: true
- publish: none
  artifact: d1
  continueOnError: true
",
    );
    let ended = project.run(&[], 0);
    for text in [
        "/ff' is a named pipe, and an artifact holds only files",
        "/fifo/ff' is a named pipe",
        "/link/l' leads to 'nowhere', which does not exist",
        "contains '\\\\', which an artifact cannot hold; rename the file",
        "/colon/12:30\" contains ':', which an artifact cannot hold",
        "/none' does not exist",
    ] {
        assert_has(&ended, text);
    }
    assert_has_not(&ended, "next attempt");
    assert_has_not(&ended, "Associated artifact");
}

#[test]
fn names_have_marks_and_commands_take_empty_files() {
    let project = Project::with_pipeline(
        "jobs:
- job: Make
  steps:
  - checkout: none
  - bash: mkdir d && echo x > d/f && touch empty
  - task: PublishBuildArtifacts@1
    inputs: { PathtoPublish: d, ArtifactName: 'a+b%c {x}' }
  - publish: d/f
    artifact: '.ü & =#;'
  - bash: |
      echo \"##vso[task.uploadfile]$PWD/empty\"
      echo \"##vso[task.uploadsummary]$PWD/empty\"
      echo \"##vso[build.uploadlog]$PWD/empty\"
      echo \"##vso[artifact.upload artifactname=e]$PWD/empty\"
      echo '##vso[build.addbuildtag]tag one'
- job: Use
  dependsOn: Make
  steps:
  - checkout: none
  - download: current
    patterns: ''
  - bash: cd $(Pipeline.Workspace) && find . -type f -not -path './s/*' | sort
",
    );
    let ended = project.run(&[], 0);
    for text in ["./a+b%c {x}/f", "./.ü & =#;/f", "./e/empty", "following tags now: tag one"] {
        assert_has(&ended, text);
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_leaves_no_half_of_a_file() {
    let service = Service::new(|_| {}).await;
    let _agent = Process::spawn(&mut service.agent("a", &[]));
    service.online("a").await;
    // The list of the files is shorter than that.
    let fault = Fault::Truncate { bytes: 50_000 };
    let rule = FaultRule::new("**/Containers/*", fault).method("GET");
    let rule = service.emulator.add_fault(rule).unwrap();
    let (result, said) = service
        .pipeline(
            "steps:
- bash: mkdir p; head -c 100000 /dev/urandom > p/big; echo s > p/small
- publish: p
  artifact: drop
- download: current
  artifact: drop
- bash: echo \"there is $(ls -A $(Pipeline.Workspace)/drop | tr '\\n' ' ')\"
  condition: always()
",
        )
        .await;
    assert_eq!(result, TaskResult::Failed, "{said}");
    assert!(service.emulator.strikes(rule).unwrap() >= 4, "it was tried again");
    let there = said.lines().find_map(|line| line.split_once("Z there is ")).expect("it was listed").1;
    assert!(there.trim() == "small" || there.trim().is_empty(), "{there}");
}
