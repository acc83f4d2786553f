//! What `dayfly run` shows and takes, and what is left of it: names, values, logs, work folders.

use std::io::{BufRead as _, BufReader};

use crate::project::{Ended, Project};

#[track_caller]
fn assert_has(ended: &Ended, text: &str) {
    let all = format!("{}\n--- stderr\n{}", ended.stdout, ended.stderr);
    assert!(all.contains(text), "no `{text}` in\n{all}");
}

#[track_caller]
fn assert_has_not(ended: &Ended, text: &str) {
    let all = format!("{}\n--- stderr\n{}", ended.stdout, ended.stderr);
    assert!(!all.contains(text), "`{text}` in\n{all}");
}

fn events(ended: &Ended) -> Vec<serde_json::Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[test]
fn each_job_has_a_work_folder_of_its_own_which_goes_with_it() {
    let project = Project::with_pipeline(
        "jobs:
- job: one
  steps:
  - bash: echo > stale; echo > \"$AGENT_BUILDDIRECTORY/stale\"; mkdir -p \"$AGENT_TOOLSDIRECTORY/x\"
- job: two
  dependsOn: one
  steps:
  - checkout: none
  - bash: |
      ls -R \"$AGENT_WORKFOLDER\" | grep -E 'stale|^x$' || echo nothing of the other job
      echo \"folders: $(ls \"$AGENT_WORKFOLDER/..\")\"
",
    );
    let ended = project.run(&["--agents", "1"], 0);
    assert_has(&ended, "nothing of the other job");
    assert_has(&ended, "folders: two\n");
    let ended = project.run(&["--agents", "1", "--keep-work"], 0);
    let folder = ended.stderr.lines().find_map(|line| line.strip_prefix("work folders: ")).unwrap();
    assert!(std::path::Path::new(folder).join("one/1/s/stale").exists(), "{ended:?}");
    std::fs::remove_dir_all(std::path::Path::new(folder).parent().unwrap()).unwrap();
}

