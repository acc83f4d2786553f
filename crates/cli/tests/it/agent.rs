//! `dayfly agent` from the outside, with the real worker.

use dayfly_protocol::{TaskResult, crypto::AgentKey};
use nix::sys::signal::Signal;

use crate::service::{PAT, Process, Service, children, eventually, is_alive, pid};

#[tokio::test]
async fn with_once_an_agent_runs_a_job_and_leaves_the_pool() {
    let mut service = Service::new(|_| {}).await;
    let agent = Process::spawn(&mut service.agent("solo", &["--once"]));
    service.online("solo").await;
    let job =
        service.queue("Build it", &[&format!("echo one > {}", service.path("out").display()), "exit 3"]);
    assert_eq!(service.result(job).await, TaskResult::Failed);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
    for line in
        ["Z: Listening for Jobs", "Z: Running job: Build it", "Z: Job Build it completed with result: Failed"]
    {
        assert!(output.contains(line), "no `{line}` in {output}");
    }
    assert_eq!(std::fs::read_to_string(service.path("out")).unwrap(), "one\n");
    let pool = service.emulator.pool("Default").unwrap();
    assert!(service.connection().find_agent(pool, "solo").await.unwrap().is_none(), "it has left the pool");
    let names: Vec<_> = service.records(job).await.into_iter().filter_map(|record| record.name).collect();
    assert!(names.iter().any(|name| name == "Step 1"), "{names:?}");
    assert_eq!(service.emulator.statistics().refused_completions, 0);
}

#[tokio::test]
async fn with_once_a_second_job_waits_for_another_agent() {
    let mut service = Service::new(|_| {}).await;
    let agent = Process::spawn(&mut service.agent("solo", &["--once"]));
    service.online("solo").await;
    let jobs = ["One", "Two"].map(|name| service.queue(name, &["true"]));
    assert_eq!(service.result(jobs[0]).await, TaskResult::Succeeded);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
    assert_eq!(output.matches("Running job: ").count(), 1, "{output}");
    service.look();
    assert!(service.results(jobs[1]).is_empty(), "it waits");
    let next = Process::spawn(&mut service.agent("next", &["--once"]));
    assert_eq!(service.result(jobs[1]).await, TaskResult::Succeeded);
    assert_eq!(service.started(jobs[1]).await, "next");
    assert_eq!(next.ended().await.0, Some(0));
    assert_eq!(service.emulator.statistics().refused_completions, 0);
}

#[tokio::test]
async fn steps_find_the_agents_token_nowhere() {
    let mut service = Service::new(|_| {}).await;
    let mut command = service.agent("careful", &["--once"]);
    command.env("ANOTHER_NAME", PAT).env("HARMLESS", "visible");
    let agent = Process::spawn(&mut command);
    service.online("careful").await;
    let capabilities = {
        let pool = service.emulator.pool("Default").unwrap();
        let connection = service.connection();
        let id = connection.find_agent(pool, "careful").await.unwrap().unwrap().id;
        connection.get_agent(pool, id).await.unwrap().system_capabilities.unwrap()
    };
    assert_eq!(capabilities.get("HARMLESS").map(String::as_str), Some("visible"));
    assert!(!capabilities.contains_key("AZP_TOKEN"), "{capabilities:?}");
    assert!(capabilities.values().all(|value| !value.contains(PAT)), "{capabilities:?}");
    // Root may read every process's environment whatever we do, so /proc is looked at as a user only.
    let look = format!(
        "{{ env; tr '\\0' '\\n' < /proc/{}/cmdline; if [ \"$(id -u)\" != 0 ]; then cat /proc/{0}/environ; fi; echo looked; }} > {1} 2>&1",
        agent.0.id(),
        service.path("seen").display()
    );
    let job = service.queue("Look around", &[&look]);
    assert_eq!(service.result(job).await, TaskResult::Succeeded);
    assert_eq!(agent.ended().await.0, Some(0));
    let seen = std::fs::read_to_string(service.path("seen")).unwrap();
    assert!(seen.contains("HARMLESS=visible") && seen.ends_with("looked\n"), "{seen}");
    assert!(!seen.contains(PAT), "{seen}");
}

