//! Tasks that the agent downloads and runs by Node, from the pipeline to the log.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use dayfly_emulator::{Fault, FaultRule};
use dayfly_protocol::TaskResult;
use dayfly_testing::eventually;
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::{Value, json};

use crate::project::Project;
use crate::service::{PAT, Process, Service};

/// A task of the service.
pub(crate) fn task(folder: &Path, name: &str, id: u128, manifest: Value, files: &[(&str, &str)]) {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut whole = json!({
        "id": uuid::Uuid::from_u128(id).to_string(), "name": name, "friendlyName": format!("{name} friendly"),
        "description": "A task of a test", "author": "Somebody", "helpMarkDown": "[help]", "inputs": [],
        "version": { "Major": 1, "Minor": 2, "Patch": 3 },
    });
    for (key, value) in manifest.as_object().unwrap() {
        whole[key] = value.clone();
    }
    fs::write(folder.join("task.json"), whole.to_string()).unwrap();
    for (file, content) in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// A script that can be run.
pub(crate) fn program(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs these jobs by an agent; the tasks are made first.
async fn run(jobs: &str, tasks: impl FnOnce(&Path)) -> (TaskResult, String) {
    run_with(jobs, &[], tasks).await
}

/// The same by an agent that has these programs before all others on its path.
async fn run_with(jobs: &str, programs: &[(&str, &str)], tasks: impl FnOnce(&Path)) -> (TaskResult, String) {
    let folder = tempfile::tempdir().unwrap();
    tasks(folder.path());
    let path = folder.path().to_owned();
    let service = Service::new(move |settings| settings.tasks_folder = Some(path)).await;
    let before = tempfile::tempdir().unwrap();
    for (name, script) in programs {
        program(before.path(), name, script);
    }
    let path = format!("{}:{}", before.path().display(), std::env::var("PATH").unwrap());
    let _agent = Process::spawn(service.agent("one", &[]).env("PATH", path));
    service.online("one").await;
    service.pipeline(jobs).await
}

const GREET: &str = r"
const e = process.env;
const find = (prefix) => Object.keys(e).filter((name) => name.startsWith(prefix)).sort().join(',');
console.log(`greets ${e.INPUT_WHOM} in ${e.INPUT_TONE} at ${e.INPUT_PLACE}`);
console.log(`runs in ${process.cwd()}`);
console.log(`secret of ${(e.SECRET_PASSWORD || '').length}, not ${e.PASSWORD}, ${e.VSTS_SECRET_VARIABLES.includes('password')}`);
console.log(`public ${e.COLOUR} ${JSON.parse(e.VSTS_PUBLIC_VARIABLES).includes('colour')}`);
console.log(`system ${find('ENDPOINT_AUTH_SCHEME')} ${!!JSON.parse(e.ENDPOINT_AUTH_SYSTEMVSSCONNECTION).parameters.AccessToken}`);
console.log(`from before ${e.VSTS_TASKVARIABLE_WORD}`);
console.log('##vso[task.setvariable variable=answer]forty-two');
console.log('##vso[telemetry.publish area=TaskHub;feature=Greet]{}');
";

#[tokio::test]
async fn a_task_runs_with_all_its_parts_and_what_the_library_reads() {
    let (result, log) = run(
        "variables:\n  colour: blue\nsteps:\n- checkout: none\n\
         - bash: 'echo \"##vso[task.setvariable variable=password;issecret=true]hush\"'\n\
         - task: Greet@1\n  displayName: Say it\n  inputs:\n    who: $(colour) world\n    place: sub/folder\n\
         - bash: echo it answered $(answer)\n",
        |folder| {
            let word = "console.log('##vso[task.settaskvariable variable=word]swordfish');";
            task(
                folder,
                "Greet",
                0x1111,
                json!({
                    "inputs": [
                        { "name": "whom", "type": "string", "aliases": ["who"] },
                        { "name": "tone", "type": "string", "defaultValue": "a $(colour) tone" },
                        { "name": "place", "type": "filePath" },
                    ],
                    "prejobexecution": { "Node16": { "target": "before.js" } },
                    "execution": { "Node10": { "target": "old.js" }, "Node20_1": { "target": "lib/main.js" } },
                    "postjobexecution": { "Node16": { "target": "after.js" } },
                }),
                &[
                    ("before.js", word),
                    ("old.js", "process.exit(9)"),
                    ("lib/main.js", GREET),
                    ("after.js", "console.log('after all of ' + process.env.INPUT_WHOM)"),
                ],
            );
        },
    )
    .await;
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    for line in [
        "Downloading task: Greet (1.2.3)",
        "##[section]Starting: Pre-job: Say it",
        "Task         : Greet friendly",
        "Help         : [help]",
        "greets blue world in a blue tone at ",
        "/s/sub/folder\n",
        "/s\n",
        "runs in /",
        "secret of 4, not undefined, true",
        "public blue true",
        "system ENDPOINT_AUTH_SCHEME_SYSTEMVSSCONNECTION true",
        "from before swordfish",
        "it answered forty-two",
        "##[section]Starting: Post-job: Say it",
        "after all of blue world",
    ] {
        assert!(log.contains(line), "no `{line}` in {log}");
    }
    assert!(!log.contains("telemetry"), "{log}");
}

#[tokio::test]
async fn what_a_task_says_of_its_end_counts() {
    let steps = "steps:\n- checkout: none\n- task: Say@1\n  continueOnError: true\n- task: Crash@1\n  continueOnError: true\n\
                 - task: Windows@1\n  continueOnError: true\n- task: Careful@1\n";
    let (result, log) = run(steps, |folder| {
        let node = |file: &str| json!({ "execution": { "Node20_1": { "target": file } } });
        let say = "console.log('##vso[task.complete result=Failed;]it is broken')";
        task(folder, "Say", 0x2221, node("a.js"), &[("a.js", say)]);
        task(folder, "Crash", 0x2222, node("a.js"), &[("a.js", "process.exit(3)")]);
        let windows = json!({ "execution": { "AzurePowerShell": { "target": "a.ps1" } } });
        task(folder, "Windows", 0x2223, windows, &[]);
        let mut careful = node("a.js");
        careful["restrictions"] = json!({ "settableVariables": { "allowed": ["good*"] } });
        let set = "console.log('##vso[task.setvariable variable=bad]1')";
        task(folder, "Careful", 0x2224, careful, &[("a.js", set)]);
    })
    .await;
    assert_eq!(result, TaskResult::SucceededWithIssues, "{log}");
    for line in [
        "##[error]Exit code 3 returned from process: file name '",
        "##[error]A supported task execution handler was not found.",
        "(The task Windows has: AzurePowerShell.)",
        "Setting variable 'bad' has been disabled by the task or build definition.",
    ] {
        assert!(log.contains(line), "no `{line}` in {log}");
    }
}

/// What nobody has fails its own step, so that a condition may skip it.
#[tokio::test]
async fn a_task_that_cannot_be_had_fails_only_where_it_runs() {
    let steps = "steps:\n- checkout: none\n- task: PackerBuild@1\n  condition: false\n- bash: echo first\n- task: PackerBuild@1\n";
    let (result, log) = run(steps, |_| {}).await;
    assert_eq!(result, TaskResult::Failed, "{log}");
    assert!(log.contains("first\n"), "{log}");
    assert!(log.contains("cannot run the task PackerBuild@1") && log.contains("could not download"), "{log}");
}

/// On the machine's own service, what is built in comes first unless the job says otherwise.
#[tokio::test]
async fn a_job_chooses_between_what_is_built_in_and_what_there_is() {
    let job = |name: &str, choice: &str| {
        format!(
            "- job: {name}\n  variables: {{Dayfly.BuiltInTasks: '{choice}'}}\n  steps:\n  - checkout: none\n  \
             - task: DeleteFiles@1\n    inputs: {{contents: nothing}}\n    displayName: as {name} wants\n"
        )
    };
    let jobs = [job("None", "None"), job("Named", "CopyFiles, DeleteFiles@1"), job("Other", "CopyFiles")];
    let (result, log) = run(&format!("jobs:\n{}", jobs.concat()), |folder| {
        let node = json!({ "execution": { "Node16": { "target": "a.js" } } });
        let says = "console.log('by the package')";
        task(folder, "DeleteFiles", 0xb7e8_b412_0437_4065_9371_edc5_881d_e25b, node, &[("a.js", says)]);
    })
    .await;
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    // A line is in the logs of its step and of its job.
    assert_eq!(log.matches("by the package").count(), 2, "{log}");
    let built_in = "Description  : Delete folders, or files matching a pattern";
    assert_eq!(log.matches(built_in).count(), 4, "{log}");
}

/// The machine has one Node: the newest handler that it can run is taken.
#[tokio::test]
async fn the_handler_fits_the_node_of_the_machine() {
    let node = "[ \"$1\" = --version ] && echo v18.19.0 && exit\nPATH=${PATH#*:} exec node \"$@\"";
    let steps = "steps:\n- checkout: none\n- task: Both@1\n- task: New@1\n";
    let (result, log) = run_with(steps, &[("node", node)], |folder| {
        let files =
            [("new.js", "console.log('by the new one')"), ("old.js", "console.log('by the old one')")];
        let both = json!({ "Node20_1": { "target": "new.js" }, "Node16": { "target": "old.js" } });
        task(folder, "Both", 0x3331, json!({ "execution": both }), &files);
        let new = json!({ "Node24": { "target": "new.js" } });
        task(folder, "New", 0x3332, json!({ "execution": new }), &files);
    })
    .await;
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    assert!(log.contains("by the old one") && log.contains("by the new one"), "{log}");
    let warning = "##[warning]The task New runs on Node.js 24 or newer (handler Node24), and `";
    assert!(log.contains(warning) && log.contains("is Node.js 18. It is tried with that."), "{log}");

    let (node, steps) = ("echo v14.21.3", "steps:\n- checkout: none\n- task: Both@1\n");
    let (result, log) = run_with(steps, &[("node", node)], |folder| {
        let manifest = json!({ "execution": { "Node16": { "target": "a.js" } } });
        task(folder, "Both", 0x3331, manifest, &[("a.js", "")]);
    })
    .await;
    assert_eq!(result, TaskResult::Failed, "{log}");
    assert!(log.contains("##[error]The task Both runs on Node.js 16 or newer (handler Node16)"), "{log}");
}

#[tokio::test]
async fn powershell_and_programs_are_handlers_too() {
    let steps = "steps:\n- checkout: none\n- task: Shell@1\n- task: Program@1\n  inputs: {file: whole, words: one two}\n\
                 - task: Strict@1\n  continueOnError: true\n";
    let pwsh = "echo \"pwsh gets $# words, input $INPUT_TONE\"; echo \"last: $5\"";
    let tasks = |folder: &Path| {
        let shell = json!({
            "inputs": [{ "name": "tone", "defaultValue": "low" }],
            "execution": { "PowerShell3": { "target": "a.ps1", "platforms": ["windows"] } },
        });
        let library = "ps_modules/VstsTaskSdk/VstsTaskSdk.psd1";
        task(folder, "Shell", 0x4441, shell, &[("a.ps1", ""), (library, "")]);
        let run = json!({
            "inputs": [{ "name": "file" }, { "name": "words" }, { "name": "failOnStandardError", "defaultValue": false }],
            "execution": { "Process": {
                "target": "$(currentdirectory)/$(file)", "argumentFormat": "$(words)", "workingDirectory": "$(Build.SourcesDirectory)",
            } },
        });
        task(folder, "Program", 0x4442, run, &[]);
        program(&folder.join("Program"), "whole", "echo \"got $# words in $PWD\"; echo aside >&2");
        let strict =
            json!({ "execution": { "Process": { "target": "echo", "argumentFormat": "wrong >&2" } } });
        task(folder, "Strict", 0x4443, strict, &[]);
    };
    let (result, log) = run_with(steps, &[("pwsh", pwsh)], tasks).await;
    assert_eq!(result, TaskResult::SucceededWithIssues, "{log}");
    for line in [
        "pwsh gets 5 words, input low",
        "last: Import-Module -Name '/",
        "Invoke-VstsTaskScript -ScriptBlock ([scriptblock]::Create('. ''/",
        "got 2 words in /",
        "aside\n",
        "##[error]wrong",
        "##[error]Process completed with exit code 0 and had 1 error(s) written to the error stream.",
    ] {
        assert!(log.contains(line), "no `{line}` in {log}");
    }
    assert!(!log.contains("##[error]aside"), "{log}");
}

/// What is wrong with a task, or with what a step gives it, is said with the task's name.
#[tokio::test]
async fn faults_of_tasks_and_inputs_are_told() {
    let steps = "steps:\n- checkout: none\n- task: Shell@1\n  continueOnError: true\n- task: Hollow@1\n  continueOnError: true\n\
                 - task: Newer@1\n  continueOnError: true\n- task: Wants@1\n  inputs: {pth: a, other: b}\n";
    let (result, log) = run(steps, |folder| {
        let shell = json!({ "execution": { "PowerShell3": { "target": "a.ps1" } } });
        task(folder, "Shell", 0x5551, shell, &[("a.ps1", "")]);
        let node = json!({ "execution": { "Node16": { "target": "gone.js" } } });
        task(folder, "Hollow", 0x5552, node, &[]);
        let mut newer = json!({ "execution": { "Node16": { "target": "a.js" } } });
        newer["minimumAgentVersion"] = "99.1.0".into();
        task(folder, "Newer", 0x5553, newer, &[("a.js", "")]);
        let wants = json!({
            "inputs": [
                { "name": "path", "required": true, "unheard": { "of": [1] } },
                { "name": "more", "required": true, "visibleRule": "path = x" },
            ],
            "execution": { "Node16": { "target": "a.js" } }, "groups": null, "Instance": 7,
        });
        task(folder, "Wants", 0x5554, wants, &[("a.js", "console.log('runs all the same')")]);
    })
    .await;
    assert_eq!(result, TaskResult::SucceededWithIssues, "{log}");
    for line in [
        "##[error]The task Shell runs on PowerShell (handler PowerShell3), and there is no `pwsh` on the PATH. Install",
        "##[error]The task Hollow names /",
        "/gone.js in its handler Node16, and there is no such file.",
        "##[error]The task Newer needs version 99.1.0 of Microsoft's agent, and Dayfly follows",
        "##[warning]The inputs of the task Wants: it has no input `other`; it has no input `pth` (did you mean `path`?); \
         it needs the input `path`, which is empty.",
        "runs all the same",
    ] {
        assert!(log.contains(line), "no `{line}` in {log}");
    }
}

/// A task may have nothing but what comes before and after all steps, such as Microsoft's InstallSSHKey.
#[tokio::test]
async fn a_task_without_a_main_part_does_what_it_has() {
    let steps =
        "steps:\n- checkout: none\n- task: Around@1\n  name: around\n- bash: echo between $(around.word)\n";
    let (result, log) = run(steps, |folder| {
        let around = json!({
            "prejobexecution": { "Node16": { "target": "pre.js" } },
            "postjobexecution": { "Node16": { "target": "post.js" } },
        });
        let pre = "console.log('##vso[task.setvariable variable=word;isoutput=true]given')";
        task(folder, "Around", 0x8881, around, &[("pre.js", pre), ("post.js", "console.log('is after')")]);
    })
    .await;
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    for text in ["between given", "is after"] {
        assert!(log.contains(text), "no `{text}` in {log}");
    }
}

/// A package that is no zip file, or not a whole one, fails its step by name; the next steps go on.
#[tokio::test]
async fn a_damaged_package_fails_its_step_alone() {
    let folder = tempfile::tempdir().unwrap();
    let node = json!({ "execution": { "Node16": { "target": "main.js" } } });
    for (name, id) in [("Torn", 0x7771), ("Whole", 0x7772)] {
        task(folder.path(), name, id, node.clone(), &[("main.js", "console.log('runs')")]);
    }
    let path = folder.path().to_owned();
    let torn = format!("_apis/distributedtask/tasks/{}/**", uuid::Uuid::from_u128(0x7771));
    let body = Fault::Body {
        status: 200,
        content_type: "application/zip".to_owned(),
        body: "PK\u{3}\u{4} and nothing else".to_owned(),
    };
    let service = Service::new(move |settings| {
        settings.tasks_folder = Some(path);
        settings.faults = vec![FaultRule::new(torn, body)];
    })
    .await;
    let _agent = Process::spawn(&mut service.agent("one", &[]));
    service.online("one").await;
    let steps = "steps:\n- checkout: none\n- task: Torn@1\n  continueOnError: true\n- task: Whole@1\n";
    let (result, log) = service.pipeline(steps).await;
    assert_eq!(result, TaskResult::SucceededWithIssues, "{log}");
    for text in ["the task Torn@1 (", "Torn 1.2.3", "runs"] {
        assert!(log.contains(text), "no `{text}` in {log}");
    }
}

/// Tasks of an organization are fetched once, and run without it.
#[tokio::test(flavor = "multi_thread")]
async fn pulled_tasks_run_without_the_organization() {
    let folder = tempfile::tempdir().unwrap();
    let node = |text: &str| json!({ "execution": { "Node16": { "target": text } } });
    let hello = [("main.js", "console.log(`hello ${process.env.INPUT_WHOM}`)")];
    let mut manifest = node("main.js");
    manifest["inputs"] = json!([{ "name": "whom" }]);
    task(folder.path(), "Hello", 0x6661, manifest, &hello);
    task(
        folder.path(),
        "UseNode",
        0x6662,
        node("main.js"),
        &[("main.js", "console.log('uses another node')")],
    );
    let path = folder.path().to_owned();
    let service = Service::new(move |settings| settings.tasks_folder = Some(path)).await;
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- task: Hello@1\n  inputs: {whom: world}\n- task: UseNode@1\n- task: Nobody@2\n  condition: false\n",
    );
    let listed = project.dayfly(&["tasks", "list", "azure-pipelines.yml"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    for line in ["stands in  UseNode@1 (azure-pipelines.yml:5)", "missing    Hello@1 (azure-pipelines.yml:3)"]
    {
        assert!(listed.stdout.contains(line), "no `{line}` in {}", listed.stdout);
    }
    assert!(listed.stderr.contains("dayfly tasks pull"), "{}", listed.stderr);
    let ended = project.run(&[], 1);
    assert!(ended.stderr.contains("Dayfly cannot run `Hello@1` (azure-pipelines.yml:3)"), "{}", ended.stderr);

    let url = service.emulator.url().to_string();
    let token = project.write("token", PAT);
    let pull = |more: &[&str]| {
        let token = token.to_str().unwrap();
        let all = [&["tasks", "pull", "--organization", &url, "--token-file", token], more].concat();
        project.dayfly(&all)
    };
    let unknown = pull(&["Hello", "Helo@1"]);
    assert_eq!(unknown.code, Some(2), "{}{}", unknown.stdout, unknown.stderr);
    assert!(unknown.stderr.contains("has no task `Helo@1`"), "{}", unknown.stderr);
    let first = pull(&[]);
    assert_eq!((first.code, first.stdout.as_str()), (Some(0), "Hello@1 (1.2.3)\n"), "{}", first.stderr);
    let second = pull(&[]);
    assert_eq!((second.code, second.stdout.as_str()), (Some(0), ""), "{}", second.stderr);
    assert!(second.stderr.contains("0 fetched, 1 were here, 0 failed"), "{}", second.stderr);

    drop(service);
    let listed = project.dayfly(&["tasks", "list"]);
    assert!(listed.stdout.contains("pulled     Hello@1\n"), "{}", listed.stdout);
    assert!(listed.stdout.contains("built in   CopyFiles@2\n"), "{}", listed.stdout);
    let ended = project.run(&["--verbose"], 0);
    assert!(ended.stdout.contains("hello world"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("uses another node"), "{}", ended.stdout);
}

/// A task that is named comes before what stands in for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_task_comes_before_a_stand_in() {
    let folder = tempfile::tempdir().unwrap();
    let node = json!({ "execution": { "Node16": { "target": "main.js" } } });
    task(folder.path(), "UseNode", 0x7771, node, &[("main.js", "console.log('uses another node')")]);
    let path = folder.path().to_owned();
    let service = Service::new(move |settings| settings.tasks_folder = Some(path)).await;
    let project = Project::with_pipeline("steps:\n- checkout: none\n- task: UseNode@1\n");
    let url = service.emulator.url().to_string();
    let arguments = ["tasks", "pull", "--organization", &url, "UseNode@1"];
    let refused = project.dayfly(&arguments);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("no token"), "{}", refused.stderr);
    let mut command = project.command(&arguments);
    let wrong = command.env("AZURE_DEVOPS_EXT_PAT", "wrong").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("wrong"));
    let pulled = project.command(&arguments).env("AZURE_DEVOPS_EXT_PAT", PAT).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&pulled.stdout), "UseNode@1 (1.2.3)\n");
    let ended = project.run(&["--verbose"], 0);
    assert!(ended.stdout.contains("uses another node"), "{}", ended.stdout);
}

