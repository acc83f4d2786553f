//! What is the matter with a pod's containers.

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::{Diagnosis, Limits, Verdict};
use crate::pod::{AGENT_CONTAINER, DELIVERER, is_step_host};

/// A container that ended in a way that tells more than its exit code.
pub(super) fn ended(pod: &Pod, status: &PodStatus) -> Option<Diagnosis> {
    statuses(status).find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        let found = match ended.reason.as_deref() {
            Some("OOMKilled") => Some(out_of_memory(pod, &container.name, ended)),
            // containerd's words and CRI-O's for one whose first process could not begin.
            Some("StartError" | "ContainerCannotRun") => {
                let message = ended.message.as_deref().unwrap_or("no message was given");
                Some(not_started(&container.name, message, Verdict::FailNow))
            }
            _ => init_failed(pod, container, ended).or_else(|| step_host_failed(pod, container, ended)),
        };
        found.map(|found| found.of(container))
    })
}

/// All containers, those that come first before the others.
fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.init_container_statuses.iter().chain(&status.container_statuses).flatten()
}

fn out_of_memory(pod: &Pod, container: &str, ended: &ContainerStateTerminated) -> Diagnosis {
    let limit = memory_limit(pod, container).map_or_else(String::new, |limit| format!(" of {limit}"));
    let text = format!(
        "The container {container} used more memory than its limit{limit} and was killed (exit code {}).",
        ended.exit_code
    );
    // A service begins anew.
    let verdict = if is_sidecar(pod, container) { Verdict::Wait } else { Verdict::FailNow };
    let found = Diagnosis::new("memory", text, verdict)
        .advice("Raise the container's memory limit, or have the job use less.");
    Diagnosis { is_problem: true, ..found }
}

/// A container whose first process could not begin. Another pod may fare better, unless it was made for
/// another processor.
fn not_started(name: &str, message: &str, verdict: Verdict) -> Diagnosis {
    let text = format!("The container {name} cannot be started: {message}");
    let found = Diagnosis::new("container", text, verdict);
    if message.contains("exec format error") {
        return Diagnosis { verdict: Verdict::FailNow, ..found }
            .advice("The image is for another processor; use one for the nodes' own.");
    }
    if verdict == Verdict::FailNow { found.replaceable() } else { found }
}

/// An init container that failed: no other container of the pod begins then.
fn init_failed(
    pod: &Pod,
    container: &ContainerStatus,
    ended: &ContainerStateTerminated,
) -> Option<Diagnosis> {
    let is_fatal = ended.exit_code != 0 && init_container(pod, &container.name).is_some();
    (is_fatal && !is_sidecar(pod, &container.name)).then(|| {
        let text = format!(
            "The init container {} ended with exit code {}, so that the job cannot begin.",
            container.name, ended.exit_code
        );
        let advice = match container.name.as_str() {
            DELIVERER => "The controller's `--image` must be Dayfly's own, for the nodes' processor.",
            _ => "Correct it in `spec.template` of the AgentSet.",
        };
        Diagnosis::new("init", text, Verdict::FailNow).advice(advice)
    })
}

/// A container that only starts steps and ended by itself: it does so with the worker only.
fn step_host_failed(
    pod: &Pod,
    container: &ContainerStatus,
    ended: &ContainerStateTerminated,
) -> Option<Diagnosis> {
    let is_left_alone = pod.metadata.deletion_timestamp.is_none();
    (is_left_alone && is_step_host(&container.name) && ended.exit_code != 0).then(|| {
        let text = format!("The container {} ended with exit code {}.", container.name, ended.exit_code);
        Diagnosis::new("container", text, Verdict::FailNow)
    })
}

fn init_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    pod.spec.as_ref()?.init_containers.iter().flatten().find(|container| container.name == name)
}

/// Whether a container begins before the others, and anew whenever it ends, such as a service.
fn is_sidecar(pod: &Pod, name: &str) -> bool {
    init_container(pod, name).is_some_and(|container| container.restart_policy.as_deref() == Some("Always"))
}

fn memory_limit(pod: &Pod, container: &str) -> Option<String> {
    let mut others = pod.spec.as_ref()?.containers.iter();
    let found = others.find(|other| other.name == container).or_else(|| init_container(pod, container))?;
    found.resources.as_ref()?.limits.as_ref()?.get("memory").map(|limit| limit.0.clone())
}

