//! What an `AgentSet` says of itself.

use jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
};

use crate::api::{AgentSet, AgentSetStatus, Condition, ConditionStatus};

/// The condition that sums up the others.
const READY: &str = "Ready";

/// Whether a set is ready, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Readiness {
    pub(super) is_ready: bool,
    /// One word in CamelCase.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Writes what is known of a set, if that is something else than was written last.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    last: Option<AgentSetStatus>,
}

impl Reporter {
    pub(super) async fn report(
        &mut self,
        sets: &Api<AgentSet>,
        set: &AgentSet,
        counts: [u32; 3],
        readiness: &Readiness,
    ) -> Result<(), kube::Error> {
        let known = self.last.as_ref().or(set.status.as_ref());
        let [online, running, pending] = counts;
        let condition = condition(known, readiness, set.metadata.generation);
        let status = AgentSetStatus { online, running, pending, conditions: vec![condition] };
        if self.last.as_ref() == Some(&status) {
            return Ok(());
        }
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Merge(serde_json::json!({ "status": status }));
        sets.patch_status(name, &PatchParams::default(), &patch).await?;
        self.last = Some(status);
        Ok(())
    }
}

fn condition(known: Option<&AgentSetStatus>, readiness: &Readiness, generation: Option<i64>) -> Condition {
    let status = if readiness.is_ready { ConditionStatus::True } else { ConditionStatus::False };
    let before = known.and_then(|known| known.conditions.iter().find(|condition| condition.type_ == READY));
    let since = before.filter(|before| before.status == status).map(|before| &before.last_transition_time);
    Condition {
        type_: READY.to_owned(),
        status,
        reason: readiness.reason.to_owned(),
        message: readiness.message.clone(),
        observed_generation: generation,
        last_transition_time: since.cloned().unwrap_or_else(now),
    }
}

/// Kubernetes' times have whole seconds.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
