//! Masking of a text that comes in pieces.

use std::ops::Range;
use std::sync::Arc;

use crate::patterns::{self, Snapshot};
use crate::{Masker, REPLACEMENT, merge};

/// Masks a text piece by piece. What may be the beginning of a secret is held back (at most some KiB) until
/// the next pieces decide; a line is also held until it is complete, since regular expressions see whole
/// lines.
///
/// The output does not depend on where the text was cut. Secrets which are added between two pieces are
/// hidden from there on.
pub struct MaskStream {
    masker: Masker,
    snapshot: Arc<Snapshot>,
    version: u64,
    /// The line that is not complete yet.
    partial: String,
    /// Room for a line with its end.
    complete: String,
    /// Complete lines whose end may be the beginning of a secret.
    held: String,
    /// Where regular expressions matched in `held`.
    regions: Vec<Range<usize>>,
    /// Set if the output ends with a replacement: so many bytes of `held` are covered by it. A match which
    /// touches them belongs to that replacement.
    covered: Option<usize>,
}

impl MaskStream {
    pub(super) fn new(masker: Masker) -> MaskStream {
        MaskStream {
            version: masker.version(),
            snapshot: masker.snapshot(),
            masker,
            partial: String::new(),
            complete: String::new(),
            held: String::new(),
            regions: Vec::new(),
            covered: None,
        }
    }

    /// Takes the next piece and appends to `output` what is decided.
    pub fn push(&mut self, piece: &str, output: &mut String) {
        self.refresh();
        let mut rest = piece;
        if !self.partial.is_empty() {
            rest = self.complete_partial(rest, output);
        }
        let complete = complete_segments(rest);
        if complete > 0 {
            self.segments(&rest[..complete], output);
        }
        self.partial.push_str(&rest[complete..]);
    }

    /// Takes a whole line, given without its end. Cheaper than `push`.
    pub fn push_line(&mut self, line: &str, output: &mut String) {
        self.refresh();
        if self.partial.is_empty() && line.len() < super::LONGEST_LINE_BYTES {
            let mut complete = std::mem::take(&mut self.complete);
            complete.clear();
            complete.push_str(line);
            complete.push('\n');
            self.segments(&complete, output);
            self.complete = complete;
        } else {
            self.push(line, output);
            self.push("\n", output);
        }
    }

    /// Whether something is held back.
    pub fn is_holding(&self) -> bool {
        !self.partial.is_empty() || !self.held.is_empty()
    }

    /// Ends the text: appends what was held back. The stream may be used for a new text afterwards.
    pub fn finish(&mut self, output: &mut String) {
        self.refresh();
        let partial = std::mem::take(&mut self.partial);
        self.hold(&partial);
        self.release(0, output);
        self.covered = None;
    }

    fn refresh(&mut self) {
        let version = self.masker.version();
        if version != self.version {
            self.snapshot = self.masker.snapshot();
            self.version = version;
        }
    }

    /// Completes the partial line with the beginning of `piece`; returns the rest of it.
    fn complete_partial<'a>(&mut self, piece: &'a str, output: &mut String) -> &'a str {
        // Where a line without an end is cut depends on its length alone, not on the pieces.
        let room = super::LONGEST_LINE_BYTES - self.partial.len();
        let window = &piece.as_bytes()[..piece.len().min(room)];
        let taken = match memchr::memchr(b'\n', window) {
            Some(at) => at + 1,
            None => piece.floor_char_boundary(window.len()),
        };
        self.partial.push_str(&piece[..taken]);
        let rest = &piece[taken..];
        if self.partial.ends_with('\n') || !rest.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.segments(&line, output);
            // Keeps the allocation of the usual short line.
            if line.capacity() <= 64 * 1024 {
                self.partial = line;
                self.partial.clear();
            }
        }
        rest
    }

    /// Takes complete lines.
    fn segments(&mut self, lines: &str, output: &mut String) {
        if self.held.is_empty() && self.covered.is_none() && !self.snapshot.may_match(lines) {
            let decided = lines.len() - self.snapshot.unfinished(lines);
            output.push_str(&lines[..decided]);
            self.held.push_str(&lines[decided..]);
            return;
        }
        self.hold(lines);
        let unfinished = self.snapshot.unfinished(&self.held);
        self.release(unfinished, output);
    }

    fn hold(&mut self, lines: &str) {
        let start = self.held.len();
        let known = self.regions.len();
        self.snapshot.find_regexes(lines, &mut self.regions);
        for region in &mut self.regions[known..] {
            *region = start + region.start..start + region.end;
        }
        self.held.push_str(lines);
    }

    /// Gives out all but the last `unfinished` bytes of what is held.
    fn release(&mut self, unfinished: usize, output: &mut String) {
        let end = self.held.len() - unfinished;
        if end == 0 {
            return;
        }
        let mut regions = self.regions.clone();
        self.snapshot.find_literals(&self.held, &mut regions);
        if let Some(covered) = self.covered.filter(|&covered| covered > 0) {
            regions.push(0..covered);
        }
        merge(&mut regions);
        let mut position = 0;
        let mut covered = None;
        for region in regions.into_iter().take_while(|region| region.start < end) {
            output.push_str(&self.held[position..region.start]);
            if region.start > 0 || self.covered.is_none() {
                output.push_str(REPLACEMENT);
            }
            position = region.end;
            if position >= end {
                covered = Some(position - end);
            }
        }
        if position < end {
            output.push_str(&self.held[position..end]);
        }
        self.covered = covered;
        self.held.drain(..end);
        self.regions.retain_mut(|region| {
            *region = region.start.saturating_sub(end)..region.end.saturating_sub(end);
            region.start < region.end
        });
    }
}

