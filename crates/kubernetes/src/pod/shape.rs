//! From a set and a job to the pod that runs it.

use dayfly_protocol::job::AgentJobRequestMessage;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    Facts, Job, PullLogins, ShapeError,
    containers::{self, AGENT_CONTAINER, CHANNEL, DAYFLY, STEP_HOSTS, TRUST, WORK},
    overrides::Overrides,
    template,
};
use crate::{
    api::{AgentSetSpec, ContainerUser, Delivery, Layout},
    identity::TOKEN_AUDIENCE,
    names::{AGENT_SET_LABEL, BUSY, JOB_LABEL, MANAGED_BY, MANAGER, STATE_LABEL},
};

/// How long that token is valid, in seconds; the kubelet renews it.
const TOKEN_SECONDS: u32 = 3600;

/// How long the worker has to end its job when the pod is deleted, in seconds.
const GRACE_SECONDS: u32 = 120;

/// What the pod may live longer than the job's own time-out, in minutes: for its start and its last reports.
const DEADLINE_MARGIN: u64 = 10;

/// User and group of the steps where the set does not say otherwise.
const USER: u32 = 1000;

/// Longest name of a pod that is also a host name, and longest value of a label.
const LABEL_LENGTH: usize = 63;

/// A pod for a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Shaped {
    /// The pod (`v1`, JSON), without a namespace.
    pub pod: Value,
    /// What the pipeline asks for and the pod does not have, for the job's log.
    pub left_out: Vec<String>,
    /// What must be in a Secret with the pod's name, which the pod takes its pull logins from.
    pub pull_logins: Option<PullLogins>,
}

/// The pod for a job of the set with that name.
///
/// The worker runs in `agent`, the steps in `job` and in further containers that the pipeline names; with one
/// container all of it in `agent`. Services are sidecars, which start first and end last.
///
/// # Errors
///
/// When the set does not say enough, or the job asks for what its pod must not have.
pub fn shape(set: &AgentSetSpec, set_name: &str, job: &Job<'_>, facts: &Facts) -> Result<Shaped, ShapeError> {
    if set_name.len() > LABEL_LENGTH {
        return Err(ShapeError::LongName(set_name.to_owned()));
    }
    let overrides = Overrides::of(set, set_name, job.message)?;
    let job_image = overrides.image.as_deref();
    let (containers, left_out) = containers::of(set, set_name, job_image, job.message, facts)?;
    let mut spec = json!({
        "serviceAccountName": facts.service_account,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(set.container_user),
        "containers": containers.regular,
        "volumes": volumes(set, facts),
    });
    if !containers.first.is_empty() {
        spec["initContainers"] = containers.first.into();
    }
    if !containers.service_names.is_empty() {
        spec["hostAliases"] = json!([{ "ip": "127.0.0.1", "hostnames": containers.service_names }]);
    }
    if set.container_user == ContainerUser::Root {
        spec["hostUsers"] = json!(false);
    }
    if let Some(seconds) = deadline(job.message) {
        spec["activeDeadlineSeconds"] = json!(seconds);
    }
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "annotations": {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
                // What `kubectl logs` and `kubectl exec` take where nobody says otherwise.
                "kubectl.kubernetes.io/default-container": AGENT_CONTAINER,
            },
        },
        "spec": spec,
    });
    if let Some(template) = &set.template {
        let merged = template::merge(&mut pod, template).and_then(|()| is_pod(&pod));
        merged.map_err(|reason| ShapeError::Template { set: set_name.to_owned(), reason })?;
    }
    overrides.apply(&mut pod, containers::of_steps(set));
    own(&mut pod, set_name, job);
    let pull_logins = containers.pull_logins;
    if pull_logins.is_some() {
        add_pull_secret(&mut pod);
    }
    Ok(Shaped { pod, left_out, pull_logins })
}

/// Whether all fields that Kubernetes knows have the types that it wants. What is put into the pod afterwards
/// relies on that.
fn is_pod(pod: &Value) -> Result<(), String> {
    serde_path_to_error::deserialize::<_, Pod>(pod).map(drop).map_err(|error| error.to_string())
}

