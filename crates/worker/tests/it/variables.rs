//! What variables do to a step's environment, what may set them, and what is told of those that are not
//! there.

use dayfly_protocol::TaskResult;
use dayfly_protocol::job::{ContainerProperties, ContainerResource};
use serde_json::json;

use crate::job::{Job, bash_step, checkout_step, script_step};
use crate::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_need_containers_fail_before_their_steps_where_nothing_can_start_them() {
    for (kind, image) in [("services", "postgres"), ("container", "build"), ("variable", "ubuntu:16.04")] {
        let service = Service::start().await;
        let mut job = Job::new(&service).script("step", "echo ran");
        let nothing = job.folder.path().join("nothing");
        job.surroundings.environment = vec![("PATH".into(), nothing.into())];
        let properties = ContainerProperties { image: image.to_owned(), ..ContainerProperties::default() };
        let resource = ContainerResource { alias: image.to_owned(), endpoint: None, properties };
        job.message.resources.containers.push(resource);
        match kind {
            "services" => {
                job.message.job_sidecar_containers.insert("db".to_owned(), image.to_owned());
            }
            "container" => job.message.job_container = Some(image.to_owned()),
            _ => job = job.variable("_PREVIEW_VSTS_DOCKER_IMAGE", image),
        }
        let (result, _folder) = job.run().await;
        assert_eq!(result, TaskResult::Failed, "{kind}");
        let log = service.log("Initialize containers");
        let reason = "##[error]containers need Docker or Podman, and `docker` is not on the PATH; `podman` is not \
                      on the PATH";
        assert!(log.contains(reason), "{kind}: {log}");
        assert!(!service.everything().contains("ran"), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_the_job_has_its_official_name_in_the_environment() {
    let service = Service::start().await;
    Job::new(&service)
        .script("look", "printenv agent.jobstatus AGENT_JOBSTATUS; printenv Agent.JobStatus || echo none")
        .script("fail", "exit 1")
        .step(dayfly_protocol::job::Step {
            condition: Some("always()".to_owned()),
            ..script_step("look again", "printenv agent.jobstatus")
        })
        .run()
        .await;
    assert!(service.log("look").contains("\nSucceeded\nSucceeded\nnone\n"), "{}", service.log("look"));
    assert!(service.log("look again").contains("\nFailed\n"), "{}", service.log("look again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_too_long_for_the_environment_is_left_out_and_can_still_be_used() {
    let service = Service::start().await;
    let long = "x".repeat(200_000);
    let mut job = Job::new(&service).variable("big.value", &long).variable("small", "kept");
    job.surroundings.environment.push(("BIG_VALUE".into(), "of the agent".into()));
    let (result, _folder) = job
        .script("use", "echo \"[$BIG_VALUE] $SMALL\"; wc -c <<'end'\n$(big.value)\nend")
        .script("again", "echo fine")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("use"));
    let log = service.log("use");
    assert!(
        log.contains(
            "##[warning]The variable 'big.value' (200000 bytes) is too large for the environment of a process and was left out of it. Use `$(big.value)` in the script instead."
        ),
        "{log}"
    );
    assert!(log.contains("[] kept") && log.contains("200001"), "{log}");
    assert!(!service.log("again").contains("##[warning]"), "it is told once");
    assert_eq!(service.record("use")["warningCount"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_variables_the_largest_are_left_out() {
    let service = Service::start().await;
    let mut job = Job::new(&service).variable("small", "kept");
    for number in 0..60 {
        job = job.variable(&format!("large{number:02}"), &"x".repeat(130_000));
    }
    let (result, _folder) = job.script("use", "echo $SMALL; env | wc -c >/dev/null && echo ran").run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("use"));
    let log = service.log("use");
    assert!(log.contains("\nkept\nran\n"), "{log}");
    assert!(log.contains("##[warning]The variables 'large"), "{log}");
    assert!(log.contains(" more are too large for the environment of a process"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapped_value_too_long_for_the_environment_fails_its_step_by_name() {
    let service = Service::start().await;
    let mut step = script_step("use", "echo ran");
    step.environment.insert("TOKEN_FILE".to_owned(), "$(hush)".to_owned());
    let (result, _folder) = Job::new(&service)
        .secret("hush", &"z".repeat(140_000))
        .step(step)
        .script("after", "true")
        .run()
        .await;
    assert_eq!(result, TaskResult::Failed);
    let log = service.log("use");
    assert!(
        log.contains(
            "##[error]The environment variable 'TOKEN_FILE' of this step is 140000 bytes long; the \
            system's limit is"
        ),
        "{log}"
    );
    assert!(!log.contains("zzzz"));

    let service = Service::start().await;
    let mut step = script_step("use", "echo ran");
    for number in 0..60 {
        step.environment.insert(format!("PART{number}"), "y".repeat(130_000 + number));
    }
    Job::new(&service).step(step).run().await;
    let log = service.log("use");
    assert!(log.contains("The largest is 'PART59' (130059 bytes)."), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_variable_keeps_its_name_in_the_environment() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .variable("agent.readOnlyVariables", "true")
        .variable("Build.SourceBranch", "refs/heads/main")
        .variable("BUILD_SOURCEVERSION", "of the file")
        .variable("Build.SourceVersion", "of the service")
        .script(
            "set",
            "echo '##vso[task.setvariable variable=build sourcebranch]mine'; echo \
            '##vso[task.setvariable variable=own_name]x'",
        )
        .script("look", "echo \"$BUILD_SOURCEBRANCH, $BUILD_SOURCEVERSION, $(build sourcebranch)\"")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded);
    assert!(service.log("look").contains("refs/heads/main, of the service, mine"), "{}", service.log("look"));
    let log = service.log("set");
    assert!(
        log.contains(
            "##[warning]The variable 'build sourcebranch' was set, but the environment variable \
            BUILD_SOURCEBRANCH keeps the value of the read-only variable 'Build.SourceBranch'"
        ),
        "{log}"
    );
    assert_eq!(log.matches("##[warning]").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn macros_that_are_not_set_are_told_once_and_commands_are_left_alone() {
    for (step, told) in [
        (script_step("use", "echo release $(releaseId); true"), Some("`$(releaseId)` is not set")),
        (
            script_step("use", "echo \"$(Release.Id) and $(other.one)\" || true"),
            Some("`$(Release.Id)`, `$(other.one)` are not set"),
        ),
        (
            script_step(
                "use",
                "echo '##vso[task.setvariable variable=now.set]1'; echo $(now.set) 2>&1; true",
            ),
            Some("A variable that a step sets can be used from the next step on."),
        ),
        (
            bash_step(
                "use",
                &[("targetType", "inline"), ("script", "echo $(pwd) $(date) $(whoami) $(printf x)")],
            ),
            None,
        ),
        (
            script_step(
                "use",
                "my.fn() { echo x; }\n# $(commented.out)\necho $(my.fn) $(set.one) $(Agent.Name) $(HOME)",
            ),
            None,
        ),
        (script_step("use", "echo $(cat </dev/null) ${HOME} $((1 + 2))"), None),
    ] {
        let service = Service::start().await;
        let job = Job::new(&service).variable("set.one", "1").step(step);
        job.run().await;
        let log = service.log("use");
        let warnings: Vec<&str> = log.lines().filter(|line| line.starts_with("##[warning]")).collect();
        match told {
            Some(told) => {
                assert_eq!(warnings.len(), 1, "{log}");
                assert!(warnings[0].contains(told), "{log}");
            }
            None => assert!(warnings.is_empty(), "{log}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn macros_in_the_environment_of_a_step_are_never_commands() {
    let service = Service::start().await;
    let mut step = script_step("use", "exit 1");
    step.environment.insert("TODAY".to_owned(), "$(date)".to_owned());
    step.retry_count_on_task_failure = 1;
    Job::new(&service).step(step).run().await;
    let log = service.log("use");
    assert_eq!(log.matches("`$(date)` is not set, so it was left as written.").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_keeps_the_output_open_is_told() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service).script("start", "sleep 60 & echo started").run().await;
    assert_eq!(result, TaskResult::Succeeded);
    let log = service.log("start");
    assert!(
        log.contains("The STDIO streams did not close within 5 seconds of the exit event from process"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_replaces_the_path_is_named() {
    let service = Service::start().await;
    Job::new(&service).variable("path", "examplePath").script("use", "echo hello").run().await;
    let log = service.log("use");
    assert!(
        log.contains(
            "##[error]Unable to locate executable file: 'bash'. The variable 'path' replaces the \
            PATH, which is 'examplePath' now; rename the variable."
        ),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_may_be_an_output_and_an_ordinary_one() {
    let service = Service::start().await;
    Job::new(&service)
        .script(
            "set",
            "echo '##vso[task.setvariable variable=Extension.Version;isOutput=true]1'; \
             echo '##vso[task.setvariable variable=Extension.Version]2'",
        )
        .script(
            "use",
            "echo $(set.Extension.Version) $(Extension.Version) $SET_EXTENSION_VERSION $EXTENSION_VERSION",
        )
        .run()
        .await;
    assert!(service.log("use").contains("\n1 2 1 2\n"), "{}", service.log("use"));
}

/// Of two writable variables with one name in the environment, the same one wins each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_variable_set_by_its_name_in_the_environment_is_found_there() {
    let service = Service::start().await;
    let mut job = Job::new(&service);
    for number in 1..=7 {
        job = job.variable(&format!("connectionString.Part{number}"), "old");
    }
    job.script(
        "set",
        "for n in $(seq 7); do echo \"##vso[task.setvariable variable=CONNECTIONSTRING_PART$n]new\"; done",
    )
    .script("use", "env | grep -c '^CONNECTIONSTRING_PART.=new$'; echo $(connectionString.Part3)")
    .run()
    .await;
    assert!(service.log("use").contains("\n7\nold\n"), "{}", service.log("use"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_path_is_relative() {
    let service = Service::start().await;
    let job = Job::new(&service);
    let inside = job.folder.path().join("work/1/inside").display().to_string();
    let (result, _folder) =
        job.step(checkout_step("get", &[("repository", "self"), ("path", &inside)])).run().await;
    assert_eq!(result, TaskResult::Failed);
    let log = service.log("get");
    assert!(
        log.contains(&format!("##[error]The input `path: {inside}` is absolute; it must be relative to")),
        "{log}"
    );
}
