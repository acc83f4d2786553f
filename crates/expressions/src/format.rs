//! `format`: the format string, and dates under their specifiers (`FormatNode` of Microsoft's engine).

use std::fmt::Write as _;

use jiff::civil;

/// A part of a format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Text(String),
    /// The argument of this number, under specifiers if they are not empty.
    Argument {
        index: usize,
        specifiers: String,
    },
}

/// Reads a format string: `{0}`, `{1:yyyy}`, `{{` and `}}` for braces. None if it is malformed.
pub(crate) fn parse(format: &str) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
        } else if brace == "{" {
            let (argument, after) = argument(rest)?;
            if !text.is_empty() {
                segments.push(Segment::Text(std::mem::take(&mut text)));
            }
            segments.push(argument);
            rest = after;
        } else {
            return None;
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        segments.push(Segment::Text(text));
    }
    Some(segments)
}

/// What follows a `{`: a number up to 255, perhaps `:` and specifiers, and `}`. Also what comes behind it.
fn argument(text: &str) -> Option<(Segment, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let index = usize::from(text[..digits].parse::<u8>().ok()?);
    let rest = &text[digits..];
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((Segment::Argument { index, specifiers: String::new() }, rest));
    }
    let mut rest = rest.strip_prefix(':')?;
    let mut specifiers = String::new();
    loop {
        let brace = rest.find('}')?;
        specifiers.push_str(&rest[..brace]);
        rest = &rest[brace + 1..];
        match rest.strip_prefix('}') {
            Some(after) => {
                specifiers.push('}');
                rest = after;
            }
            None => return Some((Segment::Argument { index, specifiers }, rest)),
        }
    }
}

/// A moment with its distance from UTC, as in the text of `pipeline.startTime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    local: civil::DateTime,
    offset_minutes: i32,
}

impl Moment {
    /// Reads `2024-02-29 08:05:01.25+01:00` and its relatives: `/` in the date, `T` before the time,
    /// one-digit months, days and hours, up to seven digits of the second's fraction, `Z`. Without a zone it
    /// is UTC (a library knows no local one).
    pub(crate) fn parse(text: &str) -> Option<Moment> {
        let mut reader = Reader { rest: text.trim() };
        let year = reader.number(4, 4)?;
        let separator = reader.one_of("-/")?;
        let month = reader.number(1, 2)?;
        reader.one_of(separator.encode_utf8(&mut [0; 4]))?;
        let day = reader.number(1, 2)?;
        reader.one_of(" T")?;
        let hour = reader.number(1, 2)?;
        reader.one_of(":")?;
        let minute = reader.number(1, 2)?;
        reader.one_of(":")?;
        let second = reader.number(1, 2)?;
        let ticks = if reader.one_of(".").is_some() { reader.fraction()? } else { 0 };
        let offset_minutes = reader.offset()?;
        if !reader.rest.is_empty() || year < 1 {
            return None;
        }
        let small = |number: i32| i8::try_from(number).ok();
        let local = civil::DateTime::new(
            i16::try_from(year).ok()?,
            small(month)?,
            small(day)?,
            small(hour)?,
            small(minute)?,
            small(second)?,
            ticks * 100,
        )
        .ok()?;
        Some(Moment { local, offset_minutes })
    }

    /// The moment under specifiers such as `yyyyMMdd`. A backslash takes the next character as it is; blanks
    /// stand for themselves. None for any other character (`:` and `-` must be escaped).
    pub(crate) fn format(self, specifiers: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = specifiers;
        while let Some(first) = rest.chars().next() {
            if first == '\\' {
                let escaped = rest[1..].chars().next()?;
                out.push(escaped);
                rest = &rest[1 + escaped.len_utf8()..];
                continue;
            }
            let length = rest.find(|c| c != first).unwrap_or(rest.len());
            self.specifier(&rest[..length], &mut out)?;
            rest = &rest[length..];
        }
        Some(out)
    }

