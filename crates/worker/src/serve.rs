//! The worker's end of the job channel: one job in, its result out, over as many connections as it takes.
//!
//! The job does not know of connections. It sees [`Control`], which always holds what the listener wants, and
//! tells its course into a queue; [`Talk`] carries both over the connection there is, makes a new one when it
//! is lost, and decides when the listener is gone for good.

use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use dayfly_client::random_pause;
use dayfly_protocol::channel::{
    self, Course, FrameError, FromWorker, Hello, JobStart, Key, OnLoss, PROTOCOL, Refusal, ToWorker, Welcome,
};
use dayfly_protocol::{TaskResult, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::dial::Dial;
use crate::job::{Abandoned, Control, Outcome, run};
use crate::link::{Connection, Heard, Link, until};
use crate::{Surroundings, platform};

/// How many frames of the job may wait.
const QUEUED_FRAMES: usize = 64;
/// How long the listener may take to hear the last frame of a job whose result the service knows.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long a worker that may reconnect tries to come by its first connection and its job.
const FIRST_CONNECTION: Duration = Duration::from_secs(10 * 60);
/// For how long a worker without a job comes back to a listener that does not know it.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(30);
/// How long one connection may take to be made.
const DIALLING: Duration = Duration::from_secs(10);
/// Pauses between two tries to connect, from the first to the longest; each is half as long up to as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a worker could not serve its listener.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener closed the channel before it sent a job.
    #[error("the job channel closed before a job came; the worker must be started by a listener")]
    NoJob,
    /// There was no job when the worker was told to stop.
    #[error("the worker was told to stop before a job came")]
    Stopped,
    /// No connection could be made.
    #[error("could not reach the listener")]
    Unreachable(#[source] std::io::Error),
    /// The listener said no.
    #[error("the listener refused the worker: {}", refusal(.0))]
    Refused(Refusal),
    /// What should be an answer to our first frame is none.
    #[error(
        "the first frame of the job channel is not a welcome; listener and worker must have the same version"
    )]
    NoWelcome,
    /// A frame was not one.
    #[error(transparent)]
    Frame(FrameError),
    /// The job message was not one.
    #[error("the job message cannot be read")]
    Message(#[source] json::Error),
    /// Another process could read everything that the worker holds.
    #[error(
        "process {0} traces the worker and could read the job's token from it; stop the debugger or \
         `strace` and run the job again"
    )]
    Traced(i32),
    /// No secret for the channel.
    #[error("could not make a key for the job channel")]
    Key(#[source] dayfly_protocol::crypto::Error),
}

fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Protocol { protocol, version } => format!(
            "it has version {version} and speaks channel protocol {protocol}, this worker has version {} \
             and speaks {PROTOCOL}; use the same version of both",
            env!("CARGO_PKG_VERSION")
        ),
        Refusal::Unknown => "it has no job for this worker".to_owned(),
    }
}

/// Takes a job from the listener that `dial` leads to, runs it, and tells its course.
///
/// When the listener is gone for good, the job is cancelled and its result goes to the service anyway; the
/// same happens when `stop` is cancelled. A listener that does not read is no reason to stop.
///
/// # Errors
///
/// Only before the job begins: no job came.
pub async fn serve(
    dial: impl Dial,
    stop: CancellationToken,
    surroundings: Surroundings,
) -> Result<Outcome, ServeError> {
    if let Err(error) = platform::protect() {
        tracing::warn!(%error, "the worker's memory cannot be hidden from its steps");
    }
    // Who attached before that stays attached. Nothing secret is here yet: the job comes once we have said
    // hello.
    if let Some(tracer) = platform::tracer() {
        return Err(ServeError::Traced(tracer));
    }
    let mut talk = Talk::new(dial)?;
    let start = tokio::select! {
        start = talk.first() => start?,
        () = stop.cancelled() => return Err(ServeError::Stopped),
    };
    let JobStart { message, worker, on_loss } = *start;
    let parsed = json::from_slice(message.expose().as_bytes()).map_err(ServeError::Message)?;
    drop(message);
    talk.begin(&parsed, on_loss);
    let (frames, mut told) = mpsc::channel(QUEUED_FRAMES);
    let mut job = pin!(run(parsed, worker, surroundings, talk.control.subscribe(), frames));
    // Both go on side by side: a listener that does not read must not hold the job up.
    let outcome = loop {
        tokio::select! {
            outcome = &mut job => break outcome,
            () = talk.go_on(&mut told) => {}
            () = stop.cancelled(), if !talk.is_abandoned() => talk.abandon(Abandoned::Stopped),
        }
    };
    while let Ok(frame) = told.try_recv() {
        talk.tell(frame);
    }
    talk.finish(outcome).await;
    Ok(outcome)
}

