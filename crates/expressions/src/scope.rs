//! Which names and functions an expression may use where it stands.

use std::borrow::Cow;

/// The root names (`variables`, ...) and the caller's functions (`succeeded`, `counter`, ...) of a place.
/// A name outside of the scope is a parse error, so that a typing mistake is found before anything runs.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    roots: Vec<Cow<'static, str>>,
    functions: Vec<HostFunction>,
}

/// A function which the caller answers through [`Context::call`](crate::Context::call).
#[derive(Debug, Clone)]
pub(crate) struct HostFunction {
    pub(crate) name: Cow<'static, str>,
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl Scope {
    /// No names and only the language's own functions.
    pub fn new() -> Scope {
        Scope::default()
    }

    /// The condition of a step: `variables` and the five status functions without arguments (agent:
    /// `ExpressionManager.cs`).
    pub fn step_condition() -> Scope {
        status_functions(Scope::new().with_roots(["variables"]), 0)
    }

    /// The condition of a job: also what it depends on; `failed`, `succeeded` and `succeededOrFailed` take
    /// job names.
    pub fn job_condition() -> Scope {
        let roots = ["variables", "pipeline", "dependencies", "stageDependencies", "resources"];
        status_functions(Scope::new().with_roots(roots), usize::MAX)
    }

    /// The condition of a stage: the same names as for a job. There `stageDependencies` is another name for
    /// `dependencies`; in 2020 the service refused it, today pipelines rely on it.
    pub fn stage_condition() -> Scope {
        Scope::job_condition()
    }

    /// `$[ ]`, settled when the stage or job starts. Has `counter`.
    pub fn runtime() -> Scope {
        Scope::new()
            .with_roots(["variables", "pipeline", "dependencies", "stageDependencies", "resources"])
            .with_function("counter", 0, 2)
    }

    /// `${{ }}`, settled when the pipeline is compiled. Add the variables of `each` by [`Scope::with_root`].
    pub fn template() -> Scope {
        Scope::new().with_roots(["parameters", "variables", "pipeline", "resources"])
    }

    /// The same scope with one more root name.
    #[must_use]
    pub fn with_root(mut self, name: impl Into<Cow<'static, str>>) -> Scope {
        let name = name.into();
        if self.root(&name).is_none() {
            self.roots.push(name);
        }
        self
    }

    /// The same scope with a function of the caller's that takes `min` to `max` arguments.
    #[must_use]
    pub fn with_function(mut self, name: impl Into<Cow<'static, str>>, min: usize, max: usize) -> Scope {
        self.functions.push(HostFunction { name: name.into(), min, max });
        self
    }

    fn with_roots<const N: usize>(mut self, names: [&'static str; N]) -> Scope {
        self.roots.extend(names.map(Cow::Borrowed));
        self
    }

    /// The root name in its own spelling.
    pub(crate) fn root(&self, name: &str) -> Option<&str> {
        self.roots.iter().map(AsRef::as_ref).find(|root: &&str| root.eq_ignore_ascii_case(name))
    }

    pub(crate) fn function(&self, name: &str) -> Option<&HostFunction> {
        self.functions.iter().find(|function| function.name.eq_ignore_ascii_case(name))
    }

    /// All root names, for messages.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().map(AsRef::as_ref)
    }
}

fn status_functions(scope: Scope, max: usize) -> Scope {
    scope
        .with_function("always", 0, 0)
        .with_function("canceled", 0, 0)
        .with_function("failed", 0, max)
        .with_function("succeeded", 0, max)
        .with_function("succeededOrFailed", 0, max)
}