#[test]
fn submodules_come_as_they_lie_in_the_work_tree() {
    let world = Project::with_pipeline("steps: []");
    let git = |folder: &str, arguments: &[&str]| {
        let allow = ["-c", "protocol.file.allow=always", "-C", folder];
        world.git(&[&allow[..], arguments].concat())
    };
    for name in ["inner", "lib", "main"] {
        world.write(&format!("{name}/file"), name);
        git(name, &["init", "--quiet"]);
        git(name, &["add", "."]);
        git(name, &["commit", "--quiet", "--message", "first"]);
    }
    let absolute = world.path().join("inner").display().to_string();
    git("lib", &["submodule", "--quiet", "add", "../inner", "nested"]);
    git("lib", &["commit", "--quiet", "--message", "nested"]);
    git("main", &["submodule", "--quiet", "add", "../lib", "libs/lib"]);
    git("main", &["submodule", "--quiet", "add", &absolute, "absolute"]);
    git("main", &["submodule", "--quiet", "update", "--init", "--recursive"]);
    git("main", &["commit", "--quiet", "--message", "submodules"]);
    git("main", &["remote", "add", "origin", "https://nowhere.invalid/org/main"]);
    world.write("main/libs/lib/file", "changed");
    world.write("main/libs/lib/nested/untracked", "deep");
    world.write("main/absolute/file", "not pushed");
    git("main/absolute", &["commit", "--quiet", "--all", "--message", "not pushed"]);
    world.write(
        "main/azure-pipelines.yml",
        "jobs:
- job: deep
  steps:
  - checkout: self
    submodules: recursive
  - bash: for f in libs/lib/file libs/lib/nested/untracked absolute/file; do echo \"$f=$(cat $f)\"; done; git status --short
- job: shallow
  steps:
  - checkout: self
    submodules: true
    fetchDepth: 1
  - bash: echo \"shallow $(cat libs/lib/file) [$(ls libs/lib/nested)]\"; git -C absolute remote get-url origin
- job: none
  steps:
  - bash: echo \"none [$(ls libs/lib)]\"
",
    );
    let before = git("main", &["status", "--porcelain"]);
    let mut command = world.command(&["run"]);
    let ended = Ended::from(command.current_dir(world.path().join("main")).output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for text in ["libs/lib/file=changed", "nested/untracked=deep", "absolute/file=not pushed"] {
        assert_has(&ended, text);
    }
    for text in ["shallow changed []", &format!("  {absolute}\n").replace("  ", ""), "none []"] {
        assert_has(&ended, text);
    }
    assert_has_not(&ended, "warning:");
    assert_eq!(git("main", &["status", "--porcelain"]), before);

    // What is not checked out can only come from its URL, and whoever needs it is told before.
    git("main/libs/lib", &["submodule", "--quiet", "deinit", "--force", "nested"]);
    let mut command = world.command(&["run", "--job", "shallow"]);
    let ended = Ended::from(command.current_dir(world.path().join("main")).output().unwrap());
    assert_has(&ended, "not checked out here, so jobs fetch from their URLs: `libs/lib/nested`;");
    let mut command = world.command(&["run", "--job", "none"]);
    let ended = Ended::from(command.current_dir(world.path().join("main")).output().unwrap());
    assert_has_not(&ended, "not checked out here");
}

#[test]
fn folders_of_dead_runs_are_removed_at_the_next_start() {
    use std::os::unix::fs::DirBuilderExt as _;
    let project = Project::with_pipeline("steps:\n- checkout: none\n- script: echo ran\n");
    let temporary = project.path().join("tmp");
    let make = |name: &str, has_lock: bool| {
        let folder = temporary.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
        std::fs::write(folder.join("script.sh"), "").unwrap();
        if has_lock {
            std::fs::write(folder.join(".lock"), "").unwrap();
        }
        folder
    };
    let (dead, kept, other) =
        (make("dayfly-run-dead", true), make("dayfly-run-kept", false), make("other", true));
    let ended = Ended::from(project.command(&["run"]).env("TMPDIR", &temporary).output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!dead.exists() && kept.exists() && other.exists());
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 2, "its own folder is gone as well");
}

#[test]
fn scripts_without_a_name_are_called_by_their_first_line() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- script: echo one
- bash: |
    # says two
    set -e
    echo two
- script: |
    exit 3
",
    );
    let ended = project.run(&[], 1);
    for text in ["▸ echo one\n", "✓ echo two ", "error: Job / exit 3: Bash exited with code '3'."] {
        assert_has(&ended, text);
    }
    assert_has_not(&ended, "CmdLine");
    let ended = project.run(&["--json"], 1);
    let steps: Vec<_> =
        events(&ended).iter().filter_map(|event| event["step"].as_str().map(str::to_owned)).collect();
    assert!(steps.contains(&"echo two".to_owned()), "{steps:?}");
}

#[test]
fn names_that_nobody_wrote_are_not_shown() {
    let project = Project::with_pipeline("steps:\n- checkout: none\n- script: echo x\n");
    let ended = project.run(&["--json", "--log-dir", "logs"], 0);
    assert_has_not(&ended, "__default");
    let events = events(&ended);
    let job = events.iter().find(|event| event["event"] == "jobStarted").unwrap();
    assert_eq!((&job["job"], job.get("stage")), (&serde_json::json!("Job"), None));
    assert!(events.iter().any(|event| event["event"] == "jobQueued"));
    assert!(project.path().join("logs/Job").is_dir());
    let list = project.run(&["--list", "--json"], 0);
    assert_has_not(&list, "__default");
}

const GROUPS: &str = "variables:
- group: prod
- {name: own, value: file}
steps:
- checkout: none
- script: echo \"$(host) $(own) $(given) $(TOKEN)\"
";

