//! Both outputs of a process, read side by side.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lines::LineCutter;
use super::{Line, Sink, Stream};

/// How much is read at once: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

pub(super) struct Output {
    stdout: Reader<pipe::Receiver>,
    stderr: Reader<pipe::Receiver>,
}

struct Reader<R> {
    /// None when it ended.
    pipe: Option<R>,
    cutter: LineCutter,
    is_finished: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(pipe: R) -> Reader<R> {
        Reader { pipe: Some(pipe), cutter: LineCutter::default(), is_finished: false }
    }

    /// Reads a chunk. Dropping this loses nothing.
    async fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let buffer = self.cutter.buffer();
        buffer.reserve(READ_BYTES);
        // A pipe that cannot be read has nothing more for us, for whichever reason.
        if !matches!(pipe.read_buf(buffer).await, Ok(1..)) {
            self.pipe = None;
        }
    }

    async fn give<S: Sink>(&mut self, stream: Stream, sink: &mut S) {
        while let Some(cut) = self.cutter.next() {
            sink.line(Line { stream, text: &cut.text(), continues: cut.continues }).await;
        }
        if self.pipe.is_none() {
            self.finish(stream, sink).await;
        }
    }

    async fn finish<S: Sink>(&mut self, stream: Stream, sink: &mut S) {
        if !std::mem::replace(&mut self.is_finished, true)
            && let Some(cut) = self.cutter.last()
        {
            sink.line(Line { stream, text: &cut.text(), continues: false }).await;
        }
    }
}

impl Output {
    pub(super) fn new(stdout: pipe::Receiver, stderr: pipe::Receiver) -> Output {
        Output { stdout: Reader::new(stdout), stderr: Reader::new(stderr) }
    }

    /// Whether some process may still write.
    pub(super) fn is_open(&self) -> bool {
        self.stdout.pipe.is_some() || self.stderr.pipe.is_some()
    }

    /// Gives all lines to `sink` until both outputs are closed, or until nothing more can be read at
    /// `deadline` (which may be set at any time). Time in which `sink` was busy does not take from what can
    /// be read already.
    pub(super) async fn pump<S: Sink>(
        &mut self,
        sink: &mut S,
        mut deadline: watch::Receiver<Option<Instant>>,
    ) {
        // A child that never stops writing must not keep the step: after the deadline little more is read
        // than a pipe holds.
        let mut late_reads = 4;
        while self.is_open() && late_reads > 0 {
            tokio::select! {
                biased;
                ready = self.read() => self.give(ready, sink).await,
                () = reached(&mut deadline) => return,
            }
            if deadline.borrow().is_some_and(|deadline| deadline <= Instant::now()) {
                late_reads -= 1;
            }
        }
    }

    /// Gives the unfinished last lines of outputs that stay open.
    pub(super) async fn end<S: Sink>(&mut self, sink: &mut S) {
        self.stdout.finish(Stream::Stdout, sink).await;
        self.stderr.finish(Stream::Stderr, sink).await;
    }

    /// Reads both outputs to their end and drops what is read.
    pub(super) async fn discard(&mut self) {
        while self.is_open() {
            self.read().await;
            self.stdout.cutter = LineCutter::default();
            self.stderr.cutter = LineCutter::default();
        }
    }

    /// Reads a chunk of either output. Dropping this loses nothing.
    async fn read(&mut self) -> Stream {
        let has_stdout = self.stdout.pipe.is_some();
        let has_stderr = self.stderr.pipe.is_some();
        tokio::select! {
            () = self.stdout.read(), if has_stdout => Stream::Stdout,
            () = self.stderr.read(), if has_stderr => Stream::Stderr,
        }
    }

    async fn give<S: Sink>(&mut self, ready: Stream, sink: &mut S) {
        match ready {
            Stream::Stdout => self.stdout.give(ready, sink).await,
            Stream::Stderr => self.stderr.give(ready, sink).await,
        }
    }
}

/// Waits until the deadline is set and over.
async fn reached(deadline: &mut watch::Receiver<Option<Instant>>) {
    match deadline.wait_for(Option::is_some).await.map(|deadline| *deadline) {
        Ok(Some(deadline)) => tokio::time::sleep_until(deadline).await,
        // The sender is gone without a deadline: there is none.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}
