//! The location service: which resources there are, and at which addresses.
//!
//! Microsoft's clients hold ids of resources and ask the service where these are: .NET's by `connectionData`
//! or `OPTIONS _apis`, Python's by `OPTIONS _apis`, Node's by `OPTIONS _apis/<area>`. Ids are those of
//! `TaskResourceIds.cs`, `BuildApi.ts`, `CoreApi.ts` and `LocationsApi.ts`.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dayfly_protocol::ListOf;
use dayfly_protocol::connection::{ApiResourceLocation, ServiceDefinition};
use http::StatusCode;
use serde::Serialize;
use uuid::{Uuid, uuid};

use super::error::ApiError;
use super::extract::{Json, Path};
use super::version;
use crate::app::App;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/_apis/resourceareas", get(list_areas))
        .route("/_apis/resourceareas/{area}", get(get_area))
}

/// One row of the table.
struct Location {
    id: Uuid,
    area: &'static str,
    resource: &'static str,
    template: &'static str,
}

const fn row(id: Uuid, area: &'static str, resource: &'static str, template: &'static str) -> Location {
    Location { id, area, resource, template }
}

/// Every resource with an address. Templates have no slash in front: Python's client adds one.
#[rustfmt::skip]
const LOCATIONS: &[Location] = &[
    row(uuid!("00d9565f-ed9c-4a06-9a50-00e7896ccab4"), "Location", "ConnectionData", "_apis/connectionData"),
    row(uuid!("e81700f7-3be2-46de-8624-2eb35882fcaa"), "Location", "ResourceAreas", "_apis/ResourceAreas/{areaId}"),
    row(uuid!("603fe2ac-9723-48b9-88ad-09305aa6c6e1"), "core", "projects", "_apis/projects/{projectId}"),
    row(uuid!("3e2b80f8-9e6f-441e-8393-005610692d9c"), "FeatureAvailability", "FeatureFlags", "_apis/FeatureFlags/{name}"),
    row(uuid!("b5cc35c2-ff2b-491d-a085-24b6e9f396fd"), "CustomerIntelligence", "Events", "_apis/CustomerIntelligence/Events"),
    row(uuid!("a8c47e17-4d56-4a56-92bb-de7ea7dc65be"), "distributedtask", "pools", "_apis/distributedtask/pools/{poolId}"),
    row(uuid!("e298ef32-5878-4cab-993c-043836571f42"), "distributedtask", "agents", "_apis/distributedtask/pools/{poolId}/agents/{agentId}"),
    row(uuid!("30ba3ada-fedf-4da8-bbb5-dacf2f82e176"), "distributedtask", "usercapabilities", "_apis/distributedtask/pools/{poolId}/agents/{agentId}/usercapabilities"),
    row(uuid!("8cc1b02b-ae49-4516-b5ad-4f9b29967c30"), "distributedtask", "updates", "_apis/distributedtask/pools/{poolId}/agents/{agentId}/updates"),
    row(uuid!("134e239e-2df3-4794-a6f6-24f1f19ec8dc"), "distributedtask", "sessions", "_apis/distributedtask/pools/{poolId}/sessions/{sessionId}"),
    row(uuid!("c3a054f6-7a8a-49c0-944e-3a8e5d7adfd7"), "distributedtask", "messages", "_apis/distributedtask/pools/{poolId}/messages/{messageId}"),
    row(uuid!("fc825784-c92a-4299-9221-998a02d1b54f"), "distributedtask", "jobrequests", "_apis/distributedtask/pools/{poolId}/jobrequests/{requestId}"),
    row(uuid!("8ffcd551-079c-493a-9c02-54346299d144"), "distributedtask", "packages", "_apis/distributedtask/packages/{packageType}/{platform}/{version}"),
    row(uuid!("900fa995-c559-4923-aae7-f8424fe4fbea"), "distributedtask", "queues", "{project}/_apis/distributedtask/queues/{queueId}"),
    row(uuid!("5cecd946-d704-471e-a45f-3b4064fcfaba"), "distributedtask", "plans", "{scopeIdentifier}/_apis/distributedtask/hubs/{hubName}/plans/{planId}"),
    row(uuid!("83597576-cc2c-453c-bea6-2882ae6a1653"), "distributedtask", "timelines", "{scopeIdentifier}/_apis/distributedtask/hubs/{hubName}/plans/{planId}/timelines/{timelineId}"),
    row(uuid!("8893bc5b-35b2-4be7-83cb-99e683551db4"), "distributedtask", "records", "{scopeIdentifier}/_apis/distributedtask/hubs/{hubName}/plans/{planId}/timelines/{timelineId}/records/{recordId}"),
    row(uuid!("858983e4-19bd-4c5e-864c-507b59b58b12"), "distributedtask", "feed", "{scopeIdentifier}/_apis/distributedtask/hubs/{hubName}/plans/{planId}/timelines/{timelineId}/records/{recordId}/feed"),
    row(uuid!("46f5667d-263a-4684-91b1-dff7fdcf64e2"), "distributedtask", "logs", "{scopeIdentifier}/_apis/distributedtask/hubs/{hubName}/plans/{planId}/logs/{logId}"),
    row(uuid!("7898f959-9cdf-4096-b29e-7f293031629e"), "distributedtask", "attachments", "{scopeIdentifier}/_apis/distributedtask/hubs/{hubName}/plans/{planId}/timelines/{timelineId}/records/{recordId}/attachments/{type}/{name}"),
    row(uuid!("eb55e5d6-2f30-4295-b5ed-38da50b1fc52"), "distributedtask", "attachments", "{scopeIdentifier}/_apis/distributedtask/hubs/{hubName}/plans/{planId}/attachments/{type}"),
    row(uuid!("adcfd8bc-b184-43ba-bd84-7c8c6a2ff421"), "distributedtask", "securefiles", "{project}/_apis/distributedtask/securefiles/{secureFileId}"),
    row(uuid!("60aac929-f0cd-4bc8-9ce4-6b30e8f1b1bd"), "distributedtask", "tasks", "_apis/distributedtask/tasks/{taskId}/{versionString}"),
    row(uuid!("0cd358e1-9217-4d94-8269-1c1ee6f93dcf"), "build", "builds", "{project}/_apis/build/builds/{buildId}"),
    row(uuid!("8baac422-4c6e-4de5-8532-db96d92acffa"), "build", "Timeline", "{project}/_apis/build/builds/{buildId}/timeline/{timelineId}"),
    row(uuid!("35a80daf-7f30-45fc-86e8-6b813d9c90df"), "build", "logs", "{project}/_apis/build/builds/{buildId}/logs/{logId}"),
    row(uuid!("6e6114b2-8161-44c8-8f6c-c5505782427f"), "build", "tags", "{project}/_apis/build/builds/{buildId}/tags/{*tag}"),
    row(uuid!("54572c7b-bbd3-45d4-80dc-28be08941620"), "build", "changes", "{project}/_apis/build/builds/{buildId}/changes"),
    row(uuid!("1db06c96-014e-44e1-ac91-90b2d4b3e984"), "build", "artifacts", "{project}/_apis/build/builds/{buildId}/artifacts"),
    row(uuid!("dbeaf647-6167-421a-bda9-c9327b25e2e6"), "build", "definitions", "{project}/_apis/build/definitions/{definitionId}"),
    row(uuid!("28e1305e-2afe-47bf-abaf-cbb0e6a91988"), "pipelines", "pipelines", "{project}/_apis/pipelines/{pipelineId}"),
    row(uuid!("53df2d18-29ea-46a9-bee0-933540f80abf"), "pipelines", "preview", "{project}/_apis/pipelines/{pipelineId}/preview"),
    row(uuid!("7859261e-d2e9-4a68-b820-a5d84cc5bb3d"), "pipelines", "runs", "{project}/_apis/pipelines/{pipelineId}/runs/{runId}"),
    row(uuid!("fb1b6d27-3957-43d5-a14b-a2d70403e545"), "pipelines", "logs", "{project}/_apis/pipelines/{pipelineId}/runs/{runId}/logs/{logId}"),
    row(uuid!("85023071-bd5e-4438-89b0-2a5bf362a19d"), "pipelines", "artifacts", "{project}/_apis/pipelines/{pipelineId}/runs/{runId}/artifacts"),
    row(uuid!("225f7195-f9c7-4d14-ab28-a83f7ff77e1f"), "git", "repositories", "{project}/_apis/git/repositories/{repositoryId}"),
    row(uuid!("e4f5c81e-e250-447b-9fef-bd48471bea5e"), "Container", "Containers", "_apis/resources/Containers/{containerId}/{*itemPath}"),
    row(uuid!("557624af-b29e-4c20-8ab0-0399d2204f3f"), "distributedtask", "events", "{scopeIdentifier}/_apis/distributedtask/hubs/{hubName}/plans/{planId}/events"),
];

