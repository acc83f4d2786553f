//! The pod of a job: made, found again, deleted.

use std::time::Duration;

use dayfly_client::{describe, pause_around};
use dayfly_listener::{AcceptedJob, Note};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, PostParams, Preconditions},
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{pods::Pods, teller::Teller};
use crate::{
    api::AgentSetSpec,
    cluster::bounded,
    diagnose::Limits,
    pod::{Facts, Job, PullLogins, shape},
};

/// How often something is tried to be made when the cluster does not answer as it should.
pub(super) const TRIES: u32 = 6;

/// Pause after the first failure; doubles with each further one.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

/// Pause between two tries when a quota is used up.
const QUOTA_PAUSE: Duration = Duration::from_secs(5);

/// Where a job is, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) uid: String,
}

impl Place {
    /// The pod as the owner of what goes with it.
    pub(super) fn as_owner(&self) -> OwnerReference {
        let (name, uid) = (self.name.clone(), self.uid.clone());
        OwnerReference { api_version: "v1".into(), kind: "Pod".into(), name, uid, ..Default::default() }
    }
}

/// Why a job has no pod.
#[derive(Debug)]
pub(super) enum Mishap {
    /// Another try would go the same way.
    Final(String),
    /// There may be one, or may have been.
    Lost(String),
}

/// Makes the pod, and says how its images are pulled if the pipeline does. A quota that is used up is waited
/// for as long as a pod may be pending.
pub(super) async fn create(
    pods: &Pods,
    set: &str,
    spec: &AgentSetSpec,
    job: &AcceptedJob,
    facts: &Facts,
    teller: &Teller,
) -> Result<(Place, Option<PullLogins>), Mishap> {
    let shaped = shape(spec, set, &Job { message: &job.message, nonce: &nonce() }, facts)
        .map_err(|error| Mishap::Final(describe(&error)))?;
    // As it is, with fields that are younger than the types we were built with.
    let pod: DynamicObject = serde_json::from_value(shaped.pod)
        .map_err(|error| Mishap::Final(format!("its pod is none that Kubernetes knows: {error}")))?;
    if !shaped.left_out.is_empty() {
        teller.tell(left_out(&shaped.left_out)).await;
    }
    let patience = Limits::of(spec).pending;
    let (began, mut failures, mut is_told) = (Instant::now(), 0, false);
    loop {
        let error = match bounded(pods.any().create(&PostParams::default(), &pod)).await {
            Ok(pod) => return Ok((placed(&pod), shaped.pull_logins)),
            Err(error) => error,
        };
        match &error {
            // The name has our nonce in it, so it is ours: the answer to an earlier try was lost.
            kube::Error::Api(status) if status.is_already_exists() => {
                let name = pod.name_any();
                match bounded(pods.api().get(&name)).await {
                    Ok(pod) => return Ok((placed(&pod), shaped.pull_logins)),
                    Err(error) => {
                        return Err(Mishap::Lost(format!("its pod {name} cannot be read: {error}")));
                    }
                }
            }
            kube::Error::Api(status) if is_quota(&status.message) && began.elapsed() < patience => {
                if !is_told {
                    is_told = true;
                    teller.tell(quota(&status.message)).await;
                }
                sleep(QUOTA_PAUSE).await;
            }
            kube::Error::Api(status) if status.is_forbidden() || is_refusal(status.code) => {
                return Err(Mishap::Final(format!("the cluster refuses the pod: {}", status.message)));
            }
            _ if failures + 1 < TRIES => {
                sleep(pause_around(PAUSE * 2_u32.pow(failures))).await;
                failures += 1;
            }
            _ => return Err(Mishap::Lost(format!("its pod could not be created: {error}"))),
        }
    }
}

fn placed<K: ResourceExt>(pod: &K) -> Place {
    Place { name: pod.name_any(), uid: pod.uid().unwrap_or_default() }
}

/// Five characters that make a pod's name its own.
fn nonce() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())])).collect()
}

/// How a quota that is used up is said (`resourcequota` admission).
pub(crate) fn is_quota(message: &str) -> bool {
    message.contains("exceeded quota:")
}

/// Answers that say that the object itself is wrong, or that there is no such namespace.
fn is_refusal(code: u16) -> bool {
    matches!(code, 400 | 404 | 413 | 422)
}

fn quota(message: &str) -> Note {
    Note {
        word: "quota",
        text: format!("The namespace's quota is used up: {message}"),
        advice: Some("The job goes on when other pods end, or when the quota is raised.".to_owned()),
        is_problem: false,
    }
}

fn left_out(what: &[String]) -> Note {
    Note {
        word: "left-out",
        text: format!("The pod does without {}.", what.join("; ")),
        advice: Some(
            "What the job needs of that, say for pods in `spec.template` of the AgentSet.".to_owned(),
        ),
        is_problem: false,
    }
}

/// Deletes the pod, if it is still that one. That it is not there is fine.
pub(super) async fn delete(pods: &Pods, place: &Place, grace: u32) -> Result<(), kube::Error> {
    let parameters = DeleteParams {
        grace_period_seconds: Some(grace),
        preconditions: Some(Preconditions { uid: Some(place.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    let mut failures = 0;
    loop {
        match bounded(pods.api().delete(&place.name, &parameters)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return Ok(()),
            Err(error) if failures + 1 >= TRIES => return Err(error),
            Err(_) => {
                sleep(pause_around(PAUSE * 2_u32.pow(failures))).await;
                failures += 1;
            }
        }
    }
}
