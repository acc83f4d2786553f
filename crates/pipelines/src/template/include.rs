//! `template:` in lists of stages, jobs, steps and variables, and `extends:` at the root.
//!
//! A template is expanded with its own parameters in place of the caller's; variables of the caller stay
//! visible.

use std::sync::Arc;

use dayfly_expressions::Value;

use super::{Expander, Level, repositories};
use crate::{
    Source,
    diagnostics::Span,
    files::{self, FileError, Place},
    schema::{
        self,
        parameters::{Argument, Arguments},
    },
    yaml::{self, Entry, Key, Kind, Node},
};

/// How many files one run may be made of.
const MAX_FILES: usize = 100;
/// How deep templates may place templates. The service allows 100; each takes its part of the stack.
const MAX_TEMPLATES: usize = 50;

/// The keys of a template that is extended (microsoft/azure-pipelines-vscode `service-schema.json`,
/// definition `extendsTemplate`; MicrosoftDocs/azure-devops-docs#7783 for the service's refusal of `pool`).
const EXTENDED: &[&str] =
    &["extends", "stages", "jobs", "steps", "phases", "parameters", "resources", "trigger", "variables"];

/// What a file's expressions see, while another file is walked.
pub(super) struct Outer {
    place: Place,
    parameters: Value,
    strict: bool,
    locals: Vec<(String, Value)>,
}

