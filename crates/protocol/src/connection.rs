//! connectionData and the location service.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Who is calling, and where things are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionData {
    /// Who the credential belongs to.
    pub authenticated_user: Identity,
    /// Whose rights are used.
    pub authorized_user: Identity,
    /// The organization.
    pub instance_id: Uuid,
    /// The deployment.
    pub deployment_id: Uuid,
    /// `hosted` or `onPremises`.
    pub deployment_type: String,
    /// Where things are.
    pub location_service_data: LocationServiceData,
}

/// A person or a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// Its id.
    pub id: Uuid,
    /// Its descriptor, stable for a credential.
    pub descriptor: String,
    /// The same in the newer form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_descriptor: Option<String>,
    /// Its name.
    pub provider_display_name: String,
    /// Whether it may log in.
    pub is_active: bool,
}

/// The table of services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocationServiceData {
    /// Empty: everything is at this address.
    pub service_owner: Uuid,
    /// Names one of the access mappings, when there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_access_mapping_moniker: Option<String>,
    /// The addresses by which all is reached, for clients that ask for services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_mappings: Vec<AccessMapping>,
    /// The table's version.
    pub last_change_id: i32,
    /// The table's version.
    pub last_change_id64: i64,
    /// Services and API locations.
    pub service_definitions: Vec<ServiceDefinition>,
}

/// An address by which an organization is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessMapping {
    /// What people read.
    pub display_name: String,
    /// Its name, such as `PublicAccessMapping`.
    pub moniker: String,
    /// The server.
    pub access_point: String,
    /// Whose address it is.
    pub service_owner: Uuid,
    /// The organization's part of the path.
    pub virtual_directory: String,
}

/// A service, or (with `resource_version` > 0) an API location.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceDefinition {
    /// The area.
    pub service_type: String,
    /// The location's id.
    pub identifier: Uuid,
    /// The resource's name.
    pub display_name: String,
    /// What `relative_path` starts from.
    pub relative_to_setting: String,
    /// The route template.
    pub relative_path: String,
    /// Who serves it.
    pub service_owner: Uuid,
    /// The newest resource version.
    pub resource_version: i32,
    /// The oldest API version, such as `1.0`.
    pub min_version: String,
    /// The newest API version.
    pub max_version: String,
}

/// An API location, as OPTIONS lists them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiResourceLocation {
    /// The location's id.
    pub id: Uuid,
    /// The area.
    pub area: String,
    /// The resource's name.
    pub resource_name: String,
    /// The route template.
    pub route_template: String,
    /// The newest resource version.
    pub resource_version: i32,
    /// The oldest API version.
    pub min_version: String,
    /// The newest API version.
    pub max_version: String,
    /// The newest API version that is no preview.
    pub released_version: String,
}
