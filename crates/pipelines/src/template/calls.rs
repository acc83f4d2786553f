//! Calls of templates in what came out of an expression: a parameter may hand over stages whose jobs, and
//! jobs whose steps, are calls.

use std::sync::Arc;

use dayfly_expressions::Value;

use super::{Expander, Level, is_call};
use crate::yaml::{Entry, Kind, Node};

impl Expander<'_> {
    /// Replaces the calls in a value that holds no expressions, at every level. The value itself is no call.
    pub(super) fn place_calls(&mut self, node: Node, level: Level) -> Node {
        if !level.is_placing() || self.exhausted {
            return node;
        }
        let kind = match node.kind {
            Kind::Sequence(items) => Kind::Sequence(self.place_items(items, level)),
            Kind::Mapping(entries) => Kind::Mapping(self.place_entries(entries, level)),
            kind => kind,
        };
        Node { kind, span: node.span }
    }

    fn place_items(&mut self, items: Vec<Node>, level: Level) -> Vec<Node> {
        let mut placed = Vec::with_capacity(items.len());
        for item in items {
            match level.list() {
                Some(list) if is_call(&item) => placed.extend(self.include(&item, list, level)),
                _ => placed.push(self.place_calls(item, level)),
            }
        }
        placed
    }

    fn place_entries(&mut self, entries: Vec<Entry>, level: Level) -> Vec<Entry> {
        let saved = Arc::clone(&self.variables);
        let mut entries = entries;
        if level.is_scope()
            && let Some(variables) = entries.iter_mut().find(|entry| entry.key.text == "variables")
        {
            let value = std::mem::replace(&mut variables.value, Node::invalid(variables.key.span));
            variables.value = self.place_calls(value, Level::Variables);
            self.define(&variables.value);
        }
        let place = |entry: Entry| {
            let below = level.below(&entry.key.text);
            let value = match below {
                Level::Variables => entry.value,
                _ => self.place_calls(entry.value, below),
            };
            Entry { key: entry.key, value }
        };
        let placed = entries.into_iter().map(place).collect();
        self.variables = saved;
        placed
    }

    /// Makes a block of variables visible.
    fn define(&mut self, block: &Node) {
        match &block.kind {
            Kind::Sequence(items) => items.iter().for_each(|item| self.define_item(item)),
            Kind::Mapping(entries) => {
                for entry in entries {
                    if let Some(text) = entry.value.text() {
                        Arc::make_mut(&mut self.variables).insert(entry.key.text.as_str(), Value::from(text));
                    }
                }
            }
            Kind::Scalar(_) | Kind::Invalid => {}
        }
    }
}
