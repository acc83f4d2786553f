//! The shape of a job's pod.

use dayfly_kubernetes::api::{AgentSetSpec, Delivery};
use dayfly_kubernetes::pod::{CaConfigMap, Facts, Job, ShapeError, shape};
use dayfly_protocol::job::AgentJobRequestMessage;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

fn facts() -> Facts {
    Facts {
        dayfly_image: "registry.example/dayfly:1".to_owned(),
        channel: "dayfly.dayfly.svc:8443".to_owned(),
        ca: CaConfigMap { name: "dayfly-ca".to_owned(), key: "ca.crt".to_owned() },
        delivery: Delivery::ImageVolume,
        service_account: "dayfly-job".to_owned(),
    }
}

fn set(more: &Value) -> AgentSetSpec {
    let mut spec = json!({
        "connectionRef": "azure", "poolName": "default", "agents": { "max": 3 }, "image": "debian:13",
    });
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).expect("a set")
}

fn message(minutes: &str) -> AgentJobRequestMessage {
    serde_json::from_value(json!({
        "requestId": 42, "variables": { "system.jobTimeout": { "value": minutes } },
    }))
    .expect("a message")
}

fn shaped(more: &Value, set_name: &str, minutes: &str) -> Result<Value, ShapeError> {
    shape(&set(more), set_name, &Job { message: &message(minutes), nonce: "1" }, &facts())
}

#[test]
fn every_field_is_one_that_kubernetes_knows() {
    for user in ["Dayfly", "Image", "Root"] {
        let pod = shaped(&json!({ "containerUser": user }), "linux", "60").expect("a pod");
        let known: Pod = serde_json::from_value(pod.clone()).expect("a pod of Kubernetes");
        assert_eq!(serde_json::to_value(known).expect("JSON"), pod);
    }
}

#[test]
fn only_the_token_for_the_channel_is_in_the_pod() {
    let pod = shaped(&json!({}), "linux", "60").expect("a pod");
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    let sources = pod["spec"]["volumes"][1]["projected"]["sources"].as_array().expect("sources");
    assert_eq!(sources[0]["serviceAccountToken"]["audience"], "dayfly.dev/job-channel");
    assert_eq!(sources[1]["configMap"]["name"], "dayfly-ca");
}

#[test]
fn root_is_root_in_a_user_namespace_only() {
    let root = shaped(&json!({ "containerUser": "Root" }), "linux", "60").expect("a pod");
    assert_eq!(root["spec"]["hostUsers"], false);
    assert_eq!(root["spec"]["securityContext"]["runAsUser"], 0);
    let usual = shaped(&json!({}), "linux", "60").expect("a pod");
    assert_eq!(usual["spec"]["hostUsers"], Value::Null);
    assert_eq!(usual["spec"]["securityContext"]["runAsUser"], 1000);
}

#[test]
fn the_deadline_is_the_time_out_of_the_job_and_ten_minutes() {
    for (minutes, seconds) in
        [("60", json!(4200)), ("0", Value::Null), ("soon", Value::Null), ("99999999999", json!(i32::MAX))]
    {
        let pod = shaped(&json!({}), "linux", minutes).expect("a pod");
        assert_eq!(pod["spec"]["activeDeadlineSeconds"], seconds, "{minutes}");
    }
}

#[test]
fn the_name_is_a_dns_label() {
    let long = "a".repeat(63);
    let cut = format!("{}-42-1", "a".repeat(58));
    for (set_name, name) in [("linux", "linux-42-1"), ("linux.big", "linux-big-42-1"), (&long, cut.as_str())]
    {
        let pod = shaped(&json!({}), set_name, "60").expect("a pod");
        assert_eq!(pod["metadata"]["name"], name);
        assert_eq!(pod["metadata"]["labels"]["dayfly.dev/agent-set"], set_name);
    }
}

#[test]
fn what_cannot_be_done_is_refused_in_words() {
    let long = "a".repeat(64);
    for (more, set_name, error) in [
        (json!({ "image": null }), "linux", ShapeError::NoImage("linux".to_owned())),
        (json!({ "template": {} }), "linux", ShapeError::Template("linux".to_owned())),
        (json!({ "delivery": "Copy" }), "linux", ShapeError::Copy("linux".to_owned())),
        (json!({}), long.as_str(), ShapeError::LongName(long.clone())),
    ] {
        assert_eq!(shaped(&more, set_name, "60"), Err(error));
    }
}
