//! Keeps busy pods from being evicted: one disruption budget for each AgentSet.
//!
//! It asks for more pods than there can be, so that none may go. A drained node waits for its jobs. What the
//! API does not ask is not held: deletion, preemption, a node that is short of something.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};

use crate::{
    api::AgentSet,
    names::{AGENT_SET_LABEL, BUSY, MANAGED_BY, MANAGER, STATE_LABEL},
};

/// More pods than any set has. Pods without a controller take no percentage.
const ALL: i32 = 1_000_000;

/// Protects the busy pods of a set. Whoever deletes the set ends that with it.
pub(crate) async fn protect(client: Client, set: &AgentSet) -> Result<(), kube::Error> {
    let (name, namespace) = (set.name_any(), set.namespace().unwrap_or_default());
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
    };
    let budget = PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some(format!("dayfly-{name}")),
            labels: Some(labels(&[(MANAGED_BY, MANAGER), (AGENT_SET_LABEL, &name)])),
            owner_references: set.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(ALL)),
            selector: Some(LabelSelector {
                match_labels: Some(labels(&[(AGENT_SET_LABEL, &name), (STATE_LABEL, BUSY)])),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    };
    Api::<PodDisruptionBudget>::namespaced(client, &namespace)
        .patch(&format!("dayfly-{name}"), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&budget))
        .await
        .map(drop)
}
