//! The service is away for a minute while a job runs: whoever connects is refused, and what was connected is
//! cut off. Nothing is lost.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use dayfly_emulator::{Event, JobChange};
use dayfly_protocol::{RecordId, TaskResult, timeline::TimelineRecord};
use nix::sys::signal::Signal;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};
use tokio_util::task::AbortOnDropHandle;

use crate::service::{Process, Service, bounded};

/// How long the service is away.
const AWAY: Duration = Duration::from_secs(61);

/// How many lines each half of a step prints.
const LINES: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_the_service_costs_a_running_job_nothing() {
    // Its port is kept for the emulator until that listens there.
    let behind = bound("127.0.0.1:0");
    let mut gate = Gate::new(behind.local_addr().unwrap());
    let mut service = Service::new(|settings| {
        settings.listen = gate.behind;
        settings.public_url = Some(format!("http://{}/", gate.address).parse().unwrap());
    })
    .await;
    drop(behind);
    gate.open();
    let agent = Process::spawn(&mut service.agent("patient", &[]));
    service.online("patient").await;

    let folder = service.folder.path().display().to_string();
    let count = |from: usize, to: usize| format!("for n in $(seq {from} {to}); do echo \"line $n\"; done");
    let wait = |file: &str| format!("while [ ! -e {folder}/{file} ]; do sleep 0.05; done");
    let ran = |step: usize| format!("echo {step} >> {folder}/journal");
    let scripts = [
        // Begins while the service is there, ends while it is away.
        format!(
            "{}; {}; echo up > {folder}/up; {}; {}",
            count(1, LINES),
            ran(1),
            wait("away"),
            count(LINES + 1, 2 * LINES)
        ),
        // Begins and ends while it is away.
        format!("{}; {}; sleep 1; {}", ran(2), count(1, LINES), count(LINES + 1, 2 * LINES)),
        // Begins while it is away, ends when it is back.
        format!(
            "{}; {}; echo waits > {folder}/waits; {}; {}",
            count(1, LINES),
            ran(3),
            wait("back"),
            count(LINES + 1, 2 * LINES)
        ),
    ];
    let console = console(service.emulator.events());
    let job = service.queue("Patient", &scripts.each_ref().map(String::as_str));
    service.file("up").await;

    gate.close().await;
    let left = Instant::now();
    std::fs::write(service.path("away"), "").unwrap();
    service.file("waits").await;
    // The time itself is what is tested: that it takes a whole minute until the service can be reached.
    tokio::time::sleep(AWAY.saturating_sub(left.elapsed())).await;
    assert_eq!(service.file("journal").await, "1\n2\n3\n", "the job went on meanwhile");
    assert!(service.results(job).is_empty());
    gate.open();
    std::fs::write(service.path("back"), "").unwrap();

    assert_eq!(service.result(job).await, TaskResult::Succeeded);
    let console = bounded("the console is whole", console).await.unwrap();
    let records = service.records(job).await;
    let expected: Vec<_> = (1..=2 * LINES).map(|number| format!("line {number}")).collect();
    for step in 0..3 {
        let record = step_record(&records, step);
        assert_eq!(record.result, Some(TaskResult::Succeeded), "{record:?}");
        let shown = console.iter().filter(|(of, _)| *of == record.id).map(|(_, line)| line.as_str());
        assert_eq!(numbered(shown), expected, "the console of step {step}");
        let log = service.log(job, record.log.as_ref().unwrap().id).await;
        // Each line has its time before it.
        let lines = log.lines().map(|line| line.split_once("Z ").unwrap().1);
        assert_eq!(numbered(lines), expected, "the log of step {step}");
    }
    assert_eq!(service.file("journal").await, "1\n2\n3\n", "each step ran once");
    service.look();
    assert_eq!(service.results(job).len(), 1);

    // The agent is as good as before, and has not said much.
    let next = service.queue("Afterwards", &["true"]);
    assert_eq!(service.result(next).await, TaskResult::Succeeded);
    assert_eq!(service.emulator.statistics().refused_completions, 0);
    agent.signal(Signal::SIGTERM);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
    assert_eq!(error.matches("Retrying until reconnected").count(), 1, "{error}");
    assert_eq!(output.matches("Agent reconnected").count(), 1, "{output}");
    gate.close().await;
}

fn step_record(records: &[TimelineRecord], step: usize) -> &TimelineRecord {
    let name = format!("Step {step}");
    records.iter().find(|record| record.name.as_ref() == Some(&name)).unwrap()
}

/// The lines that the steps numbered.
fn numbered<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    lines.filter(|line| line.starts_with("line ")).collect()
}

/// All console lines, as they come until the first job ends.
fn console(mut events: mpsc::Receiver<Event>) -> AbortOnDropHandle<Vec<(RecordId, String)>> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut console = Vec::new();
        while let Some(event) = events.recv().await {
            match event {
                Event::Lines { record, lines, .. } => {
                    console.extend(lines.iter().map(|line| (record, line.clone())));
                }
                Event::JobChanged(signal) if matches!(signal.change, JobChange::Completed { .. }) => break,
                _ => {}
            }
        }
        console
    }))
}

/// The service's address: whoever connects is passed on to the service behind it, or refused while the gate
/// is closed.
struct Gate {
    address: SocketAddr,
    behind: SocketAddr,
    presence: Presence,
}

enum Presence {
    Open {
        close: oneshot::Sender<()>,
        server: JoinHandle<()>,
    },
    /// The port is kept, so that nobody else gets it, but nobody listens.
    Closed(Option<TcpSocket>),
}

impl Gate {
    /// A closed one.
    fn new(behind: SocketAddr) -> Self {
        let socket = bound("127.0.0.1:0");
        let address = socket.local_addr().unwrap();
        Self { address, behind, presence: Presence::Closed(Some(socket)) }
    }

    fn open(&mut self) {
        let Presence::Closed(socket) = &mut self.presence else { panic!("it is open") };
        let listener = socket.take().unwrap().listen(1024).unwrap();
        let (close, closed) = oneshot::channel();
        let server = tokio::spawn(pass_on(listener, self.behind, closed));
        self.presence = Presence::Open { close, server };
    }

    async fn close(&mut self) {
        let kept = Presence::Closed(None);
        let Presence::Open { close, server } = std::mem::replace(&mut self.presence, kept) else {
            panic!("it is closed")
        };
        close.send(()).unwrap();
        server.await.unwrap();
        self.presence = Presence::Closed(Some(bound(&self.address.to_string())));
        let refused = TcpStream::connect(self.address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

/// A socket that has a port and does not listen.
fn bound(address: &str) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    socket
}

/// Passes connections on until told to close; then all are cut off.
async fn pass_on(listener: TcpListener, behind: SocketAddr, mut closed: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        let mut client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            Some(ended) = connections.join_next() => {
                let () = ended.unwrap();
                continue;
            }
            // Also when the test has ended.
            _ = &mut closed => break,
        };
        connections.spawn(async move {
            let mut service = TcpStream::connect(behind).await.unwrap();
            // Either side may break off; the other one notices.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut service).await;
        });
    }
    drop(listener);
    connections.shutdown().await;
}
