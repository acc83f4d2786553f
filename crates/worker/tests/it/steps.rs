//! Whole jobs of script steps: log skeleton, results, conditions, retries, timeouts, cancellation,
//! environment.

use std::time::Duration;

use dayfly_protocol::TaskResult;
use dayfly_protocol::channel::{CancelReason, Course, FromWorker, Orders, StepStarted};
use serde_json::json;

use crate::job::{Job, bash_step, other_step, powershell_step, script_step};
use crate::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_script_has_the_official_log() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service).script("Say hello", "echo hello; echo world >&2").run().await;
    assert_eq!(result, TaskResult::Succeeded);
    let log = service.log("Say hello");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[..11],
        [
            "##[section]Starting: Say hello",
            "==============================================================================",
            "Task         : Command line",
            "Description  : Run a command line script using Bash on Linux and macOS and cmd.exe on Windows",
            "Version      : 2.279.1",
            "Author       : Microsoft Corporation",
            "Help         : https://docs.microsoft.com/azure/devops/pipelines/tasks/utility/command-line",
            "==============================================================================",
            "Generating script.",
            "Script contents:",
            "echo hello; echo world >&2",
        ]
    );
    assert_eq!(lines[11], "========================== Starting Command Output ===========================");
    assert!(
        lines[12].starts_with("[command]/") && lines[12].contains("/bash --noprofile --norc "),
        "{}",
        lines[12]
    );
    assert!(lines[13..].contains(&"hello") && lines[13..].contains(&"world"), "{log}");
    assert_eq!(lines.last(), Some(&"##[section]Finishing: Say hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_in_order_and_the_result_comes_last() {
    let service = Service::start().await;
    let job = Job::new(&service).script("one", "true").script("two", "true");
    let job_id = job.message.job_id.to_string();
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Succeeded);
    for (name, order) in [("Initialize job", 1), ("one", 2), ("two", 3), ("Finalize Job", 4)] {
        let record = service.record(name);
        assert_eq!(record["order"], json!(order), "{name}");
        assert_eq!(record["parentId"], json!(job_id), "{name}");
        assert_eq!(record["state"], json!("completed"), "{name}");
        assert_eq!(record["result"], json!("succeeded"), "{name}");
        assert!(record["log"]["id"].is_i64(), "{name} has a log");
    }
    service.look(|told| {
        assert_eq!(told.records[&job_id]["result"], json!("succeeded"));
        assert_eq!(told.events.len(), 1);
        assert_eq!(told.events[0]["name"], json!("JobCompleted"));
        assert_eq!(told.events[0]["jobId"], json!(job_id));
        assert_eq!(told.events[0]["requestId"], json!(17));
        assert_eq!(told.events[0]["result"], json!("succeeded"));
        assert!(told.console.iter().any(|(_, line)| line == "##[section]Finishing: two"));
    });
}

