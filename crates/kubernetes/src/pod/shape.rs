//! From a set and a job to the pod that runs it.

use dayfly_protocol::job::AgentJobRequestMessage;
use serde_json::{Value, json};

use crate::{
    api::{AgentSetSpec, ContainerUser, Delivery},
    identity::TOKEN_AUDIENCE,
    names::{AGENT_SET_LABEL, JOB_LABEL, MANAGED_BY, MANAGER},
};

/// The container that runs the worker.
pub(crate) const AGENT_CONTAINER: &str = "agent";

/// Where the work volume is mounted.
pub(crate) const WORK_DIRECTORY: &str = "/work";

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

/// A job for which a pod is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Its message.
    pub message: &'a AgentJobRequestMessage,
    /// What makes the pod's name its own: a pod that nobody claimed may be replaced, and whoever creates one
    /// twice, since an answer was lost, must find it again.
    pub nonce: &'a str,
}

/// What the controller knows and the set does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Image whose root directory holds the binary `dayfly`.
    pub dayfly_image: String,
    /// Where the controller waits for workers, `HOST:PORT`.
    pub channel: String,
    /// The authority that signed the controller's certificate.
    pub ca: CaConfigMap,
    /// How the binary gets into the pod; `Auto` has been decided by the controller.
    pub delivery: Delivery,
    /// Service account of the pods, whose token proves which pod a worker is in.
    pub service_account: String,
}

/// The key of a ConfigMap in the namespace of the pod that holds authorities in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaConfigMap {
    /// Name of the ConfigMap.
    pub name: String,
    /// Its key.
    pub key: String,
}

/// Why there can be no pod for a job. The text is for the job's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The set has no image.
    #[error("AgentSet `{0}` names no image for its jobs; set `spec.image`")]
    NoImage(String),
    /// The set's name cannot be the value of a label.
    #[error("AgentSet `{0}` has a name of more than 63 characters, too long for a label; use a shorter name")]
    LongName(String),
    /// The set has a template, which cannot be merged yet.
    #[error("AgentSet `{0}` has a `spec.template`, which Dayfly cannot merge yet; remove it")]
    Template(String),
    /// The binary is to be copied, which cannot be done yet.
    #[error(
        "AgentSet `{0}` delivers Dayfly's binary by copying, which Dayfly cannot do yet; use `delivery: \
         ImageVolume` on Kubernetes 1.35 or later"
    )]
    Copy(String),
}

/// The pod (`v1`, JSON) for a job of the set with that name, without a namespace.
///
/// It has one container, `agent`, which runs the worker and its steps in the set's image, whatever layout the
/// set asks for.
///
/// # Errors
///
/// When the set does not say enough, or asks for what Dayfly cannot do.
pub fn shape(set: &AgentSetSpec, set_name: &str, job: &Job<'_>, facts: &Facts) -> Result<Value, ShapeError> {
    let named = || set_name.to_owned();
    let image = set.image.as_deref().ok_or_else(|| ShapeError::NoImage(named()))?;
    if set_name.len() > LABEL_LENGTH {
        return Err(ShapeError::LongName(named()));
    }
    if set.template.is_some() {
        return Err(ShapeError::Template(named()));
    }
    if set.delivery == Delivery::Copy || facts.delivery == Delivery::Copy {
        return Err(ShapeError::Copy(named()));
    }
    let mut spec = json!({
        "serviceAccountName": facts.service_account,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(set.container_user),
        "containers": [agent(image, facts)],
        "volumes": volumes(facts),
    });
    if set.container_user == ContainerUser::Root {
        spec["hostUsers"] = json!(false);
    }
    if let Some(seconds) = deadline(job.message) {
        spec["activeDeadlineSeconds"] = json!(seconds);
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(set_name, job),
            "labels": {
                MANAGED_BY: MANAGER,
                AGENT_SET_LABEL: set_name,
                JOB_LABEL: job.message.request_id.to_string(),
                "dayfly.dev/state": "busy",
            },
            "annotations": {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            },
        },
        "spec": spec,
    }))
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

fn agent(image: &str, facts: &Facts) -> Value {
    json!({
        "name": AGENT_CONTAINER,
        "image": image,
        "command": [
            "/dayfly/dayfly", "worker",
            "--connect", format!("tls:{}", facts.channel),
            "--ca-file", "/var/run/dayfly/ca.crt",
            "--claim-file", "/var/run/dayfly/token",
        ],
        "env": [
            { "name": "HOME", "value": "/work/home" },
            { "name": "TMPDIR", "value": "/work/tmp" },
        ],
        "resources": { "requests": { "cpu": "50m", "memory": "64Mi" } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
        },
        // The kubelet makes the directories that are mounted by `subPath`, so that both exist.
        "volumeMounts": [
            { "name": "dayfly", "mountPath": "/dayfly", "readOnly": true },
            { "name": "channel", "mountPath": "/var/run/dayfly", "readOnly": true },
            { "name": "work", "mountPath": WORK_DIRECTORY },
            { "name": "work", "mountPath": "/work/home", "subPath": "home" },
            { "name": "work", "mountPath": "/work/tmp", "subPath": "tmp" },
        ],
    })
}

fn volumes(facts: &Facts) -> Value {
    let token = json!({ "audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token" });
    let ca = json!({ "name": facts.ca.name, "items": [{ "key": facts.ca.key, "path": "ca.crt" }] });
    json!([
        { "name": "dayfly", "image": { "reference": facts.dayfly_image } },
        // One volume for both, since each one delays the start.
        {
            "name": "channel",
            "projected": { "sources": [{ "serviceAccountToken": token }, { "configMap": ca }] },
        },
        { "name": "work", "emptyDir": {} },
    ])
}
