//! Names of stages, jobs, steps and legs.

use super::reader::{Reader, short};
use crate::diagnostics::Span;

/// The most characters a name may have (actions/runner `PipelineConstants.cs`, `MaxNodeNameLength`).
const MAX_LENGTH: usize = 100;

/// Reports a name that the service would refuse.
pub(super) fn check(name: &str, what: &str, span: Span, reader: &mut Reader<'_>) {
    if !is_legal(name) {
        reader
            .collector
            .error(span, format!("`{}` is not a valid name for {what}", short(name)))
            .help("use letters, digits and `_`; start with a letter or `_`; at most 100 characters");
    }
}

/// Reports a leg's name that the service would refuse. Whether the name is as the documentation wants it; the
/// service takes others.
pub(super) fn check_leg(name: &str, span: Span, reader: &mut Reader<'_>) -> bool {
    if name.trim().is_empty() || name.chars().count() > MAX_LENGTH {
        reader.collector.error(span, "a matrix leg name must have 1 to 100 characters");
        return true;
    }
    is_legal(name)
}

/// Warns once of a matrix whose legs have names that the documentation forbids.
pub(super) fn warn_of_legs(improper: &[(&str, Span)], reader: &mut Reader<'_>) {
    let Some((name, span)) = improper.first() else { return };
    let others = match improper.len() - 1 {
        0 => String::new(),
        1 => " (1 more in this matrix)".to_owned(),
        others => format!(" ({others} more in this matrix)"),
    };
    reader
        .collector
        .warning(*span, format!("`{}` is not a valid matrix leg name{others}", short(name)))
        .help("use letters, digits and `_`, and start with a letter");
}

fn is_legal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && name.chars().count() <= MAX_LENGTH
}