#[tokio::test]
async fn a_registered_agent_runs_from_its_three_files() {
    let mut service = Service::new(|_| {}).await;
    let pool = service.emulator.pool("Default").unwrap();
    let folder = service.register("before", &AgentKey::generate().unwrap()).await;
    let mut command = service.registered_agent(&folder, &["--once"]);
    let agent = Process::spawn(&mut command);
    service.online("before").await;
    let job = service.queue("From files", &["true"]);
    assert_eq!(service.result(job).await, TaskResult::Succeeded);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
    assert!(folder.join("_work").is_dir());
    assert!(
        service.connection().find_agent(pool, "before").await.unwrap().is_some(),
        "what others registered stays"
    );
}

#[tokio::test]
async fn a_signal_cancels_the_job_and_a_second_one_kills_it() {
    let mut service = Service::new(|_| {}).await;
    let agent = Process::spawn(&mut service.agent("first", &[]));
    service.online("first").await;
    let job =
        service.queue("Long", &[&format!("echo up > {}; exec sleep 600", service.path("up").display())]);
    service.file("up").await;
    agent.signal(Signal::SIGTERM);
    assert_eq!(service.result(job).await, TaskResult::Canceled);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
    assert!(output.contains("Job Long completed with result: Canceled"), "{output}");

    let mut agent = Process::spawn(&mut service.agent("second", &[]));
    service.online("second").await;
    let stubborn =
        format!("trap '' INT TERM; echo up > {}; sleep 600; sleep 600", service.path("up2").display());
    let job = service.queue("Stubborn", &[&stubborn]);
    service.file("up2").await;
    agent.signal(Signal::SIGINT);
    agent.said("another signal kills it").await;
    agent.signal(Signal::SIGINT);
    assert_eq!(service.result(job).await, TaskResult::Canceled);
    assert_eq!(agent.ended().await.0, Some(0));
    assert_eq!(service.emulator.statistics().sessions, 0);
}

#[tokio::test]
async fn a_cancelled_job_stops_in_the_worker() {
    let mut service = Service::new(|_| {}).await;
    let agent = Process::spawn(&mut service.agent("a", &["--once"]));
    service.online("a").await;
    let job =
        service.queue("Long", &[&format!("echo up > {}; exec sleep 600", service.path("up").display())]);
    service.file("up").await;
    service.cancel(job);
    assert_eq!(service.result(job).await, TaskResult::Canceled);
    assert_eq!(agent.ended().await.0, Some(0));
    assert_eq!(service.emulator.statistics().refused_completions, 0);
}

