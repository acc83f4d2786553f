//! What is the matter with a pod, in words for the job's log. Nothing here talks to a cluster.
//!
//! The order in which things are looked at is that of Tekton's controller: what ended the whole pod comes
//! before what ended a container, and that before what a container waits for.

mod containers;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, PodCondition, PodStatus};

use crate::api::{AgentSetSpec, Timeouts};

/// How long things may last before they fail the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Without a node.
    pub(crate) pending: Duration,
    /// With an image that cannot be pulled.
    image: Duration,
    /// With a container that cannot be created; the kubelet's own limit is two minutes.
    create: Duration,
    /// With a node that does not answer.
    node_lost: Duration,
}

impl Limits {
    /// Those of a set.
    pub(crate) fn of(set: &AgentSetSpec) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let Timeouts { pending_seconds, image_seconds, create_seconds, node_lost_seconds } = set.timeouts;
        Self {
            pending: seconds(pending_seconds),
            image: seconds(image_seconds),
            create: seconds(create_seconds),
            node_lost: seconds(node_lost_seconds),
        }
    }
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: it may pass, or is followed by what will not.
    Wait,
    /// It may last that long since it was first seen.
    FailAt(Duration),
    /// It will not pass.
    FailNow,
}

/// What is the matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// One word for what it is about, for metrics and to tell diagnoses apart.
    pub(crate) word: &'static str,
    /// What is so.
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) advice: Option<String>,
    /// What is to be done about it.
    pub(crate) verdict: Verdict,
    /// Whether another pod may fare better.
    pub(crate) replaceable: bool,
    /// Whether something went wrong, rather than takes its time.
    pub(crate) is_problem: bool,
    /// The container that it is about, if it is about one.
    pub(crate) container: Option<String>,
}

impl Diagnosis {
    fn new(word: &'static str, text: impl Into<String>, verdict: Verdict) -> Self {
        let is_problem = verdict != Verdict::Wait;
        let (text, advice, container) = (text.into(), None, None);
        Self { word, text, advice, verdict, replaceable: false, is_problem, container }
    }

    fn advice(self, advice: &str) -> Self {
        Self { advice: Some(advice.to_owned()), ..self }
    }

    fn of(self, container: &ContainerStatus) -> Self {
        Self { container: Some(container.name.clone()), ..self }
    }

    fn replaceable(self) -> Self {
        Self { replaceable: true, ..self }
    }
}

/// What is the matter with a pod, if anything is. `events` are its warnings, the oldest first.
pub(crate) fn diagnose(pod: &Pod, events: &[Event], limits: &Limits) -> Option<Diagnosis> {
    let status = pod.status.as_ref()?;
    refused_or_evicted(status)
        .or_else(|| disrupted(status))
        .or_else(|| containers::ended(pod, status))
        .or_else(|| node_lost(pod, status, limits))
        .or_else(|| deleted(pod))
        .or_else(|| containers::waits(pod, status, limits))
        .or_else(|| unscheduled(status, limits))
        .or_else(|| sandbox(status, events, limits))
}

/// What ended the pod as a whole.
fn refused_or_evicted(status: &PodStatus) -> Option<Diagnosis> {
    let message = status.message.as_deref().unwrap_or("no message was given");
    let found = match status.reason.as_deref()? {
        "Evicted" => {
            Diagnosis::new("evicted", format!("The node evicted the pod: {message}"), Verdict::FailNow)
                .advice(advice_on_eviction(message))
        }
        "DeadlineExceeded" => Diagnosis::new(
            "deadline",
            "The pod lived longer than the job's timeout allows, and was ended.",
            Verdict::FailNow,
        )
        .advice("Raise timeoutInMinutes of the job."),
        "NodeLost" => {
            return Some(
                Diagnosis::new("node-lost", format!("The pod's node is lost: {message}"), Verdict::FailNow)
                    .replaceable(),
            );
        }
        reason
            if reason.starts_with("OutOf")
                || matches!(reason, "NodeAffinity" | "UnexpectedAdmissionError" | "NodeShutdown") =>
        {
            Diagnosis::new(
                "refused",
                format!("The node refused the pod ({reason}): {message}"),
                Verdict::FailNow,
            )
        }
        _ => return None,
    };
    let is_deadline = found.word == "deadline";
    Some(if is_deadline { found } else { found.replaceable() })
}

