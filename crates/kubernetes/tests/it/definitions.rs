//! The custom resource definitions.

use dayfly_kubernetes::api::{AgentSet, AzureDevOpsConnection, definitions};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::api_server::ApiServer;

#[test]
fn all_definitions_together_are_small_enough_for_kubectl_apply() {
    let bytes: usize =
        definitions().iter().map(|crd| serde_json::to_vec(crd).expect("it is JSON").len()).sum();
    assert!(bytes < 100_000, "the definitions have {bytes} bytes");
}

#[test]
fn a_template_keeps_fields_that_dayfly_does_not_know() {
    let set = definitions().into_iter().find(|crd| crd.spec.names.kind == "AgentSet").expect("it is there");
    let schema = serde_json::to_value(&set.spec.versions[0].schema).expect("it is JSON");
    let template = &schema["openAPIV3Schema"]["properties"]["spec"]["properties"]["template"];
    assert_eq!(template["x-kubernetes-preserve-unknown-fields"], true, "{template}");
}

#[test]
fn formats_are_those_that_kubernetes_knows() {
    let text = serde_json::to_string(&definitions()).expect("JSON");
    assert!(!text.contains("uint"), "{text}");
}

/// What the API server says to an object; nothing is kept.
async fn dry_run<K>(server: &ApiServer, namespace: &str, object: &Value) -> Result<K, String>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object.clone()).expect("an object");
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let created = Api::<K>::namespaced(server.client(), namespace).create(&parameters, &object).await;
    created.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_connection_logs_in_in_exactly_one_way() {
    let Some(server) = ApiServer::find().await else { return };
    let namespace = server.namespace().await;
    let token = json!({ "secretRef": { "name": "s", "key": "k" } });
    let principal =
        json!({ "tenantId": "t", "clientId": "c", "clientSecretRef": { "name": "s", "key": "k" } });
    let one = "auth needs exactly one of personalAccessToken, servicePrincipal, workloadIdentity and managedIdentity";
    for (auth, refusal) in [
        (json!({ "personalAccessToken": token }), None),
        (json!({ "servicePrincipal": principal }), None),
        (json!({ "workloadIdentity": { "tenantId": "t", "clientId": "c" } }), None),
        (json!({ "managedIdentity": {} }), None),
        (json!({}), Some(one)),
        (json!({ "personalAccessToken": token, "managedIdentity": {} }), Some(one)),
        (
            json!({ "workloadIdentity": { "tenantId": "t", "clientId": "c", "authorityHost": "ftp://x" } }),
            Some("authorityHost must begin with https://"),
        ),
    ] {
        let connection = json!({
            "apiVersion": "dayfly.dev/v1alpha1",
            "kind": "AzureDevOpsConnection",
            "metadata": { "name": "c" },
            "spec": { "url": "https://dev.azure.com/contoso", "auth": auth },
        });
        let answer = dry_run::<AzureDevOpsConnection>(&server, &namespace, &connection).await;
        match refusal {
            None => assert!(answer.is_ok(), "{auth}: {answer:?}"),
            Some(words) => assert!(answer.is_err_and(|error| error.contains(words)), "{auth}"),
        }
    }
}

#[tokio::test]
async fn a_url_with_a_login_is_refused_before_it_is_kept() {
    let Some(server) = ApiServer::find().await else { return };
    let namespace = server.namespace().await;
    for (url, is_taken) in [
        ("https://dev.azure.com/contoso", true),
        ("https://devops.example:8443/tfs/My@Collection", true),
        ("https://dev.azure.com", true),
        ("https://ada:hush@dev.azure.com/contoso", false),
        ("https://hush@dev.azure.com", false),
        ("dev.azure.com/contoso", false),
    ] {
        let connection = json!({
            "apiVersion": "dayfly.dev/v1alpha1",
            "kind": "AzureDevOpsConnection",
            "metadata": { "name": "c" },
            "spec": { "url": url, "auth": { "managedIdentity": {} } },
        });
        let answer = dry_run::<AzureDevOpsConnection>(&server, &namespace, &connection).await;
        match is_taken {
            true => assert!(answer.is_ok(), "{url}: {answer:?}"),
            false => assert!(answer.is_err_and(|error| error.contains("without a user name")), "{url}"),
        }
    }
}

#[tokio::test]
async fn a_set_that_says_little_gets_what_is_usual() {
    let Some(server) = ApiServer::find().await else { return };
    let namespace = server.namespace().await;
    let set = json!({
        "apiVersion": "dayfly.dev/v1alpha1",
        "kind": "AgentSet",
        "metadata": { "name": "linux" },
        "spec": { "connectionRef": "c", "poolName": "p", "agents": { "max": 3 } },
    });
    let set: AgentSet = dry_run(&server, &namespace, &set).await.expect("it is taken");
    let spec = serde_json::to_value(&set.spec).expect("JSON");
    assert_eq!(
        (&spec["timeouts"]["pendingSeconds"], &spec["ttlSecondsAfterFinished"]),
        (&json!(900), &json!(3600))
    );
}
