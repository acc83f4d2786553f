//! `parameters:`: what a file declares, and the values that it is given.

use std::collections::BTreeMap;

use dayfly_expressions::{Number, Object, Value};
use serde_json::Value as Json;

use super::{
    canonical,
    reader::{Fields, Reader, closest, listed, short},
};
use crate::{
    Source,
    diagnostics::Span,
    plan::{Parameter, ParameterType},
    values,
    yaml::{self, Kind, Node},
};

const TYPES: &[(&str, ParameterType)] = &[
    ("string", ParameterType::String),
    ("stringList", ParameterType::StringList),
    ("number", ParameterType::Number),
    ("boolean", ParameterType::Boolean),
    ("object", ParameterType::Object),
    ("step", ParameterType::Step),
    ("stepList", ParameterType::StepList),
    ("job", ParameterType::Job),
    ("jobList", ParameterType::JobList),
    ("deployment", ParameterType::Deployment),
    ("deploymentList", ParameterType::DeploymentList),
    ("stage", ParameterType::Stage),
    ("stageList", ParameterType::StageList),
    ("container", ParameterType::Container),
    ("containerList", ParameterType::ContainerList),
    ("filePath", ParameterType::FilePath),
    ("pool", ParameterType::Pool),
    ("environment", ParameterType::Environment),
    ("serviceConnection", ParameterType::ServiceConnection),
    ("secureFile", ParameterType::SecureFile),
    ("legacyObject", ParameterType::LegacyObject),
];

/// How the values of a type look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Number,
    Boolean,
    List,
    Any,
}

fn shape(kind: ParameterType) -> Shape {
    use ParameterType as T;
    match kind {
        T::String | T::FilePath | T::Pool | T::Environment | T::ServiceConnection | T::SecureFile => {
            Shape::Text
        }
        T::Number => Shape::Number,
        T::Boolean => Shape::Boolean,
        T::StringList | T::StepList | T::JobList | T::DeploymentList | T::StageList | T::ContainerList => {
            Shape::List
        }
        T::Object | T::Step | T::Job | T::Deployment | T::Stage | T::Container | T::LegacyObject => {
            Shape::Any
        }
    }
}

/// The parameters with the values of the run, for the plan and for template expressions.
pub(crate) struct Bound {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) values: Object,
    /// Whether a name that is not among them is an error. The service says "Key not found" in files with a
    /// typed list of parameters (ChristopherHX/runner.server#246, measured for root files without parameters
    /// as well); templates of the old kind take arguments that they do not declare, and Microsoft's own rely
    /// on it (ChristopherHX/runner.server#308).
    pub(crate) strict: bool,
}

/// What the parameters of a file are given.
pub(crate) enum Arguments<'a> {
    /// Given with the run, for the root file.
    Run {
        /// As they came.
        given: &'a BTreeMap<String, Json>,
        /// Those of structural types, read; nothing where that failed and was reported.
        read: Vec<(String, Option<Node>)>,
    },
    /// Given by the file that places a template.
    Template {
        /// The arguments.
        entries: Vec<Argument>,
        /// Where the template is placed.
        call: Span,
    },
}

/// A value that a file gives to a parameter of a template.
pub(crate) struct Argument {
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) key: Span,
    pub(crate) value: Node,
}

impl Arguments<'_> {
    /// The names, with the place to point to when one of them is not known.
    fn names(&self, block: Span) -> Vec<(&str, Span)> {
        match self {
            Self::Run { given, .. } => given.keys().map(|name| (name.as_str(), block)).collect(),
            Self::Template { entries, .. } => {
                entries.iter().map(|one| (one.name.as_str(), one.key)).collect()
            }
        }
    }

    /// The value for a parameter, if one is given. `Some(None)`: one that is wrong, and was reported.
    fn value(&self, declaration: &Declaration, reader: &mut Reader<'_>) -> Option<Option<Value>> {
        match self {
            Self::Run { given, read } => {
                let is_it = |name: &str| name.eq_ignore_ascii_case(&declaration.name);
                if let Some((_, node)) = read.iter().find(|(name, _)| is_it(name)) {
                    return Some(node.as_ref().and_then(|node| placed_value(declaration, node, reader)));
                }
                let (_, argument) = given.iter().find(|(name, _)| is_it(name))?;
                Some(argument_value(declaration, argument, reader))
            }
            Self::Template { entries, .. } => {
                let one = entries.iter().find(|one| one.name.eq_ignore_ascii_case(&declaration.name))?;
                Some(placed_value(declaration, &one.value, reader))
            }
        }
    }
}

