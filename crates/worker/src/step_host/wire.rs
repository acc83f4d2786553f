//! Frames between a worker and a step host: their length in four bytes, then JSON; file descriptors travel
//! beside the first byte of a frame.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The largest frame: an environment or the names of many processes; numbers stand for bytes in it.
const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;

/// How many file descriptors the start of a process brings: its input, its output, its errors.
pub(super) const DESCRIPTORS: usize = 3;

/// How many of them may wait for their frames.
const MAX_WAITING_DESCRIPTORS: usize = 16 * DESCRIPTORS;

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// What a worker asks of a step host. A process is called by the number that its start had.
#[derive(Serialize, Deserialize)]
pub(super) enum ToHost {
    /// Start a process with the file descriptors of this frame as input, output and errors.
    Start(Box<Start>),
    /// Send a signal to a process or to its group.
    Signal { id: u64, signal: i32, to_group: bool },
    /// Kill a process, if it runs, that nobody waits for any more.
    Abandon { id: u64 },
    /// Kill a process and all that descends from it, also when it has ended.
    KillTree { process_id: i32 },
    /// Look for a program.
    Find { id: u64, name: String, path: OsString },
    /// Kill what steps have left running.
    Sweep { id: u64, lookup_id: String },
}

/// A process to be started.
#[derive(Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) id: u64,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) directory: PathBuf,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) out_of_memory_score: Option<i32>,
}

/// What a step host tells its worker.
#[derive(Serialize, Deserialize)]
pub(super) enum FromHost {
    /// The first frame: the container's environment.
    Hello { environment: Vec<(OsString, OsString)> },
    /// An answer to the request of that number.
    Answer { id: u64, answer: Answer },
}

/// An answer to a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The process runs.
    Started { process_id: i32 },
    /// It does not, by the system's reason.
    NotStarted { errno: Option<i32>, is_directory_missing: bool },
    /// It has ended, with this status of `waitpid`.
    Exited { status: i32 },
    /// Where the program is, if it is anywhere.
    Found { program: Option<PathBuf> },
    /// Who was killed.
    Swept { ended: Vec<(i32, String)> },
}

/// Sends a frame. Not cancel safe: a frame that is begun must be sent to its end.
pub(super) async fn send(
    stream: &UnixStream,
    frame: &impl Serialize,
    descriptors: &[OwnedFd],
) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, frame)?;
    let length = u32::try_from(bytes.len() - 4).ok().filter(|length| *length as usize <= MAX_FRAME_BYTES);
    bytes[..4].copy_from_slice(&length.ok_or_else(too_large)?.to_be_bytes());
    let mut sent = 0;
    while sent < bytes.len() {
        let beside = if sent == 0 { descriptors } else { &[] };
        sent += stream.async_io(Interest::WRITABLE, || write(stream, &bytes[sent..], beside)).await?;
    }
    Ok(())
}

fn write(stream: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<usize> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("too many file descriptors for a frame"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// Reads frames off a stream.
#[derive(Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Frames {
    /// The next frame; none when the stream has ended. Cancel safe.
    pub(super) async fn next<T: DeserializeOwned>(&mut self, stream: &UnixStream) -> io::Result<Option<T>> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            if stream.async_io(Interest::READABLE, || self.read(stream)).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut_off()) };
            }
        }
    }

    /// The file descriptors that came with the frame which was read last, and which is known to bring some:
    /// they may arrive before their frame does, but in its order.
    pub(super) fn descriptors(&mut self) -> Option<[OwnedFd; DESCRIPTORS]> {
        let first = self.descriptors.drain(..DESCRIPTORS.min(self.descriptors.len()));
        first.collect::<Vec<_>>().try_into().ok()
    }

    /// A frame that is there as a whole.
    fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(too_large());
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let frame = serde_json::from_slice(frame)?;
        self.buffer.drain(..4 + length);
        Ok(Some(frame))
    }

    /// Reads what is there.
    fn read(&mut self, stream: &UnixStream) -> io::Result<usize> {
        let had = self.buffer.len();
        self.buffer.resize(had + READ_BYTES, 0);
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut self.buffer[had..])];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let read = recvmsg(stream.as_fd(), &mut into, &mut control, flags);
        self.buffer.truncate(had + read.as_ref().map_or(0, |read| read.bytes));
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if self.descriptors.len() > MAX_WAITING_DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "file descriptors that belong to no frame",
            ));
        }
        Ok(read?.bytes)
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame of more than 64 MiB")
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended in the middle of a frame")
}
