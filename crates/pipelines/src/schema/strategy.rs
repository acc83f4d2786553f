//! `strategy:` of an ordinary job: matrix, parallel, maxParallel.

use dayfly_expressions::runtime_expression;

use super::{
    names,
    reader::{Fields, Reader},
    settings, variables,
};
use crate::{
    expression,
    plan::{Leg, Legs, Setting, Strategy, Variable},
    yaml::{Kind, Node},
};

/// How many jobs a stage may have after expansion.
pub(crate) const MAX_JOBS: usize = 256;

/// Reads `strategy:`.
pub(super) fn strategy(node: Option<&Node>, reader: &mut Reader<'_>) -> Strategy {
    let Some(node) = node.filter(|node| !node.is_blank()) else { return Strategy::Single };
    let mut fields = Fields::open(node, "strategy", reader);
    let matrix = fields.take_entry("matrix");
    let parallel = fields.take_entry("parallel");
    let max_parallel = settings::number(fields.take("maxParallel"), "`maxParallel`", 0, reader);
    for hook in ["runOnce", "rolling", "canary"] {
        if let Some(entry) = fields.take_entry(hook) {
            reader
                .collector
                .error(entry.key.span, format!("`{hook}` is a strategy for deployment jobs"))
                .help("write `- deployment: name` instead of `- job: name`");
        }
    }
    fields.finish(reader);
    match (matrix, parallel) {
        (Some(_), Some(parallel)) => {
            reader.collector.error(parallel.key.span, "`matrix` and `parallel` cannot be combined");
            Strategy::Single
        }
        (Some(matrix), None) => match legs(&matrix.value, reader) {
            Some(legs) => Strategy::Matrix { legs, max_parallel },
            None => Strategy::Single,
        },
        (None, Some(parallel)) => {
            let count = settings::number(Some(&parallel.value), "`parallel`", 1, reader);
            if let Setting::Value(count) = count
                && !(1..=MAX_JOBS).contains(&(count as usize))
            {
                reader
                    .collector
                    .error(parallel.value.span, format!("`parallel` must be a number from 1 to {MAX_JOBS}"));
                return Strategy::Single;
            }
            Strategy::Parallel { count, max_parallel }
        }
        (None, None) => Strategy::Single,
    }
}

fn legs(node: &Node, reader: &mut Reader<'_>) -> Option<Legs> {
    match &node.kind {
        Kind::Scalar(text) if runtime_expression(text).is_some() => {
            expression::check_runtime(node, reader);
            Some(Legs::Expression(text.clone()))
        }
        Kind::Mapping(entries) => {
            let mut legs: Vec<Leg> = Vec::new();
            let mut improper = Vec::new();
            for entry in entries {
                let name = &entry.key.text;
                if !names::check_leg(name, entry.key.span, reader) {
                    improper.push((name.as_str(), entry.key.span));
                }
                if legs.iter().any(|leg| leg.name.eq_ignore_ascii_case(name)) {
                    reader
                        .collector
                        .error(entry.key.span, format!("two legs of the matrix are called `{name}`"));
                    continue;
                }
                legs.push(Leg { name: name.clone(), variables: leg(&entry.value, reader) });
            }
            names::warn_of_legs(&improper, reader);
            if legs.is_empty() {
                reader.collector.error(node.span, "the matrix has no legs");
                return None;
            }
            if legs.len() > MAX_JOBS {
                reader.collector.error(
                    node.span,
                    format!(
                        "the matrix has {} legs, but a stage can have at most {MAX_JOBS} jobs",
                        legs.len()
                    ),
                );
                return None;
            }
            Some(Legs::List(legs))
        }
        Kind::Invalid => None,
        _ => {
            reader.collector.error(
                node.span,
                format!("`matrix` must be a mapping of legs or a `$[ ]`, not {}", node.noun()),
            );
            None
        }
    }
}

fn leg(node: &Node, reader: &mut Reader<'_>) -> Vec<Variable> {
    if node.is_blank() {
        return Vec::new();
    }
    let mut fields = Fields::open(node, "a leg of the matrix", reader);
    let mut leg = Vec::new();
    for entry in fields.take_rest() {
        let Some(value) = reader.text(&entry.value, &format!("the variable `{}`", entry.key.text)) else {
            continue;
        };
        variables::check(&entry.key.text, entry.key.span, &entry.value, reader);
        leg.push(Variable { name: entry.key.text.clone(), value, read_only: false });
    }
    variables::last_of_each(leg)
}
