//! What holds for any line that a step prints: commands are read out of it.

use dayfly_worker::commands::{Command, escape};

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
