//! What is said beside a run: warnings, on standard error for people and as events with `--json`, and what
//! takes its time.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use dayfly_pipelines::{Diagnostics, Style};

use super::change::{Change, Place, Warning};
use super::json;
use crate::output;

/// How long people wait before they want to know for what.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says what the compiler has to say of the pipeline.
pub(crate) fn of_the_pipeline(warnings: &Diagnostics, style: Style, as_json: bool) -> io::Result<()> {
    if warnings.is_empty() {
        return Ok(());
    }
    if !as_json {
        output::note(warnings.render(style).trim_end());
        return Ok(());
    }
    let events = warnings.reports().into_iter().map(|report| {
        let (location, end_line, end_column, help) =
            (report.location, report.end_line, report.end_column, report.help);
        let place = Some(Place { location, end_line, end_column, help });
        Change::Warning(Warning { message: report.message, place })
    });
    json::show(&Vec::from_iter(events))
}

/// Says one sentence.
pub(crate) fn tell(message: &str, as_json: bool) -> io::Result<()> {
    if as_json {
        return json::show(&[Change::Warning(Warning { message: message.to_owned(), place: None })]);
    }
    output::note(&format!("warning: {message}"));
    Ok(())
}

/// Tells people what is being done if it is not over soon. Whoever waits for that drops this future.
pub(super) async fn tell_if_slow(doing: &str, as_json: bool) -> Infallible {
    tokio::time::sleep(PATIENCE).await;
    if !as_json {
        output::note(doing);
    }
    std::future::pending().await
}
