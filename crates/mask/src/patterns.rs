//! The compiled patterns of a masker: immutable snapshots which share what did not change.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use memchr::memmem::Finder;
use regex::{Regex, RegexBuilder};

use crate::LONGEST_LINE_BYTES;

/// The size a compiled mask hint may have.
const LARGEST_REGEX_BYTES: usize = 4 * 1024 * 1024;

/// A dense automaton is the fastest but takes some hundred bytes for each byte of its literals.
const LARGEST_DENSE_AUTOMATON_BYTES: usize = 16 * 1024;

/// The password part of a URL's authority (`AdditionalMaskingRegexes.cs`), as a group in place of
/// look-around.
static URL_PASSWORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"//[^:/?#\n]+:((?:[\w.~\-]|(?:%|%AZP25)[0-9a-fA-F]{2}|[!$&'()*+,;=]|:)+)@")
        .expect("the pattern is a constant")
});
static TWO_SLASHES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("//"));

/// All patterns at one moment.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    /// From large to small; each at least twice the size of the next.
    tiers: Vec<Arc<Tier>>,
    regexes: Vec<Regex>,
}

struct Tier {
    automaton: AhoCorasick,
    /// Sorted, to find those that begin with a given text.
    literals: Vec<String>,
    longest: usize,
    /// The lengths at which a literal (by its index) has a line end, by the byte before that.
    line_ends: HashMap<u8, Vec<(usize, usize)>>,
    /// Whether some literal begins with this byte.
    first_bytes: [bool; 256],
}

impl Tier {
    fn new(mut literals: Vec<String>) -> Tier {
        literals.sort_unstable();
        let size: usize = literals.iter().map(String::len).sum();
        let kind = if size <= LARGEST_DENSE_AUTOMATON_BYTES {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        let automaton = AhoCorasick::builder()
            .kind(Some(kind))
            .build(&literals)
            .expect("the literals are far below the automaton's limit of states");
        let mut first_bytes = [false; 256];
        let mut line_ends: HashMap<u8, Vec<(usize, usize)>> = HashMap::new();
        for (index, literal) in literals.iter().enumerate() {
            for at in memchr::memchr_iter(b'\n', literal.as_bytes()).filter(|at| *at > 0) {
                line_ends.entry(literal.as_bytes()[at - 1]).or_default().push((index, at + 1));
            }
            if let Some(byte) = literal.bytes().next() {
                first_bytes[usize::from(byte)] = true;
            }
        }
        Tier {
            automaton,
            longest: literals.iter().map(String::len).max().unwrap_or(0),
            line_ends,
            first_bytes,
            literals,
        }
    }

    /// Whether some literal is longer than `text` and begins with it.
    fn may_begin_with(&self, text: &str) -> bool {
        let first = self.literals.partition_point(|literal| literal.as_str() <= text);
        self.literals.get(first).is_some_and(|literal| literal.starts_with(text))
    }

    /// The length of the longest end of `text` with which a longer literal begins.
    fn unfinished(&self, text: &str) -> usize {
        if text.ends_with('\n') {
            return self.unfinished_line(text);
        }
        let from = text.ceil_char_boundary(text.len().saturating_sub(self.longest.saturating_sub(1)));
        let bytes = text.as_bytes();
        (from..text.len())
            .filter(|&start| self.first_bytes[usize::from(bytes[start])] && text.is_char_boundary(start))
            .find(|&start| self.may_begin_with(&text[start..]))
            .map_or(0, |start| text.len() - start)
    }

    /// The same for complete lines, which is nearly always: a secret goes on only after one of its own line
    /// ends.
    fn unfinished_line(&self, text: &str) -> usize {
        let Some(last) = text.len().checked_sub(2).map(|at| text.as_bytes()[at]) else { return 0 };
        let candidates = self.line_ends.get(&last).into_iter().flatten();
        candidates
            .filter(|(index, length)| text.ends_with(&self.literals[*index][..*length]))
            .map(|(_, length)| *length)
            .max()
            .unwrap_or(0)
    }
}

impl Snapshot {
    /// This snapshot and `fresh` literals. Amortised cost: each literal is rebuilt O(log n) times.
    pub(super) fn with_literals(&self, mut fresh: Vec<String>) -> Snapshot {
        let mut tiers = self.tiers.clone();
        while let Some(last) = tiers.pop_if(|last| last.literals.len() < 2 * fresh.len()) {
            fresh.extend(last.literals.iter().cloned());
        }
        tiers.push(Arc::new(Tier::new(fresh)));
        Snapshot { tiers, regexes: self.regexes.clone() }
    }

