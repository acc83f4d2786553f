//! What objects say of themselves: conditions, and how they change.

use jiff::Timestamp;

use crate::api::{Condition, ConditionStatus};

/// The condition that sums up the others.
const READY: &str = "Ready";

/// The condition of a credential whose end is known.
pub(super) const EXPIRING: &str = "CredentialExpiring";

/// Reasons for which an object does not do its work that nobody has to care about.
const HARMLESS: [&str; 3] = ["Connecting", "Deleting", "Paused"];

/// One aspect of an object's state, and why it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Which aspect.
    pub(super) aspect: &'static str,
    pub(super) holds: bool,
    /// One word in CamelCase.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Finding {
    /// Whether the object can do its work.
    pub(super) fn ready(is_ready: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self { aspect: READY, holds: is_ready, reason, message: message.into() }
    }

    /// Whether somebody should look after it.
    pub(super) fn is_bad(&self) -> bool {
        match self.aspect {
            EXPIRING => self.holds,
            _ => !self.holds && !HARMLESS.contains(&self.reason),
        }
    }
}

/// The conditions of an object of this generation by what was found; `known` are those it has.
pub(super) fn conditions(known: &[Condition], found: &[Finding], generation: Option<i64>) -> Vec<Condition> {
    found.iter().map(|finding| condition(known, finding, generation)).collect()
}

fn condition(known: &[Condition], finding: &Finding, generation: Option<i64>) -> Condition {
    let status = if finding.holds { ConditionStatus::True } else { ConditionStatus::False };
    let before = known.iter().find(|condition| condition.type_ == finding.aspect);
    let since = before.filter(|before| before.status == status).map(|before| &before.last_transition_time);
    Condition {
        type_: finding.aspect.to_owned(),
        status,
        reason: finding.reason.to_owned(),
        message: finding.message.clone(),
        observed_generation: generation,
        last_transition_time: since.cloned().unwrap_or_else(now),
    }
}

/// Whether something else was known of an object so far.
pub(super) fn is_news(known: &[Condition], finding: &Finding) -> bool {
    let is_known =
        |condition: &Condition| condition.type_ == finding.aspect && condition.reason == finding.reason;
    !known.iter().any(is_known)
}

/// Kubernetes' times have whole seconds.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_change_stays_while_only_the_words_change() {
        let known = Condition {
            type_: READY.to_owned(),
            status: ConditionStatus::False,
            reason: "Connecting".to_owned(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: "2026-01-01T00:00:00Z".to_owned(),
        };
        let conditions = |holds| {
            let finding = Finding::ready(holds, "Paused", "the set is paused");
            conditions(std::slice::from_ref(&known), &[finding], Some(2))
        };
        let same = &conditions(false)[0];
        assert_eq!(
            (same.last_transition_time.as_str(), same.reason.as_str(), same.observed_generation),
            ("2026-01-01T00:00:00Z", "Paused", Some(2))
        );
        assert_ne!(conditions(true)[0].last_transition_time, "2026-01-01T00:00:00Z");
    }
}
