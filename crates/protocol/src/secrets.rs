//! What of a job must be hidden from people: the secrets of its message, and the written forms in which each
//! may show up (`Worker.cs` `InitializeSecretMasker` and `AddUserSuppliedSecret`, `HostContext.cs` encoders).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::job::{AgentJobRequestMessage, EndpointAuthorization};

/// A literal longer than this is searched for in pieces of this size, which bounds what a stream must hold
/// back.
const LONGEST_LITERAL_BYTES: usize = 4096;

/// Lines of a multi-line secret shorter than this are not hidden on their own: they are braces and blanks.
/// The official agent hides multi-line secrets only as a whole, which a time stamp before each line defeats.
const SHORTEST_LINE_CHARACTERS: usize = 6;

/// Base64 inside of longer base64 is looked for from this length on, to avoid chance matches.
const SHORTEST_BASE64_FRAGMENT: usize = 8;

/// The same for Base64 of a text that ends with the secret, whose last letters are known as well.
const SHORTEST_BASE64_END: usize = 6;

/// Where tools break Base64 into lines: PEM and `openssl`, MIME and `base64`.
const BASE64_COLUMNS: [usize; 2] = [64, 76];

/// Where `xxd -p` breaks its lines.
const HEX_COLUMNS: usize = 60;

/// Values shorter than this are not looked for in hexadecimal, to avoid chance matches.
const SHORTEST_HEX_BYTES: usize = 4;

/// Environment variables that hold credentials of an agent, or lead to them. Steps never see them, whoever
/// started the worker.
pub const AGENT_CREDENTIALS: [&str; 7] = [
    "AZ_PAT",
    "AZP_TOKEN",
    "AZP_TOKEN_FILE",
    "VSTS_TOKEN",
    "VSTS_AGENT_INPUT_TOKEN",
    "VSTS_AGENT_INPUT_PASSWORD",
    "VSTS_HTTP_PROXY_PASSWORD",
];

/// The secret values of a job's message: variables, logins of service connections, tickets of secure files.
/// Its mask hints, which are regular expressions, are not among them.
pub fn of(message: &AgentJobRequestMessage) -> impl Iterator<Item = &str> {
    let variables =
        message.variables.values().filter(|value| value.is_secret).filter_map(|value| value.value.as_deref());
    let logins = message
        .resources
        .endpoints
        .iter()
        .filter_map(|endpoint| endpoint.authorization.as_ref())
        .flat_map(EndpointAuthorization::secrets);
    let tickets = message.resources.secure_files.iter().filter_map(|file| file.ticket.as_deref());
    variables.chain(logins).chain(tickets).filter(|secret| !secret.trim().is_empty())
}

/// All literals to be hidden for `secret`: as it is, its lines, quoted, as JSON, in URLs, in Base64, in
/// hexadecimal. A long one comes in pieces of at most 4,096 bytes. None for a blank one.
pub fn written_forms(secret: &str) -> BTreeSet<String> {
    let mut literals = BTreeSet::new();
    if secret.trim().is_empty() {
        return literals;
    }
    for plain in plain_forms(secret) {
        for escaped in
            [plain.clone(), escape_newlines(&plain), escape_newlines(&plain.replace('%', "%AZP25"))]
        {
            add_encoded(&mut literals, &escaped);
        }
        add_base64(&mut literals, plain.as_bytes());
        add_hex(&mut literals, plain.as_bytes());
        add_lines(&mut literals, &plain);
    }
    literals
}

/// The value, without its surrounding quotes, and without blanks around it.
fn plain_forms(secret: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([secret.to_owned()]);
    for quote in ['\'', '"'] {
        if secret.starts_with(quote) && secret.ends_with(quote) {
            forms.insert(secret.trim_matches(quote).to_owned());
        }
    }
    forms.insert(secret.trim_matches(['\r', '\n', ' ']).to_owned());
    forms.retain(|form| !form.trim().is_empty());
    forms
}

fn escape_newlines(text: &str) -> String {
    text.replace('\r', "%0D").replace('\n', "%0A")
}

fn add_encoded(literals: &mut BTreeSet<String>, text: &str) {
    add(literals, text);
    add_json(literals, text);
    add_uri(literals, text);
    add(literals, &text.replace('\\', r"\\").replace('\'', r"\'").replace('"', "\\\""));
    if text.contains('\\') {
        add(literals, &backslash_unescape(text));
    }
}

