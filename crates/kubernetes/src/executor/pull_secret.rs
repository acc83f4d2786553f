//! The Secret by which the kubelet logs in to the registries of one job.

use std::collections::BTreeMap;

use dayfly_client::pause_around;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::sleep;

use super::place::{PAUSE, Place, TRIES};
use crate::{
    cluster::bounded,
    names::{AGENT_SET_LABEL, MANAGED_BY, MANAGER},
    pod::PullLogins,
};

/// Makes it. The pod owns it, so that it goes with the pod; so it is made right after the pod, long before
/// the node has come to pull anything. A kubelet that were earlier would pull again ten seconds later.
///
/// # Errors
///
/// What to say of the job, which has no use for its pod then.
pub(super) async fn create(
    client: &Client,
    namespace: &str,
    set: &str,
    place: &Place,
    logins: &PullLogins,
) -> Result<(), String> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let secret = secret(set, place, logins);
    let mut failures = 0;
    loop {
        match bounded(api.create(&PostParams::default(), &secret)).await {
            Ok(_) => return Ok(()),
            // An earlier try made it, whose answer was lost.
            Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                return Err(format!(
                    "the cluster refuses the Secret with its registries' logins: {}. Allow the controller to \
                     create Secrets in the namespace {namespace} (`registryLogins: true` in the chart's \
                     values), or remove `endpoint` from the pipeline's containers and name a Secret in \
                     `spec.template.spec.imagePullSecrets` of the AgentSet",
                    status.message
                ));
            }
            Err(error) if failures + 1 >= TRIES => {
                return Err(format!("the Secret with its registries' logins could not be created: {error}"));
            }
            Err(_) => {
                sleep(pause_around(PAUSE * 2_u32.pow(failures))).await;
                failures += 1;
            }
        }
    }
}

fn secret(set: &str, place: &Place, logins: &PullLogins) -> Secret {
    let labels = [(MANAGED_BY, MANAGER), (AGENT_SET_LABEL, set)];
    Secret {
        metadata: ObjectMeta {
            name: Some(place.name.clone()),
            labels: Some(labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![place.as_owner()]),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        string_data: Some(BTreeMap::from([(".dockerconfigjson".to_owned(), logins.expose().to_owned())])),
        ..Secret::default()
    }
}