/// Whoever sits at a terminal is asked for the token, and nothing shows it.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_that_is_typed_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let node = json!({ "execution": { "Node16": { "target": "main.js" } } });
    task(folder.path(), "Hello", 0x7772, node, &[("main.js", "")]);
    let path = folder.path().to_owned();
    let service = Service::new(move |settings| settings.tasks_folder = Some(path)).await;
    let project = Project::with_pipeline("steps: []");
    let terminal = openpty(None, None).unwrap();
    let side = || Stdio::from(terminal.slave.try_clone().unwrap());
    let url = service.emulator.url().to_string();
    let mut command = project.command(&["tasks", "pull", "--organization", &url, "Hello@1"]);
    for name in ["AZURE_DEVOPS_EXT_PAT", "AZ_PAT", "AZP_TOKEN"] {
        command.env_remove(name);
    }
    let child = command.stdin(side()).stderr(side()).spawn().unwrap();
    drop(command);
    let echoes = || tcgetattr(&terminal.slave).unwrap().local_flags.contains(LocalFlags::ECHO);
    eventually("the terminal shows nothing", || (!echoes()).then_some(())).await;
    let mut writer = File::from(terminal.master.try_clone().unwrap());
    writeln!(writer, "{PAT}").unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(echoes(), "the terminal is as it was");
    drop(terminal.slave);
    let (mut terminal, mut shown) = (File::from(terminal.master), Vec::new());
    // It fails when nobody has the other side any longer.
    let _ = terminal.read_to_end(&mut shown);
    let shown = String::from_utf8_lossy(&shown);
    assert_eq!(ended.status.code(), Some(0), "{shown}");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "Hello@1 (1.2.3)\n");
    assert!(shown.contains("Personal access token of the organization"), "{shown}");
    assert!(!shown.contains(PAT), "{shown}");
}
