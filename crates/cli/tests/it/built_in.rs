//! Built-in tasks of Microsoft's catalogue, through `dayfly run`.

use crate::project::Project;
use crate::run::assert_has;

#[test]
fn files_are_copied_as_the_patterns_say() {
    let project = Project::with_pipeline(
        "steps:
- bash: |
    mkdir -p out/deep out/obj old && echo 1 > out/a.txt && echo 2 > out/deep/b.txt && echo 3 > out/obj/c.txt
    echo old > old/stale && touch -d 2001-02-03 out/a.txt && ln -s nowhere out/broken.log
- task: CopyFiles@2
  inputs:
    SourceFolder: out
    Contents: |
      **/*.txt
      !obj/**
    TargetFolder: old
    CleanTargetFolder: true
    preserveTimestamp: true
- bash: find old -type f | sort | tr '\\n' ' '; date -r old/a.txt +%Y
- task: CopyFiles@2
  inputs: {SourceFolder: out, Contents: '**/*.txt', TargetFolder: $(Build.ArtifactStagingDirectory), flattenFolders: true}
- task: CopyFiles@2
  inputs: {SourceFolder: out, Contents: a.txt, TargetFolder: $(Build.ArtifactStagingDirectory)}
- bash: ls $(Build.ArtifactStagingDirectory) | tr '\\n' ' '
- task: CopyFiles@2
  inputs: {SourceFolder: nothere, TargetFolder: x}
",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "found 2 files");
    assert_has(&ended, "old/a.txt old/deep/b.txt 2001");
    assert_has(&ended, "a.txt b.txt c.txt");
    assert_has(&ended, "already exist at");
    assert_has(&ended, "Not found SourceFolder: ");
}

#[test]
fn files_are_deleted_as_the_patterns_say() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: |
    mkdir -p t/bin t/obj/keep t/.vs other t2 && touch t/bin/x t/obj/y t/obj/keep/z t/.vs/s other/precious t2/f
    ln -s ../other t/link
- task: DeleteFiles@1
  inputs:
    SourceFolder: $(System.DefaultWorkingDirectory)/t
    Contents: |
      bin
      **/*
      !obj/keep/**
- bash: find t other | sort | tr '\\n' ' '
- task: DeleteFiles@1
  inputs: {SourceFolder: $(System.DefaultWorkingDirectory)/t2, Contents: '*', RemoveSourceFolder: true}
- bash: test ! -e t2 && echo all gone
- task: DeleteFiles@1
  inputs: {SourceFolder: $(System.DefaultWorkingDirectory)/t2, Contents: '*'}
",
    );
    let ended = project.run(&[], 0);
    assert_has(&ended, "other other/precious t t/.vs t/.vs/s t/obj t/obj/keep t/obj/keep/z");
    assert_has(&ended, "all gone");
    assert_has(&ended, "No files to delete.");
}

#[test]
fn archives_are_made_by_tar_and_zip() {
    let has_zip = std::process::Command::new("zip").arg("-v").output().is_ok();
    assert!(has_zip, "this test needs the program zip: install it");
    let project = Project::with_pipeline(
        "steps:
- bash: mkdir -p tree/sub && echo 1 > tree/a && echo 2 > tree/sub/b
- task: ArchiveFiles@2
  inputs: {rootFolderOrFile: tree, archiveType: tar, archiveFile: $(Build.ArtifactStagingDirectory)/new/t.tgz}
- bash: tar -tzf $(Build.ArtifactStagingDirectory)/new/t.tgz | sort | tr '\\n' ' '
- task: ArchiveFiles@2
  inputs: {rootFolderOrFile: tree, includeRootFolder: false, archiveFile: $(Build.ArtifactStagingDirectory)/t.zip}
- bash: unzip -Z1 $(Build.ArtifactStagingDirectory)/t.zip | sort | tr '\\n' ' '
- task: ArchiveFiles@2
  inputs: {rootFolderOrFile: tree/a, includeRootFolder: false, archiveFile: $(Build.ArtifactStagingDirectory)/t.zip}
- bash: unzip -Z1 $(Build.ArtifactStagingDirectory)/t.zip | sed 's/^/only /'
- task: ArchiveFiles@2
  inputs: {rootFolderOrFile: nothere}
",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "tree/ tree/a tree/sub/ tree/sub/b");
    assert_has(&ended, "a sub/ sub/b");
    assert_has(&ended, "Removing existing archive file before creation: ");
    assert_has(&ended, "only a");
    assert_has(&ended, "No file or directory found - ");
    assert_has(&ended, "Archive creation failed for archive file: ");
}

#[test]
fn test_results_are_summed_up_and_failed_tests_are_named() {
    let pipeline = |inputs: &str| {
        format!("steps:\n- task: PublishTestResults@2\n  inputs: {{{inputs}}}\n- script: echo went on\n")
    };
    let project = Project::with_pipeline(&pipeline("testResultsFormat: JUnit, testRunTitle: Unit"));
    project.write("a/TEST-one.xml", "<testsuite><testcase classname='a.B' name='works'/></testsuite>");
    project.write(
        "TEST-two.xml",
        "<testsuites><testsuite><testcase classname='a.B' name='breaks'><failure message='no'>text</failure>\
         </testcase><testcase name='later'><skipped/></testcase></testsuite></testsuites>",
    );
    let ended = project.run(&[], 0);
    assert_has(&ended, "TEST-one.xml: 1 tests, 1 passed, 0 failed, 0 others");
    assert_has(&ended, "Unit: 3 tests, 1 passed, 1 failed, 1 others. Failed: a.B.breaks");
    assert_has(&ended, "went on");
    project.write("azure-pipelines.yml", &pipeline("failTaskOnFailedTests: true"));
    assert_has(&project.run(&[], 1), "There are one or more test failures detected in result files.");
    project.write("azure-pipelines.yml", &pipeline("testResultsFiles: '**/*.trx', testRunner: VSTest"));
    assert_has(&project.run(&[], 0), "No test result files matching '**/*.trx' were found.");
    project.write("TEST-two.xml", "<testsuite><testcase");
    project.write(
        "azure-pipelines.yml",
        &pipeline("testRunner: junit, failTaskOnFailureToPublishResults: true"),
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "Failed to read the test results of ");
    assert_has(&ended, "Tests: 1 tests, 1 passed");
}

