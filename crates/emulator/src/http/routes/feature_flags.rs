//! Feature flags, which agents ask for at many points (`FeatureFlagProvider.cs`).

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use serde::Serialize;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::extract::{Json, Path};
use crate::http::query::Query;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/_apis/featureflags/{name}", get(get_flag))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FeatureFlag {
    name: String,
    description: String,
    uri: String,
    effective_state: &'static str,
    explicit_state: &'static str,
}

async fn get_flag(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Json<FeatureFlag>, ApiError> {
    let flags = &app.settings().feature_flags;
    let set = flags.iter().find(|(flag, _)| flag.eq_ignore_ascii_case(&name)).map(|(_, on)| *on);
    // Unless told not to, the service says that it does not know a flag.
    let must_exist = query.text("checkFeatureExists").is_none() || query.flag("checkFeatureExists")?;
    if set.is_none() && must_exist {
        let message = format!("feature flag {name} does not exist");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "MissingFeatureException", message));
    }
    let state = if set == Some(true) { "On" } else { "Off" };
    let uri = app.url(&format!("_apis/FeatureFlags/{name}")).to_string();
    Ok(Json(FeatureFlag {
        name,
        description: String::new(),
        uri,
        effective_state: state,
        explicit_state: if set.is_some() { state } else { "Undefined" },
    }))
}