/// Reads the declarations of a file and binds the given arguments to them.
///
/// `root` is the place of the file, `block` its `parameters:`.
pub(crate) fn bind(
    root: Span,
    block: Option<&Node>,
    arguments: Arguments<'_>,
    reader: &mut Reader<'_>,
) -> Bound {
    // A template without typed declarations takes whatever it is given.
    let typed = block.is_some_and(|block| matches!(block.kind, Kind::Sequence(_)));
    let strict = typed || (block.is_none() && matches!(arguments, Arguments::Run { .. }));
    let mut bound = Bound { parameters: Vec::new(), values: Object::new(), strict };
    let declared = block.map(|node| declarations(node, reader)).unwrap_or_default();
    for declaration in declared {
        if bound.values.get(&declaration.name).is_some() {
            let message = format!("two parameters are called `{}`", declaration.name);
            reader.collector.error(declaration.span, message);
            continue;
        }
        let value = arguments.value(&declaration, reader);
        if value.is_none() && declaration.default.is_none() {
            missing(&declaration, &arguments, reader);
        }
        let value = value.unwrap_or_else(|| declaration.default.clone()).unwrap_or_default();
        bound.values.insert(declaration.name.as_str(), value.clone());
        bound.parameters.push(Parameter {
            name: declaration.name,
            display_name: declaration.display_name,
            kind: declaration.kind,
            default: declaration.default.as_ref().map(Value::to_json),
            values: declaration.values.iter().map(Value::to_json).collect(),
            value: value.to_json(),
        });
    }
    match arguments {
        Arguments::Template { entries, .. } if !typed => {
            for Argument { name, value, .. } in entries {
                if bound.values.get(&name).is_none() {
                    bound.values.insert(name, values::from_node(&value));
                }
            }
        }
        arguments => unknown(&bound, &arguments, block.map_or(root, |block| block.span), reader),
    }
    bound
}

fn missing(declaration: &Declaration, arguments: &Arguments<'_>, reader: &mut Reader<'_>) {
    let name = &declaration.name;
    match arguments {
        Arguments::Run { .. } => reader
            .collector
            .error(declaration.span, format!("the parameter `{name}` needs a value"))
            .help(format!("pass one with `-p {name}=VALUE`, or give it a `default:`"))
            .asks_for_a_value(),
        Arguments::Template { call, .. } => reader
            .collector
            .error(*call, format!("the parameter `{name}` of this template needs a value"))
            .help("pass it under `parameters:`"),
    };
}

fn unknown(bound: &Bound, arguments: &Arguments<'_>, block: Span, reader: &mut Reader<'_>) {
    let owner = match arguments {
        Arguments::Run { .. } => "pipeline",
        Arguments::Template { .. } => "template",
    };
    let names: Vec<&str> = bound.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    for (name, place) in
        arguments.names(block).into_iter().filter(|(name, _)| bound.values.get(name).is_none())
    {
        let best = reader.suggest(name, names.iter().copied());
        let diagnostic = reader.collector.error(place, format!("the {owner} has no parameter `{name}`"));
        if let Some(best) = best {
            diagnostic.help(format!("did you mean `{best}`?"));
        } else if !names.is_empty() {
            diagnostic.help(format!("its parameters are {}", listed(&names)));
        }
    }
}

struct Declaration {
    name: String,
    span: Span,
    display_name: Option<String>,
    kind: ParameterType,
    default: Option<Value>,
    values: Vec<Value>,
    /// Declared in the old form, which takes anything from a file.
    untyped: bool,
}

