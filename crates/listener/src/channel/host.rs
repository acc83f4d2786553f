//! What a worker is told and what is heard of it, over however many connections.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dayfly_protocol::channel::{
    Course, FromWorker, Heard as Acknowledged, Hello, Orders, PROTOCOL, Refusal, ToWorker, Welcome,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, timeout},
};

use super::link::{Heard, Link};
use crate::{notes::Progress, store::Ledger};

/// How long a worker may take to be ready for its job.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// How often a worker on a socket is asked whether it is there, and how long it may keep silent.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(15);

/// How long a worker that is sent away may take to take that in.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many of the last lines beside the channel are kept, and how much of each.
const KEPT_LINES: usize = 20;
const KEPT_LINE_CHARACTERS: usize = 1024;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parted {
    /// The worker closed it, or is gone.
    Closed,
    /// It does not take in what it is told.
    Stuck,
    /// Nothing was heard of it for too long.
    Silent,
    /// It never said hello.
    NotReady,
    /// It speaks another protocol; its version.
    Stranger(String),
}

/// The last lines that a worker wrote beside the channel, not masked. Shared by all who read what it writes.
#[derive(Debug, Clone, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// Keeps a line, and forgets the oldest.
    pub fn keep(&self, mut line: String) {
        tracing::trace!("a worker wrote a line beside the job channel");
        if let Some((end, _)) = line.char_indices().nth(KEPT_LINE_CHARACTERS) {
            line.truncate(end);
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Takes them.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

/// One worker, whichever connection it has.
#[derive(Debug)]
pub struct Host {
    orders: watch::Receiver<Orders>,
    progress: mpsc::Sender<Progress>,
    ledger: Ledger,
    last_lines: LastLines,
    course: watch::Sender<Course>,
}

impl Host {
    /// A worker of which nothing was heard yet.
    pub fn new(
        orders: watch::Receiver<Orders>,
        progress: mpsc::Sender<Progress>,
        ledger: Ledger,
        last_lines: LastLines,
    ) -> Self {
        Self { orders, progress, ledger, last_lines, course: watch::Sender::new(Course::Waiting) }
    }

    /// Where the worker's job is, as far as was heard.
    pub fn course(&self) -> watch::Receiver<Course> {
        self.course.subscribe()
    }

    /// Waits for the first frame of a connection. A worker of another protocol is sent away.
    ///
    /// # Errors
    ///
    /// None came.
    pub async fn hello(&self, link: &mut Link) -> Result<Hello, Parted> {
        hello(link, |line| self.last_lines.keep(line)).await
    }

    /// Welcomes the worker on a connection and minds it to that connection's end. `pings` says whether a
    /// silent one is dead.
    pub async fn serve(&mut self, link: &mut Link, hello: Hello, welcome: Welcome, pings: bool) -> Parted {
        let is_new = matches!(welcome, Welcome::Job(_));
        link.tell(&ToWorker::Welcome(welcome));
        if is_new {
            // Who minds it wants to hear of it, and waits for nothing else.
            let _ = self.progress.send(Progress::Claimed).await;
        } else {
            self.hear(link, FromWorker::Course(hello.course)).await;
        }
        link.tell(&ToWorker::Orders(self.orders.borrow_and_update().clone()));
        let mut ping = interval(PING_INTERVAL);
        let mut is_ordered = true;
        loop {
            tokio::select! {
                heard = link.next() => match heard {
                    Heard::Frame(frame) => self.hear(link, frame).await,
                    Heard::Noise(line) => self.last_lines.keep(line),
                    Heard::Closed => return Parted::Closed,
                    Heard::Stuck => return Parted::Stuck,
                },
                changed = self.orders.changed(), if is_ordered => match changed {
                    Ok(()) => link.tell(&ToWorker::Orders(self.orders.borrow_and_update().clone())),
                    Err(_) => is_ordered = false,
                },
                _ = ping.tick(), if pings => {
                    if link.heard_at() + SILENCE < Instant::now() {
                        return Parted::Silent;
                    }
                    link.tell(&ToWorker::Ping);
                }
            }
        }
    }

    async fn hear(&mut self, link: &mut Link, frame: FromWorker) {
        match frame {
            FromWorker::Course(course) => self.course_changed(link, course).await,
            FromWorker::Warning { message } => {
                // Dropped when nobody takes it: it is for people only.
                let _ = self.progress.try_send(Progress::Warning(message));
            }
            FromWorker::Pong | FromWorker::Hello(_) => {}
        }
    }

    async fn course_changed(&mut self, link: &mut Link, course: Course) {
        if *self.course.borrow() == course {
            return;
        }
        match &course {
            Course::Step(step) => {
                let _ = self.progress.try_send(Progress::Step(step.clone()));
            }
            // What is acknowledged is forgotten by the worker, so it is written down first.
            Course::Finished { result, reported } => {
                if let Err(error) = self.ledger.finished(*result, *reported).await {
                    tracing::warn!(%error, "could not write down a worker's result");
                    return;
                }
            }
            Course::Waiting | Course::Beginning | Course::Reporting => {}
        }
        let heard = course.heard();
        self.course.send_replace(course);
        if heard > Acknowledged::Nothing {
            link.tell(&ToWorker::Heard(heard));
        }
    }
}

/// Waits for the first frame of a connection; `noise` gets the lines that are none. A worker of another
/// protocol is sent away.
pub(crate) async fn hello(link: &mut Link, mut noise: impl FnMut(String)) -> Result<Hello, Parted> {
    let first = async {
        loop {
            match link.next().await {
                Heard::Frame(FromWorker::Hello(hello)) if hello.protocol == PROTOCOL => return Ok(hello),
                Heard::Frame(FromWorker::Hello(hello)) => return Err(Parted::Stranger(hello.version)),
                Heard::Frame(_) => {}
                Heard::Noise(line) => match first_protocol(&line) {
                    Some(version) => return Err(Parted::Stranger(version)),
                    None => noise(line),
                },
                Heard::Closed => return Err(Parted::Closed),
                Heard::Stuck => return Err(Parted::Stuck),
            }
        }
    };
    let hello = timeout(READY_PATIENCE, first).await.unwrap_or(Err(Parted::NotReady));
    if let Err(Parted::Stranger(_)) = &hello {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        refuse(link, Refusal::Protocol { protocol: PROTOCOL, version }).await;
    }
    hello
}

/// Sends a worker away; whether it hears it is its own affair.
pub(crate) async fn refuse(link: &mut Link, refusal: Refusal) {
    link.tell(&ToWorker::Welcome(Welcome::Refused(refusal)));
    let _ = timeout(LAST_WORDS, link.flush()).await;
}

/// The version of a worker that speaks the protocol before there were versions.
fn first_protocol(line: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    (value["type"] == "ready").then(|| value["version"].as_str().unwrap_or_default().to_owned())
}
