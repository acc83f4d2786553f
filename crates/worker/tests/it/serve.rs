//! The worker as a process of its own: the job channel, its end, and what its steps can find out.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dayfly_protocol::TaskResult;
use dayfly_protocol::channel::{
    self, Cancel, CancelReason, Course, FromWorker, Heard, JobStart, OnLoss, Orders, Refusal, SecretJson,
    ToWorker, Welcome,
};
use dayfly_worker::{Once, Surroundings, serve};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::job::{Job, script_step};
use crate::service::{Service, TOKEN};

/// Set in the process that is the worker.
const IS_WORKER: &str = "DAYFLY_TEST_IS_WORKER";
/// A user with few rights, where the tests run as root.
const NOBODY: u32 = 65_534;

/// Not a test by itself: the worker's process runs it, which the test harness was made to start.
#[tokio::test(flavor = "multi_thread")]
async fn worker_process() {
    if std::env::var_os(IS_WORKER).is_none() {
        return;
    }
    let surroundings = Surroundings { environment: std::env::vars_os().collect(), ..Surroundings::default() };
    let stop = CancellationToken::new();
    let mut terminated = signal(SignalKind::terminate()).expect("signals can be heard");
    let stopped = stop.clone();
    tokio::spawn(async move {
        terminated.recv().await;
        stopped.cancel();
    });
    let dial = Once::new(tokio::io::stdin(), tokio::io::stdout());
    let outcome = serve(dial, stop, surroundings).await.expect("the worker runs");
    // The thread that reads standard input would keep the process.
    std::process::exit(outcome.exit_code());
}

/// A worker in a process of its own.
struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: tokio::io::Lines<BufReader<ChildStdout>>,
    folder: TempDir,
}

