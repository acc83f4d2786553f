//! The legs of a matrix that an expression gives as text.
//!
//! The service reads the text with Newtonsoft's Json.NET, which takes much that is not JSON
//! (`JsonTextReader.cs`), and people rely on it: the only example of a generated matrix in Microsoft's
//! documentation (azure-devops-docs, `process/phases.md`) has single quotes, since they survive in a shell's
//! double quotes. Taken here as there: single quotes, names without quotes, comments, a comma behind the last
//! entry, line ends within quotes, numbers in hexadecimal or octal, `NaN`, `Infinity`, `undefined`. A matrix
//! is two levels deep by its nature, so reading one needs no recursion.

use crate::{plan::Variable, schema::strategy::MAX_JOBS};

/// The legs, in the order of the text. No legs for `{}` and `null`.
///
/// # Errors
/// Why the text is no matrix. Values are not quoted: they may be secrets.
pub(super) fn legs(text: &str) -> Result<Vec<(String, Vec<Variable>)>, String> {
    let mut reader = Reader { rest: text, text };
    reader.skip_to_token()?;
    if reader.rest.is_empty() {
        return Err(
            "the matrix is empty: check the name of the output, and that the job depends on the one that \
                sets it"
                .to_owned(),
        );
    }
    let mut legs: Vec<(String, Vec<Variable>)> = Vec::new();
    if !reader.take_word("null") {
        reader.object("the matrix has to be a JSON object of legs", |reader, name| {
            let leg = (name, reader.leg()?);
            match legs.iter().position(|(known, _)| super::same_name(known, &leg.0)) {
                // The last one of a name counts, as in the reader of the service.
                Some(at) if legs[at].0 == leg.0 => legs[at] = leg,
                Some(at) => {
                    let names = format!("`{}` and `{}`", legs[at].0, leg.0);
                    return Err(format!(
                        "two legs of the matrix are called {names}, which differ only in case"
                    ));
                }
                None if legs.len() == MAX_JOBS => {
                    return Err(format!(
                        "the matrix has more legs than the {MAX_JOBS} jobs a stage may hold"
                    ));
                }
                None => legs.push(leg),
            }
            Ok(())
        })?;
    }
    reader.skip_to_token()?;
    if !reader.rest.is_empty() {
        return Err(reader.unexpected("behind its end"));
    }
    Ok(legs)
}

struct Reader<'t> {
    rest: &'t str,
    text: &'t str,
}

impl<'t> Reader<'t> {
    /// Reads `{ name: value, ... }`, handing each name to `entry`, which reads the value.
    fn object(
        &mut self,
        otherwise: &str,
        mut entry: impl FnMut(&mut Self, String) -> Result<(), String>,
    ) -> Result<(), String> {
        if !self.take('{') {
            return Err(otherwise.to_owned());
        }
        loop {
            self.skip_to_token()?;
            // Also behind a comma.
            if self.take('}') {
                return Ok(());
            }
            let name = self.name()?;
            if name.is_empty() {
                return Err(format!("the matrix is not valid JSON: an empty name{}", self.place()));
            }
            self.skip_blanks();
            if !self.take(':') {
                return Err(self.unexpected(&format!("where a `:` has to follow the name `{name}`")));
            }
            self.skip_to_token()?;
            entry(self, name)?;
            self.skip_to_token()?;
            if !self.take(',') && !self.rest.starts_with('}') {
                return Err(self.unexpected("where `,` or `}` has to follow"));
            }
        }
    }

    /// The variables of a leg.
    fn leg(&mut self) -> Result<Vec<Variable>, String> {
        let mut variables: Vec<Variable> = Vec::new();
        if self.take_word("null") {
            return Ok(variables);
        }
        let otherwise =
            format!("each leg of the matrix has to be a JSON object of variables{}", self.place());
        self.object(&otherwise, |reader, name| {
            let value = reader.scalar(&name)?;
            // The last one of a name counts when the variables are put together.
            variables.push(Variable { name, value, read_only: false });
            Ok(())
        })?;
        Ok(variables)
    }

