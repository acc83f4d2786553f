//! Macros that no variable answers. The service leaves `$(name)` as it is then, and a shell takes it for a
//! command: `releaseId: command not found`, often with exit code 0. The step is told so once, in words.
//!
//! In a script `$(name)` may be meant for the shell. So there it counts only if it has a dot, as most
//! predefined variables and all outputs of steps have, and is neither a program nor a function; or if the
//! shell says that there is no such command. In other inputs and in `env` nothing but a macro can be meant.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use dayfly_processes::programs;
use dayfly_protocol::job::Step;

use crate::context::{JobContext, StepContext};

/// Inputs that a shell reads.
const SCRIPTS: [&str; 2] = ["script", "arguments"];
/// How many names are told.
const NAMES_SHOWN: usize = 5;

/// The macros of one step that stayed as they are.
#[derive(Debug, Default)]
pub(crate) struct UnsetMacros {
    /// Those which are no command for sure.
    missing: BTreeSet<String>,
    /// Those which may be commands.
    suspects: BTreeSet<String>,
    /// Of both, those which this step sets itself.
    set_here: BTreeSet<String>,
}

impl UnsetMacros {
    /// Looks for them in the inputs and the environment of a step.
    pub(crate) fn of(job: &JobContext, step: &Step) -> UnsetMacros {
        let mut unset = UnsetMacros::default();
        let is_unset = |name: &&str| {
            job.with_variables(|variables| variables.get(name).is_none())
                && !job.inherited.contains_key(OsStr::new(name))
        };
        for value in step.environment.values() {
            unset.missing.extend(names(value).filter(is_unset).map(str::to_owned));
        }
        for (input, value) in &step.inputs {
            if !SCRIPTS.iter().any(|script| input.trim().eq_ignore_ascii_case(script)) {
                unset.missing.extend(names(value).filter(is_unset).map(str::to_owned));
                continue;
            }
            for line in value.lines().filter(|line| !line.trim_start().starts_with('#')) {
                for name in names(line).filter(is_unset) {
                    let is_missing = name.contains('.') && !is_command(job, name, value);
                    let found = if is_missing { &mut unset.missing } else { &mut unset.suspects };
                    found.insert(name.to_owned());
                    if sets(value, name) {
                        unset.set_here.insert(name.to_owned());
                    }
                }
            }
        }
        unset
    }

    /// Whether the shell may still say more about some of them.
    pub(crate) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Whether some are not set for sure.
    pub(crate) fn has_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Takes a line of the standard error: bash and PowerShell say there which command they do not know.
    pub(crate) fn hear(&mut self, line: &str) {
        let is_denied = |name: &str| {
            line.strip_suffix("command not found").is_some_and(|line| line.ends_with(&format!(": {name}: ")))
                || line.contains(&format!("The term '{name}' is not recognized"))
        };
        let denied: Vec<String> = self.suspects.iter().filter(|name| is_denied(name)).cloned().collect();
        for name in denied {
            self.suspects.remove(&name);
            self.missing.insert(name);
        }
    }

    /// Says which are not set, if there are any.
    pub(crate) async fn tell(&self, step: &StepContext) {
        if self.missing.is_empty() {
            return;
        }
        let mut shown: Vec<String> =
            self.missing.iter().take(NAMES_SHOWN).map(|name| format!("`$({name})`")).collect();
        if let Some(more @ 1..) = self.missing.len().checked_sub(NAMES_SHOWN) {
            shown.push(format!("{more} more"));
        }
        let (are, were) = if self.missing.len() == 1 { ("is", "it was") } else { ("are", "they were") };
        let mut text = format!("{} {are} not set, so {were} left as written.", shown.join(", "));
        if self.missing.iter().any(|name| self.set_here.contains(name)) {
            text.push_str(" A variable that a step sets can be used from the next step on.");
        }
        step.warning(&text).await;
    }
}

/// What looks like macros in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split("$(").skip(1).filter_map(|rest| rest.split_once(')')).map(|(name, _)| name).filter(|name| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    })
}

/// Whether a shell finds a program or a function of that name.
fn is_command(job: &JobContext, name: &str, script: &str) -> bool {
    let path = job.inherited.get(OsStr::new("PATH"));
    let prepended = job.prepended_path().join(":");
    let is_program = path.is_some_and(|path| programs::find(name, path).is_some())
        || programs::find(name, OsStr::new(&prepended)).is_some();
    is_program || is_function(name, script)
}

fn is_function(name: &str, script: &str) -> bool {
    script.lines().any(|line| {
        let line = line.trim_start();
        let after = line.strip_prefix("function ").unwrap_or(line).trim_start().strip_prefix(name);
        after.is_some_and(|after| {
            let after = after.trim_start();
            after.starts_with('(') || after.starts_with('{') || line.starts_with("function ")
        })
    })
}

/// Whether a script sets a variable itself.
fn sets(script: &str, name: &str) -> bool {
    script.match_indices("variable=").any(|(at, found)| {
        let rest = &script[at + found.len()..];
        rest.get(..name.len()).is_some_and(|text| text.eq_ignore_ascii_case(name))
            && rest[name.len()..].starts_with([';', ']'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_variable_is_a_macro() {
        let text = "$(a) $(Build.BuildId) $(ls -l) $($x) $() $(1) $(cat <x) $(my-var) ${x} $(unclosed";
        assert_eq!(names(text).collect::<Vec<_>>(), ["a", "Build.BuildId", "my-var"]);
    }

    #[test]
    fn functions_of_the_script_are_no_macros() {
        for script in ["my.fn() { echo; }", "  function my.fn {\n", "function my.fn\n{", "my.fn ()\n{"] {
            assert!(is_function("my.fn", script), "{script}");
        }
        assert!(!is_function("my.fn", "echo $(my.fn)\nmy.fn --x"));
    }

    #[test]
    fn shells_say_what_is_no_command() {
        let mut unset = UnsetMacros {
            suspects: ["id", "pwd", "release"].map(str::to_owned).into(),
            ..Default::default()
        };
        unset.hear("/work/_temp/x.sh: line 1: release: command not found");
        unset.hear("x.sh: line 2: otherid: command not found");
        unset.hear("\u{1b}[31;1mThe term 'id' is not recognized as a name of a cmdlet");
        assert_eq!(unset.missing.iter().collect::<Vec<_>>(), ["id", "release"]);
        assert_eq!(unset.suspects.iter().collect::<Vec<_>>(), ["pwd"]);
    }

    #[test]
    fn a_script_that_sets_a_variable_is_known() {
        let script = "echo '##vso[task.setvariable variable=Version;isOutput=true]1'";
        assert!(sets(script, "version"));
        assert!(!sets(script, "vers"));
    }
}
