//! `AzureDevOpsConnection`: an organization and how to log in.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, KeyReference};

/// An Azure DevOps organization or collection, and how Dayfly logs in. AgentSets of the same namespace use it
/// by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "dayfly.dev",
    version = "v1alpha1",
    kind = "AzureDevOpsConnection",
    plural = "azuredevopsconnections",
    shortname = "azdo",
    namespaced,
    status = "AzureDevOpsConnectionStatus",
    category = "dayfly",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.url"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AzureDevOpsConnectionSpec {
    /// URL of the organization (https://dev.azure.com/contoso) or of the collection on Azure DevOps Server.
    #[x_kube(validation = (
        "self.matches('^https?://[^/?#@]+([/?#].*)?$')",
        "url must begin with https:// or http:// and a host, without a user name or password"
    ))]
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// How to log in.
    pub auth: Authentication,
    /// TLS to Azure DevOps and to the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Proxy through which Azure DevOps is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// How to log in: set exactly one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "[has(self.personalAccessToken), has(self.servicePrincipal), has(self.workloadIdentity), \
     has(self.managedIdentity)].filter(one, one).size() == 1",
    "auth needs exactly one of personalAccessToken, servicePrincipal, workloadIdentity and managedIdentity"
))]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// Personal access token with the scope Agent Pools (read & manage).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal_access_token: Option<PersonalAccessToken>,
    /// Service principal of Microsoft Entra ID, with a client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_principal: Option<ServicePrincipal>,
    /// Service principal or managed identity of Microsoft Entra ID that trusts the cluster's service
    /// accounts: nothing secret is kept anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
    /// Managed identity of the Azure machine that the controller runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<ManagedIdentity>,
}

/// Where the personal access token is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersonalAccessToken {
    /// Key of a Secret that holds the token. It is read again when it changes.
    pub secret_ref: KeyReference,
    /// The day on which the token expires, such as 2027-03-31: the connection's condition
    /// `CredentialExpiring` warns two weeks before. The service does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date"))]
    pub expires_on: Option<String>,
}

/// A service principal with a client secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePrincipal {
    /// Whose it is.
    #[serde(flatten)]
    pub application: WorkloadIdentity,
    /// Key of a Secret that holds a client secret. It is read again when it changes.
    pub client_secret_ref: KeyReference,
}

/// An application of Microsoft Entra ID; as a workload identity it trusts the token of the controller's
/// service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// The tenant's id.
    #[schemars(length(min = 1, max = 253))]
    pub tenant_id: String,
    /// The application's (client's) id.
    #[schemars(length(min = 1, max = 253))]
    pub client_id: String,
    /// Address of Entra ID. Default: https://login.microsoftonline.com
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = (
        "self.matches('^https?://[^/?#@]+([/?#].*)?$')",
        "authorityHost must begin with https:// and a host"
    ))]
    pub authority_host: Option<String>,
}

/// An identity of the Azure machine that the controller runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedIdentity {
    /// The client id of a user-assigned identity. Default: the machine's only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub client_id: Option<String>,
}

/// TLS settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Certificates (PEM) trusted in addition to the usual authorities, by Dayfly and by the jobs.
    pub ca_bundle: CaBundle,
}

/// Where a bundle of certificates is kept: set exactly one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "has(self.configMapRef) != has(self.secretRef)",
    "caBundle needs exactly one of configMapRef and secretRef"
))]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    /// Key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyReference>,
    /// Key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
}

/// A proxy for HTTP and HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// URL of the proxy. Its user name and password belong into credentialsSecretRef.
    #[x_kube(validation = (
        "self.matches('^https?://[^/@]+/?$')",
        "proxy.url must be http[s]://HOST:PORT; put user name and password into credentialsSecretRef"
    ))]
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Hosts, domains (.contoso.com) and networks (10.0.0.0/8) reached without the proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub no_proxy: Vec<String>,
    /// Secret with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
}

/// A Secret in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SecretName {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What is known of the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureDevOpsConnectionStatus {
    /// Aspects of its state: `Ready`, and `CredentialExpiring` where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
