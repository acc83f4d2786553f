//! What a step gives to a task that was downloaded, held against what the task takes.
//!
//! The service checks little of it, and the task itself stops at the first input that is missing.

use dayfly_protocol::job::Step;

use super::Manifest;
use crate::steps::Inputs;

/// At least how much two names must have in common for one to be meant by the other.
const LIKENESS: f64 = 0.8;

/// What is wrong with the inputs of a step, all of it in one text; none if nothing is.
pub(crate) fn check(manifest: &Manifest, step: &Step, inputs: &Inputs) -> Option<String> {
    let names =
        || manifest.inputs.iter().flat_map(|input| std::iter::once(&input.name).chain(&input.aliases));
    let is_known = |name: &str| names().any(|known| known.eq_ignore_ascii_case(name));
    let given = step.inputs.keys().map(|name| name.trim());
    let unknown = given.filter(|name| !name.is_empty() && !is_known(name));
    let unknown = unknown.map(|name| {
        let meant = closest(name, names().map(String::as_str));
        let meant = meant.map_or_else(String::new, |meant| format!(" (did you mean `{meant}`?)"));
        format!("it has no input `{name}`{meant}")
    });
    let is_missing = |input: &&super::Input| {
        input.required && input.visible_rule.is_empty() && inputs.get(&input.name).is_none()
    };
    let missing = manifest.inputs.iter().filter(is_missing);
    let missing = missing.map(|input| format!("it needs the input `{}`, which is empty", input.name));
    let faults: Vec<String> = unknown.chain(missing).collect();
    (!faults.is_empty()).then(|| format!("The inputs of the task {}: {}.", manifest.name, faults.join("; ")))
}

fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let likeness = |known: &'a str| (strsim::jaro_winkler(&name, &known.to_lowercase()), known);
    let best = known.map(likeness).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS).then_some(best.1)
}
