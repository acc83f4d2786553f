//! Applies manifests and waits until they are rolled out (`DeploymentHelper.ts`,
//! `kubernetesmanifestutility.ts`).

use std::time::Duration;

use serde_json::Value;

use super::super::super::StepError;
use super::super::cluster::private_file;
use super::super::matching::{Links, files_in};
use super::super::program::arguments;
use super::objects::{self, Objects};
use super::{CONTAINERS, Kubectl, MANIFESTS, PULL_SECRETS, RESOURCE_TYPE, WITH_PODS};

/// Kinds for which kubectl can wait (`workloadTypesWithRolloutStatus`).
const WITH_ROLLOUT: &[&str] = &["deployment", "daemonset", "statefulset"];

/// How often the state of an object is looked at, and how often at most.
const PAUSE: Duration = Duration::from_secs(2);
const LOOKS_AT_POD: u32 = 300;
const LOOKS_AT_SERVICE: u32 = 90;

/// A resource in the manifests.
struct Resource<'a> {
    kind: String,
    name: &'a str,
    object: &'a Value,
}

pub(super) async fn run(kubectl: &Kubectl<'_>) -> Result<(), StepError> {
    let step = kubectl.cluster.step;
    let inputs = &kubectl.cluster.prepared.inputs;
    let patterns = inputs.text(MANIFESTS.name);
    let files = files_in(step, "", patterns, Links::Followed).await?;
    if files.is_empty() {
        return Err(StepError::Failed(format!("No manifest file(s) matching {patterns} was found.")));
    }
    let mut objects = Objects::read(files).await?;
    objects.pull_with(&objects::lines(inputs.text(PULL_SECRETS.name)));
    objects.substitute(&objects::lines(inputs.text(CONTAINERS.name)));
    for unnamed in objects.take_unnamed() {
        step.warning(&format!("An object of {unnamed} has no name, so it is left out.")).await;
    }
    let manifest = private_file(step, "json", &objects.as_list())?;
    kubectl.must(arguments([&"apply", &"-f", &manifest])).await?;

    let resources: Vec<Resource> = objects.iter().filter_map(Resource::of).collect();
    if !inputs.text(RESOURCE_TYPE.name).eq_ignore_ascii_case("microsoft.containerservice/fleets") {
        wait(kubectl, &resources).await?;
    }
    for ingress in resources.iter().filter(|resource| resource.kind == "ingress") {
        kubectl.execute(arguments([&"get", &ingress.path(), &"-o", &"json"]), true).await?;
    }
    kubectl.attempt(kubectl.annotating(&["-f", &manifest.to_string_lossy()])).await?;
    for owner in resources.iter().filter(|resource| resource.kind != "pod" && resource.has_pods()) {
        kubectl.annotate_pods(&owner.kind, owner.name, true).await?;
    }
    Ok(())
}