/// Areas whose clients ask for their address (`RESOURCE_AREA_ID` of the Node client,
/// `resource_area_identifier` of the Python client).
#[rustfmt::skip]
const AREAS: &[(Uuid, &str)] = &[
    (uuid!("79134c72-4a58-4b42-976c-04e7115f32bf"), "core"),
    (uuid!("a85b8835-c1a1-4aac-ae97-1c3d0ba72dbd"), "distributedtask"),
    (uuid!("5d6898bb-45ec-463f-95f9-54d49c71752e"), "build"),
    (uuid!("965220d5-5bb9-42cf-8d67-9b146df2a5a4"), "build"),
    (uuid!("4e080c62-fa21-4fbc-8fef-2a10a2b38049"), "git"),
    (uuid!("2e0bf237-8973-4ec9-a581-9c3d679d1776"), "pipelines"),
    (uuid!("5264459e-e5e0-4bd8-b118-0985e68a4ec5"), "pipelines"),
    // Tasks of package managers ask where feeds are, whether they use one or not.
    (uuid!("7ab4e64e-c4d8-4f50-ae73-5ef2e21642a5"), "packaging"),
    (uuid!("b3be7473-68ea-4a81-bfc7-9530baaa19ad"), "nuget"),
    (uuid!("4c83cfc1-f33a-477e-a789-29d38ffca52e"), "npm"),
    (uuid!("6f7f8c07-ff36-473c-bcf3-bd6cc9b6c066"), "maven"),
    (uuid!("71f96160-8701-4914-aed9-c44b89f20ccd"), "cargo"),
];