impl Worker {
    /// Starts it, as another user if the tests run as root, and gives it a job.
    async fn start(job: Job) -> Worker {
        let Job { message, settings, folder, .. } = job;
        let own = std::env::current_exe().expect("a path");
        let program = folder.path().join("worker");
        crate::programs::copy(&own, &program);
        let mut command = std::process::Command::new(&program);
        command
            .args(["--exact", "serve::worker_process", "--nocapture", "--test-threads=1"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("tests have a path"))
            .env(IS_WORKER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if nix::unistd::geteuid().is_root() {
            give_to_nobody(folder.path());
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("started");
        let mut input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let message = serde_json::to_vec(&message).expect("plain data");
        let message = SecretJson::new(&message).expect("it is JSON");
        let start = Box::new(JobStart { message, worker: settings, on_loss: OnLoss::CancelNow });
        input.write_all(&frame(&ToWorker::Welcome(Welcome::Job(start)))).await.expect("written");
        Worker { child, input: Some(input), output, folder }
    }

    /// The next frame, which is acknowledged; what the test harness prints is passed over.
    async fn next(&mut self) -> Option<FromWorker> {
        let read = async {
            while let Some(line) = self.output.next_line().await.expect("UTF-8") {
                if let Ok(frame) = serde_json::from_str(&line) {
                    return Some(frame);
                }
            }
            None
        };
        let frame = tokio::time::timeout(Duration::from_secs(60), read).await.expect("a frame in time");
        if let Some(FromWorker::Course(course)) = &frame
            && course.heard() > Heard::Nothing
        {
            self.tell(&ToWorker::Heard(course.heard())).await;
        }
        frame
    }

    async fn tell(&mut self, told: &ToWorker) {
        let input = self.input.as_mut().expect("the channel is open");
        input.write_all(&frame(told)).await.expect("written");
    }

    /// The listener is gone.
    fn close(&mut self) {
        self.input = None;
    }

    async fn finished(&mut self) -> (TaskResult, bool) {
        loop {
            match self.next().await {
                Some(FromWorker::Course(Course::Finished { result, reported })) => return (result, reported),
                Some(_) => {}
                None => panic!("the channel closed without a result"),
            }
        }
    }
}

fn frame(frame: &ToWorker) -> Vec<u8> {
    channel::encode(frame).expect("plain data").to_vec()
}

fn give_to_nobody(folder: &Path) {
    let nobody = Some(nix::unistd::Uid::from_raw(NOBODY));
    nix::unistd::chown(folder, nobody, None).expect("root may");
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        nix::unistd::chown(&entry.path(), nobody, None).expect("root may");
    }
}

/// Waits until the worker is there. The test harness prints the test's name in front of its first frame.
async fn first_frames(worker: &mut Worker) {
    let read = async {
        loop {
            let line =
                worker.output.next_line().await.expect("UTF-8").expect("the worker says that it is there");
            if line.contains(r#"{"hello":{"#) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the worker starts in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_process_tells_its_course_and_ends_with_the_result() {
    let service = Service::start().await;
    let mut worker = Worker::start(Job::new(&service).script("one", "true").script("two", "exit 1")).await;
    first_frames(&mut worker).await;
    let mut steps = Vec::new();
    let finished = loop {
        match worker.next().await.expect("a frame") {
            FromWorker::Course(Course::Step(step)) => steps.push((step.name, step.number, step.total)),
            FromWorker::Course(Course::Finished { result, reported }) => break (result, reported),
            FromWorker::Course(Course::Beginning | Course::Reporting) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(steps, [("one".to_owned(), 1, 2), ("two".to_owned(), 2, 2)]);
    assert_eq!(finished, (TaskResult::Failed, true));
    let status = tokio::time::timeout(Duration::from_secs(30), worker.child.wait())
        .await
        .expect("it ends")
        .expect("waited");
    assert_eq!(status.code(), Some(102));
}

/// The ways in which a job is cancelled.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Ordered,
    ChannelClosed,
    Terminated,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_process_is_cancelled_by_a_frame_by_the_end_of_the_channel_and_by_a_signal() {
    for end in [End::Ordered, End::ChannelClosed, End::Terminated] {
        let service = Service::start().await;
        let job = Job::new(&service)
            .variable("PROCESS_SIGINT_TIMEOUT", "100")
            .script("long", "echo started; sleep 600");
        let mut worker = Worker::start(job).await;
        service
            .wait_for("the step's output", |told| told.console.iter().any(|(_, line)| line == "started"))
            .await;
        match end {
            End::Ordered => {
                let cancel = Cancel { reason: CancelReason::Requested, timeout_seconds: 60 };
                worker.tell(&ToWorker::Orders(Orders { cancel: Some(cancel), ..Orders::default() })).await;
            }
            End::ChannelClosed => worker.close(),
            End::Terminated => {
                let process = i32::try_from(worker.child.id().expect("it runs")).expect("an id");
                nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(process),
                    nix::sys::signal::Signal::SIGTERM,
                )
                .expect("it can be told");
            }
        }
        if end != End::ChannelClosed {
            assert_eq!(worker.finished().await, (TaskResult::Canceled, true), "{end:?}");
        }
        let status = tokio::time::timeout(Duration::from_secs(60), worker.child.wait())
            .await
            .expect("it ends")
            .expect("waited");
        assert_eq!(status.code(), Some(103), "{end:?}");
        service.look(|told| {
            assert_eq!(told.events.len(), 1);
            assert_eq!(told.events[0]["result"], serde_json::json!("canceled"));
        });
        let is_told = service.everything().contains("The agent has received a shutdown signal");
        assert_eq!(is_told, end == End::Terminated, "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gives_up_when_the_service_ended_with_its_listener() {
    let service = Service::start().await;
    let mut job = Job::new(&service).script("long", "echo started; trap '' INT TERM; sleep 600; sleep 600");
    job.settings.service_ends_with_listener = true;
    let mut worker = Worker::start(job).await;
    service
        .wait_for("the step's output", |told| told.console.iter().any(|(_, line)| line == "started"))
        .await;
    drop(service);
    worker.close();
    // It would go on trying for minutes.
    let status = tokio::time::timeout(Duration::from_secs(60), worker.child.wait())
        .await
        .expect("it ends")
        .expect("waited");
    assert_eq!(status.code(), Some(103));
}

/// A step that looks for secrets everywhere its user can look. It prints only where it found one, so that
/// masking cannot hide it.
const SEARCH: &str = r#"
hidden=$(printf '%s' "$NEEDLE_A$NEEDLE_B")
look() { if printf '%s' "$2" | grep -qF "$hidden"; then echo "FOUND in $1"; fi; }
look environment "$(env | grep -v '^NEEDLE')"
for process in /proc/[0-9]*; do
  for file in cmdline environ; do
    if tr '\0' '\n' < $process/$file 2>/dev/null | grep -v '^NEEDLE' | grep -qF "$hidden"; then echo "FOUND in $process/$file"; fi
  done
done
if [ -r /proc/$PPID/mem ] && cat /proc/$PPID/maps > /dev/null 2>&1 && [ -s /proc/$PPID/maps ]; then echo "FOUND readable memory"; fi
if cat /proc/$PPID/environ > /dev/null 2>&1; then echo "FOUND readable environment"; fi
if ls /proc/$PPID/fd > /dev/null 2>&1; then echo "FOUND readable descriptors"; fi
if grep -rqF "$hidden" "$AGENT_WORKFOLDER" 2>/dev/null; then echo "FOUND in the work folder"; grep -rlF "$hidden" "$AGENT_WORKFOLDER"; fi
if grep -rqF "$hidden" "$HOME_OF_TEST" --include='*' --exclude=worker 2>/dev/null; then echo "FOUND in the home folder"; fi
echo searched
"#;

#[tokio::test(flavor = "multi_thread")]
async fn steps_cannot_find_the_token_or_secrets_they_were_not_given() {
    for secret in [TOKEN, "sesame-open-and-shut"] {
        let service = Service::start().await;
        let (first, second) = secret.split_at(6);
        let mut step = script_step("search", SEARCH);
        // The needle comes in two halves, so that the step itself does not hold what it looks for.
        step.environment.insert("NEEDLE_A".to_owned(), first.to_owned());
        step.environment.insert("NEEDLE_B".to_owned(), second.to_owned());
        let job = Job::new(&service).secret("hush", "sesame-open-and-shut");
        step.environment.insert("HOME_OF_TEST".to_owned(), job.folder.path().to_string_lossy().into_owned());
        let mut worker = Worker::start(job.step(step)).await;
        assert_eq!(worker_result(&mut worker).await, TaskResult::Succeeded);
        let log = service.log("search");
        assert!(log.contains("\nsearched\n"), "{log}");
        let found: Vec<&str> = log.lines().filter(|line| line.starts_with("FOUND")).collect();
        assert_eq!(found, Vec::<&str>::new(), "{log}");
        assert!(worker.folder.path().join("work").is_dir());
    }
}

async fn worker_result(worker: &mut Worker) -> TaskResult {
    first_frames(worker).await;
    worker.finished().await.0
}

#[tokio::test]
async fn a_channel_without_a_job_is_an_error() {
    let refused = Refusal::Protocol { protocol: 3, version: "9.9".to_owned() };
    for (bytes, expected) in [
        (Vec::new(), "closed before a job came"),
        (frame(&ToWorker::Orders(Orders::default())), "is not a welcome"),
        (b"{\"welcome\":{\"job\":{\"message\":{\"jobId\":\"secret-thing\"\n".to_vec(), "cannot be read"),
        (b"nonsense\n".to_vec(), "cannot be read"),
        // The first frame of the first protocol.
        (b"{\"type\":\"job\",\"message\":{}}\n".to_vec(), "must have the same version"),
        (frame(&ToWorker::Welcome(Welcome::Refused(Refusal::Unknown))), "it has no job for this worker"),
        (
            frame(&ToWorker::Welcome(Welcome::Refused(refused))),
            "it has version 9.9 and speaks channel protocol 3",
        ),
    ] {
        let (mut listener, worker) = tokio::io::duplex(1 << 20);
        listener.write_all(&bytes).await.expect("written");
        drop(listener);
        let dial = Once::new(worker, tokio::io::sink());
        let error = serve(dial, CancellationToken::new(), Surroundings::default()).await.expect_err("no job");
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(!format!("{error:?}").contains("secret-thing"));
    }
}
