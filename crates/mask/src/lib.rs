//! Hides secrets in everything a user may read: log lines, console lines, issues, names.
//!
//! The worker masks all that it writes, the listener what it tells of a worker that died, the emulator what
//! the jobs say that it runs itself, and `dayfly run` what it shows.
//!
//! A [`Masker`] knows all secrets of a job in all their written forms ([`secrets::written_forms`]) and the
//! regular expressions of the job message. Values found are replaced by `***`; matches that overlap or touch
//! become one. [`Masker::mask`] takes one complete text, [`MaskStream`] takes a text in pieces and gives the
//! same output as the whole text would have given, however it was cut: a secret split over two reads or two
//! lines is still found.
//!
//! Literals are found by Aho-Corasick automata in tiers of growing size, so that a secret added while the job
//! runs costs the rebuild of a small tier only. Regular expressions are of the `regex` crate (linear time, so
//! a hostile pattern cannot stall the worker) and are matched within one line.

mod coloured;
mod job;
mod patterns;
mod stream;

pub use stream::MaskStream;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dayfly_protocol::secrets;

use patterns::Snapshot;

/// What stands in place of a secret.
pub const REPLACEMENT: &str = "***";

/// The longest line that is matched against regular expressions as a whole; longer ones are cut there.
pub const LONGEST_LINE_BYTES: usize = 1024 * 1024;

/// The official agent lets nobody skip secrets of this length or more (`LoggedSecretMasker.cs`).
const LARGEST_MINIMUM_LENGTH: usize = 6;

/// All secrets of a job. Cheap to clone: the clones share their secrets.
///
/// When an `add_` call has returned, no text masked afterwards (by any clone or stream) shows that secret.
#[derive(Clone)]
pub struct Masker {
    shared: Arc<Shared>,
}

struct Shared {
    minimum_length: usize,
    /// Counts snapshots, so that a stream can keep its own without locking for each line.
    version: AtomicU64,
    current: RwLock<Arc<Snapshot>>,
    /// The literals known so far; its lock also orders the writers.
    known: Mutex<HashSet<String>>,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").finish_non_exhaustive()
    }
}

impl Default for Masker {
    fn default() -> Self {
        Masker::new()
    }
}

impl Masker {
    /// A masker without secrets; it hides passwords in URLs (`scheme://user:password@host`) already.
    pub fn new() -> Masker {
        Masker::with_minimum_length(0)
    }

    /// Ignores secrets shorter than `characters` (`AZP_IGNORE_SECRETS_SHORTER_THAN`; at most 6 is honoured).
    pub fn with_minimum_length(characters: usize) -> Masker {
        Masker {
            shared: Arc::new(Shared {
                minimum_length: characters.min(LARGEST_MINIMUM_LENGTH),
                version: AtomicU64::new(0),
                current: RwLock::new(Arc::new(Snapshot::default())),
                known: Mutex::new(HashSet::new()),
            }),
        }
    }

    /// Hides `secret` in all its written forms. Empty and blank values are ignored.
    pub fn add_value(&self, secret: &str) {
        self.add_values([secret]);
    }

    /// Hides several secrets with a single rebuild. To be used at the start of a job.
    pub fn add_values<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = Vec::new();
        for secret in secrets {
            for literal in secrets::written_forms(secret) {
                if literal.chars().count() >= self.shared.minimum_length.max(1)
                    && known.insert(literal.clone())
                {
                    fresh.push(literal);
                }
            }
        }
        if !fresh.is_empty() {
            self.publish(|snapshot| snapshot.with_literals(fresh));
        }
    }

    /// Hides what a mask hint of the job message describes: the pattern's matches and its literal text
    /// (`Worker.cs`). A pattern of .NET's that is unknown to us (look-around, back references) is hidden as
    /// text only.
    pub fn add_regex(&self, pattern: &str) {
        if pattern.trim().is_empty() {
            return;
        }
        self.add_value(pattern);
        // The service sends most hints as escaped literals: those are much cheaper to find as values.
        if let Some(literal) = patterns::unescaped(pattern) {
            self.add_value(&literal);
            return;
        }
        let _writers = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        match patterns::compile(pattern) {
            Ok(regex) => self.publish(|snapshot| snapshot.with_regex(regex)),
            // The pattern itself may hold a secret, so the error's text must not be shown.
            Err(_) => tracing::warn!(
                "a mask hint of the job message is not a supported regular expression, so only its literal \
                    text is hidden"
            ),
        }
    }

    /// `text` without its secrets. Allocates only if there are some.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let snapshot = self.snapshot();
        if !snapshot.may_match(text) {
            return Cow::Borrowed(text);
        }
        let mut regions = Vec::new();
        snapshot.find_literals(text, &mut regions);
        snapshot.find_regexes(text, &mut regions);
        if regions.is_empty() {
            return Cow::Borrowed(text);
        }
        merge(&mut regions);
        let mut masked = String::with_capacity(text.len());
        let mut position = 0;
        for region in regions {
            masked.push_str(&text[position..region.start]);
            masked.push_str(REPLACEMENT);
            position = region.end;
        }
        masked.push_str(&text[position..]);
        Cow::Owned(masked)
    }

    /// A line without the secrets that colours and other control characters interrupt: whoever shows it
    /// without those would show the secret whole. Other secrets are left to [`Masker::mask`] and the like.
    pub fn mask_coloured<'a>(&self, line: &'a str) -> Cow<'a, str> {
        if !coloured::has_controls(line) {
            return Cow::Borrowed(line);
        }
        let plain = coloured::Plain::of(line);
        let snapshot = self.snapshot();
        if !snapshot.may_match(&plain.text) {
            return Cow::Borrowed(line);
        }
        let mut regions = Vec::new();
        snapshot.find_literals(&plain.text, &mut regions);
        snapshot.find_regexes(&plain.text, &mut regions);
        merge(&mut regions);
        plain.mask(line, &regions)
    }

    /// A masker for a text that comes in pieces.
    pub fn stream(&self) -> MaskStream {
        MaskStream::new(self.clone())
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// To be called with `known` locked.
    fn publish(&self, change: impl FnOnce(&Snapshot) -> Snapshot) {
        let changed = Arc::new(change(&self.snapshot()));
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = changed;
        self.shared.version.fetch_add(1, Ordering::Release);
    }
}