    fn specifier(self, specifier: &str, out: &mut String) -> Option<()> {
        let local = self.local;
        // Writing into a String cannot fail.
        let _ = match specifier {
            "yyyy" => write!(out, "{:04}", local.year()),
            "yy" => write!(out, "{:02}", local.year() % 100),
            "MM" => write!(out, "{:02}", local.month()),
            "M" => write!(out, "{}", local.month()),
            "dd" => write!(out, "{:02}", local.day()),
            "d" => write!(out, "{}", local.day()),
            "HH" => write!(out, "{:02}", local.hour()),
            "H" => write!(out, "{}", local.hour()),
            "mm" => write!(out, "{:02}", local.minute()),
            "m" => write!(out, "{}", local.minute()),
            "ss" => write!(out, "{:02}", local.second()),
            "s" => write!(out, "{}", local.second()),
            "f" | "ff" | "fff" | "ffff" | "fffff" | "ffffff" | "fffffff" => {
                let digits = format!("{:09}", local.subsec_nanosecond());
                out.push_str(&digits[..specifier.len()]);
                Ok(())
            }
            "zzz" | "K" => {
                let sign = if self.offset_minutes < 0 { '-' } else { '+' };
                let minutes = self.offset_minutes.abs();
                write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
            blanks if blanks.starts_with(' ') => {
                out.push_str(blanks);
                Ok(())
            }
            _ => return None,
        };
        Some(())
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn digits(&mut self, min: usize, max: usize) -> Option<&str> {
        let length = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        if !(min..=max).contains(&length) {
            return None;
        }
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(digits)
    }

    fn number(&mut self, min: usize, max: usize) -> Option<i32> {
        self.digits(min, max)?.parse().ok()
    }

    /// Units of 100 nanoseconds.
    fn fraction(&mut self) -> Option<i32> {
        format!("{:0<7}", self.digits(1, 7)?).parse().ok()
    }

    fn one_of(&mut self, allowed: &str) -> Option<char> {
        let c = self.rest.chars().next().filter(|c| allowed.contains(*c))?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn offset(&mut self) -> Option<i32> {
        if self.rest.is_empty() || self.one_of("Z").is_some() {
            return Some(0);
        }
        let sign = if self.one_of("+-")? == '-' { -1 } else { 1 };
        let hours = self.number(1, 2)?;
        self.one_of(":")?;
        let minutes = hours * 60 + self.number(1, 2)?;
        // The widest distance which .NET takes.
        (minutes <= 14 * 60).then_some(sign * minutes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(format: &str, expected: Option<&str>) {
        let shown = parse(format).map(|segments| {
            segments
                .into_iter()
                .map(|segment| match segment {
                    Segment::Text(text) => text,
                    Segment::Argument { index, specifiers } => format!("<{index}|{specifiers}>"),
                })
                .collect::<String>()
        });
        assert_eq!(shown.as_deref(), expected, "{format}");
    }

    #[test]
    fn format_strings() {
        check("", Some(""));
        check("a{0}b{12}", Some("a<0|>b<12|>"));
        check("{{{0}}}", Some("{<0|>}"));
        check("{{0}}", Some("{0}"));
        check("{0:yyyy MM}", Some("<0|yyyy MM>"));
        check("{0:a}}b}", Some("<0|a}b>"));
        check("ü{0}ü", Some("ü<0|>ü"));
        for malformed in
            ["{", "}", "{}", "{a}", "{0", "{0:", "{0:yy", "{256}", "{-1}", "{ 0}", "{0 }", "{0}}", "a}b"]
        {
            check(malformed, None);
        }
    }

    #[test]
    fn moments() {
        let moment = Moment::parse("2024-02-09T08:05:01.0250+01:30").unwrap();
        for (specifiers, expected) in [
            ("yyyyMMdd", "20240209"),
            ("yy M d H m s", "24 2 9 8 5 1"),
            ("HH\\:mm\\:ss\\.fff", "08:05:01.025"),
            ("fffffff f ff ffff fffff ffffff", "0250000 0 02 0250 02500 025000"),
            ("zzz K", "+01:30 +01:30"),
            ("", ""),
            ("\\ü", "ü"),
        ] {
            assert_eq!(moment.format(specifiers).as_deref(), Some(expected), "{specifiers}");
        }
        for specifiers in ["y", "yyyyy", "MMM", "yyyy-MM", "ffffffff", "tt", "ddd", "\\", "HH:mm", "zz"] {
            assert_eq!(moment.format(specifiers), None, "{specifiers}");
        }
        assert_eq!(
            Moment::parse(" 2024/2/9 8:5:1 ").and_then(|m| m.format("yyyyMMddHHmmssK")).as_deref(),
            Some("20240209080501+00:00")
        );
        assert_eq!(Moment::parse("2024-02-09 08:05:01Z"), Moment::parse("2024-02-09 08:05:01-00:00"));
        for text in [
            "",
            "2024-02-09",
            "2023-02-29 00:00:00",
            "24-02-09 08:05:01",
            "2024-02/09 08:05:01",
            "2024-02-09 24:00:00",
            "2024-02-09 08:05:61",
            "2024-02-09 08:05:01.",
            "2024-02-09 08:05:01.12345678",
            "2024-02-09 08:05:01 +01:00",
            "2024-02-09 08:05:01+15:00",
            "0000-01-01 00:00:00",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_panic(format in r"[{}0-9:ay\\ü]*", text in any::<String>(), specifiers in any::<String>()) {
            let _ = (parse(&format), parse(&text), Moment::parse(&text));
            let moment = Moment::parse("2024-02-09 08:05:01").unwrap();
            let _ = (moment.format(&specifiers), moment.format(&format));
        }

        #[test]
        fn escaped_text_comes_out_as_it_was(text in any::<String>()) {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            let expected = if text.is_empty() { vec![] } else { vec![Segment::Text(text)] };
            prop_assert_eq!(parse(&escaped), Some(expected));
        }
    }
}