/// As a JSON string without its quotes: plain, with `\/`, and with the characters that are special in HTML as
/// `\u00xx`, as Go, PowerShell and .NET write them.
fn add_json(literals: &mut BTreeSet<String>, text: &str) {
    let plain = json_escape(text);
    if text.contains('/') {
        add(literals, &plain.replace('/', r"\/"));
    }
    if text.contains(['<', '>', '&', '\'', '+']) {
        // Go.
        let go = plain.replace('<', r"\u003c").replace('>', r"\u003e").replace('&', r"\u0026");
        add(literals, &go);
        // Windows PowerShell.
        add(literals, &go.replace('\'', r"\u0027"));
    }
    if text.contains(['<', '>', '&', '\'', '+', '"']) {
        // `System.Text.Json`.
        let net =
            ['<', '>', '&', '\'', '+', '"'].into_iter().fold(plain.replace("\\\"", "\""), |text, special| {
                text.replace(special, &format!("\\u{:04X}", u32::from(special)))
            });
        add(literals, &net);
    }
    add(literals, &plain);
}

/// In a URL: all but unreserved characters in upper-case or lower-case hexadecimal, with `+` for spaces as
/// forms have it, and with the punctuation that JavaScript's `encodeURIComponent` leaves.
fn add_uri(literals: &mut BTreeSet<String>, text: &str) {
    let spellings = [uri_escape(text, "-_.~"), uri_escape(text, "-_.~!'()*")];
    for spelling in &spellings {
        add(literals, spelling);
        add(literals, &lower_percents(spelling));
        add(literals, &spelling.replace("%20", "+"));
    }
}

/// Base64 of the value itself, in lines too, and of the value at any offset within something longer
/// (`user:password`), which it may end. `echo` adds a line end to what it is given.
fn add_base64(literals: &mut BTreeSet<String>, bytes: &[u8]) {
    let with_line_end = [bytes, b"\n"].concat();
    let mut found = BTreeSet::from([STANDARD.encode(bytes)]);
    for offset in 0..3.min(bytes.len()) {
        let rest = &bytes[offset..];
        // What stands at the end of the last quantum depends on what follows.
        let mut known = STANDARD.encode(rest);
        known.truncate(rest.len() * 8 / 6);
        if known.len() >= SHORTEST_BASE64_FRAGMENT {
            found.insert(known);
        }
        for end in [rest, &with_line_end[offset..]] {
            let end = STANDARD.encode(end);
            if end.trim_end_matches('=').len() >= SHORTEST_BASE64_END {
                found.insert(end);
            }
        }
    }
    for whole in [STANDARD.encode(bytes), STANDARD.encode(&with_line_end)] {
        for columns in BASE64_COLUMNS {
            add_columns(&mut found, &whole, columns, SHORTEST_BASE64_FRAGMENT);
        }
    }
    for text in &found {
        add(literals, text);
        if text.contains(['+', '/']) {
            add(literals, &text.replace('+', "-").replace('/', "_"));
        }
    }
}

/// Hexadecimal, in the lines of `xxd -p` too.
fn add_hex(literals: &mut BTreeSet<String>, bytes: &[u8]) {
    if bytes.len() < SHORTEST_HEX_BYTES {
        return;
    }
    let mut lower = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(lower, "{byte:02x}");
    }
    let mut found = BTreeSet::new();
    add_columns(&mut found, &lower, HEX_COLUMNS, 2 * SHORTEST_HEX_BYTES);
    found.insert(lower);
    for text in &found {
        add(literals, text);
        add(literals, &text.to_ascii_uppercase());
    }
}

/// A text broken into lines: all of them together, and each that is not too short, since time stamps may
/// stand between them.
fn add_columns(found: &mut BTreeSet<String>, text: &str, columns: usize, shortest: usize) {
    if text.len() <= columns {
        return;
    }
    let lines: Vec<&str> =
        text.as_bytes().chunks(columns).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    found.insert(lines.join("\n"));
    found.extend(lines.into_iter().filter(|line| line.len() >= shortest).map(str::to_owned));
}

fn add_lines(literals: &mut BTreeSet<String>, text: &str) {
    if !text.contains('\n') {
        return;
    }
    for line in text.lines().map(str::trim) {
        if line.chars().count() >= SHORTEST_LINE_CHARACTERS {
            add_encoded(literals, line);
        }
    }
}

/// Adds `text` with either kind of line end. Line ends around it are no secret, and would glue log lines
/// together.
fn add(literals: &mut BTreeSet<String>, text: &str) {
    let text = text.trim_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return;
    }
    if text.contains('\n') {
        let unix = text.replace("\r\n", "\n");
        add_pieces(literals, &unix.replace('\n', "\r\n"));
        add_pieces(literals, &unix);
    }
    add_pieces(literals, text);
}

fn add_pieces(literals: &mut BTreeSet<String>, text: &str) {
    if text.len() <= LONGEST_LITERAL_BYTES {
        literals.insert(text.to_owned());
        return;
    }
    let mut start = 0;
    while text.len() - start > LONGEST_LITERAL_BYTES {
        let end = text.floor_char_boundary(start + LONGEST_LITERAL_BYTES);
        literals.insert(text[start..end].to_owned());
        start = end;
    }
    // The last piece overlaps the one before: a rest of one letter would hide that letter everywhere.
    literals.insert(text[text.ceil_char_boundary(text.len() - LONGEST_LITERAL_BYTES)..].to_owned());
}

