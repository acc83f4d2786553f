//! Lines with colours and other control characters in them.

use std::borrow::Cow;
use std::ops::Range;

use crate::REPLACEMENT;

/// Whether there may be control characters in a line; tabs are none.
pub(super) fn has_controls(line: &str) -> bool {
    // The second byte of C1 controls is looked at by `control`.
    line.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f || byte == 0xc2)
}

/// A line without its control characters and escape sequences.
pub(super) struct Plain {
    pub(super) text: String,
    /// Where the pieces of `text` begin, there and in the line.
    pieces: Vec<(usize, usize)>,
}

impl Plain {
    pub(super) fn of(line: &str) -> Plain {
        let mut plain = Plain { text: String::with_capacity(line.len()), pieces: Vec::new() };
        let mut at = 0;
        while at < line.len() {
            let rest = &line[at..];
            let length = rest.find(is_control).unwrap_or(rest.len());
            if length > 0 {
                plain.pieces.push((plain.text.len(), at));
                plain.text.push_str(&rest[..length]);
            }
            at += length;
            at += control(&line[at..]);
        }
        plain
    }

    /// Where a byte of `text` is in the line.
    fn place(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(begin, _)| *begin <= at).saturating_sub(1);
        self.pieces.get(piece).map_or(at, |(begin, place)| place + (at - begin))
    }

    /// Masks those regions of `text` that are not in one piece in the line. The sequences within them stay,
    /// since they change the colour of what follows.
    pub(super) fn mask<'a>(&self, line: &'a str, regions: &[Range<usize>]) -> Cow<'a, str> {
        let mut masked = String::new();
        let mut position = 0;
        for region in regions {
            let (begin, end) = (self.place(region.start), self.place(region.end - 1) + 1);
            if end - begin == region.len() {
                continue;
            }
            masked.push_str(&line[position..begin]);
            masked.push_str(REPLACEMENT);
            let mut rest = &line[begin..end];
            while let Some(at) = rest.find(is_control) {
                let length = control(&rest[at..]);
                masked.push_str(&rest[at..at + length]);
                rest = &rest[at + length..];
            }
            position = end;
        }
        if position == 0 {
            return Cow::Borrowed(line);
        }
        masked.push_str(&line[position..]);
        Cow::Owned(masked)
    }
}

fn is_control(character: char) -> bool {
    character.is_control() && character != '\t'
}

/// How many bytes the control character or escape sequence at the beginning of a text has; none: 0.
fn control(text: &str) -> usize {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.get(1)) {
        (Some(0x1b), Some(b'[')) => {
            let end = bytes.iter().skip(2).position(|byte| (0x40..=0x7e).contains(byte));
            end.map_or(text.len(), |end| end + 3)
        }
        // An operating system command ends with BEL or ST.
        (Some(0x1b), Some(b']')) => match (text.find('\x07'), text.find("\x1b\\")) {
            (Some(bell), Some(end)) if end < bell => end + 2,
            (Some(bell), _) => bell + 1,
            (None, Some(end)) => end + 2,
            (None, None) => text.len(),
        },
        (Some(0x1b), Some(byte)) if byte.is_ascii() => 2,
        _ => text.chars().next().filter(|first| is_control(*first)).map_or(0, char::len_utf8),
    }
}

#[cfg(test)]
mod tests {
    use crate::Masker;

    #[test]
    fn colours_within_a_secret_do_not_show_it() {
        let masker = Masker::new();
        masker.add_values(["sesame-open", "über"]);
        for (line, expected) in [
            ("\x1b[31msesame-open\x1b[0m", "\x1b[31msesame-open\x1b[0m"),
            ("<\x1b[01;31msesame\x1b[m-open>", "<\x1b[01;31m***\x1b[m>"),
            ("s\x1b[1me\x1b[2msame-open, sesame-\x1b[0mopen", "***\x1b[1m\x1b[2m, ***\x1b[0m"),
            ("sesame\r-open", "***\r"),
            ("sesame-\x1b]8;;http://x\x07open", "***\x1b]8;;http://x\x07"),
            ("\u{fc}b\x1b[0mer", "***\x1b[0m"),
            ("sesa\tme-open", "sesa\tme-open"),
            ("nothing \x1b[1mhere", "nothing \x1b[1mhere"),
            ("cut \x1b[3", "cut \x1b[3"),
        ] {
            assert_eq!(masker.mask_coloured(line), expected, "{line:?}");
        }
    }
}
