//! Console lines on disk: what waits for the console when the service takes lines more slowly than steps
//! write them.

use dayfly_protocol::RecordId;
use uuid::Uuid;

/// A line of a record's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) record: RecordId,
    /// Within its record, from 1.
    pub(super) number: i64,
    pub(super) text: Box<str>,
}

/// Record, number and length before each text.
const HEAD_BYTES: usize = 16 + 8 + 4;

/// Appends a line to `chunk`.
pub(super) fn write(chunk: &mut Vec<u8>, record: RecordId, number: i64, text: &str) {
    // Lines are cut at some KiB before they come here.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    chunk.extend_from_slice(record.0.as_bytes());
    chunk.extend_from_slice(&number.to_le_bytes());
    chunk.extend_from_slice(&length.to_le_bytes());
    chunk.extend_from_slice(&text.as_bytes()[..length as usize]);
}

/// The lines of `chunk`; ends early at what was not written by [`write`].
pub(super) fn read(mut chunk: &[u8]) -> impl Iterator<Item = Line> + '_ {
    std::iter::from_fn(move || {
        let (head, rest) = chunk.split_at_checked(HEAD_BYTES)?;
        let record = RecordId(Uuid::from_slice(&head[..16]).ok()?);
        let number = i64::from_le_bytes(head[16..24].try_into().ok()?);
        let length = u32::from_le_bytes(head[24..28].try_into().ok()?);
        let (text, rest) = rest.split_at_checked(length as usize)?;
        chunk = rest;
        Some(Line { record, number, text: std::str::from_utf8(text).ok()?.into() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were() {
        let lines: Vec<Line> = ["", "a", "é ü", "x\ty"]
            .into_iter()
            .zip(1..)
            .map(|(text, number)| Line { record: RecordId(Uuid::from_u128(7)), number, text: text.into() })
            .collect();
        let mut chunk = Vec::new();
        for line in &lines {
            write(&mut chunk, line.record, line.number, &line.text);
        }
        assert_eq!(read(&chunk).collect::<Vec<_>>(), lines);
        assert_eq!(read(&chunk[..chunk.len() - 1]).count(), 3);
    }
}