#[tokio::test]
async fn a_killed_worker_fails_its_job_with_the_reason() {
    let mut service = Service::new(|_| {}).await;
    let agent = Process::spawn(&mut service.agent("a", &["--once"]));
    service.online("a").await;
    let job =
        service.queue("Doomed", &[&format!("echo $$ > {}; exec sleep 600", service.path("up").display())]);
    let step: u32 = service.file("up").await.trim().parse().unwrap();
    let workers = children(agent.0.id());
    assert_eq!(workers.len(), 1, "{workers:?}");
    nix::sys::signal::kill(pid(workers[0]), Signal::SIGKILL).unwrap();
    assert_eq!(service.result(job).await, TaskResult::Failed);
    assert_eq!(agent.ended().await.0, Some(0));
    let issues: Vec<_> = service
        .records(job)
        .await
        .into_iter()
        .flat_map(|record| record.issues)
        .map(|issue| issue.message)
        .collect();
    assert!(issues.iter().any(|issue| issue.contains("it was killed by signal 9 (SIGKILL)")), "{issues:?}");
    assert!(!is_alive(step), "the step lives on without its worker");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_exit_code() {
    let service = Service::new(|_| {}).await;
    let check =
        async |change: &dyn Fn(&mut std::process::Command), arguments: &[&str], code: i32, text: &str| {
            let mut command = service.agent("wrong", arguments);
            change(&mut command);
            let (ended, output, error) = Process::spawn(&mut command).ended().await;
            assert_eq!(ended, Some(code), "{output}{error}");
            assert!(error.contains(text), "no `{text}` in {error}");
            assert!(!error.contains(PAT), "{error}");
        };
    check(&|_| {}, &["--token", "x"], 1, "a token on the command line can be read by everybody").await;
    check(&|_| {}, &["--token", "x"], 1, "refuses the token of --token: it is wrong").await;
    check(&|_| {}, &["--auth", "sp"], 2, "authentication by `sp` is not supported").await;
    check(
        &|command| {
            command.env_remove("AZP_TOKEN");
        },
        &[],
        2,
        "no token: give --token-file",
    )
    .await;
    check(
        &|command| {
            command.env("AZP_TOKEN", "wrong");
        },
        &[],
        1,
        "refuses the token of AZP_TOKEN: it is wrong, has expired, or lacks the scope Agent Pools (read & manage): cannot find the agent pool \"Default\": ",
    )
    .await;
    check(
        &|command| {
            command.env_remove("AZP_TOKEN").env("VSTS_AGENT_INPUT_TOKEN", "wrong");
        },
        &["--unattended", "--acceptTeeEula", "--auth", "pat"],
        1,
        "refuses the token of VSTS_AGENT_INPUT_TOKEN: it is wrong",
    )
    .await;
    check(
        &|_| {},
        &["--pool", "Nowhere"],
        1,
        "cannot find the agent pool \"Nowhere\": nothing has that name; check the spelling",
    )
    .await;
    // A project's address, as users copy it from their browser.
    check(
        &|command| {
            command.env("AZP_URL", format!("{}/a-project", service.emulator.url()));
        },
        &[],
        1,
        "check that the address is the organization's or the collection's, for example https://dev.azure.com/my-organization",
    )
    .await;
    check(
        &|command| {
            command.env("AZP_WORK", "/proc/nowhere");
        },
        &[],
        1,
        "could not create the work folder /proc/nowhere",
    )
    .await;
    check(
        &|_| {},
        &["--url", "http://127.0.0.1:1/o"],
        1,
        "cannot reach http://127.0.0.1:1: connection refused\n",
    )
    .await;
    check(
        &|_| {},
        &["--url", "http://127.0.0.1:1/o"],
        1,
        "Not connected to http://127.0.0.1:1/o yet: cannot find the agent pool \"Default\": cannot reach http://127.0.0.1:1: connection refused. Still trying.\n",
    )
    .await;
    let secure = service.emulator.url().as_str().replace("http:", "https:");
    check(
        &|_| {},
        &["--url", &secure],
        1,
        "does not speak TLS; does the address begin with http:// instead?",
    )
    .await;
    let folder = service.path("empty");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.to_string_lossy().into_owned();
    check(&|_| {}, &["--agent-dir", &folder], 1, "the folder of a registered agent?").await;
    if nix::unistd::geteuid().is_root() {
        check(
            &|command| {
                command.env_remove("AGENT_ALLOW_RUNASROOT");
            },
            &[],
            2,
            "does not run as root",
        )
        .await;
    }
}

#[tokio::test]
async fn an_agent_whose_name_is_taken_says_so_every_time() {
    let service = Service::new(|_| {}).await;
    let first = Process::spawn(&mut service.agent("taken", &[]));
    service.online("taken").await;
    for _ in 0..5 {
        let (code, output, error) = Process::spawn(&mut service.agent("taken", &[])).ended().await;
        assert_eq!(code, Some(1), "{output}{error}");
        assert!(error.contains("another process is using this name"), "{output}{error}");
    }
    first.signal(Signal::SIGTERM);
    assert_eq!(first.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_killed_listeners_job_is_cancelled_and_reported_by_its_worker() {
    let mut service = Service::new(|_| {}).await;
    let mut command = service.agent("a", &[]);
    // A worker that tells its log to nobody must not stumble over that.
    command.env("DAYFLY_LOG", "trace").stderr(std::process::Stdio::null());
    let agent = Process::spawn(&mut command);
    service.online("a").await;
    let up = format!("echo $$ > {}; exec sleep 600", service.path("up").display());
    let job = service.queue("Orphan", &[&up]);
    let step: u32 = service.file("up").await.trim().parse().unwrap();
    agent.signal(Signal::SIGKILL);
    assert_eq!(service.result(job).await, TaskResult::Canceled);
    eventually("the step has ended", || (!is_alive(step)).then_some(())).await;
}
