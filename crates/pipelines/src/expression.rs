//! Expressions where they stand in a file: checked while the file is read, with the mistake's place.

use std::ops::Range;

use dayfly_expressions::{Error, Expression, Scope, runtime_expression};

use crate::{
    diagnostics::{Collector, Span},
    plan::Variable,
    schema::Reader,
    yaml::Node,
};

/// Whose condition it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Stage,
    Job,
    Step,
}

impl Place {
    pub(crate) fn scope(self) -> Scope {
        match self {
            Self::Stage => Scope::stage_condition(),
            Self::Job => Scope::job_condition(),
            Self::Step => Scope::step_condition(),
        }
    }
}

/// Reads `condition:`. Blank text is the default condition.
pub(crate) fn condition(node: Option<&Node>, place: Place, reader: &mut Reader<'_>) -> Option<String> {
    let node = node?;
    let text = reader.text(node, "`condition`")?;
    if text.trim().is_empty() {
        return None;
    }
    if let Err(mut error) = Expression::parse(&text, &place.scope()) {
        let marked = runtime_expression(&text).is_some();
        if marked {
            error.help = None;
        }
        let diagnostic = report(reader.collector, node, &text, 0, &error);
        if marked {
            diagnostic.help("write a condition without `$[ ]`");
        }
    }
    Some(text)
}

/// Warns of a condition that reads variables of its own stage or job which a `$[ ]` gives: it is judged
/// before they are evaluated.
pub(crate) fn warn_of_later_variables(
    node: Option<&Node>,
    place: Place,
    variables: &[Variable],
    reader: &mut Reader<'_>,
) {
    let Some(node) = node else { return };
    // What does not parse is told already.
    let Some(condition) = node.text().and_then(|text| Expression::parse(text, &place.scope()).ok()) else {
        return;
    };
    let is_later = |variable: &&Variable| {
        runtime_expression(&variable.value).is_some() && condition.reads("variables", &variable.name)
    };
    for variable in variables.iter().filter(is_later) {
        let name = &variable.name;
        let message = format!("the condition reads `{name}` before its `$[ ]` is evaluated");
        reader
            .collector
            .warning(node.span, message)
            .help("write what is inside the `$[ ]` into the condition itself");
    }
}

/// Checks the `$[ ]` of a value, if it is one.
pub(crate) fn check_runtime(node: &Node, reader: &mut Reader<'_>) {
    let Some(text) = node.text() else { return };
    let Some(inner) = runtime_expression(text) else { return };
    if let Err(error) = Expression::parse(&text[inner.clone()], &Scope::runtime()) {
        report(reader.collector, node, text, inner.start, &error);
    }
}

/// Reports a mistake in an expression that begins at `offset` of `text`, the text of `node`.
pub(crate) fn report<'c>(
    collector: &'c mut Collector,
    node: &Node,
    text: &str,
    offset: usize,
    error: &Error,
) -> &'c mut crate::diagnostics::Diagnostic {
    let range = offset + error.position.start..offset + error.position.end;
    let span = place(collector, node.span, text, range);
    let diagnostic = collector.error(span, format!("in the expression: {}", error.message));
    if let Some(help) = error.help {
        diagnostic.help(help);
    }
    diagnostic
}

/// Where a stretch of a scalar's text is written.
///
/// The text differs from what is written where YAML folds lines, cuts indentation or has escapes; then the
/// line that holds the stretch is looked for, and if even that fails, the whole scalar is meant.
pub(crate) fn place(collector: &Collector, span: Span, text: &str, range: Range<usize>) -> Span {
    if collector.is_full() {
        return span;
    }
    let written = collector.slice(span);
    if let Some(start) = written.find(text) {
        return span.inside(start + range.start..start + range.end);
    }
    let line_start =
        text.get(..range.start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    if line.trim().is_empty() {
        return span;
    }
    // The same line may be written twice: take the one with as many equal lines before it.
    let nth = text.get(..line_start).map_or(0, |before| before.matches(line).count());
    match written.match_indices(line).nth(nth) {
        Some((start, _)) => {
            let at = start + range.start - line_start;
            span.inside(at..(at + range.len()).min(start + line.len()).max(at))
        }
        None => span,
    }
}