/// What no template may change: the pod must be found again, and its worker must not run twice.
fn own(pod: &mut Value, set_name: &str, job: &Job<'_>) {
    pod["metadata"]["name"] = json!(name(set_name, job));
    for (label, value) in [
        (MANAGED_BY, MANAGER),
        (AGENT_SET_LABEL, set_name),
        (JOB_LABEL, job.message.request_id.to_string().as_str()),
        (STATE_LABEL, BUSY),
    ] {
        pod["metadata"]["labels"][label] = json!(value);
    }
    pod["spec"]["restartPolicy"] = json!("Never");
}

/// Has the kubelet take the logins of the pipeline's registries beside those of the template.
fn add_pull_secret(pod: &mut Value) {
    let secret = json!({ "name": pod["metadata"]["name"] });
    match pod["spec"]["imagePullSecrets"].as_array_mut() {
        Some(secrets) => secrets.push(secret),
        None => pod["spec"]["imagePullSecrets"] = json!([secret]),
    }
}

/// `<set>-<request id>-<nonce>`, a DNS label: the set's name gives way where it would be too long.
fn name(set_name: &str, job: &Job<'_>) -> String {
    let suffix = format!("-{}-{}", job.message.request_id, job.nonce);
    let mut prefix = set_name.replace('.', "-");
    prefix.truncate(LABEL_LENGTH.saturating_sub(suffix.len()));
    format!("{}{suffix}", prefix.trim_end_matches('-'))
}

/// The job's own time-out and some minutes, in seconds. None where the job has no time-out.
fn deadline(message: &AgentJobRequestMessage) -> Option<u64> {
    let minutes: u64 = message.variable("system.jobTimeout")?.trim().parse().ok()?;
    if minutes == 0 {
        return None;
    }
    // The API server refuses deadlines beyond the range of `int32`.
    Some(minutes.saturating_add(DEADLINE_MARGIN).saturating_mul(60).min(u64::from(i32::MAX.unsigned_abs())))
}

fn pod_security(user: ContainerUser) -> Value {
    let seccomp = json!({ "type": "RuntimeDefault" });
    match user {
        ContainerUser::Dayfly => json!({
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": seccomp,
        }),
        ContainerUser::Image => {
            json!({ "runAsNonRoot": true, "fsGroup": USER, "seccompProfile": seccomp })
        }
        ContainerUser::Root => {
            json!({ "runAsUser": 0, "runAsGroup": 0, "fsGroup": USER, "seccompProfile": seccomp })
        }
    }
}

fn volumes(set: &AgentSetSpec, facts: &Facts) -> Value {
    let token = json!({ "audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token" });
    let ca = json!({ "name": facts.ca.name, "items": [{ "key": facts.ca.key, "path": "ca.crt" }] });
    let dayfly = match containers::delivery(set, facts) {
        Delivery::Copy => json!({ "name": DAYFLY, "emptyDir": {} }),
        Delivery::ImageVolume | Delivery::Auto => {
            json!({ "name": DAYFLY, "image": { "reference": facts.dayfly_image } })
        }
    };
    let mut volumes = vec![
        dayfly,
        // One volume for both, since each one delays the start.
        json!({
            "name": CHANNEL,
            "projected": { "sources": [{ "serviceAccountToken": token }, { "configMap": ca }] },
        }),
        json!({ "name": WORK, "emptyDir": {} }),
    ];
    if let Some(bundle) = &facts.ca_bundle {
        let one = |key: &str| json!([{ "key": key, "path": "ca.crt" }]);
        volumes.push(match (&bundle.config_map_ref, &bundle.secret_ref) {
            (Some(map), _) => {
                json!({ "name": TRUST, "configMap": { "name": map.name, "items": one(&map.key) } })
            }
            (None, Some(secret)) => {
                json!({ "name": TRUST, "secret": { "secretName": secret.name, "items": one(&secret.key) } })
            }
            (None, None) => json!({ "name": TRUST, "emptyDir": {} }),
        });
    }
    if set.layout == Layout::TwoContainers {
        volumes.push(json!({ "name": STEP_HOSTS, "emptyDir": {} }));
    }
    volumes.into()
}