    /// This snapshot and one more regular expression.
    pub(super) fn with_regex(&self, regex: Regex) -> Snapshot {
        let mut changed = self.clone();
        changed.regexes.push(regex);
        changed
    }

    /// False if nothing in `text` is to be hidden: the fast way for nearly all lines.
    pub(super) fn may_match(&self, text: &str) -> bool {
        self.tiers.iter().any(|tier| tier.automaton.is_match(text))
            || TWO_SLASHES
                .find(text.as_bytes())
                .is_some_and(|at| memchr::memchr(b'@', &text.as_bytes()[at..]).is_some())
            || (!self.regexes.is_empty()
                && lines(text)
                    .any(|line| self.regexes.iter().any(|regex| regex.is_match(&text[line.clone()]))))
    }

    /// The length of the longest end of `text` that may be the beginning of a secret.
    pub(super) fn unfinished(&self, text: &str) -> usize {
        self.tiers.iter().map(|tier| tier.unfinished(text)).max().unwrap_or(0)
    }

    /// Adds the places of all literals in `text`, also of those inside of others.
    pub(super) fn find_literals(&self, text: &str, regions: &mut Vec<Range<usize>>) {
        for tier in &self.tiers {
            regions.extend(tier.automaton.find_overlapping_iter(text).map(|found| found.range()));
        }
    }

    /// Adds the places of all regular expressions' matches in the lines of `text`.
    pub(super) fn find_regexes(&self, text: &str, regions: &mut Vec<Range<usize>>) {
        for line in lines(text) {
            let content = &text[line.clone()];
            let shift = |range: Range<usize>| line.start + range.start..line.start + range.end;
            if TWO_SLASHES.find(content.as_bytes()).is_some() {
                regions.extend(
                    URL_PASSWORD
                        .captures_iter(content)
                        .filter_map(|found| found.get(1))
                        .map(|group| shift(group.range())),
                );
            }
            for regex in &self.regexes {
                regions.extend(
                    regex
                        .find_iter(content)
                        .filter(|found| !found.is_empty())
                        .map(|found| shift(found.range())),
                );
            }
        }
    }
}

/// The places of the lines of `text`, without their ends; lines that are too long in pieces.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = segment(rest);
        let begin = start;
        start += length;
        let end = if rest[..length].ends_with('\n') { start - 1 } else { start };
        Some(begin..end)
    })
}

/// The length of the first line of `text` with its end, or of as much of it as is matched in one go.
pub(super) fn segment(text: &str) -> usize {
    let window = &text.as_bytes()[..text.len().min(LONGEST_LINE_BYTES)];
    match memchr::memchr(b'\n', window) {
        Some(at) => at + 1,
        None => text.floor_char_boundary(LONGEST_LINE_BYTES.min(text.len())),
    }
}

/// Compiles a mask hint.
pub(super) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(LARGEST_REGEX_BYTES).dfa_size_limit(LARGEST_REGEX_BYTES).build()
}

/// The text which `pattern` matches if it is an escaped literal (.NET's `Regex.Escape`), else nothing.
pub(super) fn unescaped(pattern: &str) -> Option<String> {
    let mut literal = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                't' => literal.push('\t'),
                'n' => literal.push('\n'),
                'r' => literal.push('\r'),
                'f' => literal.push('\u{c}'),
                escaped if escaped.is_alphanumeric() => return None,
                escaped => literal.push(escaped),
            },
            '*' | '+' | '?' | '|' | '{' | '[' | '(' | ')' | '^' | '$' | '.' => return None,
            plain => literal.push(plain),
        }
    }
    Some(literal)
}