/// Sorts regions and joins those that overlap or touch.
fn merge(regions: &mut Vec<Range<usize>>) {
    regions.sort_unstable_by_key(|region| region.start);
    regions.dedup_by(|next, last| {
        let joined = next.start <= last.end;
        if joined {
            last.end = last.end.max(next.end);
        }
        joined
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker(secrets: &[&str]) -> Masker {
        let masker = Masker::new();
        masker.add_values(secrets.iter().copied());
        masker
    }

    #[test]
    fn a_text_without_secrets_is_not_copied() {
        let masker = masker(&["hunter2hunter2"]);
        assert!(matches!(masker.mask("nothing to see here"), Cow::Borrowed(_)));
    }

    #[test]
    fn all_written_forms_of_a_secret_are_hidden() {
        let masker = masker(&["pa%ss\"wo\\rd & more"]);
        let forms = [
            "pa%ss\"wo\\rd & more",
            "pa%AZP25ss\"wo\\rd & more",
            r#"pa%ss\"wo\\rd & more"#,
            "pa%25ss%22wo%5Crd%20%26%20more",
            "cGElc3Mid29ccmQgJiBtb3Jl",
        ];
        for form in forms {
            assert_eq!(masker.mask(&format!("<{form}>")), "<***>", "{form}");
        }
    }

    #[test]
    fn overlapping_and_touching_secrets_become_one() {
        let masker = masker(&["abcdef", "defghi", "jkl"]);
        assert_eq!(masker.mask("1abcdefghijkl2"), "1***2");
        assert_eq!(masker.mask("abcdef jkl"), "*** ***");
    }

    #[test]
    fn quotes_and_blanks_around_a_secret_do_not_matter() {
        let masker = masker(&["'quoted secret'", "  trimmed secret\n"]);
        assert_eq!(masker.mask("a quoted secret and a trimmed secret."), "a *** and a ***.");
    }

    #[test]
    fn blank_values_hide_nothing() {
        let masker = masker(&["", " ", "\r\n"]);
        assert_eq!(masker.mask("a b"), "a b");
    }

    #[test]
    fn the_minimum_length_is_honoured_up_to_six() {
        let masker = Masker::with_minimum_length(100);
        masker.add_value("12345");
        masker.add_value("abcdef");
        assert_eq!(masker.mask("12345 abcdef"), "12345 ***");
    }

    #[test]
    fn passwords_in_urls_are_hidden() {
        let masker = Masker::new();
        let cases = [
            ("git clone https://me:s3cr%40t@host/x", "git clone https://me:***@host/x"),
            ("https://host:8080/a@b", "https://host:8080/a@b"),
            ("https://me@host", "https://me@host"),
            ("x //u:p@h y //v:q:r@i", "x //u:***@h y //v:***@i"),
        ];
        for (text, expected) in cases {
            assert_eq!(masker.mask(text), expected);
        }
    }

    #[test]
    fn mask_hints_are_patterns_and_texts() {
        let masker = Masker::new();
        masker.add_regex(r"tok-[0-9]{4}");
        masker.add_regex(r"a\.b\+c\ d");
        masker.add_regex(r"(?<=x)secret(?=y)");
        assert_eq!(masker.mask("tok-1234 a.b+c d axb+c d"), "*** *** axb+c d");
        assert_eq!(masker.mask(r"(?<=x)secret(?=y)"), "***");
    }

    #[test]
    fn lines_of_a_secret_are_hidden_on_their_own() {
        let masker = masker(&["-----BEGIN-----\nMIIEvgIBADAN\nBgkq\n-----END-----"]);
        assert_eq!(masker.mask("01 MIIEvgIBADAN"), "01 ***");
        assert_eq!(masker.mask("-----BEGIN-----\r\nMIIEvgIBADAN\r\nBgkq\r\n-----END-----"), "***");
    }

    #[test]
    fn a_secret_inside_of_other_base64_is_hidden() {
        use base64::Engine as _;
        let masker = masker(&["correct-horse-battery"]);
        for prefix in ["", "u", "us", "use", "user:"] {
            let text =
                base64::engine::general_purpose::STANDARD.encode(format!("{prefix}correct-horse-battery!"));
            assert!(masker.mask(&text).contains(REPLACEMENT), "{text}");
        }
    }

    #[test]
    fn many_secrets_added_one_by_one_are_all_hidden() {
        let masker = Masker::new();
        for number in 0..500 {
            masker.add_value(&format!("secret-number-{number:04}"));
        }
        for number in 0..500 {
            assert_eq!(masker.mask(&format!("secret-number-{number:04}")), REPLACEMENT);
        }
    }

    #[test]
    fn a_huge_secret_is_hidden_as_a_whole() {
        let secret: String = (1..9_000u32)
            .map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 16) as u8 % 26))
            .collect();
        let masker = masker(&[&secret]);
        assert_eq!(masker.mask(&format!("<{secret}>")), "<***>");
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", masker(&["hunter2"])), "Masker { .. }");
    }
}