/// The length of the lines of `text` that are complete.
fn complete_segments(text: &str) -> usize {
    let end = memchr::memrchr(b'\n', text.as_bytes()).map_or(0, |at| at + 1);
    // The tail has no line end: it is complete as far as it is too long.
    let mut complete = end;
    while text.len() - complete > super::LONGEST_LINE_BYTES {
        complete += patterns::segment(&text[complete..]);
    }
    complete
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream_in_pieces(masker: &Masker, text: &str, cuts: &[usize]) -> String {
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| text.floor_char_boundary(cut % (text.len() + 1))).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut stream = masker.stream();
        let mut output = String::new();
        for pair in cuts.windows(2) {
            stream.push(&text[pair[0]..pair[1]], &mut output);
        }
        stream.finish(&mut output);
        output
    }

    #[test]
    fn a_secret_cut_at_every_place_is_hidden() {
        let masker = Masker::new();
        masker.add_value("first line of it\nsecond line of it\nthird");
        let text = "before first line of it\nsecond line of it\nthird after\n";
        for cut in 0..text.len() {
            assert_eq!(stream_in_pieces(&masker, text, &[cut]), "before *** after\n", "{cut}");
        }
    }

    #[test]
    fn lines_of_a_multi_line_secret_are_hidden_as_one() {
        let masker = Masker::new();
        masker.add_value("ab\ncd\nef");
        let mut stream = masker.stream();
        let mut output = String::new();
        for line in ["xab", "cd", "efy", "ab", "cd", "other"] {
            stream.push_line(line, &mut output);
        }
        stream.finish(&mut output);
        assert_eq!(output, "x***y\nab\ncd\nother\n");
    }

    #[test]
    fn plain_lines_are_given_out_at_once() {
        let masker = Masker::new();
        masker.add_value("hunter2hunter2");
        let mut stream = masker.stream();
        let mut output = String::new();
        stream.push_line("ends with hunter2", &mut output);
        assert_eq!(output, "ends with hunter2\n");
        assert!(!stream.is_holding());
    }

    #[test]
    fn a_secret_added_between_two_pieces_is_hidden_from_there_on() {
        let masker = Masker::new();
        let mut stream = masker.stream();
        let mut output = String::new();
        stream.push_line("late-secret", &mut output);
        masker.add_value("late-secret");
        stream.push_line("late-secret", &mut output);
        assert_eq!(output, "late-secret\n***\n");
    }

    #[test]
    fn a_line_without_an_end_is_held_in_bounded_memory() {
        let masker = Masker::new();
        masker.add_value("needle-in-the-hay");
        let mut stream = masker.stream();
        let mut output = String::new();
        let hay = "x".repeat(1000);
        for _ in 0..5000 {
            stream.push(&hay, &mut output);
            assert!(stream.partial.len() + stream.held.len() <= super::super::LONGEST_LINE_BYTES + 64);
        }
        stream.push("needle-in-the-hay", &mut output);
        stream.finish(&mut output);
        assert_eq!(output.len(), 5_000_000 + REPLACEMENT.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_cut_gives_the_output_of_the_whole_and_no_secret_survives(
            secrets in prop::collection::vec("[ab\n]{2,7}|[abé:/@]{3,6}", 1..5),
            pieces in prop::collection::vec(prop_oneof![
                "[ab\n]{0,6}",
                "[abé:/@ \n]{0,8}",
                Just("//u:ab@".to_owned()),
                Just("ba11".to_owned()),
            ], 0..20),
            inserted in prop::collection::vec((0..4usize, 0..20usize), 0..6),
            cuts in prop::collection::vec(0..400usize, 0..30),
        ) {
            let masker = Masker::new();
            masker.add_values(secrets.iter().map(String::as_str));
            masker.add_regex("a[0-9]+|^b+$");
            let mut pieces = pieces;
            for (secret, place) in inserted {
                let secret = secrets[secret % secrets.len()].clone();
                pieces.insert(place.min(pieces.len()), secret);
            }
            let text = pieces.concat();
            let whole = masker.mask(&text).into_owned();
            prop_assert_eq!(&stream_in_pieces(&masker, &text, &cuts), &whole);
            let every: Vec<usize> = (0..text.len()).collect();
            prop_assert_eq!(&stream_in_pieces(&masker, &text, &every), &whole);
            for secret in &secrets {
                let secret = secret.trim_matches(['\r', '\n']);
                if !secret.trim().is_empty() {
                    prop_assert!(!whole.contains(secret), "{:?} in {:?}", secret, whole);
                }
            }
        }
    }
}
