//! What holds for any line that a step prints: commands are read out of it, and no secret stays in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_worker::commands::{Command, escape};
use dayfly_worker::mask::Masker;

/// What stands between the secrets and the output in the bytes of [`output`].
pub(crate) const SEPARATOR: char = '\u{1f}';

/// Reads a text as a command, as it is and as the inside of one. What is read, written again, is read as the same.
pub(crate) fn command(text: &str) {
    for line in [
        text.to_owned(),
        format!("##vso[{text}"),
        format!("##vso[task.setvariable {text}]{text}"),
        format!("before ##vso[task.{text} a=b;]after"),
    ] {
        for percents in [false, true] {
            let Some(command) = Command::parse(&line, percents) else { continue };
            assert!(!command.area.is_empty() && !command.event.is_empty(), "{line:?} has a name");
            assert!(line.ends_with(&command.written), "the data of {line:?} is its end");
            let properties: String = command
                .properties()
                .map(|(name, value)| format!("{name}={};", escape(value, percents)))
                .collect();
            let written = format!(
                "##vso[{}.{} {properties}]{}",
                command.area,
                command.event,
                escape(&command.data, percents)
            );
            let again = Command::parse(&written, percents).expect("a written command can be read");
            assert_eq!((&again.area, &again.event), (&command.area, &command.event), "{line:?}");
            assert_eq!(again.data, command.data, "{line:?}");
            assert!(again.properties().eq(command.properties()), "{line:?} is not {written:?}");
        }
    }
    for percents in [false, true] {
        let line = format!("##vso[task.setvariable variable=x{0}]{0}", escape(text, percents));
        let command = Command::parse(&line, percents).expect("escaped text does not end the command");
        // Without them, what looks like an escape in the text is taken for one.
        if percents {
            assert_eq!(command.data, text);
            assert_eq!(command.property("variable"), Some(format!("x{text}").as_str()));
        }
    }
}

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