/// A container that cannot begin.
pub(super) fn waits(pod: &Pod, status: &PodStatus, limits: &Limits) -> Option<Diagnosis> {
    let is_running =
        |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let has_worker = statuses(status).any(|other| other.name == AGENT_CONTAINER && is_running(other));
    statuses(status).find_map(|container| {
        let found = match restarts(pod, container) {
            // As on Microsoft's agent, a job goes on without its services. Before that nothing begins.
            Some(found) if has_worker => Some(Diagnosis { verdict: Verdict::Wait, ..found }),
            Some(found) => Some(Diagnosis { verdict: Verdict::FailAt(limits.create), ..found }),
            None => waits_for(container, limits),
        };
        found.map(|found| found.of(container))
    })
}

/// A service that ends again and again.
fn restarts(pod: &Pod, container: &ContainerStatus) -> Option<Diagnosis> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    if waiting.reason.as_deref() != Some("CrashLoopBackOff") {
        return None;
    }
    let (name, pod) = (&container.name, pod.metadata.name.as_deref().unwrap_or_default());
    let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let how = last.map_or_else(
        || waiting.message.clone().unwrap_or_default(),
        |ended| format!("it ended with exit code {}", ended.exit_code),
    );
    let text = format!("The container {name} is restarted again and again: {how}.");
    let found = Diagnosis::new("restarts", text, Verdict::Wait)
        .advice(&format!("See its log while the job runs: kubectl logs {pod} --container {name}"));
    Some(Diagnosis { is_problem: true, ..found })
}

fn waits_for(container: &ContainerStatus, limits: &Limits) -> Option<Diagnosis> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let (name, image) = (&container.name, &container.image);
    let message = waiting.message.as_deref().unwrap_or("no message was given");
    match waiting.reason.as_deref()? {
        "InvalidImageName" => Some(
            Diagnosis::new("image-name", format!("{image:?} is not the name of an image."), Verdict::FailNow)
                .advice("Correct the image in the AgentSet."),
        ),
        "ErrImageNeverPull" => Some(
            Diagnosis::new(
                "image-absent",
                format!("The image {image} is not on the node and must not be pulled."),
                Verdict::FailNow,
            )
            .advice("Put the image on the node, or change imagePullPolicy."),
        ),
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => Some(pull(image, message, limits)),
        // The kubelet makes the folder a moment later.
        "CreateContainerConfigError" if message.contains("subPath") => None,
        "CreateContainerConfigError" => {
            let text = format!("The container {name} cannot be configured: {message}");
            let found = Diagnosis::new("configuration", text, Verdict::FailNow);
            Some(if message.contains("runAsNonRoot") {
                found.advice(
                    "`containerUser: Image` needs an image whose USER is a number other than 0; leave it out \
                     to have user 1000.",
                )
            } else {
                found
            })
        }
        "CreateContainerError" | "RunContainerError" => {
            Some(not_started(name, message, Verdict::FailAt(limits.create)))
        }
        _ => None,
    }
}

/// Why an image cannot be pulled: containerd's and CRI-O's words, and those of registries.
fn pull(image: &str, message: &str, limits: &Limits) -> Diagnosis {
    let has = |words: &[&str]| {
        let message = message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    };
    let (word, what, advice) = if has(&["toomanyrequests", "429", "rate limit"]) {
        ("image-rate-limit", "the registry wants fewer pulls", "Log in to the registry, or use a mirror.")
    } else if has(&["unauthorized", "authorization failed", "403 forbidden", "denied", "no basic auth"]) {
        (
            "image-unauthorized",
            "the registry refuses the login",
            "Give the pods' service account an image pull secret for this registry.",
        )
    } else if has(&["no match for platform", "no matching manifest"]) {
        ("image-platform", "there is none for this processor", "Build the image for the nodes' processor.")
    } else if has(&["not found", "manifest unknown", "404"]) {
        ("image-not-found", "there is none of this name", "Check the image's name and tag.")
    } else if has(&[
        "no such host",
        "connection refused",
        "timeout",
        "i/o",
        "tls",
        "x509",
        "unreachable",
        "dial",
    ]) {
        (
            "image-network",
            "the registry cannot be reached",
            "Check the registry, the network and its certificate.",
        )
    } else {
        ("image-pull", "the pull failed", "Check the image's name and the registry.")
    };
    let text = format!("The image {image} cannot be pulled, {what}: {message}");
    Diagnosis::new(word, text, Verdict::FailAt(limits.image)).advice(advice)
}
