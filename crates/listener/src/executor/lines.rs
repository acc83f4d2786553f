//! Lines from a pipe, each of bounded length. Unlike a codec it never ends before its pipe does: a worker
//! must not block on a pipe nobody reads.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Reads lines of at most `limit` bytes; what is longer is cut, and the rest of that line skipped.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(pipe: R, limit: usize) -> Self {
        Self { reader: BufReader::new(pipe), limit }
    }

    /// The next line without its end; bytes that are no UTF-8 are replaced. `None` at the end of the pipe, or
    /// when it breaks. Not cancel safe.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut has_begun = false;
        loop {
            let bytes = match self.reader.fill_buf().await {
                Ok(bytes) if !bytes.is_empty() => bytes,
                _ if has_begun => break,
                _ => return None,
            };
            has_begun = true;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = self.limit - line.len();
            line.extend_from_slice(&part[..part.len().min(room)]);
            let used = end.map_or(bytes.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(
            String::from_utf8(line)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(input: &[u8], expected: &[&str]) {
        let mut lines = Lines::new(input, 8);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await {
            read.push(line);
        }
        assert_eq!(read, expected);
    }

    #[tokio::test]
    async fn lines_are_split_bounded_and_repaired() {
        check(b"", &[]).await;
        check(b"a\r\n\nb", &["a", "", "b"]).await;
        check(b"0123456789\nnext\n", &["01234567", "next"]).await;
        check(b"\xff\xfe!\nnext", &["\u{fffd}\u{fffd}!", "next"]).await;
    }
}
