//! Who we are, and what is switched on.

use dayfly_protocol::connection::ConnectionData;
use http::Method;
use serde::Deserialize;

use crate::connection::Connection;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

/// A feature flag as the service answers it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FeatureFlag {
    effective_state: String,
}

impl Connection {
    /// Who the credential belongs to and what the service is: the cheapest call that proves address and credential.
    pub async fn connection_data(&self) -> Result<ConnectionData> {
        let path = segments!["_apis", "connectionData"];
        let object = format!("of {}", self.url());
        let request = Request::new(Operation::GetConnectionData, object, Method::GET, self.url(), path)
            .query("connectOptions", 1)
            .query("lastChangeId", -1)
            .query("lastChangeId64", -1);
        self.call(request).await
    }

    /// Whether a feature flag is on. Callers take an error for "off", as Microsoft's agent does (`FeatureFlagProvider.cs`).
    pub async fn feature_flag(&self, name: &str) -> Result<bool> {
        let path = segments!["_apis", "FeatureFlags", name];
        let request =
            Request::new(Operation::GetFeatureFlag, format!("{name:?}"), Method::GET, self.url(), path)
                .query("checkFeatureExists", false);
        let flag: FeatureFlag = self.call(request).await?;
        Ok(flag.effective_state.eq_ignore_ascii_case("on"))
    }
}
