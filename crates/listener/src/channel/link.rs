//! One connection of the job channel, as the listener has it: frames in, frames out, side by side.

use std::time::Duration;

use dayfly_protocol::channel::{Decoder, FromWorker, MAX_WORKER_FRAME_BYTES, Outbox, ToWorker, decode};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, sleep_until},
};

/// How long a worker may take to take in what it is told (`JobDispatcher.cs`, channel timeout).
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(30);

/// How much is read at a time.
const CHUNK_BYTES: usize = 8 * 1024;

/// What comes over a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A frame.
    Frame(FromWorker),
    /// A line that is none.
    Noise(String),
    /// The worker closed its end.
    Closed,
    /// It does not take in what it is told.
    Stuck,
}

/// A connection to a worker.
pub struct Link {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    decoder: Decoder,
    outbox: Outbox,
    must_flush: bool,
    /// Since when the worker has taken in nothing of what is on its way.
    waiting_since: Option<Instant>,
    is_deaf: bool,
    is_closed: bool,
    heard_at: Instant,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Link").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

impl Link {
    /// Of its two directions.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
            decoder: Decoder::new(MAX_WORKER_FRAME_BYTES),
            outbox: Outbox::default(),
            must_flush: false,
            waiting_since: None,
            is_deaf: false,
            is_closed: false,
            heard_at: Instant::now(),
        }
    }

    /// Puts a frame on its way; it goes out while the next one is waited for.
    pub(crate) fn tell(&mut self, frame: &ToWorker) {
        if self.is_deaf {
            return;
        }
        if self.outbox.push(frame).is_err() {
            tracing::error!("could not encode a frame for a worker");
        }
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// When something was heard last.
    pub(crate) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Carries out what was told, without listening.
    pub(crate) async fn flush(&mut self) {
        while self.has_words() {
            let written = carry_out(&mut *self.writer, self.outbox.left()).await;
            self.wrote(written);
        }
    }

    fn has_words(&self) -> bool {
        !self.outbox.left().is_empty() || self.must_flush
    }

    /// What comes next; nothing comes after the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Heard {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            if let Some(line) = self.decoder.next_line() {
                return heard(&line);
            }
            if self.is_closed {
                return self.decoder.rest().map_or(Heard::Closed, |line| heard(&line));
            }
            let stuck_at = self.waiting_since.map(|since| since + CHANNEL_TIMEOUT);
            let has_words = self.has_words();
            let (reader, writer) = (&mut self.reader, &mut *self.writer);
            tokio::select! {
                read = reader.read(&mut chunk) => match read {
                    Ok(0) | Err(_) => self.is_closed = true,
                    Ok(count) => {
                        self.heard_at = Instant::now();
                        self.decoder.push(&chunk[..count]);
                    }
                },
                written = carry_out(writer, self.outbox.left()), if has_words => self.wrote(written),
                () = sleep_until(stuck_at.unwrap_or_else(Instant::now)), if stuck_at.is_some() => return Heard::Stuck,
            }
        }
    }

    fn wrote(&mut self, written: std::io::Result<Option<usize>>) {
        match written {
            Ok(None) => (self.must_flush, self.waiting_since) = (false, None),
            Ok(Some(count)) if count > 0 => {
                self.outbox.wrote(count);
                (self.must_flush, self.waiting_since) = (true, Some(Instant::now()));
            }
            // The worker does not listen: it is about to end, or has closed its input, and its end tells the
            // rest.
            Ok(Some(_)) | Err(_) => {
                tracing::debug!("a worker closed its input");
                self.is_deaf = true;
                (self.must_flush, self.waiting_since) = (false, None);
                self.outbox = Outbox::default();
            }
        }
    }
}

fn heard(line: &dayfly_protocol::channel::Line<'_>) -> Heard {
    decode(line).map_or_else(|_| Heard::Noise(line.text().into_owned()), Heard::Frame)
}

/// Writes some of the bytes, or flushes when there are none. Cancel safe.
async fn carry_out(
    writer: &mut (dyn AsyncWrite + Send + Unpin),
    bytes: &[u8],
) -> std::io::Result<Option<usize>> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| None);
    }
    writer.write(bytes).await.map(Some)
}
