//! Whether the cluster would take the pods of a set: asked by a dry run before there is any job, so that a
//! mistake in a template fails none.

use dayfly_protocol::job::AgentJobRequestMessage;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, Resource as _,
    api::{PartialObjectMeta, PostParams, Request},
};
use serde_json::Value;

use super::status::Finding;
use crate::{
    api::AgentSetSpec,
    cluster::bounded,
    executor::is_quota,
    pod::{Facts, Job, shape},
};

/// The condition that says it.
const TEMPLATE_VALID: &str = "TemplateValid";

/// What the API server says of the pod of a job that wants nothing of its own. `None` where it cannot be
/// told.
pub(super) async fn check(
    client: Client,
    namespace: String,
    set: String,
    spec: AgentSetSpec,
    facts: Facts,
) -> Option<Finding> {
    let finding = |holds, reason, message| Finding { aspect: TEMPLATE_VALID, holds, reason, message };
    let refused = |message: String| Some(finding(false, "PodRejected", message));
    let message = AgentJobRequestMessage::default();
    let shaped = match shape(&spec, &set, &Job { message: &message, nonce: "check" }, &facts) {
        Ok(shaped) => shaped,
        Err(error) => return refused(error.to_string()),
    };
    match bounded(dry_run(&client, &namespace, &shaped.pod)).await {
        Ok(()) => Some(finding(true, "PodAccepted", "the cluster takes the pods of this set".to_owned())),
        // Jobs wait for it, and say so.
        Err(kube::Error::Api(status)) if is_quota(&status.message) => {
            Some(finding(true, "PodAccepted", "the namespace's quota is used up just now".to_owned()))
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
            refused(format!("the cluster refuses the pods of this set: {}", status.message))
        }
        Err(error) => {
            tracing::info!(%error, set, "could not check the pods of a set");
            None
        }
    }
}

/// Whether the API server would create this pod, all of whose fields it must know: those of a mistyped name
/// would be dropped without a word.
async fn dry_run(client: &Client, namespace: &str, pod: &Value) -> Result<(), kube::Error> {
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let body = serde_json::to_vec(pod).map_err(kube::Error::SerdeError)?;
    let request = Request::new(Pod::url_path(&(), Some(namespace))).create(&parameters, body);
    let mut request = request.map_err(kube::Error::BuildRequest)?;
    let strict = format!("{}&fieldValidation=Strict", request.uri());
    *request.uri_mut() = strict.parse().map_err(|error| kube::Error::HttpError(http::Error::from(error)))?;
    client.request::<PartialObjectMeta<Pod>>(request).await.map(drop)
}
