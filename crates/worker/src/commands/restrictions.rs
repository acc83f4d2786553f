//! What a step may tell the worker (`target: commands: restricted`, `settableVariables`).

use dayfly_protocol::job::Step;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::context::StepContext;

/// Limits on a step's logging commands (`TaskRestrictionsChecker.cs`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Restrictions {
    /// Only harmless commands.
    pub(crate) restricted: bool,
    /// Names which may be set: each set must have them.
    settable: Vec<GlobSet>,
}

impl Restrictions {
    /// The limits a step of the message asks for. A pattern that is none allows nothing.
    pub(crate) fn of(step: &Step) -> Restrictions {
        let Some(target) = &step.target else { return Restrictions::default() };
        Restrictions {
            restricted: target
                .commands
                .as_deref()
                .is_some_and(|commands| commands.eq_ignore_ascii_case("restricted")),
            settable: target.settable_variables.iter().map(|settable| patterns(&settable.allowed)).collect(),
        }
    }

    /// These and those of the step's task.
    pub(crate) fn and(mut self, restricted: bool, settable: Option<&[String]>) -> Restrictions {
        self.restricted |= restricted;
        self.settable.extend(settable.map(patterns));
        self
    }

    fn allows_setting(&self, name: &str) -> bool {
        self.settable.iter().all(|settable| settable.is_match(name))
    }

    /// Whether a variable may be set; if not, the step is told.
    pub(crate) async fn check_settable(step: &StepContext, name: &str) -> bool {
        let allowed = step.restrictions.allows_setting(name);
        if !allowed {
            step.warning(&format!(
                "Setting variable '{name}' has been disabled by the task or build definition."
            ))
            .await;
        }
        allowed
    }
}

fn patterns(names: &[String]) -> GlobSet {
    let mut builder = GlobSetBuilder::new();
    for name in names {
        match GlobBuilder::new(name).case_insensitive(true).build() {
            Ok(glob) => {
                builder.add(glob);
            }
            Err(error) => tracing::warn!(%error, "a pattern of settable variables is not valid"),
        }
    }
    builder.build().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dayfly_protocol::job::{SettableVariables, StepTarget};

    fn restrictions(allowed: Option<&[&str]>) -> Restrictions {
        Restrictions::of(&Step {
            target: Some(StepTarget {
                commands: Some("Restricted".to_owned()),
                settable_variables: allowed.map(|names| SettableVariables {
                    allowed: names.iter().map(|name| (*name).to_owned()).collect(),
                }),
                ..StepTarget::default()
            }),
            ..Step::default()
        })
    }

    #[test]
    fn names_are_matched_as_patterns_without_regard_to_case() {
        for (allowed, name, expected) in [
            (None, "anything", true),
            (Some(&["ok*", "PATH"][..]), "OKAY", true),
            (Some(&["ok*", "PATH"][..]), "path", true),
            (Some(&["ok*"][..]), "other", false),
            (Some(&[][..]), "any", false),
            (Some(&["[oops"][..]), "[oops", false),
        ] {
            let restrictions = restrictions(allowed);
            assert!(restrictions.restricted);
            assert_eq!(restrictions.allows_setting(name), expected, "{allowed:?} {name}");
        }
        assert!(!Restrictions::of(&Step::default()).restricted);
    }
}
