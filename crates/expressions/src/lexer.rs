//! Text into tokens, as Microsoft's `LexicalAnalyzer`.

use std::ops::Range;

use crate::number::Number;
use crate::value::Value;
use crate::version::Version;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    OpenIndex,
    CloseIndex,
    OpenCall,
    CloseCall,
    Comma,
    Dot,
    Star,
    /// A number, a version or a text.
    Literal(Value),
    /// A name made of letters, digits and `_`.
    Word,
    /// Characters that make up no token.
    Malformed,
    /// A text without its closing quote, up to the end.
    UnclosedString,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Range<usize>,
}

pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Whether a `.` met now begins a number (`.5`) rather than a property.
    operand_expected: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0, operand_expected: true }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn token(&mut self, length: usize, kind: TokenKind) -> Token {
        let span = self.at..self.at + length;
        self.at = span.end;
        self.operand_expected = matches!(kind, TokenKind::OpenIndex | TokenKind::OpenCall | TokenKind::Comma);
        Token { kind, span }
    }

    fn number_or_version(&mut self) -> Token {
        let rest = self.rest();
        let length = rest.find(|c| c != '.' && ends_word(c)).unwrap_or(rest.len());
        let text = &rest[..length];
        let value = if text.matches('.').count() >= 2 {
            Version::parse(text).map(Value::from)
        } else {
            Number::parse_literal(text).map(Value::from)
        };
        self.token(length, value.map_or(TokenKind::Malformed, TokenKind::Literal))
    }

    fn word(&mut self) -> Token {
        let rest = self.rest();
        let mut chars = rest.char_indices();
        chars.next();
        let length = chars.find(|(_, c)| ends_word(*c)).map_or(rest.len(), |(at, _)| at);
        let kind = if is_name(&rest[..length]) { TokenKind::Word } else { TokenKind::Malformed };
        self.token(length, kind)
    }

    fn string(&mut self) -> Token {
        let rest = self.rest();
        let mut content = String::new();
        let mut from = 1;
        loop {
            let Some(quote) = rest[from..].find('\'') else {
                return self.token(rest.len(), TokenKind::UnclosedString);
            };
            content.push_str(&rest[from..from + quote]);
            from += quote + 1;
            if !rest[from..].starts_with('\'') {
                return self.token(from, TokenKind::Literal(Value::from(content)));
            }
            content.push('\'');
            from += 1;
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.at = self.text.len() - self.rest().trim_start().len();
        let token = match self.rest().chars().next()? {
            '[' => self.token(1, TokenKind::OpenIndex),
            ']' => self.token(1, TokenKind::CloseIndex),
            '(' => self.token(1, TokenKind::OpenCall),
            ')' => self.token(1, TokenKind::CloseCall),
            ',' => self.token(1, TokenKind::Comma),
            '*' => self.token(1, TokenKind::Star),
            '\'' => self.string(),
            '.' if !self.operand_expected => self.token(1, TokenKind::Dot),
            '.' | '-' | '0'..='9' => self.number_or_version(),
            _ => self.word(),
        };
        Some(token)
    }
}

fn ends_word(c: char) -> bool {
    matches!(c, '[' | ']' | '(' | ')' | ',' | '.') || c.is_whitespace()
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown: Vec<String> = Lexer::new(text)
            .map(|token| {
                let raw = &text[token.span];
                match token.kind {
                    TokenKind::Literal(value) => format!("{}={value}", value.kind()),
                    TokenKind::Malformed => format!("malformed {raw}"),
                    TokenKind::UnclosedString => format!("unclosed {raw}"),
                    TokenKind::Word => format!("word {raw}"),
                    _ => raw.to_owned(),
                }
            })
            .collect();
        assert_eq!(shown.join(" | "), expected, "{text}");
    }

    #[test]
    fn tokens() {
        check("", "");
        check(" \t\u{a0}\n", "");
        check("eq(a.b,.5)", "word eq | ( | word a | . | word b | , | Number=0.5 | )");
        check("a[ .5 ]. b", "word a | [ | Number=0.5 | ] | . | word b");
        check("1.2.3 -1 1.5 1.2.3.4", "Version=v1.2.3 | Number=-1 | Number=1.5 | Version=v1.2.3.4");
        check("'it''s' '' '''' 'a", "String='it''s' | String='' | String='''' | unclosed 'a");
        check("'a''", "unclosed 'a''");
        check("a.* [*]", "word a | . | * | [ | * | ]");
        check(
            "a* b-c \"x\" ü == 1x 1.2.3.4.5 -",
            "malformed a* | malformed b-c | malformed \"x\" | malformed ü | malformed == | malformed 1x | malformed 1.2.3.4.5 | malformed -",
        );
    }
}
