//! What a user says to a program that runs: SIGINT, SIGTERM, and SIGHUP when the terminal is closed.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::host;

/// A signal that comes again within this time is the same one: `timeout` sends it to the program and to its
/// group, and so does a shell that passes on what the terminal has sent already.
const ECHO: Duration = Duration::from_millis(500);

/// These signals. From when this is made, they no longer end the process by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where it is ignored: whoever starts a program by `nohup` wants it to go on.
    hangup: Option<Signal>,
    /// The last one, and when it came.
    last: Option<(SignalKind, Instant)>,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("could not listen for signals");
        let hangup = if host::ignores_hangup() { None } else { Some(listen(SignalKind::hangup())?) };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup,
            last: None,
        })
    }

    /// The next of them. Safe to drop and call again.
    pub(crate) async fn next(&mut self) {
        loop {
            let kind = self.any().await;
            let now = Instant::now();
            let is_echo = self.last.is_some_and(|(last, at)| last == kind && now < at + ECHO);
            // An echo does not move the time: whoever keeps pressing the keys is heard twice a second.
            if !is_echo {
                self.last = Some((kind, now));
                return;
            }
        }
    }

    async fn any(&mut self) -> SignalKind {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = hangup => SignalKind::hangup(),
        }
    }
}
