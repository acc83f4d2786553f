//! Built-in tasks of Microsoft's catalogue, through `dayfly run`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::project::{Ended, Project};
use crate::run::{assert_has, assert_has_not};

/// These programs are on the path, else the test says which to install.
fn need(programs: &[&str]) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in programs {
        let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        assert!(is_there, "this test needs the program {program}: install it");
    }
}

/// Runs the project with programs before all others on the path that stand for those which cannot be had.
fn run_with(project: &Project, programs: &[(&str, &str)], arguments: &[&str], code: i32) -> Ended {
    let folder = project.path().join(".programs");
    fs::create_dir_all(&folder).unwrap();
    for (name, script) in programs {
        fs::write(folder.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut all = vec!["run"];
    all.extend(arguments);
    let ended = Ended::from(project.command(&all).env("PATH", path).output().unwrap());
    assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
    ended
}

#[test]
fn files_are_copied_as_the_patterns_say() {
    let project = Project::with_pipeline(
        "steps:
- bash: |
    mkdir -p out/deep out/obj old && echo 1 > out/a.txt && echo 2 > out/deep/b.txt && echo 3 > out/obj/c.txt
    echo old > old/stale && touch -d 2001-02-03 out/a.txt && ln -s nowhere out/broken.log
    ln -s . out/loop && ln -s ../deep out/deep/again
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
    need(&["zip", "unzip"]);
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
fn logging_commands_publish_results_and_coverage() {
    let project = Project::with_pipeline(
        "steps:
- bash: |
    echo '##vso[results.publish type=JUnit;runTitle=Py;mergeResults=false]a.xml,b.xml'
    echo '##vso[codecoverage.publish codecoveragetool=Cobertura;summaryfile=c.xml;reportdirectory=pages]'
- bash: echo '##vso[results.publish type=JUnit;failTaskOnFailedTests=true;resultFiles=b.xml]'
  continueOnError: true
- bash: echo '##vso[results.publish type=JUnit]broken.xml'
- bash: echo '##vso[results.publish type=Mocha]a.xml'
",
    );
    project.write("a.xml", "<testsuite><testcase name='works'/></testsuite>");
    project.write("b.xml", "<testsuite><testcase name='breaks'><failure/></testcase></testsuite>");
    project.write("broken.xml", "<testsuite");
    project.write("c.xml", "<coverage lines-covered='7' lines-valid='8'/>");
    project.write("pages/index.html", "<html/>");
    let ended = project.run(&["--verbose"], 1);
    for text in [
        "Async Command Start: Publish test results",
        "Publishing test results to test run '",
        "Py: 2 tests, 1 passed, 1 failed, 0 others",
        "Failed: breaks",
        "Published Test Run : http://",
        "/_TestManagement/Runs?runId=",
        "Publishing coverage summary data to TFS server.",
        " Lines- 7 of 8 covered.",
        "as artifact 'Code Coverage Report_1'",
        "There are one or more test failures detected in result files.",
        "Failed to read the test results of ",
        "The test result format 'Mocha' is not known.",
    ] {
        assert_has(&ended, text);
    }
    // It is a warning of the step, which the end of the run repeats.
    let warning = ended.stderr.lines().chain(ended.stdout.lines()).find(|line| {
        line.starts_with("warning: Job / ") && line.contains("Failed to read the test results of ")
    });
    assert!(warning.is_some_and(|line| line.contains("broken.xml")), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn build_tools_of_the_machine_are_run() {
    need(&["python", "go", "cmake", "npm"]);
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
fn task_runners_of_node_are_run_from_the_path_or_from_the_project() {
    need(&["node", "npm"]);
    let project = Project::with_pipeline(
        "steps:
- task: gulp@1
  inputs: {targets: one two, gulpjs: node_modules/gulp/bin/gulp.js, arguments: '--say \"a b\"', workingDirectory: web}
- task: gulp@0
  inputs: {workingDirectory: web}
- task: Grunt@0
  inputs: {gruntCli: web/node_modules/gulp/bin/gulp.js, targets: three}
- task: Npm@0
  inputs: {cwd: web, command: run, arguments: greet --silent}
- task: gulp@1
  inputs: {gulpjs: gulp.js}
",
    );
    project.write("gulpfile.js", "");
    project.write("gruntfile.js", "");
    let says =
        "const words = process.argv.slice(2); console.log('ran', JSON.stringify(words)); process.exit(0)";
    project.write("web/node_modules/gulp/bin/gulp.js", says);
    project.write("web/package.json", "{\"name\": \"p\", \"scripts\": {\"greet\": \"echo npm is here\"}}");
    let ended = project.run(&[], 1);
    assert_has(&ended, "ran [\"one\",\"two\",\"--gulpfile\",\"/");
    assert_has(&ended, "/s/gulpfile.js\",\"--say\",\"a b\"]");
    assert_has(&ended, "gulp exited with return code: 0");
    assert_has(&ended, "ran [\"three\",\"--gruntfile\",\"/");
    assert_has(&ended, "Grunt exited with return code: 0");
    assert_has(&ended, "npm is here");
    assert_has(&ended, "and it is not in the local working folder: /");
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

#[test]
fn archives_are_extracted_by_tar_and_unzip() {
    need(&["zip", "unzip"]);
    let project = Project::with_pipeline(
        "steps:
- bash: mkdir -p in/deep out && echo 1 > in/a && echo 2 > in/deep/b && tar -czf one.tgz in && zip -qr in/deep/two.zip in && echo old > out/old
- task: ExtractFiles@1
  inputs:
    archiveFilePatterns: |
      one.tgz
      in/**/*.zip
    destinationFolder: out
    overwriteExistingFiles: true
- bash: find out -type f | sort | tr '\\n' ' '
- task: ExtractFiles@1
  inputs: {archiveFilePatterns: '*.zip', destinationFolder: out, cleanDestinationFolder: false}
- bash: test -e out/in/a && echo still there && echo no archive > broken.zip
- task: ExtractFiles@1
  inputs: {archiveFilePatterns: broken.zip, destinationFolder: out2}
  continueOnError: true
- task: ExtractFiles@1
  inputs: {archiveFilePatterns: nothere.zip, destinationFolder: out3}
",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "Found: 2 files to extract:");
    assert_has(&ended, "out/in/a out/in/deep/b");
    assert_has_not(&ended, "out/old");
    assert_has(&ended, "No archives were found using specified file patterns");
    assert_has(&ended, "still there");
    assert_has(&ended, "Extraction failed for file: ");
    assert_has(&ended, "nothere.zip can not be extracted because it can not be accessed: ");
}

#[test]
fn code_coverage_is_summed_up() {
    let project = Project::with_pipeline(
        "steps:
- bash: mkdir -p $(Agent.TempDirectory)/x && cp cobertura.xml $(Agent.TempDirectory)/x/coverage.cobertura.xml
- task: PublishCodeCoverageResults@2
  inputs: {summaryFileLocation: $(Agent.TempDirectory)/**/coverage.cobertura.xml}
- task: PublishCodeCoverageResults@1
  inputs: {codeCoverageTool: JaCoCo, summaryFileLocation: '**/jacoco.xml'}
- task: PublishCodeCoverageResults@1
  inputs: {codeCoverageTool: Cobertura, summaryFileLocation: broken.xml}
- task: PublishCodeCoverageResults@2
  inputs: {summaryFileLocation: '**/nothing.xml', failIfCoverageEmpty: true}
",
    );
    project.write("cobertura.xml", "<coverage lines-covered='7' lines-valid='8'/>");
    project.write("jacoco.xml", "<report><counter type='LINE' missed='1' covered='3'/></report>");
    project.write("broken.xml", "<report");
    let ended = project.run(&[], 1);
    assert_has(&ended, "Code coverage: 87.50 % (7 of 8) lines");
    assert_has(&ended, "Code coverage: 75.00 % (3 of 4) lines");
    assert_has(&ended, "broken.xml: ");
    assert_has(&ended, "No code coverage results were found to publish.");
}

#[test]
fn maven_builds_and_its_tests_are_told_of() {
    need(&["mvn"]);
    let project = Project::with_pipeline(
        "steps:
- task: Maven@4
  inputs: {mavenPomFile: app/pom.xml, goals: validate, options: '-B -o -Dmessage=\"two words\"', mavenOptions: -Xmx256m}
- task: Maven@3
  inputs: {goals: nothing, options: -o}
  continueOnError: true
- task: Maven@3
  inputs: {mavenPomFile: app/pom.xml, goals: validate, jdkVersionOption: '1.4'}
",
    );
    let pom = "<project><modelVersion>4.0.0</modelVersion><groupId>g</groupId><artifactId>some-app</artifactId>\
               <version>1</version><packaging>pom</packaging></project>";
    project.write("app/pom.xml", pom);
    project.write(
        "app/target/surefire-reports/TEST-a.xml",
        "<testsuite><testcase name='good'/><testcase name='bad'><failure/></testcase></testsuite>",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "Apache Maven 3.");
    assert_has(&ended, "Building some-app 1");
    assert_has(&ended, "Tests: 2 tests, 1 passed, 1 failed, 0 others. Failed: bad");
    assert_has(&ended, "Not found mavenPOMFile: ");
    assert_has(&ended, "environment variable 'JAVA_HOME_4_X64' exists");
    assert_has(&ended, "dayfly run --tools any");
}

#[test]
fn ant_builds_and_its_tests_are_told_of() {
    need(&["ant"]);
    let project = Project::with_pipeline(
        "steps:
- task: Ant@1
  inputs: {buildFile: app/build.xml, options: '-Dwhom=\"all of us\"', targets: greet report}
- bash: cat app/out/greeting.txt
- task: Ant@1
  inputs: {buildFile: app/build.xml, targets: broken, codeCoverageToolOptions: JaCoCo, publishJUnitResults: false}
  continueOnError: true
- task: Ant@1
  inputs: {buildFile: app/none.xml}
",
    );
    project.write(
        "app/build.xml",
        "<project default='greet'>
<target name='greet'><mkdir dir='out'/><echo file='out/greeting.txt'>hello ${whom}</echo></target>
<target name='report' depends='greet'><echo file='out/TEST-a.xml'><![CDATA[
<testsuite><testcase name='good'/><testcase name='bad'><failure/></testcase></testsuite>]]></echo></target>
<target name='broken'><fail message='it is broken'/></target>
</project>",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "BUILD SUCCESSFUL");
    assert_has(&ended, "hello all of us");
    assert_has(&ended, "Tests: 2 tests, 1 passed, 1 failed, 0 others. Failed: bad");
    assert_has(&ended, "Dayfly builds without what this step adds to the build: JaCoCo.");
    assert_has(&ended, "it is broken");
    assert_has(&ended, "The process 'ant' failed with exit code 1");
    assert_has(&ended, "Not found antBuildFile: ");
}

#[test]
fn gradle_and_scripts_of_the_repository_are_run() {
    let project = Project::with_pipeline(
        "steps:
- task: Gradle@3
  inputs: {workingDirectory: app, gradleWrapperFile: app/gradlew, tasks: clean test, options: '-q --info', gradleOptions: -Xmx9m}
- task: ShellScript@2
  inputs: {scriptPath: tools/say.sh, args: 'one \"two three\"'}
- task: ShellScript@2
  inputs: {scriptPath: tools/say.sh, cwd: elsewhere}
- task: Gradle@4
  inputs: {gradleWrapperFile: app/gradlew, tasks: fail, codeCoverageTool: JaCoCo, publishJUnitResults: false}
",
    );
    project.write(
        "app/gradlew",
        "#!/bin/sh\necho \"gradlew in ${PWD##*/} with $GRADLE_OPTS: $*\"\ntest \"$1\" != fail\n",
    );
    project.write("tools/say.sh", "echo \"$# arguments in ${PWD##*/}\"\n");
    let ended = project.run(&[], 1);
    assert_has(&ended, "Used 'chmod' method for gradlew file to make it executable.");
    assert_has(&ended, "gradlew in app with -Xmx9m: -q --info clean test");
    assert_has(&ended, "No test result files matching **/TEST-*.xml were found");
    assert_has(&ended, "2 arguments in tools");
    assert_has(&ended, "0 arguments in elsewhere");
    assert_has(&ended, "Dayfly builds without what this step adds to the build: JaCoCo.");
    assert_has(&ended, "Gradle execution for task(s) fail failed with exit code 1.");
}

#[test]
fn nuget_packs_and_restores() {
    need(&["nuget"]);
    let project = Project::with_pipeline(
        "variables: {Wanted: 2.3.4}
steps:
- task: NuGetCommand@2
  inputs: {command: pack, packagesToPack: lib/lib.nuspec, packDestination: feed, versioningScheme: byEnvVar, versionEnvVar: Wanted}
- task: NuGetCommand@2
  inputs: {restoreSolution: '**/packages.config', feedsToUse: config, nugetConfigPath: nuget.config, restoreDirectory: packages}
- bash: cat packages/Some.App.2.3.4/content/words.txt
- task: NuGetCommand@2
  inputs: {command: custom, arguments: pack lib/lib.nuspec -Version 3.2.1}
- task: NuGetCommand@2
  inputs: {command: custom, arguments: nothing}
",
    );
    project.write(
        "lib/lib.nuspec",
        "<package><metadata><id>Some.App</id><version>1.0.0</version><authors>us</authors>\
         <description>words</description></metadata>\
         <files><file src='words.txt' target='content'/></files></package>",
    );
    project.write("lib/words.txt", "packed and restored");
    project.write("app/packages.config", "<packages><package id='Some.App' version='2.3.4'/></packages>");
    project.write(
        "nuget.config",
        "<configuration><packageSources><clear/><add key='ours' value='feed'/></packageSources></configuration>",
    );
    let ended = project.run(&[], 1);
    assert_has(&ended, "Successfully created package");
    assert_has(&ended, "Successfully installed 'Some.App 2.3.4'");
    assert_has(&ended, "Packages were restored successfully");
    assert_has(&ended, "packed and restored");
    assert_has(&ended, "Some.App.3.2.1.nupkg");
    assert_has(&ended, "The nuget command failed with exit code(");
}

/// Does of dotnet what its steps look at.
const DOTNET: &str = r#"echo "dotnet in ${PWD##*/}: $*"
case "$1 $2" in
    "test bad"*|*/bad.csproj) exit 1 ;;
    test*) echo "<TestRun><Results><UnitTestResult testName='t' outcome='Passed'/></Results></TestRun>" > "$6/$$.trx" ;;
    publish*) shift; while [ "$1" != -o ]; do shift; done; mkdir -p "$2" && echo app > "$2/app.dll" ;;
esac"#;

#[test]
fn dotnet_is_asked_for_what_the_inputs_say() {
    let project = Project::with_pipeline(
        "variables: {BuildConfiguration: Release}
steps:
- task: DotNetCoreCLI@2
  inputs: {command: restore, projects: '**/*.csproj', vstsFeed: some/feed}
- task: DotNetCoreCLI@2
  inputs:
    projects: |
      **/*.csproj
      !**/bad.csproj
    arguments: --configuration $(BuildConfiguration)
- task: DotNetCoreCLI@2
  inputs: {command: test, projects: '**/*.Tests.csproj', arguments: --no-build}
- task: DotNetCoreCLI@2
  inputs: {command: publish, arguments: -o $(Build.ArtifactStagingDirectory)}
- bash: cd $(Build.ArtifactStagingDirectory) && find . -type f && unzip -Z1 web.zip
- task: DotNetCoreCLI@2
  inputs: {command: pack, packagesToPack: web/web.csproj, versioningScheme: byEnvVar, versionEnvVar: Wanted, nobuild: true}
  env: {nothing: here}
- bash: echo '##vso[task.setvariable variable=Wanted]1.2.3'
- task: DotNetCoreCLI@2
  inputs: {command: pack, packagesToPack: web/web.csproj, versioningScheme: byEnvVar, versionEnvVar: Wanted, nobuild: true}
- task: DotNetCoreCLI@2
  inputs: {command: custom, custom: tool, arguments: install x}
- task: DotNetCoreCLI@2
  inputs: {projects: '**/bad.csproj'}
",
    );
    project.write("web/web.csproj", "<Project Sdk='Microsoft.NET.Sdk.Web'/>");
    project.write("lib/lib.Tests.csproj", "<Project Sdk='Microsoft.NET.Sdk'/>");
    project.write("bad/bad.csproj", "<Project/>");
    let pipeline = fs::read_to_string(project.path().join("azure-pipelines.yml")).unwrap();
    let lenient = pipeline.replace("  env: {nothing: here}", "  continueOnError: true");
    project.write(
        "azure-pipelines.yml",
        &lenient.replace("restore, projects: '**/*.csproj'", "restore, projects: web/*.csproj"),
    );
    let ended = run_with(&project, &[("dotnet", DOTNET)], &[], 1);
    for text in [
        "The feed of this step needs a login that only Azure DevOps gives",
        "web/web.csproj --configuration Release",
        "lib/lib.Tests.csproj --logger trx --results-directory ",
        "Tests: 1 tests, 1 passed",
        "./web.zip",
        "app.dll",
        "No value was found for the provided environment variable.",
        "--no-build /p:Configuration=Release /p:PackageVersion=1.2.3 --verbosity Normal",
        "tool install x",
        "Dotnet command failed with non-zero exit code on the following projects : [",
    ] {
        assert_has(&ended, text);
    }
    assert_has_not(&ended, "bad.csproj --configuration");
}

#[test]
fn where_nuget_is_missing_dotnet_restores() {
    let project = Project::with_pipeline(
        "steps:
- checkout: self
- task: NuGetToolInstaller@1
- task: NuGetCommand@2
  inputs: {restoreSolution: '**/*.sln', feedsToUse: config, nugetConfigPath: nuget.config}
",
    );
    project.write("app/all.sln", "");
    let programs = project.few_programs();
    fs::write(programs.join("dotnet"), format!("#!/bin/sh\n{DOTNET}\n")).unwrap();
    fs::set_permissions(programs.join("dotnet"), fs::Permissions::from_mode(0o755)).unwrap();
    let ended = Ended::from(project.command(&["run"]).env("PATH", &programs).output().unwrap());
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert_has(&ended, "There is no `nuget` on the PATH: `dotnet` does what it can of its work.");
    assert_has(&ended, "dotnet in app: restore ");
    assert_has(&ended, "--configfile ");
    assert_has(&ended, "Packages were restored successfully");
}

#[test]
fn images_are_built_and_pushed_by_what_is_there() {
    let project = Project::with_pipeline(
        "steps:
- task: Docker@2
  inputs: {command: login, containerRegistry: ours}
- task: Docker@2
  inputs:
    containerRegistry: ours
    repository: Team/App
    tags: |
      1
      latest
- task: Docker@2
  inputs: {command: build, repository: localhost:5000/app, tags: 2, Dockerfile: app/Dockerfile, buildContext: ., arguments: --pull, addPipelineData: false}
- task: Docker@2
  inputs: {command: push, repository: localhost:5000/app, tags: 2}
- task: Docker@1
  inputs: {azureSubscriptionEndpoint: azure, command: build, imageName: 'Team/App:3', includeLatestTag: true}
- task: Docker@1
  inputs: {azureSubscriptionEndpoint: azure, command: Push an image, imageName: 'Team/App:3'}
- task: Docker@0
  inputs:
    action: Run an image
    imageName: builder:1
    volumes: |
      /a:/b
      /c:/d
    containerCommand: make all
    detached: false
- task: Docker@2
  inputs: {command: build, Dockerfile: nothere/Dockerfile}
",
    );
    project.write("app/Dockerfile", "FROM scratch\n");
    let ended = run_with(&project, &[("docker", "echo \"docker $*\"")], &[], 1);
    for text in [
        "This step does not log in: The job has no service connection 'ours'.",
        "/app/Dockerfile --label com.azure.dev.image.system.teamfoundationcollectionuri=",
        "-t team/app:1 -t team/app:latest /",
        "The image is not pushed, since the registry is not known.",
        "/app/Dockerfile --pull --label ",
        "docker push localhost:5000/app:2",
        "-t team/app:3 -t team/app /",
        "docker run --rm -v /a:/b -v /c:/d builder:1 make all",
        "No Dockerfile matching ",
    ] {
        assert_has(&ended, text);
    }
}

#[test]
fn buildctl_builds_and_pushes_at_once() {
    let docker = |inputs: &str| {
        format!(
            "- task: Docker@2\n  condition: always()\n  inputs: {{repository: localhost:5000/app, Dockerfile: \
             app/My.Dockerfile, addPipelineData: false, {inputs}}}\n"
        )
    };
    let steps = [
        docker("tags: '1,latest'"),
        docker("command: build, arguments: --build-arg A=b --target out"),
        docker("command: build, arguments: --squash"),
        docker("command: push"),
    ];
    let project = Project::with_pipeline(&format!("steps:\n- checkout: self\n{}", steps.concat()));
    project.write("app/My.Dockerfile", "FROM scratch\n");
    let programs = project.few_programs();
    fs::write(programs.join("buildctl"), "#!/bin/sh\necho \"buildctl $*\"\n").unwrap();
    fs::set_permissions(programs.join("buildctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let ended = Ended::from(project.command(&["run"]).env("PATH", &programs).output().unwrap());
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    for text in [
        "buildctl build --frontend dockerfile.v0 --local context=/",
        "/app --opt filename=My.Dockerfile --opt label:com.azure.dev.image.system.teamfoundationcollectionuri=",
        " --output type=image,\"name=localhost:5000/app:1,localhost:5000/app:latest\",push=true",
        " --opt build-arg:A=b --opt target=out",
        "buildctl keeps no images: this one is built and not stored.",
        "buildctl does not know the argument '--squash' of docker build.",
        "The command 'push' needs docker, podman or buildah on the PATH",
    ] {
        assert_has(&ended, text);
    }
}

/// Says what it was asked for, and where it finds which logins: names and addresses are written in another
/// way, as all parts of a login are masked.
const LOGGED_IN: &str = r#"[ "$1" != context ] || { echo unix:///run/mine.sock; exit; }
echo "docker $* with $(grep -o '"[^"]*":{"auth":"[^"]*' "$DOCKER_CONFIG/config.json" 2>/dev/null | while IFS='"' read -r _ at _ _ _ login; do
    echo "${at#https:} by $(echo "$login" | base64 -d | sed 's/^./&-/')"
done | tr '\n' ' ')"
ls -l "$DOCKER_CONFIG/config.json" 2>/dev/null | cut -c1-10
echo "daemon ${DOCKER_HOST:-of the user}; the same file: $([ "$DOCKER_CONFIG/config.json" = "$REGISTRY_AUTH_FILE" ] && echo yes)""#;

/// Docker's tasks log in by service connections, for a step or until they log out.
#[test]
fn registries_are_logged_in_to_by_service_connections() {
    let project = Project::with_pipeline(
        "steps:
- task: Docker@2
  inputs: {containerRegistry: ours, repository: Team/App, tags: 1, addPipelineData: false, Dockerfile: app/Dockerfile}
- bash: echo after the first step ${DOCKER_CONFIG:-nothing}; ls $(Agent.TempDirectory)
- task: Docker@2
  inputs: {command: login, containerRegistry: hub}
- task: Docker@2
  inputs: {command: login, containerRegistry: azure}
- bash: docker from a script
- task: Docker@2
  inputs: {command: push, repository: team/app, tags: 2}
- task: Docker@1
  inputs: {dockerRegistryEndpoint: ours, command: push, imageName: 'Team/App:3'}
- task: Docker@2
  inputs: {command: logout, containerRegistry: hub}
- bash: docker after one logout
- task: Docker@2
  inputs: {command: logout}
- bash: echo after all ${DOCKER_CONFIG:-nothing}; ls $(Agent.TempDirectory)
- task: Docker@2
  inputs: {command: login, containerRegistry: federated}
",
    );
    project.write("app/Dockerfile", "FROM scratch\n");
    project.write("word", "p4ssw0rd-of-ours");
    project.write(
        "dayfly.toml",
        "[service-connections.ours]\nurl = 'https://r.example.com:5000'\ntype = 'dockerregistry'\n\
         scheme = 'UsernamePassword'\n\
         parameters = { registry = 'https://r.example.com:5000', username = 'ada', password = { file = 'word' } }\n\
         [service-connections.hub]\nurl = 'https://index.docker.io/v1/'\ntype = 'dockerregistry'\n\
         scheme = 'UsernamePassword'\n\
         parameters = { registry = 'https://index.docker.io/v1/', username = 'bob', password = { file = 'word' } }\n\
         [service-connections.azure]\nurl = 'https://one.azurecr.io'\ntype = 'dockerregistry'\n\
         scheme = 'ServicePrincipal'\ndata = { registrytype = 'ACR' }\n\
         parameters = { loginServer = 'One.azurecr.io', serviceprincipalid = 'eve', \
         serviceprincipalkey = { file = 'word' } }\n\
         [service-connections.federated]\nurl = 'https://one.azurecr.io'\ntype = 'dockerregistry'\n\
         scheme = 'WorkloadIdentityFederation'\ndata = { registrytype = 'ACR' }\n\
         parameters = { loginServer = 'One.azurecr.io' }\n",
    );
    let ended = run_with(&project, &[("docker", LOGGED_IN)], &[], 1);
    for text in [
        "-t r.example.com:5000/team/app:1 /",
        "docker push r.example.com:5000/team/app:1 with r.example.com:5000 by a-da:***",
        "-rw-------",
        "daemon unix:///run/mine.sock; the same file: yes",
        "after the first step nothing",
        "docker from a script with //index.docker.io/v1/ by b-ob:*** one.azurecr.io by e-ve:***",
        "docker push team/app:2 with //index.docker.io/v1/ by b-ob:*** one",
        "docker push one.azurecr.io/team/app:2 with //index.docker.io/v1/ by b-ob:*** one",
        "docker push r.example.com:5000/team/app:3 with //index.docker.io/v1/ by b-ob:*** one.azurecr.io by e-ve:*** r.example.com:5000 by a-da:***",
        "docker after one logout with one.azurecr.io by e-ve:*** ",
        "after all nothing",
        "The service connection 'federated' cannot be used for a registry: its login is an exchange with \
         Microsoft Entra",
    ] {
        assert_has(&ended, text);
    }
    assert_has_not(&ended, "DockerConfig_");
    assert_has_not(&ended, "p4ssw0rd");
}

#[test]
fn nothing_is_deployed_by_a_connection_that_is_not_known() {
    let project = Project::with_pipeline(
        "steps:
- task: KubernetesManifest@1
  inputs: {kubernetesServiceConnection: prod, manifests: '*.yml'}
- task: Kubernetes@1
  inputs: {connectionType: Azure Resource Manager, azureSubscriptionEndpoint: ours, command: get, arguments: pods}
- task: HelmDeploy@1
  inputs: {azureSubscription: ours, command: upgrade, chartName: a}
- bash: echo went on
",
    );
    let ended = Ended::from(project.command(&["run", "-v"]).env("KUBECONFIG", "/nowhere").output().unwrap());
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert_has(&ended, "This step is left out: The job has no service connection 'prod'.");
    assert_has(&ended, "This step is left out: The job has no service connection 'ours'.");
    assert_has(&ended, "- HelmDeploy skipped");
    assert_has(&ended, "went on");
    assert_has_not(&ended, "Kubectl Client");
}

#[test]
fn deployments_that_cannot_be_say_why() {
    let task =
        |task: &str, inputs: &str| format!("- task: {task}\n  inputs: {{{inputs}}}\n  condition: always()\n");
    let steps = [
        task("KubernetesManifest@1", "manifests: '*.yml'"),
        task("KubernetesManifest@1", "strategy: canary, percentage: 10, manifests: '*.yml'"),
        task("KubernetesManifest@1", "action: promote, manifests: '*.yml'"),
        task("KubernetesManifest@1", "action: apply"),
        task("KubernetesManifest@1", "action: bake, renderType: jsonnet"),
        task("Kubernetes@1", "kubernetesServiceEndpoint: empty, command: get, arguments: pods"),
        task(
            "Kubernetes@1",
            "connectionType: Azure Resource Manager, azureSubscriptionEndpoint: azure, command: get",
        ),
        task("HelmDeploy@0", "connectionType: None, command: init"),
        task("HelmDeploy@0", "connectionType: None, command: ls, enableTls: true"),
        task("HelmDeploy@0", "connectionType: None, command: save"),
    ];
    let project = Project::with_pipeline(&format!("steps:\n{}", steps.concat()));
    project.write(
        "dayfly.toml",
        "[service-connections.empty]\nurl = 'https://x'\n[service-connections.azure]\nurl = 'https://x'\n",
    );
    let mut command = project.command(&["run", "-v"]);
    let ended = Ended::from(command.env_remove("KUBECONFIG").output().unwrap());
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    for text in [
        "Input required: kubernetesServiceEndpoint. Name a service connection",
        "does not deploy canaries",
        "Promote action works only with strategy: canary",
        "This step has 'apply'.",
        "Unknown render engine 'jsonnet'.",
        "The service connection 'empty' has no `kubeconfig`",
        "there is no `az` on the PATH",
        "helm has had no command `init` since version 3",
        "are about Tiller",
        "Use the commands `package` and `push` of HelmDeploy@1.",
    ] {
        assert_has(&ended, text);
    }
}

#[test]
fn what_only_the_service_can_do_is_told_and_left() {
    let project = Project::with_pipeline(
        "steps:
- task: SonarCloudPrepare@3
- task: AzureWebApp@1
  inputs: {azureSubscription: ours, appName: a}
- task: Nothing@1
  condition: false
- task: ms-devlabs.custom-terraform-tasks.custom-terraform-release-task.TerraformTaskV4@4
- bash: exit 1
",
    );
    let ended = project.run(&["--verbose"], 1);
    assert_has(&ended, "This step is left out: it acts on a cloud by a service connection");
    assert_has(&ended, "This step has nothing to do: the analysis is a service");
    assert_has(&ended, "This step is left out: it acts on Azure by a service connection");
    assert_has(&ended, "- AzureWebApp skipped");
    let place = "azure-pipelines.yml:3";
    assert!(
        ended
            .stderr
            .contains(&format!("steps of `AzureWebApp@1` ({place}), `ms-devlabs.custom-terraform-tasks.")),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("Dayfly cannot run `Nothing@1` (azure-pipelines.yml:5)"),
        "{}",
        ended.stderr
    );
    assert_has(&project.run(&["--list"], 0), "left out here");
    let strict = project.run(&["--strict"], 2);
    assert!(
        strict.stderr.contains("nothing was run, as `--strict` asks for: Dayfly cannot run"),
        "{}",
        strict.stderr
    );
    assert_eq!(strict.stdout, "");
}
