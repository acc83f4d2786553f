//! Logging commands in whole jobs.

use dayfly_protocol::TaskResult;
use dayfly_protocol::job::{SettableVariables, StepTarget};
use serde_json::json;

use crate::job::{Job, bash_step, script_step};
use crate::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn variables_and_outputs_reach_later_steps_and_the_record() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .script(
            "set",
            "echo '##vso[task.setvariable variable=plain]one'; \
             echo '##vso[task.setvariable variable=out;isOutput=true]two'; \
             echo '##vso[task.setvariable variable=hush;isSecret=true]sesame-open'; \
             echo '##vso[task.setvariable variable=Kept.Case;preserveCase=true]three'; \
             echo \"now: $PLAIN.\"",
        )
        .script("get", "echo \"$PLAIN $SET_OUT $(set.out) $Kept_Case\"; echo hidden: $(hush) $HUSH.")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded);
    assert!(service.log("set").contains("now: ."), "not within the same step");
    let log = service.log("get");
    assert!(log.contains("one two two three"), "{log}");
    assert!(log.contains("hidden: *** ."), "{log}");
    assert_eq!(service.record("set")["variables"]["out"]["value"], json!("two"));
    assert!(!service.log("set").contains("##vso"), "commands are not printed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_output_is_sent_but_never_shown() {
    let service = Service::start().await;
    Job::new(&service)
        .script(
            "set",
            "echo '##vso[task.setvariable variable=out;isOutput=true;isSecret=true]sesame-open'; \
            echo sesame-open",
        )
        .run()
        .await;
    let variables = service.record("set")["variables"].clone();
    assert_eq!(variables["out"], json!({"value": "sesame-open", "isSecret": true}));
    assert!(service.log("set").contains("\n***\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_several_lines_is_refused_and_still_masked() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .script("set", "echo '##vso[task.setvariable variable=x;isSecret=true]first-line%0Asecond-line'")
        .run()
        .await;
    assert_eq!(result, TaskResult::Failed);
    let log = service.log("set");
    assert!(log.contains("##[error]Secrets cannot contain multiple lines"), "{log}");
    assert!(!log.contains("first-line%0Asecond-line"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_a_command_that_fails_is_masked_where_the_command_is_quoted() {
    for command in ["setvariable", "settaskvariable"] {
        let service = Service::start().await;
        let (result, _folder) = Job::new(&service)
            .script("set", &format!("echo '##vso[task.{command} isSecret=true]sesame-open;%5D;'"))
            .run()
            .await;
        assert_eq!(result, TaskResult::Failed);
        let log = service.log("set");
        assert!(log.contains("Required field 'variable' is missing"), "{log}");
        let quoted =
            log.lines().find(|line| line.contains("Unable to process command")).expect("it is quoted");
        assert!(!quoted.contains("sesame-open"), "{log}");
        let record = format!("{:?}", service.record("set"));
        assert!(!record.contains("sesame-open"), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_variables_warn_or_refuse() {
    for (refuses, result, text) in [
        (
            "false",
            TaskResult::Succeeded,
            "##[warning]Overwriting readonly variable 'set.fixed'. This behavior will be disabled",
        ),
        ("true", TaskResult::Failed, "##[error]Overwriting readonly variable 'set.fixed' is not permitted."),
    ] {
        let service = Service::start().await;
        let (found, _folder) = Job::new(&service)
            .variable("agent.readOnlyVariables", refuses)
            .script("set", "echo '##vso[task.setvariable variable=fixed;isOutput=true]1'")
            .script("again", "echo '##vso[task.setvariable variable=set.fixed]2'")
            .script("look", "echo value=$(set.fixed)")
            .run()
            .await;
        assert_eq!(found, result);
        assert!(service.log("again").contains(text), "{}", service.log("again"));
        if result == TaskResult::Succeeded {
            assert!(service.log("look").contains("value=2"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_that_are_neither_true_nor_false_are_told() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .script(
            "set",
            "echo '##vso[task.setvariable variable=a;issecret=1]x'; \
             echo '##vso[task.setvariable variable=b;isSecret=True;isOutput=FALSE]sesame-open'; \
             echo '##vso[task.settaskvariable variable=c;isreadonly=yes]x'",
        )
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded);
    let log = service.log("set");
    let warnings: Vec<&str> = log.lines().filter(|line| line.starts_with("##[warning]")).collect();
    assert_eq!(
        warnings,
        [
            "##[warning]`issecret=1` is neither `true` nor `false`, so the variable 'a' is not secret.",
            "##[warning]`isreadonly=yes` is neither `true` nor `false`, so the variable 'c' can be overwritten.",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_masked_as_the_task_library_escapes_it_and_as_it_means_it() {
    for decodes in ["true", "false"] {
        let service = Service::start().await;
        Job::new(&service)
            .variable("DECODE_PERCENTS", decodes)
            .script(
                "set",
                "echo '##vso[task.setsecret]half%AZP25done'; \
                 echo '##vso[task.setvariable variable=x;issecret=true]ninety%AZP25sure'; \
                 echo 'half%done half%AZP25done ninety%sure ninety%AZP25sure'",
            )
            .run()
            .await;
        assert!(service.log("set").contains("\n*** *** *** ***\n"), "{decodes}: {}", service.log("set"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_the_trace_of_a_shell_are_not_carried_out() {
    let service = Service::start().await;
    Job::new(&service)
        .script(
            "set",
            "set -x
            for n in 1 2 3 4 5; do echo \"##vso[task.setvariable variable=v$n]plain\"; done
            echo '##vso[task.setvariable variable=hush;issecret=true]sesame-open'
            echo '##vso[task.logissue type=error]once'",
        )
        .script("use", "echo '[$(v1)$(v2)$(v3)$(v4)$(v5)]'")
        .run()
        .await;
    assert!(service.log("use").contains("\n[plainplainplainplainplain]\n"), "{}", service.log("use"));
    let log = service.log("set");
    assert_eq!(
        log.matches("##[warning]The shell's trace (`set -x`) repeats logging commands.").count(),
        1,
        "{log}"
    );
    assert_eq!(service.record("set")["errorCount"], json!(1));
    assert!(!log.contains("sesame-open"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_within_a_secret_do_not_show_it() {
    let service = Service::start().await;
    Job::new(&service)
        .secret("hush", "sesame-open")
        .script("grep", "printf 'say \\033[01;31m\\033[Ksesame\\033[m\\033[K-open\\n'")
        .run()
        .await;
    let log = service.log("grep");
    assert!(log.contains("say \u{1b}[01;31m\u{1b}[K***\u{1b}[m\u{1b}[K"), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("say") && line.contains("open")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_a_build_number_or_tag_is_warned_of() {
    let service = Service::start().await;
    Job::new(&service)
        .secret("hush", "sesame-open")
        .script(
            "name",
            "echo '##vso[build.updatebuildnumber]v-$(hush)'; echo '##vso[build.addbuildtag]$(hush)'",
        )
        .run()
        .await;
    let log = service.log("name");
    assert!(
        log.contains("##[warning]The build number contains a secret. Azure DevOps shows it unmasked"),
        "{log}"
    );
    assert!(log.contains("##[warning]The build tag contains a secret."), "{log}");
    service.look(|told| assert_eq!(told.build_numbers, ["v-sesame-open"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_cannot_say_that_an_issue_is_from_the_task_itself() {
    for (validates, has_source) in [("true", false), ("false", true)] {
        let service = Service::start().await;
        Job::new(&service)
            .variable("ENABLE_ISSUE_SOURCE_VALIDATION", validates)
            .variable("system.debug", "true")
            .script(
                "say",
                "echo '##vso[task.logissue type=warning;source=TaskInternal;correlationId=0a0a;code=7]slow disk'",
            )
            .run()
            .await;
        let data = service.record("say")["issues"][0]["data"].clone();
        assert_eq!(data["code"], json!("7"));
        assert_eq!(data.get("source").is_some(), has_source, "{data}");
        assert_eq!(data.get("correlationId").is_some(), has_source, "{data}");
        let told = service.log("say").contains("##[debug]The task provided an invalid correlation ID");
        assert_ne!(told, has_source);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_written_without_what_is_not_known() {
    let service = Service::start().await;
    Job::new(&service)
        .script(
            "check",
            "echo '##vso[task.logissue type=error;sourcepath=b.py;linenumber=12]assertion failed'; \
             echo '##vso[task.logissue type=error;sourcepath=b.py;columnnumber=3]somewhere'; \
             echo '##vso[task.logissue type=error;sourcepath=b.py;linenumber=12;columnnumber=3;code=E1]here'",
        )
        .run()
        .await;
    let log = service.log("check");
    for line in ["b.py(12): error: assertion failed", "b.py: error: somewhere", "b.py(12,3): error E1: here"]
    {
        assert!(log.contains(&format!("##[error]{line}\n")), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn issues_are_counted_and_carry_their_place() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .script(
            "check",
            "echo '##vso[task.logissue type=warning;sourcepath=src/a.c;linenumber=3;columnnumber=9;code=W1]careful'; \
             for i in $(seq 12); do echo \"##vso[task.logissue type=error]problem $i\"; done",
        )
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "issues alone fail nothing");
    let record = service.record("check");
    assert_eq!(record["warningCount"], json!(1));
    assert_eq!(record["errorCount"], json!(12));
    let issues = record["issues"].as_array().expect("issues").clone();
    assert_eq!(issues.len(), 11, "one warning and the first ten errors");
    let warning = issues.iter().find(|issue| issue["type"] == json!("warning")).expect("the warning");
    assert_eq!(warning["message"], json!("src/a.c(3,9): warning W1: careful"));
    assert_eq!(warning["category"], json!("Code"));
    assert_eq!(warning["data"]["linenumber"], json!("3"));
    assert!(service.log("check").contains("##[error]problem 12"));
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_decides_the_result() {
    for (command, expected) in [
        ("result=SucceededWithIssues;", TaskResult::SucceededWithIssues),
        ("result=Failed;", TaskResult::Failed),
        ("result=failed;", TaskResult::Failed),
        ("", TaskResult::Failed),
    ] {
        let service = Service::start().await;
        let script = format!("echo '##vso[task.complete {command}]done'");
        let (result, _folder) = Job::new(&service).script("step", &script).run().await;
        assert_eq!(result, expected, "{command}");
        let invalid = service.log("step").contains("Command doesn't have valid result value.");
        assert_eq!(invalid, command.is_empty() || command == "result=failed;", "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_says_it_is_done_is_not_waited_for() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .variable("PROCESS_SIGINT_TIMEOUT", "100")
        .script("step", "echo '##vso[task.complete result=Succeeded;done=true]'; sleep 600")
        .script("after", "true")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded);
    assert_eq!(service.result("after"), "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_is_printed_and_unknown_ones_fail_the_step() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .step(bash_step(
            "odd",
            &[("targetType", "inline"), ("script", "echo '##vso[nonsense'\necho '##vso[garden.water]roses'")],
        ))
        .script("unknown", "echo '##vso[task.sing]'")
        .run()
        .await;
    assert_eq!(result, TaskResult::Failed);
    let odd = service.log("odd");
    assert!(
        odd.contains(
            "##[warning]'##vso[nonsense' contains logging command keyword '##vso', but it's \
        not a legal command."
        ),
        "{odd}"
    );
    assert!(odd.lines().any(|line| line == "##vso[nonsense"), "{odd}");
    assert!(odd.contains("##[warning]Cannot find command extension for ##vso[garden.command]."), "{odd}");
    assert_eq!(service.result("odd"), "succeeded");
    let unknown = service.log("unknown");
    assert!(
        unknown.contains("##[error]Unable to process command '##vso[task.sing]' successfully."),
        "{unknown}"
    );
    assert!(
        unknown.contains("##vso[task.sing] is not a recognized command for task command extension."),
        "{unknown}"
    );
    assert_eq!(service.result("unknown"), "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn restricted_steps_may_do_little() {
    let service = Service::start().await;
    let mut step = script_step(
        "restricted",
        "echo '##vso[task.setvariable variable=ok.x]1'; echo '##vso[task.setvariable variable=other]1'; \
         echo '##vso[task.prependpath]/opt'; echo '##vso[build.addbuildtag]tag'; \
         echo '##vso[task.logissue type=warning]allowed'",
    );
    step.target = Some(StepTarget {
        commands: Some("restricted".to_owned()),
        settable_variables: Some(SettableVariables { allowed: vec!["OK.*".to_owned()] }),
        ..StepTarget::default()
    });
    let (result, _folder) =
        Job::new(&service).step(step).script("look", "echo got=$(ok.x),$(other); echo $PATH").run().await;
    assert_eq!(result, TaskResult::Succeeded);
    let log = service.log("restricted");
    for text in [
        "##[warning]Setting variable 'other' has been disabled",
        "##[warning]Setting variable 'PATH' has been disabled",
        "##[warning]##vso[build.addbuildtag] is not allowed in this step due to policy restrictions.",
        "##[warning]allowed",
    ] {
        assert!(log.contains(text), "no {text} in {log}");
    }
    let look = service.log("look");
    assert!(look.contains("got=1,$(other)") || look.contains("got=1,"), "{look}");
    assert!(!look.contains("/opt:"), "{look}");
    service.look(|told| assert!(told.tags.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_later_steps_is_extended_in_front() {
    let service = Service::start().await;
    Job::new(&service)
        .script(
            "extend",
            "echo '##vso[task.prependpath]/first'; echo '##vso[task.prependpath]/second'; \
            echo '##vso[task.prependpath]/first'",
        )
        .script("look", "echo path=$PATH")
        .run()
        .await;
    assert!(service.log("look").contains("path=/first:/second:/"), "{}", service.log("look"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_several_build_numbers_stays() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .script("tell", "for number in $(seq 1 30); do echo \"##vso[build.updatebuildnumber]$number\"; done")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("tell"));
    let expected: Vec<String> = (1..=30).map(|number| number.to_string()).collect();
    service.look(|told| assert_eq!(told.build_numbers, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_build_gets_its_number_tags_summaries_and_logs() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .script(
            "tell",
            "echo '# Summary' > summary.md; echo more > tool.log; \
             echo '##vso[build.updatebuildnumber]1.2.3'; echo '##vso[build.addbuildtag] ripe '; \
             echo \"##vso[task.uploadsummary]$PWD/summary.md\"; echo '##vso[build.uploadsummary]summary.md'; \
             echo '##vso[task.addattachment type=my.type;name=mine]summary.md'; echo '##vso[task.uploadfile]summary.md'; \
             echo '##vso[build.uploadlog]tool.log'",
        )
        .script("look", "echo number=$(Build.BuildNumber)")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("tell"));
    assert!(service.log("look").contains("number=1.2.3"));
    let log = service.log("tell");
    assert!(
        log.contains(
            "##[section]Async Command Start: Update Build Number\nUpdate build number to 1.2.3 \
        for build 42\n##[section]Async Command End: Update Build Number"
        ),
        "{log}"
    );
    assert!(log.contains("Build '42' has following tags now: ripe"), "{log}");
    service.look(|told| {
        assert_eq!(told.build_numbers, ["1.2.3"]);
        assert_eq!(told.tags, ["ripe"]);
        let attached: Vec<(&str, &str)> =
            told.attachments.iter().map(|(_, kind, name, _)| (kind.as_str(), name.as_str())).collect();
        for expected in [
            ("DistributedTask.Core.Summary", "summary.md"),
            ("DistributedTask.Core.Summary", "CustomMarkDownSummary-summary.md"),
            ("my.type", "mine"),
            ("DistributedTask.Core.FileAttachment", "summary.md"),
        ] {
            assert!(attached.contains(&expected), "{expected:?} in {attached:?}");
        }
        assert!(told.attachments.iter().all(|(_, _, _, content)| content == b"# Summary\n"));
        assert!(told.logs.iter().any(|(_, content)| content.ends_with(b"more\n")));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_uploaded_file_by_file() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .script(
            "publish",
            "mkdir -p out/sub empty; echo one > out/1.txt; : > out/sub/none; \
             echo '##vso[artifact.upload artifactname=drop;containerfolder=folder]out'; \
             echo '##vso[artifact.upload artifactname=single]out/1.txt'; \
             echo '##vso[artifact.upload artifactname=nothing]empty'; \
             echo '##vso[artifact.associate artifactname=elsewhere;artifacttype=gitref;note=x]refs/heads/x'",
        )
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("publish"));
    assert!(service.log("publish").contains("is empty. Nothing will be added to build artifact 'nothing'."));
    service.look(|told| {
        let paths: Vec<&str> = told.items.keys().map(String::as_str).collect();
        assert_eq!(paths, ["folder/1.txt", "folder/sub/none", "single/1.txt"]);
        assert_eq!(told.items["folder/1.txt"], b"one\n");
        let artifact = |name: &str| {
            told.artifacts
                .iter()
                .find(|artifact| artifact["name"] == json!(name))
                .cloned()
                .expect("the artifact")
        };
        assert_eq!(artifact("drop")["resource"]["data"], json!("#/7/folder"));
        assert_eq!(artifact("drop")["resource"]["properties"]["artifactsize"], json!("4"));
        assert_eq!(artifact("elsewhere")["resource"]["type"], json!("gitref"));
        assert_eq!(artifact("elsewhere")["resource"]["properties"]["note"], json!("x"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_fails_the_command() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .script("publish", "echo '##vso[artifact.upload artifactname=drop]nowhere'")
        .run()
        .await;
    assert_eq!(result, TaskResult::Failed);
    assert!(service.log("publish").contains("##[error]Path does not exist: nowhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn details_make_a_timeline_of_their_own() {
    let service = Service::start().await;
    let id = "11111111-1111-1111-1111-111111111111";
    let child = "22222222-2222-2222-2222-222222222222";
    let (result, _folder) = Job::new(&service)
        .script(
            "detail",
            &format!(
                "echo '##vso[task.logdetail id={id};name=parent;type=build;order=1]'; \
                 echo '##vso[task.logdetail id={child};parentid={id};name=child;type=build]'; \
                 echo '##vso[task.logdetail id={child};progress=100;state=Completed;result=SucceededWithIssues]'"
            ),
        )
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("detail"));
    assert!(service.record("detail")["details"]["id"].is_string());
    service.look(|told| {
        assert_eq!(told.details[id]["name"], json!("parent"));
        assert_eq!(told.details[id]["state"], json!("completed"), "left open, so ended with its step");
        assert_eq!(told.details[child]["parentId"], json!(id));
        assert_eq!(told.details[child]["result"], json!("succeededWithIssues"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn debugging_shows_what_was_done() {
    let service = Service::start().await;
    Job::new(&service)
        .variable("system.debug", "true")
        .script("step", "echo '##vso[task.debug]a detail'; echo '##vso[task.setvariable variable=a]b%3Bc'")
        .run()
        .await;
    let log = service.log("step");
    assert!(log.contains("##[debug]a detail"), "{log}");
    assert!(log.contains("##[debug]Processed: ##vso[task.setvariable variable=a]b;c"), "{log}");
    assert!(log.contains("##[debug]Evaluating condition for step: 'step'"), "{log}");
}