impl Expander<'_> {
    /// Replaces a `template:` item by the items of the template.
    pub(super) fn include(&mut self, item: &Node, list: &'static str, level: Level) -> Vec<Node> {
        // What could not be read is no empty list: nobody shall be told of that as well.
        let failed = vec![Node::invalid(item.span)];
        let Some(root) = self.open(item) else { return failed };
        let Some(outer) = self.enter_template(&root, item) else { return failed };
        let body = self.body(&root, Level::Root).into_node(root.span);
        self.leave_template(outer);
        // The old name of `jobs` is good in templates as well.
        let list = if list == "jobs" && body.get(list).is_none() && body.get("phases").is_some() {
            "phases"
        } else {
            list
        };
        let Some(node) = body.get(list) else {
            let name = item.get("template").map_or(item.span, |node| node.span);
            self.collector
                .error(name, format!("this template has no `{list}`"))
                .help(format!("in this place a template must be a list of {list}"));
            return failed;
        };
        self.check_keys(&body, &["parameters", list]);
        match &node.kind {
            Kind::Sequence(items) => items.clone(),
            Kind::Mapping(entries) if level == Level::Variables => {
                entries.iter().map(|entry| variable(entry, node.span)).collect()
            }
            Kind::Invalid => failed,
            _ if node.is_blank() => Vec::new(),
            _ => {
                self.collector.error(node.span, format!("`{list}` must be a list, not {}", node.noun()));
                failed
            }
        }
    }

    /// Follows `extends:` of a root file, and of the templates it leads to.
    pub(super) fn extend(&mut self, root: Node) -> Node {
        let Some(call) = root.get("extends").cloned() else { return root };
        let span = root.span;
        let Kind::Mapping(entries) = root.kind else { return root };
        let mut entries: Vec<Entry> =
            entries.into_iter().filter(|entry| entry.key.text != "extends").collect();
        let Some(template) = self.open(&call) else { return Node::invalid(span) };
        // It may take further templates from repositories that only it declares
        // (`azure-pipelines/1es-redirect.yml` of Azure/azure-openapi-validator).
        self.repositories.extend(repositories(&template));
        let Some(outer) = self.enter_template(&template, &call) else { return Node::invalid(span) };
        let body = self.body(&template, Level::Root).into_node(template.span);
        let body = self.extend(body);
        self.refuse_others(&template);
        self.leave_template(outer);
        let Kind::Mapping(made) = body.kind else { return Node::invalid(span) };
        for entry in made.into_iter().filter(|entry| entry.key.text != "parameters") {
            match entries.iter_mut().find(|own| own.key.text == entry.key.text) {
                None => entries.push(entry),
                Some(own) if entry.key.text == "resources" => merge_resources(&mut own.value, entry.value),
                Some(own) => {
                    self.collector.error(
                        own.key.span,
                        format!(
                            "`{}` is already set by the template that this pipeline extends",
                            own.key.text
                        ),
                    );
                }
            }
        }
        Node { kind: Kind::Mapping(entries), span }
    }

    /// Reports what a template that is extended cannot have.
    fn refuse_others(&mut self, template: &Node) {
        let Kind::Mapping(entries) = &template.kind else { return };
        let known = |key: &str| EXTENDED.contains(&key) || key.contains("${{");
        for entry in entries.iter().filter(|entry| !known(&entry.key.text)) {
            self.collector
                .error(
                    entry.key.span,
                    format!("a template that is extended cannot have `{}`", entry.key.text),
                )
                .help(format!("it can have {}", schema::listed(EXTENDED)));
        }
    }

    /// Reads and parses the file that a `template:` names.
    fn open(&mut self, call: &Node) -> Option<Arc<Node>> {
        let Some(name) = call.get("template") else {
            if !matches!(call.kind, Kind::Invalid) {
                self.collector.error(call.span, "`extends` needs `template`, the file to extend");
            }
            return None;
        };
        self.check_keys(call, &["template", "parameters"]);
        if self.templates >= MAX_TEMPLATES {
            self.exhausted = true;
            self.collector
                .error(name.span, format!("templates are nested deeper than {MAX_TEMPLATES} levels"))
                .help("does a template include itself?");
            return None;
        }
        let reference = match &name.kind {
            Kind::Scalar(text) => text.clone(),
            Kind::Invalid => return None,
            _ => {
                self.collector
                    .error(name.span, format!("`template` must be the path of a file, not {}", name.noun()));
                return None;
            }
        };
        match files::resolve(&self.place, &reference) {
            Ok(place) => self.load(place, &reference, name.span),
            Err(reason) => {
                self.collector
                    .error(name.span, format!("cannot read the template `{}`: {reason}", reference.trim()));
                None
            }
        }
    }

    /// Reads and parses a file, once.
    fn load(&mut self, place: Place, reference: &str, call: Span) -> Option<Arc<Node>> {
        if let Some(known) = self.loaded.get(&place) {
            self.next_place = place;
            return known.clone();
        }
        if self.loaded.len() >= MAX_FILES {
            self.collector.error(call, format!("the pipeline consists of more than {MAX_FILES} files"));
            return None;
        }
        let root = match self.text_of(&place) {
            Ok(text) => {
                let source =
                    self.collector.add_source(Source { name: place.to_string(), text: text.clone() });
                self.places.insert(source, place.clone());
                yaml::parse(source, &text, self.collector).map(Arc::new)
            }
            Err(FileError::NotFound) if self.is_handed_over(call) => {
                return self.load_beside_its_writer(&place, reference, call);
            }
            Err(error) => {
                self.collector.error(call, format!("cannot read the template `{place}`: {error}"));
                None
            }
        };
        self.loaded.insert(place.clone(), root.clone());
        self.next_place = place;
        root
    }

    /// The text of the file at a place, whichever repository that is in.
    fn text_of(&self, place: &Place) -> Result<String, FileError> {
        let Place { path, alias } = place;
        let Some(alias) = alias else { return self.files.read(path) };
        let mut declared = self.repositories.iter();
        match declared.find(|repository| repository.alias.eq_ignore_ascii_case(alias)) {
            Some(repository) => self.files.read_of(repository, path),
            None => Err(FileError::NoRepository(format!(
                "`resources.repositories` of the pipeline declares no repository `{alias}`"
            ))),
        }
    }

    /// Whether a call was written in another file than the one that places it.
    fn is_handed_over(&self, call: Span) -> bool {
        self.places.get(&call.source()).is_some_and(|writer| *writer != self.place)
    }

    /// Looks for a template beside the file that wrote its call. The service looks only beside the file that
    /// places it (microsoft/vscode-java-pack#1711, microsoft/azure-pipelines-yaml#271), so the call is good
    /// here only.
    fn load_beside_its_writer(&mut self, place: &Place, reference: &str, call: Span) -> Option<Arc<Node>> {
        let writer = self.places.get(&call.source()).cloned().unwrap_or_default();
        let other = files::resolve(&writer, reference).ok().filter(|other| other != place);
        let other = other.filter(|other| self.loaded.contains_key(other) || self.text_of(other).is_ok());
        let Some(other) = other else {
            self.collector.error(call, format!("cannot read the template `{place}`: there is no such file"));
            return None;
        };
        let placer = self.place.clone();
        self.collector
            .warning(
                call,
                format!(
                    "`{other}` is used here, but Azure Pipelines looks for `{place}`, beside `{placer}`, \
                        which places it"
                ),
            )
            .help(format!("write `/{other}`, which is found from every file"));
        self.load(other, reference, call)
    }

    /// Binds the arguments of a call and makes the template the current file.
    fn enter_template(&mut self, root: &Node, call: &Node) -> Option<Outer> {
        let name = call.get("template").map_or(call.span, |node| node.span);
        let entries = match call.get("parameters").map(|node| (&node.kind, node)) {
            None => Vec::new(),
            Some((Kind::Mapping(entries), _)) => entries
                .iter()
                .map(|entry| Argument {
                    name: entry.key.text.clone(),
                    key: entry.key.span,
                    value: entry.value.clone(),
                })
                .collect(),
            Some((Kind::Invalid, _)) => return None,
            Some((_, node)) if node.is_blank() => Vec::new(),
            Some((_, node)) => {
                self.collector
                    .error(node.span, format!("`parameters` must be a mapping, not {}", node.noun()));
                return None;
            }
        };
        let outer = Outer {
            place: std::mem::replace(&mut self.place, std::mem::take(&mut self.next_place)),
            parameters: std::mem::take(&mut self.parameters),
            strict: self.strict,
            locals: std::mem::take(&mut self.locals),
        };
        self.templates += 1;
        self.collector.enter(root.span.source(), name);
        // Calls in the arguments are placed by this file already.
        let bound = self.bind(root, Arguments::Template { entries, call: name });
        self.parameters = bound.values.into();
        self.strict = bound.strict;
        self.rescope();
        Some(outer)
    }

    fn leave_template(&mut self, outer: Outer) {
        self.place = outer.place;
        self.parameters = outer.parameters;
        self.strict = outer.strict;
        self.locals = outer.locals;
        self.templates -= 1;
        self.collector.leave();
        self.rescope();
    }

    fn check_keys(&mut self, node: &Node, known: &[&str]) {
        let Kind::Mapping(entries) = &node.kind else { return };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.text.as_str())) {
            let words: Vec<&str> = known.to_vec();
            self.collector
                .error(entry.key.span, format!("unknown key `{}` in a template reference", entry.key.text))
                .help(format!("known keys: {}", schema::listed(&words)));
        }
    }
}

/// A variable of a template in mapping form, as an entry of a list.
fn variable(entry: &Entry, span: Span) -> Node {
    let field =
        |key: &str, value: Node| Entry { key: Key { text: key.to_owned(), span: entry.key.span }, value };
    let name = Node::scalar(entry.key.text.clone(), entry.key.span);
    Node { kind: Kind::Mapping(vec![field("name", name), field("value", entry.value.clone())]), span }
}

/// Adds the resources of a template to those of the file that extends it.
fn merge_resources(own: &mut Node, coming: Node) {
    let (Kind::Mapping(own), Kind::Mapping(coming)) = (&mut own.kind, coming.kind) else { return };
    for entry in coming {
        match own.iter_mut().find(|known| known.key.text == entry.key.text) {
            Some(known) => {
                if let (Kind::Sequence(known), Kind::Sequence(more)) =
                    (&mut known.value.kind, entry.value.kind)
                {
                    known.extend(more);
                }
            }
            None => own.push(entry),
        }
    }
}
