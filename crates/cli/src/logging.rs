//! Dayfly's own log, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::{GlobalArgs, LogFormat};

/// What is not logged unless somebody asks: kube says at the level of errors what its callers get as one, and
/// try again.
const QUIET: &str = "kube_client";

/// Installs the log. A filter that does not parse falls back to `warn` and says so.
pub(crate) fn start(args: &GlobalArgs) {
    let (filter, mistake) = match EnvFilter::try_new(with_defaults(&args.log)) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("warn"), Some(error)),
    };
    // Otherwise a log line that cannot be written is told with `eprintln!`, which panics: a worker must
    // outlive the listener that reads its log.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    if let Some(error) = mistake {
        tracing::warn!("--log `{}` is not a valid filter ({error}); using `warn`", args.log);
    }
}

/// The filter with what is quiet by default, if it says nothing about that.
fn with_defaults(filter: &str) -> String {
    match filter.contains(QUIET) {
        true => filter.to_owned(),
        false => format!("{QUIET}=off,{filter}"),
    }
}
