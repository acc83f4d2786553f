//! Frames as bytes: one line of JSON each. Used by both ends; nothing here reads or writes.

use std::fmt;
use std::io;

use secrecy::zeroize::{Zeroize as _, Zeroizing};
use serde::{Deserialize, Serialize};

/// The longest frame that a worker reads. Job messages with every limit of the service used are far smaller.
pub const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;

/// The longest frame that is read from a worker; it has nothing long to say.
pub const MAX_WORKER_FRAME_BYTES: usize = 1024 * 1024;

/// What was used up of a buffer is wiped at the latest when it is as much as this.
const WIPED_BYTES: usize = 64 * 1024;

/// A frame could not be written. What serde says is left out, since it may quote a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not write a frame of the job channel")]
pub struct EncodeError;

/// A line is no frame. What serde says is left out, since it may quote a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is not the JSON of a frame.
    #[error(
        "a frame of the job channel cannot be read at column {column}; listener and worker must have the \
         same version"
    )]
    Decode {
        /// Where in the line.
        column: usize,
    },
    /// It is too long.
    #[error("a frame of the job channel is longer than {limit} bytes")]
    TooLong {
        /// How long it may be.
        limit: usize,
    },
}

/// The bytes of a frame, with the end of its line. They are wiped when dropped.
///
/// # Errors
///
/// Fails only for a map whose keys are no text, which no frame has.
pub fn encode<T: Serialize + ?Sized>(frame: &T) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
    let mut wiped = Wiped(Zeroizing::new(Vec::with_capacity(256)));
    serde_json::to_writer(&mut wiped, frame).map_err(|_| EncodeError)?;
    wiped.push(b"\n");
    Ok(wiped.0)
}

/// Reads a frame out of a line.
///
/// # Errors
///
/// The line is none.
pub fn decode<'a, T: Deserialize<'a>>(line: &Line<'a>) -> Result<T, FrameError> {
    if let Some(limit) = line.cut_at {
        return Err(FrameError::TooLong { limit });
    }
    serde_json::from_slice(line.bytes).map_err(|error| FrameError::Decode { column: error.column() })
}

/// A buffer that leaves no copy behind when it grows.
struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    fn push(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    /// Forgets the first `count` bytes.
    fn discard(&mut self, count: usize) {
        let left = self.0.len() - count;
        self.0.copy_within(count.., 0);
        self.0[left..].zeroize();
        self.0.truncate(left);
    }
}

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line without its end.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    bytes: &'a [u8],
    /// The limit, if the line was longer.
    cut_at: Option<usize>,
}

impl<'a> Line<'a> {
    /// What stands in it; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Line({} bytes)", self.bytes.len())
    }
}

/// Makes lines of bytes as they come. What was read is wiped.
pub struct Decoder {
    buffer: Wiped,
    limit: usize,
    /// Where the next line begins.
    start: usize,
    /// Up to where no line's end was found.
    searched: usize,
    /// The rest of a line that was too long is skipped.
    is_skipping: bool,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Decoder({} bytes)", self.buffer.0.len())
    }
}

impl Decoder {
    /// Lines are cut at `limit`, and the rest of them skipped.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Wiped(Zeroizing::new(Vec::new())),
            limit: limit.max(1),
            start: 0,
            searched: 0,
            is_skipping: false,
        }
    }

    /// Takes in bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.discard();
        self.buffer.push(bytes);
    }

    /// The next line, if it is whole.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        if self.start == self.buffer.0.len() || self.start >= WIPED_BYTES {
            self.discard();
        }
        loop {
            let (start, searched) = (self.start, self.searched);
            let bytes = &self.buffer.0;
            let end = bytes[searched..].iter().position(|byte| *byte == b'\n').map(|at| searched + at);
            let is_too_long = end.unwrap_or(bytes.len()) - start > self.limit;
            match end {
                Some(end) => {
                    (self.start, self.searched) = (end + 1, end + 1);
                    if std::mem::take(&mut self.is_skipping) {
                        continue;
                    }
                    return Some(self.line(
                        start,
                        if is_too_long { start + self.limit } else { end },
                        is_too_long,
                    ));
                }
                None if is_too_long => {
                    (self.start, self.searched) = (bytes.len(), bytes.len());
                    if std::mem::replace(&mut self.is_skipping, true) {
                        return None;
                    }
                    return Some(self.line(start, start + self.limit, true));
                }
                None => {
                    self.searched = bytes.len();
                    return None;
                }
            }
        }
    }

    /// What is left once no more bytes come: a line without an end.
    pub fn rest(&mut self) -> Option<Line<'_>> {
        let (start, end) = (self.start, self.buffer.0.len());
        (self.start, self.searched) = (end, end);
        (end > start && !self.is_skipping).then(|| self.line(start, end, false))
    }

    fn line(&self, start: usize, end: usize, is_cut: bool) -> Line<'_> {
        let bytes = &self.buffer.0[start..end];
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Line { bytes, cut_at: is_cut.then_some(self.limit) }
    }

    fn discard(&mut self) {
        if self.start > 0 {
            self.buffer.discard(self.start);
            self.searched -= self.start;
            self.start = 0;
        }
    }
}

