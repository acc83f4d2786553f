//! What is the matter with a pod's containers.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::{Diagnosis, Limits, Verdict};
use crate::pod::is_step_host;

/// A container that ended in a way that tells more than its exit code.
pub(super) fn ended(pod: &Pod, status: &PodStatus) -> Option<Diagnosis> {
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    for container in containers {
        let state = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        let Some(ended) = state.filter(|ended| ended.reason.as_deref() == Some("OOMKilled")) else {
            continue;
        };
        let limit = memory_limit(pod, &container.name);
        let limit = limit.map_or_else(String::new, |limit| format!(" of {limit}"));
        let text = format!(
            "The container {} used more memory than its limit{limit} and was killed (exit code {}).",
            container.name, ended.exit_code
        );
        // The worker outlives a container that only starts steps, and ends the job itself.
        let verdict = if is_step_host(&container.name) { Verdict::Wait } else { Verdict::FailNow };
        let found = Diagnosis::new("memory", text, verdict)
            .advice("Raise the container's memory limit, or have the job use less.");
        return Some(Diagnosis { is_problem: true, ..found });
    }
    None
}

fn memory_limit(pod: &Pod, container: &str) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let limits =
        containers.iter().find(|other| other.name == container)?.resources.as_ref()?.limits.as_ref()?;
    limits.get("memory").map(|limit| limit.0.clone())
}

/// A container that cannot begin.
pub(super) fn waits(status: &PodStatus, limits: &Limits) -> Option<Diagnosis> {
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers.into_iter().find_map(|container| waits_for(container, limits))
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
            Some(Diagnosis::new("configuration", text, Verdict::FailNow))
        }
        "CreateContainerError" | "RunContainerError" | "CrashLoopBackOff" => {
            let text = format!("The container {name} cannot be started: {message}");
            let found = Diagnosis::new("container", text, Verdict::FailAt(limits.create));
            Some(if message.contains("exec format error") {
                Diagnosis { verdict: Verdict::FailNow, ..found }
                    .advice("The image is for another processor; use one for the nodes' own.")
            } else {
                found
            })
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