/// What is advertised of every resource.
const RESOURCE_VERSION: i32 = 6;
const MIN_VERSION: &str = "1.0";
const RELEASED_VERSION: &str = "7.1";

/// The table as `connectionData` has it. Each row has a resource version, so that .NET's client takes it for
/// its route table and sends no OPTIONS (`ServerDataProvider.cs`).
pub(crate) fn service_definitions() -> Vec<ServiceDefinition> {
    LOCATIONS
        .iter()
        .map(|location| ServiceDefinition {
            service_type: location.area.to_owned(),
            identifier: location.id,
            display_name: location.resource.to_owned(),
            relative_to_setting: "context".to_owned(),
            relative_path: format!("/{}", location.template),
            service_owner: Uuid::nil(),
            resource_version: RESOURCE_VERSION,
            min_version: MIN_VERSION.to_owned(),
            max_version: version::LATEST.to_owned(),
        })
        .collect()
}

/// Changes with the table.
pub(crate) fn fingerprint() -> Vec<u8> {
    LOCATIONS
        .iter()
        .flat_map(|location| [location.id.as_bytes(), location.template.as_bytes()].concat())
        .collect()
}

/// Answers `OPTIONS _apis` and `OPTIONS _apis/<area>`.
pub(crate) fn options(path: &str) -> Result<Json<ListOf<ApiResourceLocation>>, ApiError> {
    let rest = path.strip_prefix("/_apis").ok_or_else(|| ApiError::no_route(path))?;
    let area = rest.trim_matches('/');
    let locations: Vec<_> = LOCATIONS
        .iter()
        .filter(|location| area.is_empty() || location.area.eq_ignore_ascii_case(area))
        .map(|location| ApiResourceLocation {
            id: location.id,
            area: location.area.to_owned(),
            resource_name: location.resource.to_owned(),
            route_template: location.template.to_owned(),
            resource_version: RESOURCE_VERSION,
            min_version: MIN_VERSION.to_owned(),
            max_version: version::LATEST.to_owned(),
            released_version: RELEASED_VERSION.to_owned(),
        })
        .collect();
    Ok(Json(locations.into()))
}

/// An area and where it is (`ResourceAreaInfo`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceArea {
    id: Uuid,
    name: &'static str,
    location_url: String,
}

fn areas(app: &App) -> impl Iterator<Item = ResourceArea> {
    AREAS.iter().map(|(id, name)| ResourceArea { id: *id, name, location_url: app.base().to_string() })
}

async fn list_areas(State(app): State<App>) -> Json<ListOf<ResourceArea>> {
    Json(areas(&app).collect::<Vec<_>>().into())
}

async fn get_area(State(app): State<App>, Path(id): Path<Uuid>) -> Result<Json<ResourceArea>, ApiError> {
    let area = areas(&app).find(|area| area.id == id);
    area.map(Json).ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "DataNotFoundException",
            format!("resource area {id} does not exist"),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_templates_have_no_slash_in_front() {
        let ids: HashSet<_> = LOCATIONS.iter().map(|location| location.id).collect();
        assert_eq!(ids.len(), LOCATIONS.len());
        assert!(LOCATIONS.iter().all(|location| !location.template.starts_with('/')));
    }
}
