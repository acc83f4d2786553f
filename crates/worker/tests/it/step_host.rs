//! Steps that run in other containers of the pod, here beside the worker: the same conversation over the same
//! socket. What keeps steps from it is tested in a cluster.

use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use dayfly_protocol::channel::CancelReason;
use dayfly_protocol::job::{ContainerProperties, ContainerResource, Step, StepTarget};
use dayfly_worker::{ServeHostError, serve_steps};
use tokio::task::JoinHandle;

use crate::job::{Job, bash_step, script_step};
use crate::service::Service;

/// A job whose steps run in containers.
fn job(service: &Service) -> (Job, PathBuf) {
    let mut job = Job::new(service);
    let folder = job.folder.path().join("hosts");
    job.surroundings.step_hosts = Some(folder.clone());
    (job, folder)
}

/// A container of that name, in whose environment `WHERE` is its name.
fn container(folder: &Path, name: &str) -> JoinHandle<Result<(), ServeHostError>> {
    let socket = folder.join(name).join("socket");
    let path = std::env::var_os("PATH").expect("tests have a path");
    let environment = [("PATH".into(), path), ("WHERE".into(), name.into())];
    tokio::spawn(async move { serve_steps(&socket, environment).await })
}

fn at(mut step: Step, target: &str) -> Step {
    step.target = Some(StepTarget { target: Some(target.to_owned()), ..StepTarget::default() });
    step
}

fn resource(alias: &str) -> ContainerResource {
    let properties = ContainerProperties { image: alias.to_owned(), ..ContainerProperties::default() };
    ContainerResource { alias: alias.to_owned(), endpoint: None, properties }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_runs_in_its_container_with_what_is_there() {
    let service = Service::start().await;
    let (mut job, folder) = job(&service);
    let mut python = resource("python");
    python.properties.env.insert("OWN".to_owned(), "$(password)!".to_owned());
    job.message.resources.containers.push(python);
    let job = job
        .secret("password", "hush-hush")
        .variable("Colour", "blue")
        .step(script_step("own", "echo in $WHERE, $COLOUR, -$OWN-, agent ${AZP_TOKEN:-unknown}"))
        .step(at(
            bash_step(
                "python",
                &[
                    ("targetType", "inline"),
                    ("script", "echo in $WHERE; [ ${#OWN} = 10 ] && echo it is whole"),
                ],
            ),
            "Python",
        ))
        .step(at(script_step("host", "echo in ${WHERE:-the agent}"), "host"));
    let containers = [container(&folder, "job"), container(&folder, "step-1")];
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.everything());
    assert!(service.log("own").contains("in job, blue, --, agent unknown"), "{}", service.log("own"));
    let python = service.log("python");
    assert!(python.contains("in step-1") && python.contains("it is whole"), "{python}");
    assert!(service.log("host").contains("in the agent"), "{}", service.log("host"));
    for container in containers {
        container.await.expect("no panic").expect("it served to the end");
    }
    assert!(!folder.join("job/socket").exists(), "nobody else can connect");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_and_exit_codes_come_whole() {
    let service = Service::start().await;
    let (job, folder) = job(&service);
    let job = job.script("long", "seq 20000; echo to stderr >&2; exit 7").script("next", "echo never");
    let container = container(&folder, "job");
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Failed);
    let log = service.log("long");
    assert!(log.contains("##[error]Bash exited with code '7'."), "{log}");
    let numbers = log.lines().filter(|line| line.parse::<u32>().is_ok());
    assert!(numbers.map(|line| line.parse::<u32>().expect("a number")).eq(1..=20_000), "all in order");
    assert!(log.contains("\nto stderr\n"));
    assert_eq!(service.result("next"), "skipped");
    container.await.expect("no panic").expect("it served to the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_step_gets_its_signals_and_what_ignores_them_is_killed() {
    let service = Service::start().await;
    let (job, folder) = job(&service);
    let running = job
        .variable("PROCESS_SIGINT_TIMEOUT", "300")
        .variable("PROCESS_SIGTERM_TIMEOUT", "300")
        .script(
            "stubborn",
            "trap 'echo had INT' INT; trap 'echo had TERM' TERM; echo started; while :; do sleep 0.05; done",
        )
        .start();
    let container = container(&folder, "job");
    service
        .wait_for("the step's output", |told| told.console.iter().any(|(_, line)| line == "started"))
        .await;
    running.cancel(CancelReason::Requested);
    let (outcome, _folder) = running.wait().await;
    assert_eq!(outcome.result, TaskResult::Canceled);
    let log = service.log("stubborn");
    assert!(log.contains("had INT\nhad TERM\n"), "{log}");
    container.await.expect("no panic").expect("it served to the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_container_is_told_as_on_a_machine() {
    let service = Service::start().await;
    let (job, folder) = job(&service);
    let mut nowhere = script_step("nowhere", "pwd");
    nowhere.inputs.insert("workingDirectory".to_owned(), "/no/such/folder".to_owned());
    nowhere.continue_on_error = true;
    let mut no_bash = script_step("no bash", "true");
    no_bash.environment.insert("PATH".to_owned(), "/no/path".to_owned());
    let job = job.step(nowhere).step(no_bash);
    let container = container(&folder, "job");
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Failed);
    let log = service.log("no bash");
    let expected = "Unable to locate executable file: 'bash'. It is not in the image of the container";
    assert!(log.contains(expected), "{log}");
    container.await.expect("no panic").expect("it served to the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ends_fails_its_step_and_not_the_worker() {
    let service = Service::start().await;
    let (job, folder) = job(&service);
    let mut last = at(script_step("last", "echo cleaned up"), "host");
    last.condition = Some("always()".to_owned());
    let running = job.script("gone", "echo started; sleep 600").step(last).start();
    let container = container(&folder, "job");
    service
        .wait_for("the step's output", |told| told.console.iter().any(|(_, line)| line == "started"))
        .await;
    container.abort();
    let (outcome, _folder) = running.wait().await;
    assert_eq!(outcome.result, TaskResult::Failed);
    assert!(service.log("gone").contains("the container 'job' has ended"), "{}", service.log("gone"));
    assert!(service.log("last").contains("cleaned up"));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_waited_for_and_their_ports_are_passed_on() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let service = Service::start().await;
    let (mut job, folder) = job(&service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let inside = listener.local_addr().expect("bound").port();
    let outside =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut word = [0; 4];
            if stream.read_exact(&mut word).await.is_ok() {
                let _ = stream.write_all(b"pong\n").await;
            }
        }
    });
    let mut echo = resource("echo");
    echo.properties.ports.push(format!("{outside}:{inside}"));
    job.message.resources.containers.push(echo);
    job.message.job_sidecar_containers.insert("echo".to_owned(), "echo".to_owned());
    let script =
        format!("exec 3<>/dev/tcp/127.0.0.1/$(agent.services.echo.ports.{inside}); printf ping >&3; cat <&3");
    let job = job.script("ask", &script);
    let container = container(&folder, "job");
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.everything());
    assert!(service.log("ask").contains("pong"));
    let orders: Vec<_> = ["Initialize containers", "ask", "Finalize Job"]
        .map(|name| service.record(name)["order"].as_i64().expect("a number"))
        .to_vec();
    assert_eq!(orders, [2, 3, 4]);
    container.await.expect("no panic").expect("it served to the end");
    answering.abort();
}
