//! Values of jobs that may be expressions for the time when the job starts.

use super::reader::{Reader, parse_boolean, short};
use crate::{expression, plan::Setting, yaml::Node};

/// A boolean, a `$[ ]` or a macro.
pub(super) fn boolean(
    node: Option<&Node>,
    what: &str,
    default: bool,
    reader: &mut Reader<'_>,
) -> Setting<bool> {
    setting(node, what, "`true` or `false`", parse_boolean, default, reader)
}

/// A whole number, a `$[ ]` or a macro.
pub(super) fn number(node: Option<&Node>, what: &str, default: u32, reader: &mut Reader<'_>) -> Setting<u32> {
    setting(node, what, "a whole number", |text| text.trim().parse().ok(), default, reader)
}

fn setting<T>(
    node: Option<&Node>,
    what: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
    default: T,
    reader: &mut Reader<'_>,
) -> Setting<T> {
    let Some(node) = node.filter(|node| !node.is_blank()) else { return Setting::Value(default) };
    let Some(text) = reader.text(node, what) else { return Setting::Value(default) };
    if text.contains("$[") || text.contains("$(") {
        expression::check_runtime(node, reader);
        return Setting::Expression(text);
    }
    match parse(&text) {
        Some(value) => Setting::Value(value),
        None => {
            reader.collector.error(node.span, format!("{what} must be {expected}, not `{}`", short(&text)));
            Setting::Value(default)
        }
    }
}
