//! Whether we may do in the cluster what a run does, before anything is made there.

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use super::RunError;
use crate::cluster::bounded;

/// What is done in the namespace: verb, resource and its part.
const IN_NAMESPACE: [(&str, &str, &str); 10] = [
    ("create", "configmaps", ""),
    ("delete", "configmaps", ""),
    ("create", "pods", ""),
    ("get", "pods", ""),
    ("list", "pods", ""),
    ("watch", "pods", ""),
    ("delete", "pods", ""),
    ("get", "pods", "log"),
    ("list", "events", ""),
    ("watch", "events", ""),
];

/// Asks for everything at once.
pub(super) async fn check(client: &Client, namespace: &str, server: &str) -> Result<(), RunError> {
    let in_namespace = IN_NAMESPACE.map(|(verb, resource, part)| ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some(verb.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(part.to_owned()).filter(|part| !part.is_empty()),
        ..ResourceAttributes::default()
    });
    // Says which pod a worker is in.
    let token_reviews = ResourceAttributes {
        verb: Some("create".to_owned()),
        group: Some("authentication.k8s.io".to_owned()),
        resource: Some("tokenreviews".to_owned()),
        ..ResourceAttributes::default()
    };
    let asked = in_namespace.into_iter().chain([token_reviews]).map(|wish| missing(client, wish));
    let silent = |source| RunError::Silent { server: server.to_owned(), source: Box::new(source) };
    let missing: Vec<String> = try_join_all(asked).await.map_err(silent)?.into_iter().flatten().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(RunError::Forbidden { missing: missing.join(", "), namespace: namespace.to_owned() })
}

/// The words for something that we may not do.
async fn missing(client: &Client, wish: ResourceAttributes) -> Result<Option<String>, kube::Error> {
    let words = words(&wish);
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(wish),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let answer = bounded(reviews.create(&PostParams::default(), &review)).await?;
    let is_allowed = answer.status.is_some_and(|status| status.allowed);
    Ok((!is_allowed).then_some(words))
}

/// As `kubectl auth can-i` takes it.
fn words(wish: &ResourceAttributes) -> String {
    let part = |text: &Option<String>, before: &str| {
        text.as_ref().map(|text| format!("{before}{text}")).unwrap_or_default()
    };
    let (verb, resource) = (part(&wish.verb, ""), part(&wish.resource, " "));
    let reach = if wish.namespace.is_none() { " (in the whole cluster)" } else { "" };
    format!("{verb}{resource}{}{}{reach}", part(&wish.group, "."), part(&wish.subresource, "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_as_kubectl_takes_it() {
        let wish = |group: Option<&str>, resource: &str, part: Option<&str>| ResourceAttributes {
            namespace: group.is_none().then(|| "team".to_owned()),
            verb: Some("get".to_owned()),
            group: group.map(str::to_owned),
            resource: Some(resource.to_owned()),
            subresource: part.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        assert_eq!(words(&wish(None, "pods", Some("log"))), "get pods/log");
        let group = Some("authentication.k8s.io");
        let expected = "get tokenreviews.authentication.k8s.io (in the whole cluster)";
        assert_eq!(words(&wish(group, "tokenreviews", None)), expected);
    }
}
