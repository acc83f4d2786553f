//! One connection of the job channel, as the worker has it: frames in, frames out, side by side.

use std::io;
use std::time::Duration;

use dayfly_protocol::channel::{Decoder, FrameError, FromWorker, MAX_FRAME_BYTES, Outbox, ToWorker, decode};
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

/// How much is read at a time: a job message comes in few pieces.
const CHUNK_BYTES: usize = 64 * 1024;

/// The two directions of a connection.
pub struct Connection {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// A connection on which the listener pings is dead when nothing has come for so long.
    pub(crate) silence: Option<Duration>,
}

impl Connection {
    /// A connection whose end is seen at once.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self { reader: Box::new(reader), writer: Box::new(writer), silence: None }
    }

    /// The same, which is dead when nothing has come for so long.
    #[must_use]
    pub fn with_silence(self, silence: Duration) -> Self {
        Self { silence: Some(silence), ..self }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connection").field("silence", &self.silence).finish_non_exhaustive()
    }
}

/// What comes over a connection.
pub(crate) enum Heard {
    /// A frame.
    Frame(ToWorker),
    /// Something that is none.
    Garbage(FrameError),
    /// The end; nothing more will come.
    Closed,
    /// The connection broke.
    Broken(io::Error),
}

/// A connection in use.
pub(crate) struct Link {
    connection: Connection,
    decoder: Decoder,
    outbox: Outbox,
    chunk: Zeroizing<Vec<u8>>,
    must_flush: bool,
    /// Who does not listen any more may still have something to say.
    is_deaf: bool,
    heard_at: Instant,
}

impl Link {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            decoder: Decoder::new(MAX_FRAME_BYTES),
            outbox: Outbox::default(),
            chunk: Zeroizing::new(vec![0; CHUNK_BYTES]),
            must_flush: false,
            is_deaf: false,
            heard_at: Instant::now(),
        }
    }

    /// Puts a frame on its way; [`Link::next`] carries it out.
    pub(crate) fn tell(&mut self, frame: &FromWorker) {
        if self.is_deaf {
            return;
        }
        if self.outbox.push(frame).is_err() {
            tracing::error!("could not write a frame for the listener");
        }
    }

    /// What comes next. Cancel safe.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            if let Some(line) = self.decoder.next_line() {
                return decode(&line).map_or_else(Heard::Garbage, Heard::Frame);
            }
            let dead_at = self.connection.silence.map(|silence| self.heard_at + silence);
            let (reader, writer) = (&mut self.connection.reader, &mut *self.connection.writer);
            let is_owing = self.must_flush || !self.outbox.left().is_empty();
            tokio::select! {
                read = reader.read(&mut self.chunk) => match read {
                    Ok(0) => return Heard::Closed,
                    Ok(count) => {
                        self.heard_at = Instant::now();
                        self.decoder.push(&self.chunk[..count]);
                        self.chunk[..count].fill(0);
                    }
                    Err(error) => return Heard::Broken(error),
                },
                written = carry_out(writer, self.outbox.left()), if is_owing => match written {
                    Ok(None) => self.must_flush = false,
                    Ok(Some(0)) => self.is_deaf("it was closed"),
                    Ok(Some(count)) => {
                        self.outbox.wrote(count);
                        self.must_flush = true;
                    }
                    Err(error) => self.is_deaf(&error.to_string()),
                },
                () = until(dead_at) => {
                    let error = io::Error::new(io::ErrorKind::TimedOut, "nothing was heard for too long");
                    return Heard::Broken(error);
                }
            }
        }
    }

    fn is_deaf(&mut self, error: &str) {
        tracing::warn!(error, "the listener does not listen any more");
        self.is_deaf = true;
        self.must_flush = false;
        self.outbox = Outbox::default();
    }
}

/// Writes some of the bytes, or flushes when there are none. Cancel safe.
async fn carry_out(writer: &mut (dyn AsyncWrite + Send + Unpin), bytes: &[u8]) -> io::Result<Option<usize>> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| None);
    }
    writer.write(bytes).await.map(Some)
}

pub(crate) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