    /// A value as text: numbers stay as they are written, `null` is empty.
    fn scalar(&mut self, name: &str) -> Result<String, String> {
        if let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            return self.quoted(quote);
        }
        for (word, text) in [
            ("true", "true"),
            ("false", "false"),
            ("null", ""),
            ("undefined", ""),
            ("NaN", "NaN"),
            ("Infinity", "Infinity"),
            ("-Infinity", "-Infinity"),
        ] {
            if self.take_word(word) {
                return Ok(text.to_owned());
            }
        }
        if self.rest.starts_with(['{', '[']) {
            return Err(format!(
                "the matrix variable `{name}` is a list or an object{}; it has to be text, a number or a \
                    boolean",
                self.place()
            ));
        }
        self.number(name)
    }

    fn number(&mut self, name: &str) -> Result<String, String> {
        let length = self
            .rest
            .find(|c: char| !matches!(c, '0'..='9' | 'a'..='f' | 'A'..='F' | 'x' | 'X' | '+' | '-' | '.'));
        let number = &self.rest[..length.unwrap_or(self.rest.len())];
        if !is_number(number) {
            return Err(
                self.unexpected(&format!("where the value of `{name}` has to follow (text needs quotes)"))
            );
        }
        self.rest = &self.rest[number.len()..];
        Ok(number.to_owned())
    }

    /// A name: in quotes, or of letters, digits, `_` and `$`.
    fn name(&mut self) -> Result<String, String> {
        if let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            return self.quoted(quote);
        }
        let length = self.rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$')));
        let name = &self.rest[..length.unwrap_or(self.rest.len())];
        if name.is_empty() {
            return Err(self.unexpected("where a name has to follow"));
        }
        self.rest = &self.rest[name.len()..];
        Ok(name.to_owned())
    }

    /// A text in these quotes, which the rest begins with.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let start = self.here();
        self.rest = &self.rest[1..];
        let mut text = String::new();
        loop {
            let Some(end) = self.rest.find([quote, '\\']) else {
                return Err(format!(
                    "the matrix is not valid JSON: the text that begins{} is not closed",
                    place(self.text, start)
                ));
            };
            text.push_str(&self.rest[..end]);
            self.rest = &self.rest[end..];
            if self.take(quote) {
                return Ok(text);
            }
            self.escape(&mut text)?;
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, text: &mut String) -> Result<(), String> {
        self.rest = &self.rest[1..];
        let letter = self.rest.chars().next();
        let plain = match letter {
            Some('b') => '\u{8}',
            Some('t') => '\t',
            Some('n') => '\n',
            Some('f') => '\u{c}',
            Some('r') => '\r',
            Some(c @ ('\\' | '"' | '\'' | '/')) => c,
            Some('u') => {
                let high = self.unit()?;
                let low = match self.rest.strip_prefix('\\') {
                    Some(after) if (0xd800..0xdc00).contains(&high) && after.starts_with('u') => {
                        let before = self.rest;
                        self.rest = after;
                        let low = self.unit()?;
                        if (0xdc00..0xe000).contains(&low) {
                            Some(low)
                        } else {
                            self.rest = before;
                            None
                        }
                    }
                    _ => None,
                };
                text.extend(
                    char::decode_utf16([high].into_iter().chain(low)).map(|c| c.unwrap_or('\u{fffd}')),
                );
                return Ok(());
            }
            _ => return Err(self.unexpected("behind a backslash")),
        };
        text.push(plain);
        self.rest = &self.rest[1..];
        Ok(())
    }

    /// The code unit of `uXXXX`.
    fn unit(&mut self) -> Result<u16, String> {
        let digits =
            self.rest.get(1..5).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let Some(unit) = unit else {
            return Err(self.unexpected("behind a backslash, which needs four hexadecimal digits"));
        };
        self.rest = &self.rest[5..];
        Ok(unit)
    }

    fn take(&mut self, letter: char) -> bool {
        match self.rest.strip_prefix(letter) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes a word that nothing but the end of the value follows.
    fn take_word(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) if !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$')) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Skips blanks and comments.
    fn skip_to_token(&mut self) -> Result<(), String> {
        loop {
            self.skip_blanks();
            if let Some(comment) = self.rest.strip_prefix("//") {
                self.rest = comment.find(['\n', '\r']).map_or("", |end| &comment[end..]);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                let Some(end) = comment.find("*/") else {
                    return Err(format!(
                        "the matrix is not valid JSON: the comment{} is not closed",
                        self.place()
                    ));
                };
                self.rest = &comment[end + 2..];
            } else {
                return Ok(());
            }
        }
    }

    fn here(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn place(&self) -> String {
        place(self.text, self.here())
    }

    fn unexpected(&self, whereabouts: &str) -> String {
        let what = match self.rest.chars().next() {
            Some(_) => "an unexpected character",
            None => "it ends",
        };
        format!("the matrix is not valid JSON: {what} {whereabouts}{}", self.place())
    }
}

/// Whether .NET takes the text for a number: decimal, or hexadecimal or octal behind a zero.
fn is_number(text: &str) -> bool {
    let digits =
        text.strip_prefix('0').filter(|digits| !digits.is_empty() && !digits.starts_with(['.', 'e', 'E']));
    match digits {
        Some(digits) => match digits.strip_prefix(['x', 'X']) {
            Some(digits) => u64::from_str_radix(digits, 16).is_ok(),
            None => u64::from_str_radix(digits, 8).is_ok(),
        },
        // Rust's `parse` takes words besides, which have letters that are not in a number.
        None => text.parse::<f64>().is_ok(),
    }
}

/// Where in the text a byte is, counted from 1 as people count.
fn place(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    if line == 0 {
        format!(" at character {column}")
    } else {
        format!(" at line {}, character {column}", line + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::{collection::btree_map, test_runner::TestCaseError};

    use super::*;

    /// The legs as `name: variable="value" ...`.
    fn read(text: &str) -> Result<String, String> {
        let legs = legs(text)?.into_iter().map(|(name, variables)| {
            let pairs = variables.into_iter().map(|one| format!(" {}={:?}", one.name, one.value));
            format!("{name}:{}", pairs.collect::<String>())
        });
        Ok(legs.collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn what_the_reader_of_the_service_takes_is_taken() {
        for (text, expected) in [
            (r#"{"a": {"x": "1"}, "b": {"x": "2"}}"#, r#"a: x="1"; b: x="2""#),
            ("{'a':{'x':'1'},'b':{'x':'2'}}", r#"a: x="1"; b: x="2""#),
            (r#"{a: {x: '1', $y_2: 'it\'s "so"'}}"#, r#"a: x="1" $y_2="it's \"so\"""#),
            ("{1: {2: 3}}", r#"1: 2="3""#),
            ("{'a': {'x': 'y',},}", r#"a: x="y""#),
            ("// legs\n{ /* one */ 'a' : { 'x': /* two */ 1 } } // end", r#"a: x="1""#),
            ("{a: {}, b: null}", "a:; b:"),
            ("{}", ""),
            (" null ", ""),
            // Numbers stay as they are written: versions would lose their zero.
            (
                "{a: {x: 3.10, y: -1e3, z: 0x1F, o: 017, p: .5}}",
                r#"a: x="3.10" y="-1e3" z="0x1F" o="017" p=".5""#,
            ),
            (
                "{a: {t: true, f: false, n: null, u: undefined, q: NaN, i: -Infinity}}",
                r#"a: t="true" f="false" n="" u="" q="NaN" i="-Infinity""#,
            ),
            (r#"{"a": {"x": "\u00e4\ud83d\ude00\ud83d\n\/"}}"#, "a: x=\"ä😀\u{fffd}\\n/\""),
            ("{'a': {'x': 'two\nlines'}}", r#"a: x="two\nlines""#),
            ("{a: {x: 1}, b: {}, a: {x: 2}}", r#"a: x="2"; b:"#),
            ("\r\n\t{\u{a0}a\u{2003}:{ }}", "a:"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_it_refuses_is_refused_with_the_place() {
        let not_json = "the matrix is not valid JSON: ";
        for (text, expected) in [
            ("{", "it ends where a name has to follow at character 2"),
            ("{a", "it ends where a `:` has to follow the name `a` at character 3"),
            ("{a b: {}}", "an unexpected character where a `:` has to follow the name `a` at character 4"),
            ("{'': {}}", "an empty name at character 4"),
            ("{a: {} b: {}}", "an unexpected character where `,` or `}` has to follow at character 8"),
            ("{a: {},, b: {}}", "an unexpected character where a name has to follow at character 8"),
            ("{a: {}} x", "an unexpected character behind its end at character 9"),
            ("{a: {x: 'y}}", "the text that begins at character 9 is not closed"),
            ("{a:\n {x: '\\q'}}", "an unexpected character behind a backslash at line 2, character 8"),
            (
                "{a: {x: '\\u12'}}",
                "an unexpected character behind a backslash, which needs four hexadecimal digits at character 11",
            ),
            ("{a: {}} /*", "the comment at character 9 is not closed"),
        ] {
            assert_eq!(read(text), Err(format!("{not_json}{expected}")), "{text}");
        }
        for text in ["{a: {x: word}}", "{a: {x: 08}}", "{a: {x: 1-}}", "{a: {x: }}", "{a: {x: ,}}"] {
            let reason = "an unexpected character where the value of `x` has to follow (text needs quotes)";
            assert_eq!(read(text), Err(format!("{not_json}{reason} at character 9")), "{text}");
        }
        for text in ["[1]", "'{}'", "nullify"] {
            assert_eq!(read(text), Err("the matrix has to be a JSON object of legs".to_owned()), "{text}");
        }
        for (text, expected) in [
            (
                " ",
                "the matrix is empty: check the name of the output, and that the job depends on the one that sets it",
            ),
            ("{a: 1}", "each leg of the matrix has to be a JSON object of variables at character 5"),
            (
                "{a: {x: [1]}}",
                "the matrix variable `x` is a list or an object at character 9; it has to be text, a number or a boolean",
            ),
            ("{a: {}, A: {}}", "two legs of the matrix are called `a` and `A`, which differ only in case"),
        ] {
            assert_eq!(read(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn legs_and_depth_are_bounded() {
        let many: String = (0..=MAX_JOBS).map(|leg| format!("l{leg}: {{}},")).collect();
        let refused = legs(&format!("{{{many}}}"));
        assert_eq!(refused, Err("the matrix has more legs than the 256 jobs a stage may hold".to_owned()));
        assert!(legs(&"{a: ".repeat(1_000_000)).is_err(), "depth costs no stack");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"[{}\[\]:,'"\\/*\nau0-9é. ]{0,40}"#) {
            let _ = legs(&text);
        }

        #[test]
        fn what_is_strict_json_means_the_same(
            matrix in btree_map("[^A-Z]{1,8}", btree_map(".{1,8}", ".{0,12}", 0..4), 0..4),
        ) {
            let names: HashSet<String> = matrix.keys().map(|name| name.to_lowercase()).collect();
            proptest::prop_assume!(names.len() == matrix.len());
            let text = serde_json::to_string(&matrix).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let read = legs(&text).map_err(TestCaseError::fail)?.into_iter().map(|(name, leg)| {
                (name, leg.into_iter().map(|one| (one.name, one.value)).collect::<BTreeMap<_, _>>())
            });
            proptest::prop_assert_eq!(read.collect::<BTreeMap<_, _>>(), matrix);
        }
    }
}
