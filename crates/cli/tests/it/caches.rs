//! The task Cache: what a run keeps, and what later ones get, through `dayfly run` and through an agent.

use std::fs;

use dayfly_protocol::TaskResult;

use crate::project::{Ended, Project};
use crate::run::{assert_has, assert_has_not};
use crate::service::{Process, Service};

/// A pipeline that keeps `deps` by the file `lock`, and says what it had of it. `$(more)` are more of its
/// inputs, `$(end)` is what its last step runs.
const PIPELINE: &str = "parameters:
- {name: end, type: string, default: 'true'}
steps:
- task: Cache@2
  inputs:
    key: 'deps | \"$(Agent.OS)\" | lock, parts/*.lock, !parts/not.lock'
    restoreKeys: |
      deps | \"$(Agent.OS)\"
      deps
    path: deps
    cacheHitVar: HIT
- bash: |
    echo \"hit $(HIT), $(ls -A deps 2> /dev/null | tr '\\n' ' ')\"
    mkdir -p deps/deep && cat lock > deps/$(cat lock) && echo x > deps/deep/.hidden && chmod 755 deps/deep/.hidden
    ln -sf .hidden deps/deep/link
- bash: ${{ parameters.end }}
";

fn project() -> Project {
    let project = Project::with_pipeline(PIPELINE);
    project.write("lock", "one");
    project.write("parts/a.lock", "a");
    project.write("parts/not.lock", "n");
    project
}

fn run(project: &Project, arguments: &[&str], code: i32) -> Ended {
    project.run(&[&["--verbose"], arguments].concat(), code)
}

#[test]
fn a_cache_is_missed_kept_and_hit() {
    let project = project();
    let first = run(&project, &[], 0);
    for text in [
        "Resolving key:",
        " - deps ",
        " - \"Linux\" ",
        "[file pattern; matches: 2]",
        "   - s/lock         --> 7692C3AD3540BB803C020B3AEE66CD8887123234EA0C6E7143C0ADD73FF431ED",
        "   - s/parts/a.lock --> CA978112CA1BBDCAFAC231B39A23DC4DA786EFF8147C4E72B9807785AFEE48BB",
        "Resolved to: deps|\"Linux\"|",
        "There is a cache miss.",
        "hit false, \n",
        "Saved item.",
    ] {
        assert_has(&first, text);
    }
    let second = run(&project, &[], 0);
    for text in ["There is a cache hit: `deps|", "hit true, deep one", "already exists."] {
        assert_has(&second, text);
    }
    // What the key excludes changes nothing.
    project.write("parts/not.lock", "other");
    assert_has(&run(&project, &[], 0), "hit true, deep one");
    // Another lock file finds the newest that begins alike, and is kept by itself.
    project.write("lock", "two");
    let third = run(&project, &[], 0);
    assert_has(&third, "Resolving restore key:");
    assert_has(&third, "hit inexact, deep one");
    assert_has(&third, "Saved item.");
    assert_has(&run(&project, &[], 0), "hit true, deep one two");
    project.write("lock", "one");
    assert_has(&run(&project, &[], 0), "hit true, deep one \n");
}

#[test]
fn what_is_kept_is_whole() {
    let project = project();
    run(&project, &[], 0);
    let end = "end=test -x deps/deep/.hidden -a -L deps/deep/link && echo all is there; rm -r deps";
    let ended = run(&project, &["--parameter", end], 0);
    assert_has(&ended, "all is there");
}

#[test]
fn a_job_that_fails_keeps_nothing() {
    let project = project();
    let failed = run(&project, &["--parameter", "end=false"], 1);
    assert_has(&failed, "Skipping because the job status was not 'Succeeded'.");
    assert_has_not(&failed, "Saved item.");
    assert_has(&run(&project, &[], 0), "hit false");
}

/// Two pipelines do not find each other's caches, and a salt makes new ones.
#[test]
fn caches_are_a_pipelines_own() {
    let project = project();
    run(&project, &[], 0);
    let other = project.write("other.yml", PIPELINE);
    assert_has(&run(&project, &[other.to_str().unwrap()], 0), "hit false");
    assert_has(&run(&project, &["--variable", "AZP_CACHING_SALT=2"], 0), "hit false");
    assert_has(&run(&project, &["--variable", "AZP_CACHING_SALT=2"], 0), "hit true");
}

#[test]
fn faults_of_a_cache_step_are_told() {
    let project = Project::with_pipeline(
        "steps:
- task: Cache@2
  continueOnError: true
  inputs: {key: 'a | nothere.lock | no/*.lock', path: x}
- task: Cache@2
  continueOnError: true
  inputs: {key: 'a | **', path: x}
- task: Cache@2
  continueOnError: true
  inputs: {path: x}
",
    );
    let ended = project.run(&["--verbose"], 0);
    for text in [
        "File not found: nothere.lock",
        "No matching files found for pattern: no/*.lock",
        "`**` is a reserved key segment. For path glob, use `./**`.",
        "Input required: key",
        "Skipping because the job status was not 'Succeeded'.",
    ] {
        assert_has(&ended, text);
    }
    project.write(
        "azure-pipelines.yml",
        "steps:
- task: Cache@2
  inputs: {key: never, path: filled/by/nobody}
- task: Cache@2
  condition: false
  inputs: {key: skipped, path: x}
",
    );
    let ended = project.run(&["--verbose"], 1);
    assert_has(&ended, "Skipping because restore step did not run.");
    assert_has(&ended, "/filled/by/nobody to keep.");
}

#[test]
fn a_damaged_cache_fails_once() {
    let project = project();
    run(&project, &[], 0);
    let folder = project.cache().join("dayfly/caches");
    let tar = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "tar");
    let archive = fs::read_dir(folder).unwrap().map(Result::unwrap).find(tar).unwrap();
    fs::write(archive.path(), "no tar file at all").unwrap();
    assert_has(&run(&project, &[], 1), "The cache is damaged and was removed; the next run makes it anew.");
    assert_has(&run(&project, &[], 0), "hit false");
}

/// An agent on the machine of the emulator keeps caches as well.
#[tokio::test]
async fn an_agent_of_the_emulator_keeps_caches() {
    let service = Service::new(|_| {}).await;
    let _agent = Process::spawn(&mut service.agent("one", &[]));
    service.online("one").await;
    let jobs = "steps:\n- checkout: none\n- task: Cache@2\n  inputs: {key: all, path: deps, cacheHitVar: HIT}\n\
                - bash: echo hit $(HIT) && mkdir -p deps && touch deps/file\n";
    let (result, log) = service.pipeline(jobs).await;
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    assert!(log.contains("hit false") && log.contains("Saved item."), "{log}");
}
