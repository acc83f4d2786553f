//! Text that is shown later: little of it in memory, more on the disk.

use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};

use tempfile::SpooledTempFile;

/// How much is held in memory.
const IN_MEMORY: usize = 256 * 1024;
/// About how much is read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Text in the order in which it came.
pub(super) struct Held(SpooledTempFile);

impl Default for Held {
    fn default() -> Self {
        Self(SpooledTempFile::new(IN_MEMORY))
    }
}

impl Held {
    pub(super) fn push(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())
    }

    /// Gives it to `show` in pieces of whole lines, and says which is the first.
    pub(super) fn read(mut self, mut show: impl FnMut(&str, bool) -> io::Result<()>) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(0))?;
        let mut lines = BufReader::new(self.0);
        let (mut piece, mut is_first) = (String::new(), true);
        loop {
            let is_end = lines.read_line(&mut piece)? == 0;
            if piece.len() >= PIECE_BYTES || is_end && !piece.is_empty() {
                show(&piece, std::mem::replace(&mut is_first, false))?;
                piece.clear();
            }
            if is_end {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_comes_out_whole_and_in_order() {
        let mut held = Held::default();
        let all: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
        for part in all.as_bytes().chunks(1000) {
            held.push(std::str::from_utf8(part).unwrap()).unwrap();
        }
        let (mut shown, mut firsts) = (String::new(), 0);
        let read = held.read(|piece, is_first| {
            assert!(piece.ends_with('\n'));
            firsts += usize::from(is_first);
            shown.push_str(piece);
            Ok(())
        });
        read.unwrap();
        assert!(shown == all && firsts == 1);
        Held::default().read(|_, _| panic!("there is nothing")).unwrap();
    }
}