/// What the first attempt says of its end does not end the second one after five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_done_does_not_end_the_next() {
    let service = Service::start().await;
    let script =
        "if mkdir first 2>/dev/null; then echo '##vso[task.complete result=Failed;done=true]'; exit 1; fi
        sleep 6; echo second attempt";
    let mut step = script_step("try", script);
    step.retry_count_on_task_failure = 1;
    let (result, _folder) = Job::new(&service).step(step).run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("try"));
    assert!(service.log("try").contains("\nsecond attempt\n"), "{}", service.log("try"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_log_has_the_lines_of_all_steps() {
    let service = Service::start().await;
    let job = Job::new(&service).script("one", "echo alpha").script("two", "echo omega");
    let job_id = job.message.job_id.to_string();
    job.run().await;
    let text = service.look(|told| {
        let pages: Vec<u8> = told
            .logs
            .iter()
            .filter(|(path, _)| path.contains(&job_id))
            .flat_map(|(_, content)| content.clone())
            .collect();
        String::from_utf8(pages).expect("UTF-8")
    });
    let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("no {needle} in {text}"));
    assert!(at("##[section]Starting: Job") < at("Initialize job"));
    assert!(at("Z alpha") < at("Z omega"));
    assert!(at("Z omega") < at("##[section]Finishing: Job"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_fails_the_job_and_later_steps_are_skipped() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .script("bad", "exit 3")
        .script("after", "echo never")
        .step(conditional("cleanup", "always()"))
        .step(conditional("on failure", "failed()"))
        .step(conditional("either", "succeededOrFailed()"))
        .step(conditional("if cancelled", "canceled()"))
        .step(conditional("by variable", "and(failed(), eq(variables['Agent.JobStatus'], 'failed'))"))
        .run()
        .await;
    assert_eq!(result, TaskResult::Failed);
    for (name, expected) in [
        ("bad", "failed"),
        ("after", "skipped"),
        ("cleanup", "succeeded"),
        ("on failure", "succeeded"),
        ("either", "succeeded"),
        ("if cancelled", "skipped"),
        ("by variable", "succeeded"),
    ] {
        assert_eq!(service.result(name), expected, "{name}");
    }
    let bad = service.record("bad");
    assert_eq!(bad["errorCount"], json!(1));
    assert_eq!(bad["issues"][0]["message"], json!("Bash exited with code '3'."));
    assert!(bad["issues"][0]["data"]["logFileLineNumber"].is_string());
    assert!(service.log("bad").contains("##[error]Bash exited with code '3'."));
    let skipped = service.log("after");
    assert!(
        skipped.contains("Skipping step due to condition evaluation.\nEvaluating: succeeded()\n"),
        "{skipped}"
    );
    assert!(skipped.contains("Result: False"), "{skipped}");
    assert_eq!(service.record("after")["resultCode"], json!("Skipping step due to condition evaluation."));
}

fn conditional(name: &str, condition: &str) -> dayfly_protocol::job::Step {
    let mut step = script_step(name, "true");
    step.condition = Some(condition.to_owned());
    step
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_see_variables_of_the_job_and_of_earlier_steps() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .variable("flavour", "vanilla")
        .script("set", "echo '##vso[task.setvariable variable=later]yes'")
        .step(conditional("job variable", "eq(variables['Flavour'], 'VANILLA')"))
        .step(conditional("step variable", "eq(variables.later, 'yes')"))
        .step(conditional("missing", "eq(variables.nothing, '')"))
        .step(conditional("false", "ne(variables['flavour'], 'vanilla')"))
        .step(conditional("never", "failed()"))
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded);
    let results = ["job variable", "step variable", "missing", "false"].map(|name| service.result(name));
    assert_eq!(results, ["succeeded", "succeeded", "succeeded", "skipped"]);
    let log = service.log("false");
    assert!(log.contains("Expanded: ne('vanilla', 'vanilla')"), "{log}");
    let log = service.log("never");
    assert!(log.contains("Evaluating: failed()\nResult: False"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_is_none_fails_the_initialisation() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service).step(conditional("odd", "eq(1,")).run().await;
    assert_eq!(result, TaskResult::Failed);
    assert_eq!(service.result("Initialize job"), "failed");
    assert!(service.log("Initialize job").contains("Step 'odd': The condition 'eq(1,'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn continue_on_error_makes_an_issue_of_a_failure() {
    let service = Service::start().await;
    let mut step = script_step("flaky", "exit 1");
    step.continue_on_error = true;
    let (result, _folder) = Job::new(&service).step(step).script("after", "true").run().await;
    assert_eq!(result, TaskResult::SucceededWithIssues);
    assert_eq!(service.result("flaky"), "succeededWithIssues");
    assert_eq!(service.result("after"), "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_retried_until_it_succeeds() {
    let service = Service::start().await;
    let mut step = script_step(
        "flaky",
        "test -e $(Agent.TempDirectory)/seen || { touch $(Agent.TempDirectory)/seen; exit 1; }",
    );
    step.retry_count_on_task_failure = 3;
    let (result, _folder) = Job::new(&service).step(step).run().await;
    assert_eq!(result, TaskResult::Succeeded);
    let log = service.log("flaky");
    assert!(log.contains("will retry (attempt #: 1 out of 3) after 1000 ms"), "{log}");
    assert_eq!(log.matches("Generating script.").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_task_fails_with_a_message_that_names_it() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service).step(other_step("setup")).run().await;
    assert_eq!(result, TaskResult::Failed);
    let message = service.record("setup")["issues"][0]["message"].as_str().expect("an issue").to_owned();
    assert!(
        message.contains("cannot run the task PackerBuild@1") && message.contains("with a script"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_stops_the_step_and_runs_what_always_runs() {
    let service = Service::start().await;
    let running = Job::new(&service)
        .variable("PROCESS_SIGINT_TIMEOUT", "2000")
        .script("long", "trap 'echo interrupted; exit 9' INT; echo started; sleep 600 & wait")
        .script("next", "echo never")
        .step(conditional("cleanup", "always()"))
        .step(conditional("told", "canceled()"))
        .start();
    service
        .wait_for("the step's output", |told| told.console.iter().any(|(_, line)| line == "started"))
        .await;
    running.cancel(CancelReason::Requested);
    let (outcome, _folder) = running.wait().await;
    assert_eq!(outcome.result, TaskResult::Canceled);
    assert!(outcome.reported);
    let results = ["long", "next", "cleanup", "told"].map(|name| service.result(name));
    assert_eq!(results, ["canceled", "skipped", "succeeded", "succeeded"]);
    let log = service.log("long");
    assert!(log.contains("interrupted"), "the process had time to clean up: {log}");
    assert!(
        log.contains(
            "##[error]The Operation will be canceled. The next steps may not contain expected logs."
        ),
        "{log}"
    );
    assert!(log.contains("##[error]The operation was canceled."), "{log}");
    service.look(|told| assert_eq!(told.events[0]["result"], json!("canceled")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_step_that_always_runs_goes_on_when_the_job_is_cancelled() {
    let service = Service::start().await;
    let mut step = script_step(
        "thorough",
        "echo started; while [ ! -e $(Agent.TempDirectory)/go ]; do sleep 0.05; done; echo done",
    );
    step.condition = Some("always()".to_owned());
    let running = Job::new(&service).step(step).start();
    service
        .wait_for("the step's output", |told| told.console.iter().any(|(_, line)| line == "started"))
        .await;
    running.cancel(CancelReason::Requested);
    let job_is_told = |told: &crate::service::Told| told.events.is_empty();
    service.wait_for("no early end", job_is_told).await;
    std::fs::write(running.folder.path().join("work/_temp/go"), "").expect("written");
    let (outcome, _folder) = running.wait().await;
    assert_eq!(outcome.result, TaskResult::Canceled);
    assert_eq!(service.result("thorough"), "succeeded");
    assert!(service.log("thorough").contains("done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_listener_vanished_is_cancelled_and_reported() {
    let service = Service::start().await;
    let running = Job::new(&service)
        .variable("PROCESS_SIGINT_TIMEOUT", "100")
        .script("long", "echo started; sleep 600")
        .step(conditional("cleanup", "always()"))
        .start();
    service
        .wait_for("the step's output", |told| told.console.iter().any(|(_, line)| line == "started"))
        .await;
    let (outcome, _folder) = running.abandon().await;
    assert_eq!((outcome.result, outcome.reported), (TaskResult::Canceled, true));
    assert_eq!(service.result("cleanup"), "succeeded");
    assert!(service.everything().contains("The agent that accepted this job is gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn flushing_ends_even_what_always_runs() {
    let service = Service::start().await;
    let mut step = script_step("stubborn", "echo started; sleep 600");
    step.condition = Some("always()".to_owned());
    let running = Job::new(&service)
        .variable("PROCESS_SIGINT_TIMEOUT", "100")
        .step(step)
        .step(conditional("cleanup", "always()"))
        .start();
    service
        .wait_for("the step's output", |told| told.console.iter().any(|(_, line)| line == "started"))
        .await;
    running.order(Orders { flush_logs: true, ..Orders::default() });
    let (outcome, _folder) = running.wait().await;
    assert_eq!(outcome.result, TaskResult::Canceled);
    assert_eq!(service.result("cleanup"), "skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_names_each_step_with_secrets_masked() {
    let service = Service::start().await;
    let mut running = Job::new(&service)
        .secret("hush", "sesame-open")
        .script("the $(hush) step", "true")
        .script("two", "true")
        .start();
    let mut told = Vec::new();
    while let Some(frame) = running.progress.recv().await {
        told.push(frame);
    }
    let steps: Vec<(String, u32, u32)> = told
        .iter()
        .filter_map(|frame| match frame {
            FromWorker::Course(Course::Step(StepStarted { name, number, total })) => {
                Some((name.clone(), *number, *total))
            }
            _ => None,
        })
        .collect();
    assert_eq!(steps, [("the *** step".to_owned(), 1, 2), ("two".to_owned(), 2, 2)]);
    assert_eq!(told.last(), Some(&FromWorker::Course(Course::Reporting)));
    running.wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_plans_are_reported_by_the_listener() {
    let service = Service::start().await;
    let mut job = Job::new(&service).script("one", "true");
    job.message.plan.version = 7;
    let (outcome, _folder) = job.start().wait().await;
    assert_eq!((outcome.result, outcome.reported), (TaskResult::Succeeded, false));
    service.look(|told| assert!(told.events.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_is_sent_again_when_the_service_is_away() {
    let service = Service::start().await;
    service.look(|told| told.refuse_events = 2);
    let (result, _folder) = Job::new(&service).script("one", "true").run().await;
    assert_eq!(result, TaskResult::Succeeded);
    service.look(|told| assert_eq!(told.events.len(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_sees_its_variables_but_no_secrets_and_no_credentials() {
    let service = Service::start().await;
    let mut step = script_step("look", "env | sort; echo mapped=${#MAPPED}");
    step.environment.insert("MAPPED".to_owned(), "$(hush)".to_owned());
    step.environment.insert("Own.Name".to_owned(), "kept as it is".to_owned());
    let (result, folder) = Job::new(&service)
        .variable("My.Variable", "public $(flavour)")
        .variable("flavour", "vanilla")
        .secret("hush", "sesame-open")
        .step(step)
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded);
    let log = service.log("look");
    let work = folder.path().join("work");
    for line in [
        "MY_VARIABLE=public vanilla".to_owned(),
        "Own.Name=kept as it is".to_owned(),
        "TF_BUILD=True".to_owned(),
        "MAPPED=***".to_owned(),
        "mapped=11".to_owned(),
        "AGENT_NAME=agent-1".to_owned(),
        "AGENT_JOBSTATUS=Succeeded".to_owned(),
        "SYSTEM_TASKDISPLAYNAME=look".to_owned(),
        "BUILD_REPOSITORY_PROVIDER=TfsGit".to_owned(),
        format!("BUILD_SOURCESDIRECTORY={}/1/s", work.display()),
        format!("PIPELINE_WORKSPACE={}/1", work.display()),
        format!("AGENT_TEMPDIRECTORY={}/_temp", work.display()),
        format!("PWD={}/1/s", work.display()),
    ] {
        assert!(log.lines().any(|present| present == line), "no {line} in {log}");
    }
    for name in ["HUSH=", "SECRET_HUSH=", "AZP_TOKEN=", "SYSTEM_ACCESSTOKEN=", "INPUT_", "ENDPOINT_AUTH"] {
        assert!(!log.lines().any(|line| line.starts_with(name)), "{name} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_masked_wherever_they_turn_up() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .secret("hush", "sesame-open")
        .script(
            "leak $(hush)",
            "echo plain $(hush); printf %s $(hush) | base64; printf 'sesame'; sleep 0.2; echo '-open'; echo \
             '##vso[task.logissue type=error]about $(hush)'; echo '##vso[task.setprogress value=50]at \
             $(hush)'; echo '##vso[build.updatebuildnumber]number'; echo $(System.AccessToken)",
        )
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded);
    let everything = service.everything();
    assert!(!everything.contains("sesame-open"), "{everything}");
    assert!(!everything.contains(crate::service::TOKEN));
    assert!(service.log("leak ***").contains("plain ***"));
}

#[tokio::test(flavor = "multi_thread")]
async fn working_directories_are_relative_to_the_sources_and_must_exist() {
    let service = Service::start().await;
    let mut inside = script_step("inside", "pwd");
    inside.inputs.insert("workingDirectory".to_owned(), "sub".to_owned());
    let mut missing = script_step("missing", "pwd");
    missing.inputs.insert("workingDirectory".to_owned(), "$(Build.SourcesDirectory)/nowhere".to_owned());
    let (result, folder) =
        Job::new(&service).script("make", "mkdir sub").step(inside).step(missing).run().await;
    assert_eq!(result, TaskResult::Failed);
    let sources = folder.path().join("work/1/s");
    assert!(service.log("inside").contains(&format!("{}/sub", sources.display())));
    assert!(
        service
            .log("missing")
            .contains(&format!("##[error]Not found workingDirectory: {}/nowhere", sources.display()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_error_fails_a_step_that_asks_for_it() {
    let service = Service::start().await;
    let mut step = script_step("strict", "echo fine; echo oh >&2; echo no >&2");
    step.inputs.insert("failOnStderr".to_owned(), "true".to_owned());
    let (result, _folder) = Job::new(&service).step(step).run().await;
    assert_eq!(result, TaskResult::Failed);
    let issues = service.record("strict")["issues"].clone();
    assert_eq!(issues[0]["message"], json!("Bash wrote one or more lines to the standard error stream."));
    assert_eq!(issues[1]["message"], json!("oh\nno"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_steps_run_inline_and_from_files() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .step(bash_step(
            "write",
            &[("targetType", "inline"), ("script", "printf '#!/bin/sh\\necho \"args: $1|$2\"; echo ready=$READY\\n' > tool.sh\necho 'export READY=yes' > profile")],
        ))
        .step(bash_step(
            "from file",
            &[("filePath", "tool.sh"), ("arguments", "one \"two three\""), ("bashEnvValue", "profile")],
        ))
        .step(bash_step("no file", &[("filePath", "missing.sh")]))
        .run()
        .await;
    assert_eq!(result, TaskResult::Failed);
    let log = service.log("from file");
    assert!(
        log.contains("Formatted command: exec bash '") && log.contains("tool.sh' one \"two three\""),
        "{log}"
    );
    assert!(log.contains("args: one|two three"), "{log}");
    assert!(log.contains("ready=yes"), "{log}");
    assert!(!service.log("write").contains("Script contents:"), "only one-liners are shown");
    assert!(service.log("no file").contains("##[error]Invalid file path '"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_explains_code_137() {
    let service = Service::start().await;
    Job::new(&service)
        .step(bash_step("hungry", &[("targetType", "inline"), ("script", "exit 137")]))
        .run()
        .await;
    assert!(service.log("hungry").contains("which means it ran out of memory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn powershell_that_is_not_there_is_named() {
    let service = Service::start().await;
    let mut job = Job::new(&service)
        .step(powershell_step("shell", &[("targetType", "inline"), ("script", "Write-Host hi")]));
    for (name, value) in &mut job.surroundings.environment {
        if name == "PATH" {
            *value = job.folder.path().into();
        }
    }
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Failed);
    assert!(service.log("shell").contains("##[error]Unable to locate executable file: 'pwsh'."));
}

#[tokio::test(flavor = "multi_thread")]
async fn powershell_gets_its_preamble_and_its_exit_code() {
    let service = Service::start().await;
    let mut job = Job::new(&service).step(powershell_step(
        "shell",
        &[
            ("targetType", "inline"),
            ("script", "Write-Host hi"),
            ("errorActionPreference", "continue"),
            ("pwsh", "true"),
        ],
    ));
    // A stand-in that shows the script it is given and fails.
    let program = job.folder.path().join("pwsh");
    crate::programs::write(
        &program,
        "#!/bin/sh\necho \"$1 $2 $3 $4\"; cat \"$(echo \"$5\" | cut -d\"'\" -f2)\"; exit 4\n",
    );
    for (name, value) in &mut job.surroundings.environment {
        if name == "PATH" {
            let mut path = std::ffi::OsString::from(job.folder.path());
            path.push(":");
            path.push(&*value);
            *value = path;
        }
    }
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Failed);
    let log = service.log("shell");
    assert!(log.contains("-NoLogo -NoProfile -NonInteractive -Command"), "{log}");
    assert!(
        log.contains(
            "$ErrorActionPreference = 'continue'\n$ProgressPreference = 'silentlyContinue'\nWrite-Host hi"
        ),
        "{log}"
    );
    assert!(log.contains("exit $LASTEXITCODE"), "{log}");
    assert!(log.contains("##[error]PowerShell exited with code '4'."), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_outlive_the_job_are_ended() {
    let service = Service::start().await;
    let (result, folder) = Job::new(&service)
        .script("leave", "setsid sleep 600 >/dev/null 2>&1 & echo $! > $(Build.SourcesDirectory)/pid")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded);
    let log = service.log("Finalize Job");
    assert!(
        log.contains("Start cleaning up orphan processes.")
            && log.contains("Terminate orphan process: pid ("),
        "{log}"
    );
    let pid = std::fs::read_to_string(folder.path().join("work/1/s/pid")).expect("written");
    let gone = async {
        while std::path::Path::new("/proc").join(pid.trim()).join("exe").read_link().is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the process is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_its_work_folder_fails_with_the_reason() {
    let service = Service::start().await;
    let job = Job::new(&service).script("one", "true");
    std::fs::write(job.folder.path().join("work"), "a file").expect("written");
    let job_id = job.message.job_id.to_string();
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Failed);
    service.look(|told| {
        let message = told.records[&job_id]["issues"][0]["message"].as_str().expect("an issue").to_owned();
        assert!(message.contains("making the folder"), "{message}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long_fails() {
    let service = Service::start().await;
    // A minute is the shortest time a message can say.
    let mut step = script_step("slow", "trap 'echo interrupted; exit 0' INT; sleep 600 & wait");
    step.timeout_in_minutes = 1;
    let mut allowed = script_step("allowed", "true");
    allowed.timeout_in_minutes = 1;
    let (result, _folder) =
        Job::new(&service).step(step).step(allowed).step(conditional("cleanup", "failed()")).run().await;
    assert_eq!(result, TaskResult::Failed);
    let log = service.log("slow");
    assert!(log.contains("interrupted"), "{log}");
    assert!(log.contains("##[error]The task has timed out."), "{log}");
    assert_eq!(
        ["slow", "allowed", "cleanup"].map(|name| service.result(name)),
        ["failed", "skipped", "succeeded"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_step_is_left_out() {
    let service = Service::start().await;
    let mut step = script_step("off", "exit 1");
    step.enabled = false;
    let (result, _folder) = Job::new(&service).step(step).script("on", "true").run().await;
    assert_eq!(result, TaskResult::Succeeded);
    assert_eq!(service.record("on")["order"], json!(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_no_task_is_left_out_and_told() {
    let service = Service::start().await;
    let mut step = script_step("together", "exit 1");
    step.step_type = Some("group".to_owned());
    let (result, _folder) = Job::new(&service).step(step).script("on", "true").run().await;
    assert_eq!(result, TaskResult::Succeeded);
    let told = "The step 'together' is left out: it is of the type 'group', not a task.";
    assert!(service.everything().contains(told), "{}", service.everything());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_a_container_that_nobody_describes_is_refused_with_the_reason() {
    let service = Service::start().await;
    let mut job = Job::new(&service).script("one", "true");
    job.message.job_container = Some("toolbox".to_owned());
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Failed);
    let reason = "the job uses the container 'toolbox', which its message does not describe";
    assert!(service.everything().contains(reason), "{}", service.everything());
}

#[tokio::test(flavor = "multi_thread")]
async fn injected_steps_do_not_get_secrets_of_their_targets() {
    let service = Service::start().await;
    for (name, secret, expected) in [("a", "$(hush)", "skipped"), ("b", "harmless", "succeeded")] {
        let mut step = script_step(name, "true");
        step.name = Some("__system_pretargettask_1".to_owned());
        step.inputs.insert("target_script".to_owned(), secret.to_owned());
        Job::new(&service).secret("hush", "sesame-open").step(step).run().await;
        assert_eq!(service.result(name), expected);
    }
}