fn declarations(node: &Node, reader: &mut Reader<'_>) -> Vec<Declaration> {
    if let Kind::Mapping(entries) = &node.kind {
        // The old form: names and defaults, without types.
        return entries
            .iter()
            .map(|entry| Declaration {
                name: entry.key.text.clone(),
                span: entry.key.span,
                display_name: None,
                kind: if entry.value.text().is_some() {
                    ParameterType::String
                } else {
                    ParameterType::Object
                },
                default: Some(values::from_node(&entry.value)),
                values: Vec::new(),
                untyped: true,
            })
            .collect();
    }
    reader.items(node, "parameters").iter().filter_map(|item| declaration(item, reader)).collect()
}

fn declaration(item: &Node, reader: &mut Reader<'_>) -> Option<Declaration> {
    let mut fields = Fields::open(item, "a parameter", reader);
    if fields.is_silent() {
        return None;
    }
    fields.demand_first("name", reader);
    let name_node = fields.take("name");
    let display_name = reader.optional(fields.take("displayName"), "`displayName`");
    let kind = kind(fields.take("type"), reader);
    let values_node = fields.take("values");
    let default_node = fields.take("default");
    let span = fields.span;
    fields.finish(reader);
    let Some(name_node) = name_node else {
        reader.collector.error(span, "a parameter needs `name`");
        return None;
    };
    let name = reader.filled(name_node, "the parameter's `name`")?;
    let mut declaration = Declaration {
        name,
        span: name_node.span,
        display_name,
        kind,
        default: None,
        values: Vec::new(),
        untyped: false,
    };
    if let Some(node) = values_node {
        for item in reader.items(node, "values") {
            let value = match kind {
                ParameterType::StringList => Some(values::from_node(item)),
                _ => typed(&declaration, item, item.span, reader),
            };
            declaration.values.extend(value);
        }
    }
    if let Some(node) = default_node {
        let value = typed(&declaration, node, node.span, reader);
        if let Some(value) = &value {
            check_allowed(&declaration, value, node.span, reader);
        }
        declaration.default = Some(value.unwrap_or_default());
    }
    Some(declaration)
}

fn kind(node: Option<&Node>, reader: &mut Reader<'_>) -> ParameterType {
    let Some(node) = node.filter(|node| !node.is_blank()) else { return ParameterType::String };
    let Some(text) = reader.text(node, "`type`") else { return ParameterType::String };
    if let Some((_, kind)) = TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim())) {
        return *kind;
    }
    let diagnostic = reader.collector.error(node.span, format!("unknown parameter type `{}`", short(&text)));
    match closest(&text, TYPES.iter().map(|(name, _)| *name)) {
        Some(best) => diagnostic.help(format!("did you mean `{best}`?")),
        None => diagnostic
            .help("some types: `string`, `number`, `boolean`, `object`, `stepList`, `jobList`, `stageList`"),
    };
    ParameterType::String
}

/// The type of a declaration in the present form, as far as it is known.
pub(crate) fn kind_of(item: &Node) -> Option<ParameterType> {
    let text = item.get("type")?.text()?.trim();
    TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, kind)| *kind)
}

/// Whether values of this type are lists.
pub(crate) fn is_list(kind: ParameterType) -> bool {
    shape(kind) == Shape::List
}

/// Reads a node as a value of the parameter's type.
fn typed(declaration: &Declaration, node: &Node, span: Span, reader: &mut Reader<'_>) -> Option<Value> {
    if canonical::is_structural(declaration.kind) {
        return canonical::value(&declaration.name, declaration.kind, node, reader);
    }
    let name = &declaration.name;
    let text = match (&node.kind, shape(declaration.kind)) {
        (Kind::Invalid, _) => return None,
        (Kind::Scalar(text), Shape::Any) if is_null(text, reader.collector.slice(node.span)) => {
            return Some(Value::Null);
        }
        (_, Shape::Any) | (Kind::Sequence(_), Shape::List) => return Some(values::from_node(node)),
        (Kind::Scalar(text), _) => text,
        _ => {
            wrong_type(name, declaration.kind, node, reader);
            return None;
        }
    };
    let value = match shape(declaration.kind) {
        Shape::Text => Some(Value::from(text.as_str())),
        Shape::Number => Number::parse_text(text.trim()).filter(|_| !text.trim().is_empty()).map(Value::from),
        Shape::Boolean => boolean(text).map(Value::from),
        Shape::List => text.trim().is_empty().then(|| Value::from(Vec::new())),
        Shape::Any => None,
    };
    if value.is_none() {
        reader.collector.error(
            span,
            format!(
                "`{}` is not {}, which the parameter `{name}` needs",
                short(text),
                a_value(declaration.kind)
            ),
        );
    }
    value
}

