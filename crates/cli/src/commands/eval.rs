//! `dayfly eval EXPRESSION`: what an expression of a pipeline yields, for finding out why a condition does
//! what it does.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use dayfly_expressions::{Context, Error, Expression, Object, Scope, Status, Value};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::output;

/// The largest context file.
const MAX_CONTEXT_BYTES: u64 = 64 * 1024 * 1024;

/// The names which a pipeline knows somewhere. The context file may add more, such as the variable of an
/// `each`.
const ROOTS: [&str; 6] =
    ["variables", "parameters", "dependencies", "stageDependencies", "pipeline", "resources"];

/// Arguments of `dayfly eval`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dayfly eval \"and(eq('a', 'A'), not(false))\"
  dayfly eval \"format('{0:yyyyMMdd}', pipeline.startTime)\" --context context.json
  echo '{\"variables\": {\"Build.Reason\": \"PullRequest\"}}' |
    dayfly eval \"eq(variables['Build.Reason'], 'PullRequest')\" --context -

Exit codes: 0 the expression has a value, 2 the expression or the context is not valid.")]
pub(crate) struct EvalArgs {
    /// The expression, without `$[ ]` or `${{ }}` around it
    #[arg(allow_hyphen_values = true)]
    expression: String,
    /// JSON file with an object of what each name holds: `variables`, `parameters`, `dependencies`,
    /// `stageDependencies`, `pipeline`, `resources` and any other name; `status` (Succeeded,
    /// SucceededWithIssues, Failed or Canceled) is for succeeded(), failed() and the like, whose named jobs
    /// are looked up in `dependencies`. `-` reads standard input
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// Print `{"type": ..., "value": ...}`
    #[arg(long)]
    json: bool,
}

/// Prints the value. A mistake in the expression or the context file is bad input.
pub(crate) fn run(args: &EvalArgs) -> anyhow::Result<ExitCode> {
    let given = match args.context.as_deref().map(read).transpose() {
        Ok(given) => given.unwrap_or_default(),
        Err(error) => return Ok(output::usage_error(&format!("{error:#}"))),
    };
    match evaluate(&args.expression, &given) {
        Ok(value) => {
            let shown = if args.json { as_json(&value)? } else { as_text(&value)? };
            output::write(&format!("{shown}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let excerpt = error.render(&args.expression).replace('\n', "\n  ");
            let code = output::usage_error(&format!("{error}\n  {excerpt}"));
            if let Some(help) = error.help {
                output::hint(help);
            }
            Ok(code)
        }
    }
}

fn evaluate(text: &str, given: &Given) -> Result<Value, Error> {
    let mut scope = Scope::job_condition().with_function("counter", 0, 2);
    for name in ROOTS.into_iter().chain(given.roots.iter().map(|(name, _)| name)) {
        scope = scope.with_root(name.to_owned());
    }
    Expression::parse(text, &scope)?.evaluate(given)
}

fn as_json(value: &Value) -> serde_json::Result<String> {
    let value = serde_json::json!({"type": value.kind().to_string(), "value": value});
    serde_json::to_string(&value)
}

/// `Boolean true`, `Number 1.5`, `String 'x'`; lists and mappings as indented JSON.
fn as_text(value: &Value) -> serde_json::Result<String> {
    Ok(match value {
        Value::Null => "Null".to_owned(),
        Value::Boolean(value) => format!("Boolean {value}"),
        Value::Array(_) | Value::Object(_) => {
            format!("{} {}", value.kind(), serde_json::to_string_pretty(value)?)
        }
        Value::Version(version) => format!("Version {version}"),
        Value::Number(_) | Value::String(_) => format!("{} {value}", value.kind()),
    })
}

fn read(path: &Path) -> anyhow::Result<Given> {
    let name = path.display();
    let mut text = String::new();
    let mut read_from =
        |reader: &mut dyn std::io::Read| reader.take(MAX_CONTEXT_BYTES + 1).read_to_string(&mut text);
    let length = if path == Path::new("-") {
        read_from(&mut std::io::stdin().lock())
    } else {
        std::fs::File::open(path).and_then(|mut file| read_from(&mut file))
    };
    let length = length.with_context(|| format!("cannot read context file `{name}`"))?;
    anyhow::ensure!(
        length as u64 <= MAX_CONTEXT_BYTES,
        "context file `{name}` is larger than {MAX_CONTEXT_BYTES} bytes"
    );
    serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
        // serde_json puts the position behind its message; it belongs to the file's name here.
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&place).unwrap_or(&message);
        anyhow::anyhow!("{name}:{}:{}: {message}", error.line(), error.column())
    })
}

/// What the context file gives.
#[derive(Debug, Default)]
struct Given {
    roots: Object,
    status: Status,
}

impl Context for Given {
    fn root(&self, name: &str) -> Option<Value> {
        self.roots.get(name).cloned()
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        if name == "counter" {
            return Some(Err("`counter` counts the runs of a pipeline, and there is none here".to_owned()));
        }
        if arguments.is_empty() {
            return Some(Ok(Value::Boolean(self.status.answer(name)?)));
        }
        Some(self.of_named(name, arguments).map(Value::Boolean))
    }
}

impl Given {
    /// The status functions with names of jobs or stages: `succeeded` of all, `failed` and
    /// `succeededOrFailed` of any.
    fn of_named(&self, function: &str, names: &[Value]) -> Result<bool, String> {
        let dependencies = self.root("dependencies").unwrap_or_default();
        let mut answers = Vec::with_capacity(names.len());
        for name in names {
            let name = name.as_text().ok_or("the names of jobs and stages are text")?;
            let result = dependencies.property(&name).property("result");
            let result = result.as_text().filter(|result| !result.is_empty());
            let result =
                result.ok_or_else(|| format!("the context has no result for `{name}` in `dependencies`"))?;
            // A skipped job neither succeeded nor failed.
            let status = result.parse::<Status>().ok();
            answers.push(status.and_then(|status| status.answer(function)).unwrap_or(false));
        }
        Ok(if function == "succeeded" {
            answers.into_iter().all(|answer| answer)
        } else {
            answers.contains(&true)
        })
    }
}

/// A status, refused while its text is read, so that the error has its position.
struct GivenStatus(Status);

impl<'de> Deserialize<'de> for GivenStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GivenStatus, D::Error> {
        struct StatusVisitor;

        impl Visitor<'_> for StatusVisitor {
            type Value = GivenStatus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<GivenStatus, E> {
                text.parse().map(GivenStatus).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(StatusVisitor)
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given, D::Error> {
        struct GivenVisitor;

        impl<'de> Visitor<'de> for GivenVisitor {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of names and their values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                let mut given = Given::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "status" {
                        given.status = map.next_value::<GivenStatus>()?.0;
                    } else {
                        given.roots.insert(name, map.next_value()?);
                    }
                }
                Ok(given)
            }
        }

        deserializer.deserialize_map(GivenVisitor)
    }
}
