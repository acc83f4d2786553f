//! Whose a worker's token is: the API server is asked.

use dayfly_listener::Identify;
use dayfly_protocol::channel::Key;
use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};

/// The audience of the tokens in job pods: nobody but us takes them, above all not the API server.
pub const TOKEN_AUDIENCE: &str = "dayfly.dev/job-channel";

/// Where the API server says to which pod a token is bound (`ServiceAccountTokenPodNodeInfo`, 1.30 and
/// later; the pod's UID is older).
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Finds the pod that a token is bound to, by a `TokenReview`.
#[derive(Clone)]
pub struct PodIdentity {
    client: Client,
}

impl std::fmt::Debug for PodIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PodIdentity").finish_non_exhaustive()
    }
}

impl PodIdentity {
    /// Asks by this client, which needs `create` on `tokenreviews`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn pod_uid(&self, token: &Key) -> Option<String> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.expose().to_owned()),
                audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        match Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review).await {
            Ok(review) => pod_of(&review.status?),
            Err(error) => {
                tracing::warn!(%error, "the API server does not say whose a worker's token is");
                None
            }
        }
    }
}

impl Identify for PodIdentity {
    fn identify<'a>(&'a self, claim: &'a Key) -> BoxFuture<'a, Option<String>> {
        self.pod_uid(claim).boxed()
    }
}

/// The UID of the pod that an accepted token of our audience is bound to.
fn pod_of(status: &TokenReviewStatus) -> Option<String> {
    let is_for_us =
        status.audiences.as_ref().is_some_and(|all| all.iter().any(|audience| audience == TOKEN_AUDIENCE));
    if status.authenticated != Some(true) || !is_for_us {
        return None;
    }
    status.user.as_ref()?.extra.as_ref()?.get(POD_UID)?.first().cloned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn accepted() -> TokenReviewStatus {
        let extra = BTreeMap::from([(POD_UID.to_owned(), vec!["uid-1".to_owned()])]);
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
            user: Some(UserInfo { extra: Some(extra), ..UserInfo::default() }),
            error: None,
        }
    }

    #[test]
    fn a_token_tells_its_pod_only_if_it_is_valid_and_for_us() {
        assert_eq!(pod_of(&accepted()).as_deref(), Some("uid-1"));
        let refused = TokenReviewStatus { authenticated: Some(false), ..accepted() };
        assert_eq!(pod_of(&refused), None);
        let for_others = TokenReviewStatus { audiences: Some(vec!["api".to_owned()]), ..accepted() };
        assert_eq!(pod_of(&for_others), None);
        let old_server = TokenReviewStatus { audiences: None, ..accepted() };
        assert_eq!(pod_of(&old_server), None, "a server that knows no audiences has checked none");
        let of_no_pod = TokenReviewStatus { user: Some(UserInfo::default()), ..accepted() };
        assert_eq!(pod_of(&of_no_pod), None);
    }
}
