//! Cuts a process's output into lines, in bounded memory.

use std::borrow::Cow;

/// A longer line is given out in pieces of at most this size.
pub const LONGEST_LINE_BYTES: usize = 1024 * 1024;

/// One line, or a piece of one that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut<'a> {
    pub(super) bytes: &'a [u8],
    /// More of the same line follows.
    pub(super) continues: bool,
}

impl<'a> Cut<'a> {
    /// The text, with what is not UTF-8 replaced by U+FFFD.
    pub(super) fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }
}

/// Cuts at `\n`, `\r` and `\r\n`, as .NET's `ReadLine` does for the official agent: each step of a progress
/// bar is a line.
#[derive(Default)]
pub(super) struct LineCutter {
    /// Bytes of the present line; of them `searched` hold no line end.
    buffer: Vec<u8>,
    /// Where the present line begins in `buffer`.
    start: usize,
    searched: usize,
    /// The last line ended with `\r`: a `\n` that comes next belongs to it.
    after_carriage_return: bool,
}

impl LineCutter {
    /// Where the next bytes are to be read to: append only.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        // Only the unfinished line is moved, which is short in nearly all cases.
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        &mut self.buffer
    }

    /// The next line of what was read so far.
    pub(super) fn next(&mut self) -> Option<Cut<'_>> {
        if self.after_carriage_return && self.start < self.buffer.len() {
            if self.buffer[self.start] == b'\n' {
                self.start += 1;
                self.searched = self.searched.max(self.start);
            }
            self.after_carriage_return = false;
        }
        let begin = self.start;
        let limit = self.buffer.len().min(begin + LONGEST_LINE_BYTES);
        if let Some(found) =
            self.buffer.get(self.searched..limit).and_then(|rest| memchr::memchr2(b'\r', b'\n', rest))
        {
            let end = self.searched + found;
            self.after_carriage_return = self.buffer[end] == b'\r';
            self.start = end + 1;
            self.searched = self.start;
            return Some(Cut { bytes: &self.buffer[begin..end], continues: false });
        }
        if self.buffer.len() > begin + LONGEST_LINE_BYTES {
            let end = begin + whole_characters(&self.buffer[begin..begin + LONGEST_LINE_BYTES]);
            self.start = end;
            self.searched = end;
            return Some(Cut { bytes: &self.buffer[begin..end], continues: true });
        }
        self.searched = limit;
        None
    }

    /// The last line, if the output ended without a line end.
    pub(super) fn last(&mut self) -> Option<Cut<'_>> {
        let begin = std::mem::replace(&mut self.start, self.buffer.len());
        self.searched = self.start;
        (begin < self.buffer.len()).then(|| Cut { bytes: &self.buffer[begin..], continues: false })
    }
}

/// The length of `bytes` without a UTF-8 character that is cut off at its end.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let at = bytes.len() - back;
        match bytes[at] {
            0x80..=0xBF => continue,
            lead => {
                let needed = match lead {
                    0xC0..=0xDF => 2,
                    0xE0..=0xEF => 3,
                    0xF0..=0xF7 => 4,
                    _ => 1,
                };
                return if needed > back { at } else { bytes.len() };
            }
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(String, bool)> {
        let mut cutter = LineCutter::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            cutter.buffer().extend_from_slice(chunk);
            while let Some(line) = cutter.next() {
                lines.push((line.text().into_owned(), line.continues));
            }
        }
        if let Some(line) = cutter.last() {
            lines.push((line.text().into_owned(), line.continues));
        }
        lines
    }

    fn texts(chunks: &[&[u8]]) -> Vec<String> {
        cut(chunks).into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn lines_end_as_in_dotnet() {
        assert_eq!(texts(&[b"a\nb\r\nc\rd"]), ["a", "b", "c", "d"]);
        assert_eq!(texts(&[b"a\r", b"\nb\r", b"c\n"]), ["a", "b", "c"]);
        assert_eq!(texts(&[b"\n\n"]), ["", ""]);
        assert_eq!(texts(&[b""]), Vec::<String>::new());
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(texts(&[b"a\xFFb\n"]), ["a\u{FFFD}b"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_of_whole_characters() {
        let line = "é".repeat(LONGEST_LINE_BYTES);
        let mut text = b"x".to_vec();
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
        let lines = cut(&[&text]);
        assert!(lines.len() > 1);
        assert!(
            lines.iter().all(|(piece, _)| piece.len() <= LONGEST_LINE_BYTES && !piece.contains('\u{FFFD}'))
        );
        assert!(lines[..lines.len() - 1].iter().all(|(_, continues)| *continues));
        assert!(!lines[lines.len() - 1].1);
        assert_eq!(lines.iter().map(|(piece, _)| piece.as_str()).collect::<String>(), format!("x{line}"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn lines_do_not_depend_on_how_the_output_was_read(text in "[ab\r\n]{0,40}", size in 1..7usize) {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(cut(&chunks), cut(&[text.as_bytes()]));
        }
    }
}