/// As a JSON string without its quotes.
fn json_escape(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// All bytes but letters, digits and `kept` in upper-case hexadecimal; with `-_.~` this is .NET's
/// `Uri.EscapeDataString`.
fn uri_escape(text: &str, kept: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// A text escaped by [`uri_escape`] with its hexadecimal digits in lower case.
fn lower_percents(escaped: &str) -> String {
    let mut parts = escaped.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(2));
        lower.push('%');
        lower.push_str(&digits.to_ascii_lowercase());
        lower.push_str(rest);
    }
    lower
}

/// What a shell prints of a text in which backslashes escape.
fn backslash_unescape(text: &str) -> String {
    text.replace(r"\\", r"\").replace(r"\'", "'").replace("\\\"", "\"").replace(r"\t", "\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of `text` when all written forms are taken out.
    fn left(secret: &str, text: &str) -> String {
        let mut forms: Vec<String> = written_forms(secret).into_iter().collect();
        forms.sort_unstable_by_key(|form| std::cmp::Reverse(form.len()));
        forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), "*"))
    }

    fn check(secret: &str, text: &str, expected: &str) {
        assert_eq!(left(secret, text), expected, "{secret:?} in {text:?}");
    }

    #[test]
    fn urls_and_json_hide_a_secret_however_they_are_escaped() {
        let secret = "a/b c&d=<é>'!";
        for spelling in [
            "a%2Fb%20c%26d%3D%3C%C3%A9%3E%27%21",
            "a%2fb%20c%26d%3d%3c%c3%a9%3e%27%21",
            "a%2Fb+c%26d%3D%3C%C3%A9%3E%27%21",
            "a%2Fb%20c%26d%3D%3C%C3%A9%3E'!",
            "a\\/b c&d=<é>'!",
            "a/b c\\u0026d=\\u003cé\\u003e'!",
            "a/b c\\u0026d=\\u003cé\\u003e\\u0027!",
            "a/b c\\u0026d=\\u003Cé\\u003E\\u0027!",
        ] {
            check(secret, &format!("<{spelling}>"), "<*>");
        }
        check("say \"hi\"+", "say \\u0022hi\\u0022\\u002B", "*");
    }

    #[test]
    fn hexadecimal_hides_a_secret() {
        check("sesame-open", "736573616d652d6f70656e", "*");
        check("sesame-open", "736573616D652D6F70656E", "*");
        check("abc", "616263", "616263");
        let long = "0123456789".repeat(5);
        let hex: String = long.bytes().map(|byte| format!("{byte:02x}")).collect();
        // As `xxd -p` prints it, and with something between the lines.
        check(&long, &format!("{}\n{}", &hex[..60], &hex[60..]), "*");
        check(&long, &format!("1 {}\n2 {}", &hex[..60], &hex[60..]), "1 *\n2 *");
    }

    #[test]
    fn base64_hides_a_short_secret_wherever_it_stands() {
        // Nothing of these seven letters is left but bits of the last one that depend on what follows.
        for before in ["", "u", "us", "user:"] {
            for after in ["", "\n"] {
                let text = STANDARD.encode(format!("{before}hunter2{after}"));
                let left = left("hunter2", &text);
                assert!(left.ends_with('*'), "{before:?} {after:?} {text} {left}");
            }
        }
        let within = left("hunter2!", &STANDARD.encode("x=hunter2!;"));
        assert!(within.contains('*'), "{within}");
        // The alphabet of URLs.
        check(
            "\u{3ff}\u{3ff}\u{3ff}?>",
            &STANDARD.encode("\u{3ff}\u{3ff}\u{3ff}?>").replace('+', "-").replace('/', "_"),
            "*",
        );
    }

    #[test]
    fn lines_of_base64_hide_a_long_secret() {
        let secret: String =
            (0..150u32).map(|n| char::from(b'a' + u8::try_from(n * 7 % 26).unwrap())).collect();
        for end in ["", "\n"] {
            let whole = STANDARD.encode(format!("{secret}{end}"));
            for columns in [64, 76] {
                let lines: Vec<&str> =
                    whole.as_bytes().chunks(columns).map(|line| std::str::from_utf8(line).unwrap()).collect();
                check(&secret, &lines.join("\n"), "*");
                // Each line alone, as a log with time stamps has them; the last may be too short for that.
                for line in lines.iter().filter(|line| line.len() >= SHORTEST_BASE64_FRAGMENT) {
                    check(&secret, line, "*");
                }
            }
        }
    }
}
