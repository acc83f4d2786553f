//! What of a job must be hidden from people: the secrets of its message, and the written forms in which each may show up
//! (`Worker.cs` `InitializeSecretMasker` and `AddUserSuppliedSecret`, `HostContext.cs` encoders).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::job::{AgentJobRequestMessage, EndpointAuthorization};

/// A literal longer than this is searched for in pieces of this size, which bounds what a stream must hold back.
const LONGEST_LITERAL_BYTES: usize = 4096;

/// Lines of a multi-line secret shorter than this are not hidden on their own: they are braces and blanks.
/// The official agent hides multi-line secrets only as a whole, which a time stamp before each line defeats.
const SHORTEST_LINE_CHARACTERS: usize = 6;

/// Base64 inside of longer base64 is looked for from this length on, to avoid chance matches.
const SHORTEST_BASE64_FRAGMENT: usize = 12;

/// The secret values of a job's message: variables, logins of service connections, tickets of secure files. Its mask hints, which are regular
/// expressions, are not among them.
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

/// All literals to be hidden for `secret`: as it is, its lines, quoted, as JSON, in URLs, in Base64. A long one comes in pieces of at most 4,096 bytes.
/// None for a blank one.
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
    add(literals, &json_escape(text));
    add(literals, &uri_escape(text));
    add(literals, &text.replace('\\', r"\\").replace('\'', r"\'").replace('"', "\\\""));
    if text.contains('\\') {
        add(literals, &backslash_unescape(text));
    }
}

/// Base64 of the value itself, and of the value at any offset within something longer (`user:password`).
fn add_base64(literals: &mut BTreeSet<String>, bytes: &[u8]) {
    add(literals, &STANDARD.encode(bytes));
    for offset in 0..3 {
        if let Some(rest) = bytes.get(offset..) {
            // The last quantum depends on what follows.
            let fragment = STANDARD.encode(&rest[..rest.len() / 3 * 3]);
            if fragment.len() >= SHORTEST_BASE64_FRAGMENT {
                add(literals, &fragment);
            }
        }
    }
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

/// Adds `text` with either kind of line end. Line ends around it are no secret, and would glue log lines together.
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

/// As .NET's `Uri.EscapeDataString`: all but unreserved characters in upper-case hexadecimal.
fn uri_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// What a shell prints of a text in which backslashes escape.
fn backslash_unescape(text: &str) -> String {
    text.replace(r"\\", r"\").replace(r"\'", "'").replace("\\\"", "\"").replace(r"\t", "\t")
}