impl<'a> Resource<'a> {
    fn of(object: &'a Value) -> Option<Resource<'a>> {
        let kind = object["kind"].as_str()?.to_lowercase();
        Some(Resource { kind, name: object["metadata"]["name"].as_str()?, object })
    }

    fn path(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    fn has_pods(&self) -> bool {
        WITH_PODS.contains(&self.kind.as_str())
    }

    /// Whether kubectl can wait for it: others are only replaced when their pods are deleted.
    fn is_rolled_out(&self) -> bool {
        let strategy = self.object["spec"]["updateStrategy"]["type"].as_str().unwrap_or("RollingUpdate");
        WITH_ROLLOUT.contains(&self.kind.as_str()) && strategy.eq_ignore_ascii_case("RollingUpdate")
    }
}

/// Waits until all are rolled out. One that is not does not keep the others from being told of.
async fn wait(kubectl: &Kubectl<'_>, resources: &[Resource<'_>]) -> Result<(), StepError> {
    let step = kubectl.cluster.step;
    let mut failed = false;
    for resource in resources {
        let path = resource.path();
        let waited = match resource.kind.as_str() {
            _ if resource.is_rolled_out() => kubectl.rollout(&resource.kind, resource.name).await,
            "pod" => wait_for_pod(kubectl, resource.name).await,
            "service" => wait_for_address(kubectl, resource.name).await,
            _ => Ok(()),
        };
        let why = match waited {
            Err(StepError::Failed(why)) => why,
            waited => {
                waited?;
                continue;
            }
        };
        if resource.is_rolled_out() {
            step.error(&why).await;
            failed = true;
        } else {
            step.warning(&format!("Could not determine the status of {path} due to the error: {why}")).await;
        }
        kubectl.execute(arguments([&"describe", &resource.kind, &resource.name]), true).await?;
    }
    if failed { Err(StepError::failed("Rollout status check failed.")) } else { Ok(()) }
}

/// An object as the cluster has it.
async fn get(kubectl: &Kubectl<'_>, path: &str) -> Result<Value, StepError> {
    let output = kubectl.execute(arguments([&"get", &path, &"-o", &"json"]), false).await?;
    if output.code != 0 {
        return Err(StepError::failed(output.stderr.trim()));
    }
    serde_json::from_str(output.whole()?)
        .map_err(|error| StepError::Failed(format!("kubectl's answer on {path} is not JSON: {error}")))
}

async fn pause(kubectl: &Kubectl<'_>) -> Result<(), StepError> {
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => Ok(()),
        () = kubectl.cluster.step.cancel.cancelled() => Err(StepError::Canceled),
    }
}

/// Waits until a pod runs, ten minutes at most (`checkPodStatus`).
async fn wait_for_pod(kubectl: &Kubectl<'_>, name: &str) -> Result<(), StepError> {
    let step = kubectl.cluster.step;
    let path = format!("pod/{name}");
    let mut pod = get(kubectl, &path).await?;
    for _ in 0..LOOKS_AT_POD {
        if !matches!(phase(&pod), "" | "Pending" | "Unknown") && is_settled(&pod) {
            break;
        }
        pause(kubectl).await?;
        pod = get(kubectl, &path).await?;
    }
    match phase(&pod) {
        "Succeeded" => step.output(&format!("{path} is successfully rolled out")).await,
        "Running" if is_ready(&pod) => step.output(&format!("{path} is successfully rolled out")).await,
        "Running" => return Err(StepError::failed("All the containers are not in a ready state.")),
        "Failed" => {
            step.error(&format!("{path} rollout failed")).await;
            return Err(StepError::failed("the pod has failed"));
        }
        phase => return Err(StepError::Failed(format!("{path} rollout status: {phase}"))),
    }
    Ok(())
}

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

/// Whether all containers of a running pod are ready, or one of them will not be.
fn is_settled(pod: &Value) -> bool {
    phase(pod) != "Running" || is_ready(pod) || containers(pod).any(|one| one["state"]["running"].is_null())
}

fn is_ready(pod: &Value) -> bool {
    containers(pod).all(|container| container["ready"] == true)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["status"]["containerStatuses"].as_array().into_iter().flatten()
}

/// Waits until a service has the address of its load balancer, three minutes at most.
async fn wait_for_address(kubectl: &Kubectl<'_>, name: &str) -> Result<(), StepError> {
    let step = kubectl.cluster.step;
    let path = format!("service/{name}");
    for look in 0..LOOKS_AT_SERVICE {
        let service = get(kubectl, &path).await?;
        if service["spec"]["type"] != "LoadBalancer" {
            return Ok(());
        }
        let ingress = &service["status"]["loadBalancer"]["ingress"][0];
        if let Some(address) = ingress["ip"].as_str().or_else(|| ingress["hostname"].as_str()) {
            step.output(&format!("service {name} external IP is {address}")).await;
            return Ok(());
        }
        if look == 0 {
            step.output(&format!("Waiting for service {name} external IP assignment")).await;
        }
        pause(kubectl).await?;
    }
    step.warning(&format!("Wait for service {name} external IP assignment timed out")).await;
    Ok(())
}
