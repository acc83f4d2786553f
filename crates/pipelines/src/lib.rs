//! `azure-pipelines.yml` to a [`Plan`], the plan to a run's [`Orchestration`], and its jobs to job messages.
//!
//! Pure: no network, no clock, and other files only through [`Files`]. The flow of a file is
//!
//! 1. `yaml`: text to a tree of nodes with their places,
//! 2. `template`: `${{ }}` and its directives are expanded, templates are put in place,
//! 3. `schema`: the tree is read into the typed [`plan::Plan`] and checked.
//!
//! Whatever is wrong is collected in [`Diagnostics`] with its place in the file, all at once.

mod diagnostics;
mod expression;
mod files;
pub mod identifiers;
pub mod message;
pub mod orchestration;
pub mod plan;
pub mod run_number;
mod schema;
pub mod tasks;
mod template;
mod values;
mod variable_set;
mod variables_file;
mod yaml;

use std::{collections::BTreeMap, sync::Arc};

use dayfly_expressions::{Object, Value};

pub use diagnostics::{Diagnostics, Location, Report, Severity, Style};
pub use files::{FileError, Files, NoFiles, Repository};
pub use message::{RunContext, message};
pub use orchestration::{Action, JobInstance, Orchestration, RunInputs};
pub use plan::Plan;
pub use tasks::{AnyTasks, BuiltinTasks, TaskCatalog};
pub use variables_file::{GivenVariable, variables_file};

use diagnostics::{Collector, SourceId};

/// A file's text with the name that messages give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Such as `azure-pipelines.yml`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// What a pipeline is compiled with, besides its text.
#[derive(Clone)]
pub struct Inputs {
    /// Arguments for the file's parameters. Text stands for values of every type: lists and mappings as YAML.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Variables given for this run. Template expressions see them; those written in the file win. Not for
    /// secrets.
    pub variables: BTreeMap<String, String>,
    /// The values of variable groups, by the group's name in any case. They take the place of the group where
    /// the file names it; as with the service, template expressions do not see them. Not for secrets.
    pub variable_groups: BTreeMap<String, BTreeMap<String, String>>,
    /// Predefined variables known before the run starts (`Build.SourceBranch`, `Build.Reason`, ...).
    pub system: BTreeMap<String, String>,
    /// Which tasks exist.
    pub tasks: Arc<dyn TaskCatalog + Send + Sync>,
    /// The files of the pipeline's repository, for templates.
    pub files: Arc<dyn Files + Send + Sync>,
    /// The place of the file in that repository, with `/` between its parts: templates are found relative to
    /// it.
    pub path: String,
}

impl Default for Inputs {
    fn default() -> Self {
        Self {
            parameters: BTreeMap::new(),
            variables: BTreeMap::new(),
            variable_groups: BTreeMap::new(),
            system: BTreeMap::new(),
            tasks: Arc::new(BuiltinTasks),
            files: Arc::new(NoFiles),
            path: String::new(),
        }
    }
}

/// A compiled pipeline.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What will be done.
    pub plan: Plan,
    /// What is likely not meant as it is written.
    pub warnings: Diagnostics,
}

/// Compiles a pipeline file.
///
/// # Errors
/// All mistakes that were found, with warnings among them.
pub fn compile(source: &Source, inputs: &Inputs) -> Result<Compiled, Diagnostics> {
    let mut collector = Collector::new(source.clone());
    // Some editors begin files with a byte order mark, which YAML allows; the parser knows it.
    let Some(root) = yaml::parse(SourceId::ROOT, &source.text, &mut collector) else {
        return Err(collector.finish());
    };
    if schema::is_foreign(&root, &mut collector) {
        return Err(collector.finish());
    }
    let given = inputs.system.iter().chain(&inputs.variables);
    let variables =
        Object::from_iter(given.map(|(name, value)| (name.as_str(), Value::from(value.as_str()))));
    let surroundings = template::Surroundings {
        arguments: &inputs.parameters,
        variables,
        path: inputs.path.clone(),
        files: inputs.files.as_ref(),
        tasks: inputs.tasks.as_ref(),
    };
    let Some((expanded, declared)) = template::expand(&root, surroundings, &mut collector) else {
        return Err(collector.finish());
    };
    let mut reader = schema::Reader::new(&mut collector, inputs.tasks.as_ref());
    reader.known_groups = Some(&inputs.variable_groups);
    let plan = schema::pipeline(expanded, declared, &mut reader);
    if collector.errors() > 0 {
        return Err(collector.finish());
    }
    Ok(Compiled { plan, warnings: collector.finish() })
}