#[test]
fn variables_come_from_files_and_groups() {
    let project = Project::with_pipeline(GROUPS);
    project.write(".env", "# values\nexport own=env\ngiven='from the file'\nboth=file\n");
    project.write(
        "prod.yml",
        "variables:\n  host: example.org\n  TOKEN: { value: hunter2-token, isSecret: true }\n",
    );
    let ended = project.run(&["--variables-file", ".env", "--variable-group", "Prod=@prod.yml"], 0);
    assert_has(&ended, "example.org file from the file ***");
    assert_has_not(&ended, "hunter2-token");
    assert_has_not(&ended, "warning:");
    let ended = project.run(&["--variables-file", ".env", "--variable", "GIVEN=by hand"], 0);
    assert_has(&ended, "file by hand");
    assert_has(&ended, "--variable-group prod=@FILE");
    let ended = project.run(&["--variable-group", "other=@prod.yml"], 0);
    assert_has(&ended, "the pipeline does not use the variable group `other`");
    project.write("broken.yml", "a: [hunter2]\n");
    for (arguments, wanted) in [
        (["--variables-file", "none.env"], "cannot read the variables in `none.env`"),
        (["--variables-file", "broken.yml"], "broken.yml:1:4: the variable `a` needs a text as its value"),
        (["--variable-group", "prod=prod.yml"], "expected NAME=@FILE"),
    ] {
        let ended = project.run(&arguments, 2);
        assert_has(&ended, wanted);
        assert_has_not(&ended, "hunter2");
    }
}

#[test]
fn logs_of_the_last_runs_are_there_and_a_failure_says_so() {
    let project = Project::with_pipeline(
        "jobs:
- job: good
  steps: [{ checkout: none }, { script: echo from good, displayName: Fine }]
- job: bad
  dependsOn: good
  steps:
  - checkout: none
  - script: echo my $(token); exit 1
    displayName: Break
",
    );
    let none = project.dayfly(&["logs"]);
    assert_eq!(none.code, Some(2));
    assert_has(&none, "`dayfly run` keeps those of its last runs");
    project.write("secret", "hunter2-secret");
    let ended = project.run(&["--secret", "token=@secret"], 1);
    assert_has(&ended, "hint: `dayfly logs bad` shows the whole log of that job\n");
    assert_has(&ended, "hint: `dayfly run --job bad --keep-work` runs only that job and keeps its folder\n");
    project.run(&["--job", "good"], 0);

    let list = project.dayfly(&["logs", "--list"]);
    let lines: Vec<_> = list.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("succeeded") && lines[1].contains("failed"), "{list:?}");
    let last = project.dayfly(&["logs"]);
    assert_has(&last, "from good");
    assert_has_not(&last, "Break");
    let failed = project.dayfly(&["logs", "--run", "2", "--failed"]);
    assert_has(&failed, "my ***");
    assert_has(&failed, "##[section]Starting: Break");
    for text in ["from good", "hunter2-secret", "Initialize job"] {
        assert_has_not(&failed, text);
    }
    let step = project.dayfly(&["logs", "--run", "2", "GOOD", "fin", "--paths"]);
    let path = step.stdout.lines().find(|line| line.contains("Fine")).unwrap();
    assert!(std::fs::read_to_string(path).unwrap().contains("from good"));
    let unknown = project.dayfly(&["logs", "--run", "2", "nowhere"]);
    assert_eq!(unknown.code, Some(2));
    assert_has(&unknown, "the run has no job `nowhere`; it has `good`, `bad`");
    assert_has(&project.dayfly(&["logs", "--run", "7"]), "there are logs of 2 runs only");
}

#[test]
fn grouped_output_shows_one_job_after_the_other() {
    let project = Project::with_pipeline(
        "jobs:
- job: first
  steps:
  - checkout: none
  - bash: for i in 1 2 3; do echo first $i; touch PATH/first; until [ -e PATH/second ]; do sleep 0.05; done; done
- job: second
  steps:
  - checkout: none
  - bash: until [ -e PATH/first ]; do sleep 0.05; done; for i in 1 2 3; do echo second $i; touch PATH/second; done
",
    );
    let yaml = project.read("azure-pipelines.yml").replace("PATH", &project.path().display().to_string());
    project.write("azure-pipelines.yml", &yaml);
    let ended = project.run(&["--output", "grouped", "--agents", "2"], 0);
    for job in ["first", "second"] {
        assert_has(&ended, &format!("\n{job}\n▸ "));
        assert_has(&ended, &format!("\n  {job} 1\n  {job} 2\n  {job} 3\n"));
    }
    assert_has_not(&ended, "│");
}

