//! Tasks that the agent downloads and runs by Node, from the pipeline to the log.

use std::fs;
use std::path::Path;

use dayfly_protocol::TaskResult;
use serde_json::{Value, json};

use crate::service::{Process, Service};

/// A task of the service.
fn task(folder: &Path, name: &str, id: u128, manifest: Value, files: &[(&str, &str)]) {
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

/// Runs these jobs by an agent; the tasks are made first.
async fn run(jobs: &str, tasks: impl FnOnce(&Path)) -> (TaskResult, String) {
    let folder = tempfile::tempdir().unwrap();
    tasks(folder.path());
    let path = folder.path().to_owned();
    let service = Service::new(move |settings| settings.tasks_folder = Some(path)).await;
    let _agent = Process::spawn(&mut service.agent("one", &[]));
    service.online("one").await;
    service.pipeline(jobs).await
}

const GREET: &str = r"
const e = process.env;
const find = (prefix) => Object.keys(e).filter((name) => name.startsWith(prefix)).sort().join(',');
console.log(`greets ${e.INPUT_WHOM} in ${e.INPUT_TONE} at ${e.INPUT_PLACE}`);
console.log(`runs in ${process.cwd() === __dirname ? 'its folder' : process.cwd()}`);
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
                    ("lib/main.js", &GREET.replace("__dirname", "require('path').dirname(__dirname)")),
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
        "/s/sub/folder",
        "runs in its folder",
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
        let windows = json!({ "execution": { "PowerShell3": { "target": "a.ps1" } } });
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
        "(The task Windows has: PowerShell3.)",
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
