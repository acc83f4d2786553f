//! What holds for any text that is masked: no secret stays in it, however it is cut.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_mask::Masker;

/// What stands between the secrets and the output in the bytes of [`output`].
pub(crate) const SEPARATOR: char = '\u{1f}';

/// Masks the last of the parts of a text; the parts before it are secrets. Printed plainly, or in a form that programs print, and cut at any
/// place, none of them is seen.
pub(crate) fn output(text: &str) {
    let mut secrets: Vec<&str> = text.split(SEPARATOR).collect();
    let rest = secrets.pop().unwrap_or_default();
    secrets.truncate(8);
    let masker = Masker::new();
    masker.add_values(secrets.iter().copied());
    let mut printed = rest.to_owned();
    for secret in &secrets {
        printed.push_str(secret);
        printed.push_str(rest);
        printed.push_str(&format!("\n{} {}\n", STANDARD.encode(secret), serde_json::json!(secret)));
        printed.push_str(secret);
    }
    let masked = masker.mask(&printed).into_owned();
    for step in [1, 2, 7, 64, printed.len().max(1)] {
        assert_eq!(in_pieces(&masker, &printed, step), masked, "cut every {step} bytes");
    }
    // What stands in place of a secret may itself hold a secret that is made of stars.
    for secret in secrets.iter().filter(|secret| !secret.trim().is_empty() && !secret.contains('*')) {
        let plain = secret.trim_matches(['\r', '\n']);
        let quoted = serde_json::json!(secret).to_string();
        for form in [plain, &quoted[1..quoted.len() - 1], &STANDARD.encode(secret)] {
            assert!(!masked.contains(form), "{form:?} is seen in {masked:?}");
        }
    }
}

fn in_pieces(masker: &Masker, text: &str, step: usize) -> String {
    let mut stream = masker.stream();
    let mut output = String::new();
    let mut at = 0;
    while at < text.len() {
        let end = text.ceil_char_boundary((at + step).min(text.len()));
        stream.push(&text[at..end], &mut output);
        at = end;
    }
    stream.finish(&mut output);
    output
}