/// The two words that the service takes for a parameter; unlike elsewhere, `yes` and the like are refused.
fn boolean(text: &str) -> Option<bool> {
    match text.trim() {
        word if word.eq_ignore_ascii_case("true") => Some(true),
        word if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Reports a value of another shape than the type's.
pub(super) fn wrong_type(name: &str, kind: ParameterType, node: &Node, reader: &mut Reader<'_>) {
    let (kind, noun) = (a_value(kind), node.noun());
    reader.collector.error(node.span, format!("the parameter `{name}` needs {kind}, not {noun}"));
}

/// Whether a scalar says that there is nothing: blank, `null` or `~`, without quotes.
pub(super) fn is_null(text: &str, written: &str) -> bool {
    let is_word = (text == "~" || text.eq_ignore_ascii_case("null")) && written == text;
    text.is_empty() && !written.starts_with(['"', '\'']) || is_word
}

/// "a number", "an environment"
fn a_value(kind: ParameterType) -> String {
    let name = type_name(kind);
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {name}")
}

fn type_name(kind: ParameterType) -> &'static str {
    TYPES.iter().find(|(_, known)| *known == kind).map_or("string", |(name, _)| name)
}

fn check_allowed(declaration: &Declaration, value: &Value, span: Span, reader: &mut Reader<'_>) {
    if declaration.values.is_empty() {
        return;
    }
    let allowed = |value: &Value| declaration.values.iter().any(|one| one.as_text() == value.as_text());
    let fine = match value {
        Value::Array(items) => items.iter().all(allowed),
        value => allowed(value),
    };
    if !fine {
        let words: Vec<String> = declaration
            .values
            .iter()
            .filter_map(|value| value.as_text().map(std::borrow::Cow::into_owned))
            .collect();
        let text = value.as_text().unwrap_or_default().into_owned();
        reader
            .collector
            .error(
                span,
                format!(
                    "`{}` is not one of the allowed values of the parameter `{}`",
                    short(&text),
                    declaration.name
                ),
            )
            .help(format!("allowed: {}", listed(&words)));
    }
}

/// Reads an argument. Text stands for lists and mappings as YAML, so that they can be given on a command
/// line.
fn argument_value(declaration: &Declaration, argument: &Json, reader: &mut Reader<'_>) -> Option<Value> {
    let text = match argument {
        Json::String(text) => text.clone(),
        Json::Bool(_) | Json::Number(_) => argument.to_string(),
        other => {
            let value = Value::from_json(other);
            let fits = match shape(declaration.kind) {
                Shape::Any => true,
                Shape::List => other.is_array(),
                Shape::Text | Shape::Number | Shape::Boolean => false,
            };
            if !fits {
                reader.collector.error(
                    declaration.span,
                    format!(
                        "the value passed for `{}` is not {}",
                        declaration.name,
                        a_value(declaration.kind)
                    ),
                );
                return None;
            }
            return Some(value);
        }
    };
    let name = format!("parameter {}", declaration.name);
    let source = reader.collector.add_source(Source { name, text: text.clone() });
    let span = Span::new(source, 0, text.len());
    let node = match shape(declaration.kind) {
        Shape::List | Shape::Any => yaml::parse(source, &text, reader.collector)?,
        Shape::Text | Shape::Number | Shape::Boolean => Node::scalar(text, span),
    };
    let value = typed(declaration, &node, span, reader)?;
    check_allowed(declaration, &value, span, reader);
    Some(value)
}

/// Reads the value that a file gives to a template's parameter.
fn placed_value(declaration: &Declaration, node: &Node, reader: &mut Reader<'_>) -> Option<Value> {
    if declaration.untyped {
        return (!matches!(node.kind, Kind::Invalid)).then(|| values::from_node(node));
    }
    let value = typed(declaration, node, node.span, reader)?;
    check_allowed(declaration, &value, node.span, reader);
    Some(value)
}