#[test]
fn places_in_files_can_be_clicked_on() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: |
    echo '##vso[task.logissue type=error;sourcepath=tests/b.py;linenumber=12]assertion failed'
    echo '##vso[task.logissue type=warning;sourcepath=c.py;linenumber=3;columnnumber=4;code=W1]odd'
  displayName: Test
",
    );
    let ended = project.run(&[], 0);
    for text in [
        "  error: tests/b.py:12: assertion failed\n",
        "  warning: c.py:3:4: W1: odd\n",
        "error: Job / Test: tests/b.py:12: assertion failed\n",
    ] {
        assert_has(&ended, text);
    }
}

#[test]
fn what_fails_for_certain_is_said_before_the_run_and_in_the_list() {
    let project = Project::with_pipeline(
        "resources:
  repositories: [{ repository: tools, type: git, name: elsewhere }]
  containers: [{ container: boxes, image: ubuntu:22.04 }]
jobs:
- job: boxed
  condition: false
  container: ubuntu:22.04
  steps: [{ checkout: none }]
- job: served
  condition: false
  services: { db: postgres }
  steps: [{ checkout: tools }]
- job: targets
  condition: false
  steps: [{ bash: echo, target: boxes }]
- job: shells
  steps:
  - checkout: none
  - pwsh: Write-Host hi
    condition: false
",
    );
    let programs = project.few_programs();
    let with =
        |arguments: &[&str]| Ended::from(project.command(arguments).env("PATH", &programs).output().unwrap());
    let list = with(&["run", "--list"]);
    for text in [
        "container: cannot run here",
        "services: cannot run here",
        "steps in containers: cannot run here",
        "tools  not available here",
    ] {
        assert_has(&list, text);
    }
    let ended = with(&["run"]);
    for text in [
        "`boxed`, `served`, `targets` will fail unless a condition skips them: containers need Docker or Podman, \
         and `docker` is not on the PATH; `podman` is not on the PATH",
        "jobs that check out `tools` will fail: the address of the repository `elsewhere` is not known",
        "`pwsh` is not on the PATH: PowerShell steps will fail",
    ] {
        assert_has(&ended, text);
    }
}

#[test]
fn a_file_that_is_not_there_is_an_object_for_programs() {
    let project = Project::with_pipeline("steps: []");
    for arguments in
        [&["--json", "nowhere.yml"][..], &["--json", "--job", "nowhere"], &["--json", "--secret", "a=@none"]]
    {
        let ended = project.run(arguments, 2);
        assert_eq!(ended.stderr, "");
        let object: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(object["diagnostics"][0]["severity"], "error", "{object}");
        assert!(object["diagnostics"][0]["message"].is_string(), "{object}");
    }
}

#[test]
fn steps_tell_how_far_they_are() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: |
    for percent in $(seq 40 99); do
        echo '##vso[task.setprogress value='$percent';]Linking'
        [ ! -e PATH/seen ] || exit 0; sleep 0.1
    done
  displayName: Build
",
    );
    let yaml = project.read("azure-pipelines.yml").replace("PATH", &project.path().display().to_string());
    project.write("azure-pipelines.yml", &yaml);
    let mut child = project.command(&["run", "--json"]).spawn().unwrap();
    let mut told = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["event"] == "stepProgress" {
            project.write("seen", "");
            told.push((event["percent"].as_i64(), event["operation"].as_str().map(str::to_owned)));
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let is_of_the_step = |(percent, operation): &(Option<i64>, Option<String>)| {
        matches!(percent, Some(40..100)) && operation.as_deref() == Some("Linking")
    };
    assert!(
        !told.is_empty() && told.iter().all(is_of_the_step),
        "the end of a step is no progress: {told:?}"
    );
}