/// Bytes on their way out. They are wiped once they are out.
pub struct Outbox {
    buffer: Wiped,
    written: usize,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Outbox({} bytes)", self.left().len())
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self { buffer: Wiped(Zeroizing::new(Vec::new())), written: 0 }
    }
}

impl Outbox {
    /// Puts a frame at the end.
    ///
    /// # Errors
    ///
    /// See [`encode`].
    pub fn push<T: Serialize + ?Sized>(&mut self, frame: &T) -> Result<(), EncodeError> {
        let bytes = encode(frame)?;
        if self.left().is_empty() {
            (self.buffer, self.written) = (Wiped(bytes), 0);
        } else {
            self.buffer.push(&bytes);
        }
        Ok(())
    }

    /// What is still to be written.
    pub fn left(&self) -> &[u8] {
        &self.buffer.0[self.written..]
    }

    /// So many bytes of [`Outbox::left`] were written.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes.min(self.left().len());
        if self.left().is_empty() {
            (self.buffer, self.written) = (Wiped(Zeroizing::new(Vec::new())), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]], limit: usize) -> Vec<String> {
        let mut decoder = Decoder::new(limit);
        let mut found = Vec::new();
        for part in parts {
            decoder.push(part);
            while let Some(line) = decoder.next_line() {
                found.push(format!("{}{}", line.text(), if line.cut_at.is_some() { "!" } else { "" }));
            }
        }
        found.extend(decoder.rest().map(|line| format!("{}…", line.text())));
        found
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_come() {
        let text = b"one\r\n\ntwo, which is long\nthree\xff\nfour";
        let whole = lines(&[text], 8);
        assert_eq!(whole, ["one", "", "two, whi!", "three\u{fffd}", "four…"]);
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines(&single, 8), whole);
        assert_eq!(lines(&[b"a\nb", b"c", b"\n"], 8), ["a", "bc"]);
        assert_eq!(lines(&[b"0123456789", b"0123456789", b"\nx\n"], 8), ["01234567!", "x"]);
        assert_eq!(lines(&[b"0123456789", b"0123456789"], 8), ["01234567!"]);
    }

    #[test]
    fn what_was_read_is_wiped() {
        let mut decoder = Decoder::new(1024);
        decoder.push(b"secret\nnext");
        assert_eq!(decoder.next_line().map(|line| line.text().into_owned()).as_deref(), Some("secret"));
        decoder.push(b"!\n");
        assert!(!decoder.buffer.0.starts_with(b"secret"));
        assert_eq!(decoder.next_line().map(|line| line.text().into_owned()).as_deref(), Some("next!"));
        assert!(decoder.next_line().is_none());
        assert!(decoder.buffer.0.is_empty());
    }

    #[test]
    fn an_outbox_keeps_what_was_not_written() {
        let mut outbox = Outbox::default();
        outbox.push("a").expect("text");
        outbox.wrote(2);
        outbox.push("b").expect("text");
        assert_eq!(outbox.left(), b"\"\n\"b\"\n");
        outbox.wrote(100);
        assert!(outbox.left().is_empty());
    }
}
