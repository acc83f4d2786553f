//! The worker's end of the job channel: one job in, its result out.

use std::time::Duration;

use dayfly_protocol::TaskResult;
use dayfly_protocol::channel::{FromWorker, MAX_FRAME_BYTES, ToWorker};
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::Surroundings;
use crate::job::{Outcome, run};

/// How many frames may wait in either direction.
const QUEUED_FRAMES: usize = 64;
/// How long the listener may take to read the last frames of a job that has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Room for nearly every job message, so that its text is not copied while it is read.
const USUAL_MESSAGE_BYTES: usize = 512 * 1024;

/// Why a worker could not serve its listener.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener closed the channel before it sent a job.
    #[error("the job channel closed before a job came; the worker must be started by a listener")]
    NoJob,
    /// The first frame was not a job.
    #[error(
        "the first frame of the job channel is not a job; listener and worker must have the same version"
    )]
    NotAJob,
    /// The channel failed.
    #[error("reading the job channel failed")]
    Read(#[source] std::io::Error),
    /// The channel failed.
    #[error("writing to the job channel failed")]
    Write(#[source] std::io::Error),
    /// A frame was not one. What serde says is left out, since it may quote a secret.
    #[error(
        "a frame of the job channel cannot be read at column {column}; listener and worker must have the same version"
    )]
    Decode {
        /// Where in the frame.
        column: usize,
    },
    /// A frame was too long.
    #[error("a frame of the job channel is longer than {MAX_FRAME_BYTES} bytes")]
    TooLong,
    /// Another process could read everything that the worker holds.
    #[error(
        "process {0} traces the worker and could read the job's token from it; stop the debugger or `strace` and run the job again"
    )]
    Traced(i32),
}

/// Takes the job from `input`, runs it, and tells its course on `output`.
///
/// When `input` ends, the listener is gone: the job is cancelled and its result goes to the service all the same. A listener that
/// does not read `output` any more is no reason to stop either.
///
/// # Errors
///
/// Only before the job begins: no job came.
pub async fn serve(
    input: impl tokio::io::AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    surroundings: Surroundings,
) -> Result<Outcome, ServeError> {
    if let Err(error) = crate::platform::protect() {
        tracing::warn!(%error, "the worker's memory cannot be hidden from its steps");
    }
    // Who attached before that stays attached. Nothing secret is here yet: the job comes once we are ready.
    if let Some(tracer) = crate::platform::tracer() {
        return Err(ServeError::Traced(tracer));
    }
    let mut input = BufReader::new(input);
    let ready = FromWorker::Ready { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() };
    write_frame(&mut output, &ready).await?;
    let start = match read_frame(&mut input).await? {
        Some(ToWorker::Job(start)) => start,
        Some(_) => return Err(ServeError::NotAJob),
        None => return Err(ServeError::NoJob),
    };
    let (orders, control) = mpsc::channel(QUEUED_FRAMES);
    let (progress, frames) = mpsc::channel(QUEUED_FRAMES);
    let job = run(start.message, start.worker, surroundings, control, progress);
    let outcome = {
        // All three go on side by side: a listener that does not read must not hold the job up.
        let reading = pass_on(&mut input, orders);
        let writing = tell(&mut output, frames);
        tokio::pin!(job, reading, writing);
        let (mut is_reading, mut is_writing) = (true, true);
        let outcome = loop {
            tokio::select! {
                outcome = &mut job => break outcome,
                () = &mut reading, if is_reading => is_reading = false,
                () = &mut writing, if is_writing => is_writing = false,
            }
        };
        if is_writing && timeout(LAST_WORDS, writing).await.is_err() {
            tracing::warn!("the listener does not read what the worker tells it");
        }
        outcome
    };
    let finished = FromWorker::Finished { result: outcome.result, reported: outcome.reported };
    match timeout(LAST_WORDS, write_frame(&mut output, &finished)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the listener could not be told the result"),
        Err(_) => tracing::warn!("the listener did not take the result"),
    }
    Ok(outcome)
}

/// Tells the listener how the job goes, until the job ended or the listener is gone.
async fn tell(output: &mut (impl AsyncWrite + Unpin), mut frames: mpsc::Receiver<FromWorker>) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = write_frame(output, &frame).await {
            tracing::warn!(%error, "the listener has stopped listening");
            return;
        }
    }
}

/// Passes frames to the job until the channel ends; dropping `orders` tells the job that the listener is gone.
async fn pass_on(input: &mut (impl AsyncBufRead + Unpin), orders: mpsc::Sender<ToWorker>) {
    loop {
        match read_frame(input).await {
            Ok(Some(order)) => {
                if orders.send(order).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "the job channel is broken");
                return;
            }
        }
    }
}

async fn read_frame(input: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<ToWorker>, ServeError> {
    // A job message holds secrets: its text does not stay in memory once it is read.
    let mut line = Zeroizing::new(Vec::with_capacity(USUAL_MESSAGE_BYTES));
    let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX);
    let mut limited = tokio::io::AsyncReadExt::take(&mut *input, limit);
    limited.read_until(b'\n', &mut line).await.map_err(ServeError::Read)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() == MAX_FRAME_BYTES && line.last() != Some(&b'\n') {
        return Err(ServeError::TooLong);
    }
    // Frames are between programs of the same version, so names are exact and serde alone will do.
    serde_json::from_slice(&line).map(Some).map_err(|error| ServeError::Decode { column: error.column() })
}

async fn write_frame(output: &mut (impl AsyncWrite + Unpin), frame: &FromWorker) -> Result<(), ServeError> {
    let mut bytes = serde_json::to_vec(frame).expect("frames of the worker are plain data");
    bytes.push(b'\n');
    output.write_all(&bytes).await.map_err(ServeError::Write)?;
    output.flush().await.map_err(ServeError::Write)
}

impl Outcome {
    /// The exit code by which the worker's process tells it: 100 plus the result's number.
    pub fn exit_code(self) -> i32 {
        TaskResult::exit_code(self.result)
    }
}
