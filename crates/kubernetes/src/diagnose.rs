//! What is the matter with a pod, in words for the job's log.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use crate::api::AgentSetSpec;

/// How long things may last before they fail the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) pending: Duration,
    pub(crate) image: Duration,
    pub(crate) create: Duration,
}

impl Limits {
    pub(crate) fn of(_spec: &AgentSetSpec) -> Self {
        Self {
            pending: Duration::from_secs(900),
            image: Duration::from_secs(60),
            create: Duration::from_secs(150),
        }
    }
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: it may pass.
    Wait,
    /// It may last that long.
    FailAt(Duration),
    /// It will not pass.
    FailNow,
}

/// What is the matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) word: &'static str,
    pub(crate) text: String,
    pub(crate) advice: Option<String>,
    pub(crate) verdict: Verdict,
    /// Whether another pod may fare better.
    pub(crate) replaceable: bool,
}

/// What is the matter with a pod, if anything is.
pub(crate) fn diagnose(pod: &Pod, _events: &[Event], _now: Timestamp, limits: &Limits) -> Option<Diagnosis> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    for container in containers {
        if let Some(found) = container_matter(container, limits) {
            return Some(found);
        }
    }
    let condition = |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    if let Some(disruption) = condition("DisruptionTarget").filter(|condition| condition.status == "True") {
        return Some(Diagnosis {
            word: "disruption",
            text: format!(
                "The pod must leave its node: {}",
                disruption
                    .message
                    .as_deref()
                    .or(disruption.reason.as_deref())
                    .unwrap_or("no reason is given")
            ),
            advice: None,
            verdict: Verdict::Wait,
            replaceable: true,
        });
    }
    let scheduled = condition("PodScheduled").filter(|condition| condition.status == "False")?;
    Some(Diagnosis {
        word: "scheduling",
        text: format!("The pod waits for a node: {}", scheduled.message.as_deref().unwrap_or_default()),
        advice: None,
        verdict: Verdict::FailAt(limits.pending),
        replaceable: false,
    })
}

fn container_matter(container: &ContainerStatus, limits: &Limits) -> Option<Diagnosis> {
    let name = &container.name;
    let state = container.state.as_ref()?;
    if let Some(ended) =
        state.terminated.as_ref().filter(|ended| ended.reason.as_deref() == Some("OOMKilled"))
    {
        return Some(Diagnosis {
            word: "memory",
            text: format!(
                "The container {name} used more memory than it may and was killed (OOMKilled, exit code {}).",
                ended.exit_code
            ),
            advice: Some("Raise the memory limit of the AgentSet's pods.".to_owned()),
            verdict: Verdict::FailNow,
            replaceable: false,
        });
    }
    let waiting = state.waiting.as_ref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    let (word, text, verdict) = match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" => (
            "image-pull",
            format!("The image {} cannot be pulled: {message}", container.image),
            Verdict::FailAt(limits.image),
        ),
        "InvalidImageName" => {
            ("image-name", format!("The image name {} is not valid.", container.image), Verdict::FailNow)
        }
        "CreateContainerConfigError" => {
            ("configuration", format!("The container {name} cannot be made: {message}"), Verdict::FailNow)
        }
        "CreateContainerError" | "RunContainerError" => (
            "container",
            format!("The container {name} cannot be started: {message}"),
            Verdict::FailAt(limits.create),
        ),
        _ => return None,
    };
    Some(Diagnosis { word, text, advice: None, verdict, replaceable: false })
}