/// The conversation with the listener, whichever connection it has at the moment.
struct Talk<D> {
    dial: D,
    hello: Hello,
    link: Option<Link>,
    /// No connection can be made any more.
    is_over: bool,
    control: watch::Sender<Control>,
    on_loss: OnLoss,
    /// Since when there is no connection.
    lost_at: Option<Instant>,
    pause: Duration,
    /// Not before this a connection is tried.
    redial_at: Instant,
}

impl<D: Dial> Talk<D> {
    fn new(dial: D) -> Result<Self, ServeError> {
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            claim: None,
            resume: Key::draw().map_err(ServeError::Key)?,
            job: None,
            course: Course::Waiting,
        };
        Ok(Self {
            dial,
            hello,
            link: None,
            is_over: false,
            control: watch::Sender::new(Control::default()),
            on_loss: OnLoss::CancelNow,
            lost_at: None,
            pause: FIRST_PAUSE,
            redial_at: Instant::now(),
        })
    }

    // ---- until there is a job ----

    /// Waits for the job.
    async fn first(&mut self) -> Result<Box<JobStart>, ServeError> {
        let limit = Instant::now() + FIRST_CONNECTION;
        let mut refused_at = None;
        let mut failure = ServeError::NoJob;
        loop {
            failure = match self.connect().await {
                Ok(true) => match self.welcome().await {
                    Ok(ControlFlow::Break(start)) => return Ok(start),
                    Ok(ControlFlow::Continue(())) => ServeError::NoJob,
                    // A listener that has just taken the jobs over may come to know ours.
                    Err(error @ ServeError::Refused(Refusal::Unknown)) => {
                        let since: &mut Instant = refused_at.get_or_insert_with(Instant::now);
                        if since.elapsed() >= REFUSAL_PATIENCE {
                            return Err(error);
                        }
                        // So may the next one behind the same address.
                        self.pause = FIRST_PAUSE;
                        error
                    }
                    Err(error) => return Err(error),
                },
                Ok(false) => return Err(failure),
                Err(error) => ServeError::Unreachable(error),
            };
            self.link = None;
            if Instant::now() >= limit {
                return Err(failure);
            }
            tokio::time::sleep_until(self.redial_at).await;
        }
    }

    /// Reads frames until the job comes or the connection ends.
    async fn welcome(&mut self) -> Result<ControlFlow<Box<JobStart>>, ServeError> {
        let Some(link) = &mut self.link else { return Ok(ControlFlow::Continue(())) };
        loop {
            match link.next().await {
                Heard::Frame(ToWorker::Welcome(welcome)) => match welcome {
                    Welcome::Job(start) => return Ok(ControlFlow::Break(start)),
                    Welcome::Wait => {}
                    Welcome::Elsewhere(address) if self.dial.redirect(&address) => {
                        self.redial_at = Instant::now();
                        return Ok(ControlFlow::Continue(()));
                    }
                    Welcome::Elsewhere(_) | Welcome::Resumed => return Err(ServeError::NoWelcome),
                    Welcome::Refused(refusal) => return Err(ServeError::Refused(refusal)),
                },
                Heard::Frame(ToWorker::Ping) => link.tell(&FromWorker::Pong),
                Heard::Frame(ToWorker::Orders(_) | ToWorker::Heard(_)) => return Err(ServeError::NoWelcome),
                Heard::Garbage(error) => return Err(ServeError::Frame(error)),
                Heard::Closed | Heard::Broken(_) => return Ok(ControlFlow::Continue(())),
            }
        }
    }

    /// Makes a connection and says hello. False when there is none to be had any more.
    async fn connect(&mut self) -> std::io::Result<bool> {
        self.redial_at = Instant::now() + self.next_pause();
        let connection = timeout(DIALLING, self.dial.dial()).await.unwrap_or_else(|_| Err(too_slow()))?;
        match connection {
            Some(connection) => {
                self.greet(connection);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn greet(&mut self, connection: Connection) {
        let mut link = Link::new(connection);
        // Read anew for each connection: such tokens are replaced while the worker runs.
        let claim = if self.hello.job.is_none() { self.dial.claim() } else { None };
        link.tell(&FromWorker::Hello(Hello { claim, ..self.hello.clone() }));
        self.link = Some(link);
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        random_pause(pause / 2, pause)
    }

    // ---- while there is a job ----

    fn begin(&mut self, message: &dayfly_protocol::job::AgentJobRequestMessage, on_loss: OnLoss) {
        self.hello.job = Some(message.job_id);
        self.hello.course = Course::Beginning;
        self.on_loss = on_loss;
        self.pause = FIRST_PAUSE;
        self.tell_course();
    }

    /// One thing that happens. Cancel safe.
    async fn go_on(&mut self, told: &mut mpsc::Receiver<FromWorker>) {
        let gone_at = self.gone_at();
        tokio::select! {
            Some(frame) = told.recv() => self.tell(frame),
            heard = next_of(&mut self.link) => self.hear(heard),
            () = until(Some(self.redial_at)), if self.link.is_none() && !self.is_over => self.redial().await,
            () = until(gone_at) => self.abandon(Abandoned::ListenerGone),
        }
    }

    /// When the listener is gone for good, if it does not come back.
    fn gone_at(&self) -> Option<Instant> {
        match self.on_loss {
            _ if self.is_abandoned() => None,
            OnLoss::CancelNow => self.lost_at,
            OnLoss::ReconnectFor { seconds } => Some(self.lost_at? + Duration::from_secs(seconds)),
        }
    }

    fn is_abandoned(&self) -> bool {
        self.control.borrow().abandoned.is_some()
    }

    fn abandon(&mut self, why: Abandoned) {
        self.control.send_modify(|control| control.abandoned = Some(why));
    }

    fn tell(&mut self, frame: FromWorker) {
        if let FromWorker::Course(course) = frame {
            self.hello.course = course;
            return self.tell_course();
        }
        if let Some(link) = &mut self.link {
            link.tell(&frame);
        }
    }

    fn tell_course(&mut self) {
        let course = FromWorker::Course(self.hello.course.clone());
        if let Some(link) = &mut self.link {
            link.tell(&course);
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Frame(ToWorker::Orders(orders)) => {
                self.control.send_if_modified(|control| {
                    let is_news = control.orders != orders;
                    control.orders = orders;
                    is_news
                });
            }
            Heard::Frame(ToWorker::Heard(heard)) => self.control.send_modify(|control| control.heard = heard),
            Heard::Frame(ToWorker::Ping) => {
                self.lost_at = None;
                self.tell(FromWorker::Pong);
            }
            Heard::Frame(ToWorker::Welcome(welcome)) => self.welcomed(welcome),
            // Something newer than we are; what we know goes on.
            Heard::Garbage(error) => tracing::warn!(%error, "a frame of the listener is passed over"),
            Heard::Closed => self.lost("it was closed"),
            Heard::Broken(error) => self.lost(&error.to_string()),
        }
    }

    fn welcomed(&mut self, welcome: Welcome) {
        match welcome {
            Welcome::Resumed => {
                tracing::info!("the listener has taken the job up again");
                (self.lost_at, self.pause) = (None, FIRST_PAUSE);
            }
            Welcome::Elsewhere(address) => {
                if self.dial.redirect(&address) {
                    self.pause = FIRST_PAUSE;
                }
                self.lost("the job is with another listener");
            }
            // Who says so may be a listener that does not know the job yet, or no more.
            Welcome::Refused(refusal) => {
                tracing::warn!(?refusal, "the listener does not know the job");
                self.lost("the job was refused");
            }
            Welcome::Job(_) => tracing::warn!("the worker ignored a second job"),
            Welcome::Wait => {}
        }
    }

    fn lost(&mut self, error: &str) {
        tracing::warn!(error, "the connection to the listener is lost");
        self.link = None;
        self.lost_at.get_or_insert_with(Instant::now);
        self.redial_at = Instant::now() + self.next_pause();
    }

    async fn redial(&mut self) {
        match self.connect().await {
            Ok(true) => {}
            Ok(false) => self.is_over = true,
            Err(error) => tracing::debug!(%error, "the listener cannot be reached"),
        }
    }

    // ---- once it has ended ----

    /// Tells the result until it was heard, for as long as that is of use.
    async fn finish(&mut self, outcome: Outcome) {
        self.hello.course = Course::Finished { result: outcome.result, reported: outcome.reported };
        self.tell_course();
        let patience = match self.on_loss {
            // Nobody but the listener can tell the service now.
            OnLoss::ReconnectFor { seconds } if !outcome.reported => {
                Duration::from_secs(seconds).max(LAST_WORDS)
            }
            OnLoss::ReconnectFor { .. } | OnLoss::CancelNow => LAST_WORDS,
        };
        let (_nobody, mut told) = mpsc::channel(1);
        let heard = async {
            while self.control.borrow().heard < channel::Heard::Finished
                && !(self.is_over && self.link.is_none())
            {
                self.go_on(&mut told).await;
            }
        };
        if timeout(patience, heard).await.is_err() {
            tracing::warn!("the listener did not take the result");
        }
    }
}

async fn next_of(link: &mut Option<Link>) -> Heard {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

fn too_slow() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not answer in time")
}

impl Outcome {
    /// The exit code by which the worker's process tells it: 100 plus the result's number.
    pub fn exit_code(self) -> i32 {
        TaskResult::exit_code(self.result)
    }
}
