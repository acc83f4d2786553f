//! How the things went that a stage or job waits for, and what the status functions say of it.

use dayfly_protocol::TaskResult;

/// Whose dependencies they are: the two differ in [`Upstream::answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Stage,
    Job,
}

/// How the things went that a stage or job waits for.
#[derive(Debug)]
pub(super) struct Upstream {
    kind: Kind,
    /// What it depends on, directly or through others: each once, with its name.
    above: Vec<(String, TaskResult)>,
    /// Whether the run was cancelled while the stage, or the stage of the job, was at work or waiting.
    canceling: bool,
}

impl Upstream {
    pub(super) fn new(kind: Kind, above: Vec<(String, TaskResult)>, canceling: bool) -> Self {
        Self { kind, above, canceling }
    }

    pub(super) fn is_canceling(&self) -> bool {
        self.canceling
    }

    /// The answer of a status function; `None` if the name is no status function.
    ///
    /// Without names all direct and indirect dependencies count (azure-devops-docs, `process/conditions.md`:
    /// "computed recursively"), with names the named ones, as actions/runner's first published
    /// `GraphCondition.cs` has it: a name that is not among the dependencies makes the answer false, and
    /// while a run is being cancelled every function but `always` and `canceled` is false.
    /// `succeededOrFailed()` of a job is true whatever the results are (`process/expressions.md`); that of a
    /// stage needs one dependency that was not skipped or cancelled (azure-devops-docs issue 12846).
    pub(super) fn answer(&self, function: &str, names: &[String]) -> Option<bool> {
        let goes_on = !self.canceling;
        Some(match function {
            "always" => true,
            "canceled" => self.canceling,
            "succeeded" => {
                goes_on && self.results(names).all(|result| result.is_some_and(TaskResult::is_success))
            }
            "failed" => goes_on && self.found(names, is_failure),
            "succeededOrFailed" => {
                let is_free = names.is_empty() && (self.kind == Kind::Job || self.above.is_empty());
                goes_on && (is_free || self.found(names, |result| result.is_success() || is_failure(result)))
            }
            _ => return None,
        })
    }

    /// Whether one of the results is wanted, looking no further than the first unknown name.
    fn found(&self, names: &[String], is_wanted: impl Fn(TaskResult) -> bool) -> bool {
        self.results(names).map_while(|result| result).any(is_wanted)
    }

    /// The results of the named dependencies, or of all when there are no names. `None`: it depends on
    /// nothing of that name.
    fn results<'u>(&'u self, names: &'u [String]) -> impl Iterator<Item = Option<TaskResult>> + 'u {
        let all = self.above.iter().filter(|_| names.is_empty()).map(|(_, result)| Some(*result));
        all.chain(names.iter().map(|name| {
            let named = |(known, _): &&(String, TaskResult)| super::same_name(known, name);
            self.above.iter().find(named).map(|(_, result)| *result)
        }))
    }
}

/// Whether `failed()` holds for a result. A lost agent is a failure.
pub(super) fn is_failure(result: TaskResult) -> bool {
    matches!(result, TaskResult::Failed | TaskResult::Abandoned)
}

/// Everything that a node depends on, directly or through others, each once. `depends_on` gives the direct
/// dependencies.
pub(super) fn ancestors<'g>(at: usize, depends_on: impl Fn(usize) -> &'g [usize]) -> Vec<usize> {
    let mut seen = std::collections::HashSet::new();
    let mut found = Vec::new();
    let mut open = vec![at];
    while let Some(node) = open.pop() {
        for &above in depends_on(node) {
            if seen.insert(above) {
                found.push(above);
                open.push(above);
            }
        }
    }
    found
}
