//! What a script step without a name is called: by the first line that says what it does.

use dayfly_pipelines::Plan;
use dayfly_pipelines::plan::Step;
use dayfly_protocol::task::{BASH, CHECKOUT, CMD_LINE, POWERSHELL};

/// The longest name made of a script, in characters.
const LONGEST: usize = 50;

/// Names the scripts that have no name, so that not all of them are called `CmdLine`. The service calls them
/// that, but there one clicks on a step to see what it is.
pub(crate) fn name_scripts(plan: &mut Plan) {
    for job in plan.stages.iter_mut().flat_map(|stage| &mut stage.jobs) {
        let hooks = job.deployment.iter_mut().flat_map(|deployment| {
            let hooks = deployment.hooks.iter_mut();
            hooks.chain(&mut deployment.on_success).chain(&mut deployment.on_failure)
        });
        for step in job.steps.iter_mut().chain(hooks.flat_map(|hook| &mut hook.steps)) {
            if step.display_name.is_none() && [CMD_LINE, BASH, POWERSHELL].contains(&step.task.id) {
                step.display_name = made_up(step);
            }
        }
    }
}

/// What a step without a name is recognised by: the first line of its script that does something, the
/// script's file, the repository it checks out.
pub(crate) fn made_up(step: &Step) -> Option<String> {
    let input = |name: &str| step.inputs.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    if step.task.id == CHECKOUT {
        return input("repository").map(str::to_owned);
    }
    let Some(script) = input("script") else { return input("filePath").map(shortened) };
    let lines = || script.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().find(|line| !is_preamble(line)).or_else(|| lines().next()).map(shortened)
}

/// Comments, logging commands, and what so many scripts begin with that it tells nothing.
fn is_preamble(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default();
    let is_command = word == "echo" && line.contains("##vso[");
    line.starts_with('#') || is_command || ["set", "shopt", "trap"].contains(&word)
}

fn shortened(line: &str) -> String {
    if line.chars().count() <= LONGEST {
        return line.to_owned();
    }
    line.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use dayfly_pipelines::{Inputs, Source, compile};

    use super::*;

    #[test]
    fn scripts_are_called_by_the_line_that_does_something() {
        let long = "x".repeat(80);
        let steps = [
            ("script: make", Some("make".to_owned())),
            (
                "bash: |\n    #!/bin/bash\n    # a comment\n\n    set -euo pipefail\n    cargo test --workspace\n    ls",
                Some("cargo test --workspace".to_owned()),
            ),
            ("bash: set -x", Some("set -x".to_owned())),
            ("script: make\n  displayName: Build", Some("Build".to_owned())),
            ("task: Bash@3\n  inputs: { filePath: ci/test.sh }", Some("ci/test.sh".to_owned())),
            (&*format!("script: {long}"), Some(format!("{}…", "x".repeat(49)))),
            ("task: CMake@1", None),
            ("checkout: self", None),
        ];
        for (yaml, expected) in steps {
            let source = Source { name: "p.yml".to_owned(), text: format!("steps:\n- {yaml}\n") };
            let mut plan = compile(&source, &Inputs::default()).unwrap().plan;
            name_scripts(&mut plan);
            let step = plan.stages[0].jobs[0].steps.last().unwrap();
            assert_eq!(step.display_name, expected, "{yaml}");
        }
    }
}
