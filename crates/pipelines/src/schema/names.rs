//! Names of stages, jobs, steps and legs.

use super::reader::{Reader, short};
use crate::diagnostics::Span;

/// The most characters a name may have (AR0 `PipelineConstants.cs`, `MaxNodeNameLength`).
const MAX_LENGTH: usize = 100;

/// Reports a name that the service would refuse.
pub(super) fn check(name: &str, what: &str, span: Span, reader: &mut Reader<'_>) {
    if !is_legal(name) {
        reader.collector.error(span, format!("`{}` is no name for {what}", short(name))).help(
            "names hold letters, digits and `_`, begin with a letter or `_`, and have at most 100 characters",
        );
    }
}

/// Warns of a leg's name that the documentation forbids; the service takes it.
pub(super) fn check_leg(name: &str, span: Span, reader: &mut Reader<'_>) {
    if name.trim().is_empty() || name.chars().count() > MAX_LENGTH {
        reader.collector.error(span, "the name of a matrix leg has 1 to 100 characters");
    } else if !is_legal(name) {
        reader
            .collector
            .warning(span, format!("`{}` is no proper name for a matrix leg", short(name)))
            .help("use letters, digits and `_`, beginning with a letter");
    }
}

fn is_legal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && name.chars().count() <= MAX_LENGTH
}