/// What the pod may use is said by its own limits, or by what the node has (the kubelet's eviction manager,
/// `pkg/kubelet/eviction/helpers.go`).
fn advice_on_eviction(message: &str) -> &'static str {
    let is_own_limit = ["EmptyDir volume", "ephemeral local storage usage", "local ephemeral storage limit"];
    if is_own_limit.iter().any(|words| message.contains(words)) {
        return "Raise that limit in `spec.template` of the AgentSet, or have the job write less.";
    }
    "Give the jobs requests for what they use, so that the node has room for them."
}

fn condition<'a>(status: &'a PodStatus, kind: &str, value: &str) -> Option<&'a PodCondition> {
    let conditions = status.conditions.iter().flatten();
    conditions.into_iter().find(|condition| condition.type_ == kind && condition.status == value)
}

/// An eviction by the API, a preemption, a taint: the pod is about to go.
fn disrupted(status: &PodStatus) -> Option<Diagnosis> {
    let disruption = condition(status, "DisruptionTarget", "True")?;
    let message = disruption.message.as_deref().unwrap_or("no message was given");
    let (word, text) = match disruption.reason.as_deref().unwrap_or_default() {
        "PreemptionByScheduler" => ("preempted", "The pod must make room for one of higher priority"),
        "DeletionByTaintManager" => ("tainted", "The pod must leave its node, which was tainted"),
        "EvictionByEvictionAPI" => ("evicted", "Somebody evicted the pod, such as by draining its node"),
        _ => ("disrupted", "The pod must leave its node"),
    };
    Some(Diagnosis::new(word, format!("{text}: {message}"), Verdict::Wait).replaceable())
}

/// The node controller has not heard of the node for a while. It only changes the status of the condition
/// `Ready` then (`MarkPodsNotReady`), which the kubelet has never false while all containers are ready but
/// for readiness gates.
fn node_lost(pod: &Pod, status: &PodStatus, limits: &Limits) -> Option<Diagnosis> {
    let ready = condition(status, "Ready", "False")?;
    condition(status, "ContainersReady", "True")?;
    if ready.reason.as_deref() == Some("ReadinessGatesNotReady") {
        return None;
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("unknown");
    let text = format!("The node {node} does not answer.");
    Some(
        Diagnosis::new("node-lost", text, Verdict::FailAt(limits.node_lost))
            .advice("The job goes on if the node comes back in time.")
            .replaceable(),
    )
}

fn deleted(pod: &Pod) -> Option<Diagnosis> {
    pod.metadata.deletion_timestamp.as_ref()?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Some(Diagnosis::new("deleted", format!("The pod {name} is being deleted."), Verdict::Wait).replaceable())
}

/// The scheduler's words.
fn unscheduled(status: &PodStatus, limits: &Limits) -> Option<Diagnosis> {
    let scheduled = condition(status, "PodScheduled", "False")?;
    let message = scheduled.message.as_deref().unwrap_or("the scheduler gives no reason");
    let text = format!("The pod waits for a node: {message}");
    let found = Diagnosis::new("scheduling", text, Verdict::FailAt(limits.pending));
    Some(if message.contains("Insufficient") {
        found.advice("Add a node, or lower the requests of the job's pod.")
    } else {
        found
    })
}

/// What the kubelet says of a pod none of whose containers it could begin with.
fn sandbox(status: &PodStatus, events: &[Event], limits: &Limits) -> Option<Diagnosis> {
    let has_begun = status.container_statuses.iter().flatten().any(|container| {
        container.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    });
    let event = events.last().filter(|_| !has_begun)?;
    let message = event.message.as_deref().unwrap_or_default();
    match event.reason.as_deref()? {
        // Both may pass, but nobody else ends a pod with them.
        "FailedCreatePodSandBox" => {
            let text = format!("The node cannot start the pod: {message}");
            let found = Diagnosis::new("sandbox", text, Verdict::FailAt(limits.pending)).replaceable();
            Some(Diagnosis { is_problem: false, ..found })
        }
        "FailedMount" | "FailedAttachVolume" => {
            let text = format!("The pod waits for a volume: {message}");
            let found = Diagnosis::new("volume", text, Verdict::FailAt(limits.pending));
            Some(Diagnosis { is_problem: false, ..found })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
