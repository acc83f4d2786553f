//! What `dayfly agent` tells those who watch it: its health and metrics address, and JSON lines.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
};

use dayfly_emulator::{Fault, FaultRule};
use dayfly_protocol::TaskResult;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::service::{PAT, Process, Service, bounded};

/// Reads the lines of an agent's standard output up to the one that begins so, and returns what follows
/// there.
async fn line_after(agent: &mut Process, start: &'static str) -> String {
    let output = agent.0.stdout.take().unwrap();
    let (found, output) = tokio::task::spawn_blocking(move || {
        let mut reader = BufReader::with_capacity(1, output);
        let mut line = String::new();
        loop {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "no line has `{start}`");
            if let Some((_, rest)) = line.split_once(start) {
                return (rest.trim_end().to_owned(), reader.into_inner());
            }
        }
    })
    .await
    .unwrap();
    agent.0.stdout = Some(output);
    found
}

async fn get(address: &str, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{address}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Waits until the metrics have this line.
async fn counted(address: &str, line: &str) -> String {
    bounded(&format!("the metrics have `{line}`"), async {
        loop {
            let (status, text) = get(address, "/metrics").await;
            assert_eq!(status, 200);
            if text.lines().any(|found| found == line) {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served_while_the_agent_lives() {
    let mut service = Service::new(|_| {}).await;
    service
        .emulator
        .add_fault(
            FaultRule::new("_apis/connectionData", Fault::Latency { milliseconds: 2000, jitter: 0 }).times(1),
        )
        .unwrap();
    let mut agent = Process::spawn(&mut service.agent("watched", &["--listen", "127.0.0.1:0"]));
    let address = line_after(&mut agent, "Health and metrics at ").await;
    assert_eq!(get(&address, "/healthz").await, (200, "alive\n".to_owned()));
    assert_eq!(get(&address, "/readyz").await, (503, "not ready: no agent is online\n".to_owned()));
    service.online("watched").await;
    counted(&address, "dayfly_agents{state=\"online\"} 1").await;
    assert_eq!(get(&address, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(get(&address, "/").await.0, 404);
    let posted = reqwest::Client::builder().no_proxy().build().unwrap().post(format!("{address}/metrics"));
    assert_eq!(posted.send().await.unwrap().status(), 405);

    let wait = format!("until [ -e {} ]; do sleep 0.05; done", service.path("go").display());
    let job = service.queue("A \"name\" for trouble", &[&wait, "exit 1"]);
    counted(&address, "dayfly_jobs_running 1").await;
    std::fs::write(service.path("go"), "").unwrap();
    assert_eq!(service.result(job).await, TaskResult::Failed);
    let text = counted(&address, "dayfly_jobs_total{result=\"failed\"} 1").await;
    for line in [
        "dayfly_jobs_running 0",
        "dayfly_jobs_total{result=\"abandoned\"} 0",
        "dayfly_polls_total{answer=\"message\"} 1",
        "dayfly_lock_renewals_total{answer=\"renewed\"} 1",
        "dayfly_jobs_pending 0",
        "dayfly_job_queue_seconds_count 1",
        "dayfly_requests_total{operation=\"renew_job_request\",answer=\"ok\"} 1",
        "dayfly_outages_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in {text}");
    }
    assert!(!text.contains(PAT) && !text.contains("trouble") && !text.contains("watched"), "{text}");
    well_formed(&text);

    // A job in hand when the agent is told to stop: it is alive, and ready for nothing.
    std::fs::remove_file(service.path("go")).unwrap();
    let last = service.queue("Last", &[&format!("echo up > {}; {wait}", service.path("up").display())]);
    service.file("up").await;
    let mut command = service.agent("other", &["--listen", address.trim_start_matches("http://")]);
    let (code, output, error) = Process::spawn(&mut command).ended().await;
    assert_eq!(code, Some(1), "{output}{error}");
    assert!(error.contains("give another address with --listen") && error.contains("in use"), "{error}");
    agent.signal(Signal::SIGTERM);
    bounded("it is not ready", async {
        while get(&address, "/readyz").await.0 != 503 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(service.result(last).await, TaskResult::Canceled);
    assert_eq!(agent.ended().await.0, Some(0));
    assert!(
        std::net::TcpStream::connect(address.trim_start_matches("http://")).is_err(),
        "it ends with the agent"
    );
}

/// Each sample belongs to a family that was introduced before it, and no series comes twice.
fn well_formed(text: &str) {
    let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            families.insert(kind.split(' ').next().unwrap());
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let name_of_all = name.split('{').next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"].map(|end| name_of_all.trim_end_matches(end));
            let family = [name_of_all].into_iter().chain(of_histogram).find(|name| families.contains(name));
            assert!(family.is_some(), "{line}");
            assert!(series.insert(name), "{line} comes twice");
        }
    }
}

#[tokio::test]
async fn idle_and_endless_requests_do_not_keep_others_from_health() {
    use std::io::Write as _;
    let service = Service::new(|_| {}).await;
    let mut command = service.agent("crowded", &[]);
    command.env("DAYFLY_AGENT_LISTEN", "127.0.0.1:0");
    let mut agent = Process::spawn(&mut command);
    let address = line_after(&mut agent, "Health and metrics at ").await;
    let host = address.trim_start_matches("http://").to_owned();
    let mut idle: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(&host).unwrap()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    }
    let answer = tokio::task::spawn_blocking(move || {
        let mut endless = std::net::TcpStream::connect(&host).unwrap();
        let head = format!("GET /healthz HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(100_000));
        // It may be refused, and the connection closed, before all is sent.
        let _ = endless.write_all(head.as_bytes());
        let mut answer = String::new();
        let _ = BufReader::new(endless).read_line(&mut answer);
        answer
    });
    let answer = answer.await.unwrap();
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(get(&address, "/healthz").await.0, 200);
}

fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test]
async fn in_json_every_line_is_an_object_with_the_ids_of_its_job() {
    let mut service = Service::new(|_| {}).await;
    let agent =
        Process::spawn(&mut service.agent("json", &["--once", "--log-format", "json", "--token", PAT]));
    service.online("json").await;
    let job = service.queue("Say \"it\"", &["true"]);
    assert_eq!(service.result(job).await, TaskResult::Succeeded);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
    let lines = objects(&output);
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["registered", "online", "jobStarted", "jobCompleted", "ended"], "{output}");
    for line in &lines {
        assert_eq!((line["level"].as_str(), line["agent"].as_str()), (Some("info"), Some("json")), "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line["message"].is_string(), "{line}");
    }
    assert!(lines[0]["agentId"].is_number(), "{output}");
    let done = &lines[3];
    assert_eq!(done["job"], "Say \"it\"");
    assert_eq!(done["jobId"], job.to_string());
    assert_eq!((&done["result"], &done["buildId"]), (&"Succeeded".into(), &1.into()), "{done}");
    assert!(done["requestId"].is_number(), "{done}");
    assert_eq!(lines[4]["reason"], "once");
    let warnings = objects(&error);
    assert_eq!(warnings.len(), 1, "{error}");
    assert_eq!((&warnings[0]["level"], &warnings[0]["event"]), (&"warning".into(), &"warning".into()));
}

#[tokio::test]
async fn in_json_what_is_wrong_is_an_object_too() {
    let service = Service::new(|_| {}).await;
    for (arguments, code, event) in [
        (&["--log-format", "json", "--auth", "sp"][..], 2, "usage"),
        (&["--log-format", "json", "--pool", "Nowhere"], 1, "failed"),
    ] {
        let (ended, output, error) = Process::spawn(&mut service.agent("a", arguments)).ended().await;
        assert_eq!((ended, output.as_str()), (Some(code), ""), "{error}");
        let lines = objects(&error);
        assert_eq!(
            (lines.len(), &lines[0]["level"], &lines[0]["event"]),
            (1, &"error".into(), &event.into()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_last_line_is_true_though_the_answer_to_the_result_was_lost() {
    for lost in [1, 3] {
        let mut service = Service::new(|_| {}).await;
        service
            .emulator
            .add_fault(FaultRule::new("**/events", Fault::DropAfter).method("POST").times(lost))
            .unwrap();
        let agent = Process::spawn(&mut service.agent("a", &["--once"]));
        service.online("a").await;
        let job = service.queue("Good", &["true"]);
        assert_eq!(service.result(job).await, TaskResult::Succeeded);
        let (code, output, error) = agent.ended().await;
        assert_eq!(code, Some(0), "{output}{error}");
        assert!(
            output.contains("Job Good completed with result: Succeeded\n"),
            "{lost} lost: {output}{error}"
        );
        assert_eq!(service.results(job).len(), 1);
    }
}

#[tokio::test]
async fn what_config_sh_and_run_sh_take_is_taken_or_refused_in_a_sentence() {
    let mut service = Service::new(|_| {}).await;
    let url = service.emulator.url().to_string();
    let line = [
        "--unattended",
        "--acceptTeeEula",
        "--url",
        &url,
        "--auth",
        "PAT",
        "--token",
        PAT,
        "--pool",
        "Default",
        "--agent",
        "entry",
        "--replace",
        "--disableupdate",
        "--gituseschannel",
        "--startuptype",
        "service",
        "--runOnce",
    ];
    let agent = Process::spawn(&mut service.agent("unused", &line));
    service.online("entry").await;
    let job = service.queue("It", &["true"]);
    assert_eq!(service.result(job).await, TaskResult::Succeeded);
    assert_eq!(agent.ended().await.0, Some(0));
    for (option, reason) in [
        (&["--runAsService"][..], "the agent does not install itself as a service"),
        (&["--deploymentgroup", "--deploymentgroupname", "g"], "deployment groups are not supported"),
        (&["--environment"], "environments with virtual machines are not supported"),
        (&["--sslskipcertvalidation"], "certificates are always checked"),
        (&["--clientid", "x"], "only personal access tokens are supported"),
        (&["--proxyurl", "proxy"], "the proxy's address is not a URL"),
    ] {
        let (code, output, error) = Process::spawn(&mut service.agent("a", option)).ended().await;
        assert_eq!((code, output.as_str()), (Some(2), ""), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}