#[test]
fn build_tools_of_the_machine_are_run() {
    for tool in ["python", "go", "cmake", "npm"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
        assert!(is_there, "this test needs the program {tool}: install it");
    }
    let project = Project::with_pipeline(
        "steps:
- task: PythonScript@0
  inputs: {scriptSource: inline, script: 'import sys; print(\"python got\", sys.argv[1:])', arguments: 'one \"two three\"'}
- task: Go@0
  inputs: {command: custom, customCommand: env, arguments: GOOS, workingDirectory: m}
- task: CMake@1
  inputs: {workingDirectory: out, cmakeArgs: '-S .. -B . -P ../say.cmake'}
- task: Npm@1
  inputs: {command: custom, customCommand: run greet --silent}
",
    );
    project.write("m/go.mod", "module m\n");
    project.write("say.cmake", "message(\"cmake is here\")\n");
    project.write("package.json", "{\"name\": \"p\", \"scripts\": {\"greet\": \"echo npm is here\"}}");
    let ended = project.run(&[], 0);
    assert_has(&ended, "python got ['one', 'two three']");
    assert_has(&ended, "linux");
    assert_has(&ended, "cmake is here");
    assert_has(&ended, "CMake exited with return code: 0");
    assert_has(&ended, "npm is here");
}

#[test]
fn a_build_tool_that_fails_fails_its_step() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- task: PythonScript@0
  inputs: {scriptSource: inline, script: raise SystemExit(3)}
  continueOnError: true
- task: PythonScript@0
  inputs: {scriptPath: nothere.py}
  continueOnError: true
- task: PythonScript@0
  inputs: {scriptSource: inline, script: 'import sys; sys.stderr.write(\"oh\")', failOnStderr: true}
  continueOnError: true
- task: Go@0
  inputs: {command: nothing}
  continueOnError: true
- task: Npm@1
  inputs: {command: publish}
",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "The process 'python' failed with exit code 3");
    assert_has(&ended, "The given path was not to a file: ");
    assert_has(&ended, "failed because one or more lines were written to the STDERR stream");
    assert_has(&ended, "The Go task failed with an error: Error: The process 'go' failed with exit code 2");
    assert_has(&ended, "npm publish needs the credentials of Azure DevOps");
}
