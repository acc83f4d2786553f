//! `--json`: one event a line, in the shape of [`Change`] with the time it was seen.

use std::io;

use serde::Serialize;

use super::change::Change;
use crate::output;

#[derive(Serialize)]
struct Timed<'a> {
    time: jiff::Timestamp,
    #[serde(flatten)]
    change: &'a Change,
}

/// Prints events.
pub(crate) fn show(changes: &[Change]) -> io::Result<()> {
    let mut text = String::new();
    for change in changes.iter().filter(|change| !change.is_of_implicit_stage()) {
        let timed = Timed { time: jiff::Timestamp::now(), change };
        text.push_str(&serde_json::to_string(&timed).map_err(io::Error::other)?);
        text.push('\n');
    }
    output::write(&text)
}
