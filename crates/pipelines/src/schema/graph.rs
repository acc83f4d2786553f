//! Checks of a graph of stages or jobs: unique names, known dependencies, no circle, at least one beginning.

use std::collections::HashMap;

use super::{jobs::Placed, reader::Reader};
use crate::diagnostics::Span;

/// A stage or job as the checks see it.
pub(super) struct Node<'a> {
    name: &'a str,
    span: Span,
    depends_on: &'a [(String, Span)],
}

impl<'a> Node<'a> {
    pub(super) fn of<T>(placed: &'a Placed<T>, name: &'a str) -> Self {
        Self { name, span: placed.name, depends_on: &placed.depends_on }
    }
}

/// Reports what is wrong with the graph.
pub(super) fn check(nodes: &[Node<'_>], one: &str, many: &str, reader: &mut Reader<'_>) {
    let errors = reader.collector.errors();
    let mut places: HashMap<String, usize> = HashMap::with_capacity(nodes.len());
    for (at, node) in nodes.iter().enumerate() {
        let earlier = *places.entry(node.name.to_lowercase()).or_insert(at);
        if earlier != at {
            let line = reader.collector.line_of(nodes[earlier].span);
            reader
                .collector
                .error(node.span, format!("two {many} are called `{}`", node.name))
                .help(format!("the first one is on line {line}; case does not matter in names"));
        }
    }
    for node in nodes {
        let own = places.get(&node.name.to_lowercase());
        for (dependency, span) in node.depends_on {
            let target = places.get(&dependency.to_lowercase());
            if target.is_some() && target == own {
                reader.collector.error(*span, format!("the {one} `{}` depends on itself", node.name));
            } else if target.is_none() {
                let best = reader.suggest(dependency, nodes.iter().map(|node| node.name));
                let diagnostic =
                    reader.collector.error(*span, format!("there is no {one} `{dependency}` to depend on"));
                if let Some(best) = best {
                    diagnostic.help(format!("did you mean `{best}`?"));
                }
            }
        }
    }
    if let Some(circle) = circle(nodes, &places) {
        let names: Vec<&str> = circle.iter().map(|at| nodes[*at].name).collect();
        let first = circle.first().map_or(0, |at| *at);
        let closing = names.first().copied().unwrap_or_default();
        let span = nodes[first].depends_on.first().map_or(nodes[first].span, |(_, span)| *span);
        let path =
            names.iter().chain([&closing]).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" -> ");
        reader.collector.error(span, format!("the {many} depend on each other in a circle: {path}"));
    } else if reader.collector.errors() == errors
        && !nodes.is_empty()
        && nodes.iter().all(|node| !node.depends_on.is_empty())
    {
        reader.collector.error(nodes[0].span, format!("no {one} can start: each one depends on another"));
    }
}

/// A circle of at least two, as the places of its nodes in the order of dependence.
fn circle(nodes: &[Node<'_>], places: &HashMap<String, usize>) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let edges: Vec<Vec<usize>> = nodes
        .iter()
        .enumerate()
        .map(|(at, node)| {
            let targets =
                node.depends_on.iter().filter_map(|(name, _)| places.get(&name.to_lowercase()).copied());
            targets.filter(|target| *target != at).collect()
        })
        .collect();
    let mut marks = vec![Mark::New; nodes.len()];
    for start in 0..nodes.len() {
        // The path from `start`, each with the number of the edge to try next: no recursion, whatever the
        // file holds.
        let mut path: Vec<(usize, usize)> = Vec::new();
        if marks[start] == Mark::New {
            marks[start] = Mark::Open;
            path.push((start, 0));
        }
        while let Some((at, edge)) = path.last_mut() {
            match edges[*at].get(*edge) {
                None => {
                    marks[*at] = Mark::Done;
                    path.pop();
                }
                Some(&target) => {
                    *edge += 1;
                    match marks[target] {
                        Mark::Done => {}
                        Mark::New => {
                            marks[target] = Mark::Open;
                            path.push((target, 0));
                        }
                        Mark::Open => {
                            let from = path.iter().position(|(at, _)| *at == target)?;
                            return Some(path[from..].iter().map(|(at, _)| *at).collect());
                        }
                    }
                }
            }
        }
    }
    None
}
