//! Says in the status of every `AzureDevOpsConnection` whether it works.

use std::{sync::Arc, time::Duration};

use dayfly_client::{Backoff, RetryPolicy, describe};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use tokio::{sync::watch, time::sleep};

use super::{
    Office,
    status::{EXPIRING, Finding, conditions, is_news},
    trouble::login_reason,
};
use crate::{
    api::{AzureDevOpsConnection, AzureDevOpsConnectionStatus},
    cluster::bounded,
    login::{LoginError, access},
};

/// How often a connection that works is tried again.
const AGAIN: Duration = Duration::from_secs(300);

/// Pauses between two tries of one that does not.
const RETRY: RetryPolicy = RetryPolicy::endless(Duration::from_secs(2), Duration::from_secs(60));

/// How long before its end a credential is said to expire.
const WARNING_DAYS: i32 = 14;

/// One connection.
pub(super) struct Minded {
    office: Arc<Office>,
    wanted: watch::Receiver<Arc<AzureDevOpsConnection>>,
    told: Option<AzureDevOpsConnectionStatus>,
}

impl Minded {
    pub(super) fn new(office: Arc<Office>, wanted: watch::Receiver<Arc<AzureDevOpsConnection>>) -> Self {
        Self { office, wanted, told: None }
    }

    /// Tries it again and again until it is deleted or the controller ends.
    pub(super) async fn run(mut self) {
        let (stop, mut backoff) = (self.office.stop.clone(), Backoff::default());
        let name = {
            let object = self.wanted.borrow();
            format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
        };
        loop {
            let object = self.wanted.borrow_and_update().clone();
            let (ready, pause) = match self.log_in(&object).await {
                Ok(user) => {
                    backoff.succeeded();
                    (Finding::ready(true, "Connected", format!("logged in as {user}")), AGAIN)
                }
                // It was deleted while nobody watched.
                Err(LoginError::Missing { kind: "AzureDevOpsConnection", .. }) => break,
                Err(error) => {
                    self.office.config.watcher.failed("AzureDevOpsConnection");
                    let found = Finding::ready(false, login_reason(&error), describe(&error));
                    (found, backoff.after_failure(&RETRY))
                }
            };
            self.office.config.watcher.connection(&name, Some(ready.holds));
            let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
            let found: Vec<_> = [ready].into_iter().chain(expiry(&object, today)).collect();
            self.tell(&object, &found).await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => {}
                changed = self.wanted.changed() => if changed.is_err() { break },
            }
        }
        self.office.config.watcher.connection(&name, None);
    }

    /// Who the service says that we are.
    async fn log_in(&self, object: &AzureDevOpsConnection) -> Result<String, LoginError> {
        let access =
            access(&self.office, &object.namespace().unwrap_or_default(), &object.name_any()).await?;
        let data = access.manager()?.connection_data().await?;
        Ok(data.authenticated_user.provider_display_name)
    }

    /// Writes what was found, where it is news.
    async fn tell(&mut self, object: &AzureDevOpsConnection, found: &[Finding]) {
        let known = self.told.as_ref().or(object.status.as_ref());
        let before = known.map(|status| status.conditions.as_slice()).unwrap_or_default();
        let status =
            AzureDevOpsConnectionStatus { conditions: conditions(before, found, object.metadata.generation) };
        if known == Some(&status) {
            return;
        }
        let reference = object.object_ref(&());
        for finding in found {
            if is_news(before, finding) {
                self.office.announcer.tell(&reference, finding).await;
            }
        }
        let api = Api::<AzureDevOpsConnection>::namespaced(
            self.office.client.clone(),
            &object.namespace().unwrap_or_default(),
        );
        let patch = Patch::Merge(serde_json::json!({ "status": status }));
        match bounded(api.patch_status(&object.name_any(), &PatchParams::default(), &patch)).await {
            Ok(_) => self.told = Some(status),
            Err(error) => {
                let name = object.name_any();
                tracing::info!(%error, name, "could not write a connection's status");
            }
        }
    }
}

/// What is known of the credential's end on a day.
fn expiry(object: &AzureDevOpsConnection, today: Date) -> Option<Finding> {
    let expires_on = object.spec.auth.personal_access_token.as_ref()?.expires_on.as_deref()?;
    let finding = |holds, reason, message| Finding { aspect: EXPIRING, holds, reason, message };
    let days = expires_on.parse::<Date>().ok().map(|day| (day - today).get_days());
    Some(match days {
        None => finding(false, "Unknown", format!("expiresOn {expires_on:?} is no date such as 2027-03-31")),
        Some(days) if days < 0 => finding(true, "Expired", format!("the token expired on {expires_on}")),
        Some(days) if days <= WARNING_DAYS => finding(
            true,
            "ExpiresSoon",
            format!("the token expires on {expires_on}; put a new one into its Secret"),
        ),
        Some(_) => finding(false, "Valid", format!("the token expires on {expires_on}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_said_to_expire_two_weeks_before() {
        let found = |expires_on: &str| {
            let object: AzureDevOpsConnection = serde_json::from_value(serde_json::json!({
                "apiVersion": "dayfly.dev/v1alpha1",
                "kind": "AzureDevOpsConnection",
                "metadata": { "name": "c" },
                "spec": {
                    "url": "https://dev.azure.com/contoso",
                    "auth": { "personalAccessToken": {
                        "secretRef": { "name": "s", "key": "k" }, "expiresOn": expires_on,
                    }},
                },
            }))
            .expect("a connection");
            let finding = expiry(&object, "2026-12-31".parse().expect("a date")).expect("a finding");
            (finding.holds, finding.reason)
        };
        assert_eq!(found("2027-03-31"), (false, "Valid"));
        assert_eq!(found("2027-01-15"), (false, "Valid"));
        assert_eq!(found("2027-01-14"), (true, "ExpiresSoon"));
        assert_eq!(found("2026-12-30"), (true, "Expired"));
        assert_eq!(found("soon"), (false, "Unknown"));
    }
}
