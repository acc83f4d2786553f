//! The parameters of a file and the values they get: calls of templates in values of structural types are
//! placed first, by the file whose parameters these are.

use serde_json::Value as Json;

use super::{Expander, Level, is_call};
use crate::{
    Source,
    diagnostics::Span,
    plan::ParameterType,
    schema::{
        self,
        parameters::{Arguments, Bound, is_list, kind_of},
    },
    values,
    yaml::{self, Kind, Node},
};

/// The list that a value of this type is, or is an entry of.
fn level(kind: ParameterType) -> Option<Level> {
    use ParameterType as T;
    match kind {
        T::Step | T::StepList => Some(Level::Steps),
        T::Job | T::JobList | T::Deployment | T::DeploymentList => Some(Level::Jobs),
        T::Stage | T::StageList => Some(Level::Stages),
        _ => None,
    }
}

impl Expander<'_> {
    /// Reads the parameters of a file and gives them their values.
    pub(super) fn bind(&mut self, root: &Node, mut arguments: Arguments<'_>) -> Bound {
        let errors = self.collector.errors();
        let mut block = root.get("parameters").cloned();
        // Declarations are read before there is anything to evaluate.
        if let Some(block) = &block {
            super::refuse(block, "the declaration of parameters", self.collector);
        }
        if let Some(Node { kind: Kind::Sequence(items), .. }) = &mut block {
            for item in items {
                let structural = kind_of(item).and_then(|kind| Some((kind, level(kind)?)));
                let name = item.get("name").and_then(Node::text).map(str::to_owned);
                let (Some((kind, level)), Some(name)) = (structural, name) else { continue };
                let whole = item.span;
                if let Kind::Mapping(entries) = &mut item.kind
                    && let Some(default) = entries.iter_mut().find(|entry| entry.key.text == "default")
                {
                    let value = std::mem::replace(&mut default.value, Node::invalid(whole));
                    default.value = self.place(value, kind, level);
                }
                match &mut arguments {
                    Arguments::Run { given, read } => {
                        let found = given.iter().find(|(key, _)| key.eq_ignore_ascii_case(&name));
                        if let Some((key, json)) = found {
                            let node = self.read(&name, json, whole);
                            let node = node.map(|node| self.place(node, kind, level));
                            read.push((key.clone(), node));
                        }
                    }
                    Arguments::Template { entries, .. } => {
                        for one in entries.iter_mut().filter(|one| one.name.eq_ignore_ascii_case(&name)) {
                            let value = std::mem::replace(&mut one.value, Node::invalid(whole));
                            one.value = self.place(value, kind, level);
                        }
                    }
                }
            }
        }
        let mut reader = schema::Reader::new(self.collector, self.tasks);
        let bound = schema::parameters::bind(root.span, block.as_ref(), arguments, &mut reader);
        self.broken |= self.collector.errors() > errors;
        bound
    }

    /// Places the calls in a value of a structural type.
    fn place(&mut self, value: Node, kind: ParameterType, level: Level) -> Node {
        if is_list(kind) || !is_call(&value) {
            return self.place_calls(value, level);
        }
        let Some(list) = level.list() else { return value };
        let mut items = self.include(&value, list, level);
        if items.len() != 1 {
            self.collector.error(
                value.span,
                format!("this must be a single {}, but the template has {}", level.one(), items.len()),
            );
            return Node::invalid(value.span);
        }
        items.pop().unwrap_or_else(|| Node::invalid(value.span))
    }

    /// A value of a structural type that comes with the run: YAML in a text, or JSON.
    fn read(&mut self, name: &str, json: &Json, place: Span) -> Option<Node> {
        let Json::String(text) = json else {
            return Some(values::to_node(&dayfly_expressions::Value::from_json(json), place));
        };
        let source =
            self.collector.add_source(Source { name: format!("parameter {name}"), text: text.clone() });
        yaml::parse(source, text, self.collector)
    }
}
