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
        ca_bundle: None,
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
        .map(|shaped| shaped.pod)
}

#[test]
fn every_field_is_one_that_kubernetes_knows() {
    for (user, layout) in [("Dayfly", "TwoContainers"), ("Image", "OneContainer"), ("Root", "TwoContainers")]
    {
        let more = json!({ "containerUser": user, "layout": layout });
        let pod = shaped(&more, "linux", "60").expect("a pod");
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

/// What was asked of a container and its answer.
fn container<'a>(pod: &'a Value, list: &str, name: &str) -> &'a Value {
    let all = pod["spec"][list].as_array().expect("containers");
    all.iter().find(|container| container["name"] == name).expect("it is there")
}

fn with_containers() -> AgentJobRequestMessage {
    serde_json::from_value(json!({
        "requestId": 42,
        "variables": {
            "flavour": { "value": "mild" }, "password": { "value": "hush", "isSecret": true },
        },
        "jobContainer": "node",
        "jobSidecarContainers": { "db.local": "postgres" },
        "resources": { "containers": [
            { "alias": "node", "properties": { "image": "node:22", "options": "--privileged", "env": { "A": "$(password)" } } },
            { "alias": "python", "properties": { "image": "python:3" } },
            { "alias": "postgres", "properties": {
                "image": "postgres:17", "ports": ["15432:5432", "53/udp"],
                "env": { "FLAVOUR": "$(flavour) $(other)" }, "volumes": ["/data:/data"],
            } },
        ] },
        "steps": [{ "target": { "target": "python" } }, { "target": { "target": "host" } }],
    }))
    .expect("a message")
}

#[test]
fn steps_run_in_containers_of_their_own_beside_services() {
    let message = with_containers();
    let job = Job { message: &message, nonce: "1" };
    let shaped = shape(&set(&json!({ "agentImage": "git:1" })), "linux", &job, &facts()).expect("a pod");
    let pod = &shaped.pod;
    let known: Pod = serde_json::from_value(pod.clone()).expect("a pod of Kubernetes");
    assert_eq!(serde_json::to_value(known).expect("JSON"), *pod);
    let images = ["agent", "job", "step-1"].map(|name| container(pod, "containers", name)["image"].clone());
    assert_eq!(images, ["git:1", "node:22", "python:3"]);
    let service = container(pod, "initContainers", "service-db-local");
    assert_eq!(service["restartPolicy"], "Always");
    assert_eq!(service["env"], json!([{ "name": "FLAVOUR", "value": "mild $$(other)" }]));
    assert_eq!(service["ports"], json!([{ "containerPort": 5432, "protocol": "TCP" }]));
    assert_eq!(pod["spec"]["hostAliases"], json!([{ "ip": "127.0.0.1", "hostnames": ["db.local"] }]));
    assert!(!pod.to_string().contains("hush"), "{pod}");
    let left_out = shaped.left_out.join("\n");
    for part in ["--privileged", "/data:/data", "53/udp"] {
        assert!(left_out.contains(part), "{left_out}");
    }
}

#[test]
fn services_that_listen_on_the_same_port_are_refused() {
    let mut message = with_containers();
    message.job_sidecar_containers.insert("second".to_owned(), "postgres".to_owned());
    let job = Job { message: &message, nonce: "1" };
    let refused = shape(&set(&json!({})), "linux", &job, &facts()).map(|_| ()).expect_err("no pod");
    let (one, other) = ("db.local".to_owned(), "second".to_owned());
    assert_eq!(refused, ShapeError::SamePort { one, other, port: 5432 });
}

#[test]
fn a_service_whose_name_no_host_may_have_is_there_without_it() {
    let mut message = with_containers();
    message.job_sidecar_containers = [("db.local", "postgres"), ("My_DB", "python")]
        .map(|(name, alias)| (name.to_owned(), alias.to_owned()))
        .into();
    let job = Job { message: &message, nonce: "1" };
    let shaped = shape(&set(&json!({})), "linux", &job, &facts()).expect("a pod");
    assert_eq!(shaped.pod["spec"]["hostAliases"][0]["hostnames"], json!(["db.local"]));
    assert_eq!(container(&shaped.pod, "initContainers", "service-my-db")["image"], "python:3");
    assert!(shaped.left_out.iter().any(|text| text.contains("`My_DB`")), "{:?}", shaped.left_out);
}

#[test]
fn only_the_workers_container_has_the_token() {
    let message = with_containers();
    let job = Job { message: &message, nonce: "1" };
    let pod = shape(&set(&json!({})), "linux", &job, &facts()).expect("a pod").pod;
    let all =
        ["initContainers", "containers"].map(|list| pod["spec"][list].as_array().expect("a list").clone());
    for container in all.iter().flatten().filter(|container| container["name"] != "agent") {
        assert!(!container.to_string().contains("channel"), "{container}");
    }
}

#[test]
fn a_template_is_laid_over_the_pod_and_keeps_what_is_ours() {
    let template = json!({
        "metadata": { "labels": { "team": "a", "dayfly.dev/agent-set": "other" }, "name": "mine" },
        "spec": {
            "restartPolicy": "Always", "nodeSelector": { "disk": "ssd" },
            "containers": [{ "name": "job", "resources": { "limits": { "memory": "2Gi" } } }],
        },
    });
    let pod = shaped(&json!({ "template": template }), "linux", "60").expect("a pod");
    assert_eq!(pod["metadata"]["name"], "linux-42-1");
    let labels = &pod["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["dayfly.dev/agent-set"]), (&json!("a"), &json!("linux")));
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(pod["spec"]["nodeSelector"]["disk"], "ssd");
    let job = container(&pod, "containers", "job");
    assert_eq!((&job["image"], &job["resources"]["limits"]["memory"]), (&json!("debian:13"), &json!("2Gi")));
}

#[test]
fn the_program_is_copied_where_images_cannot_be_mounted() {
    let pod = shaped(&json!({ "delivery": "Copy" }), "linux", "60").expect("a pod");
    assert_eq!(container(&pod, "initContainers", "dayfly")["image"], "registry.example/dayfly:1");
    assert_eq!(pod["spec"]["volumes"][0], json!({ "name": "dayfly", "emptyDir": {} }));
}

#[test]
fn what_cannot_be_done_is_refused_in_words() {
    let long = "a".repeat(64);
    for (more, set_name, error) in [
        (json!({ "image": null }), "linux", ShapeError::NoImage("linux".to_owned())),
        (json!({}), long.as_str(), ShapeError::LongName(long.clone())),
    ] {
        assert_eq!(shaped(&more, set_name, "60"), Err(error));
    }
    for template in [
        json!({ "metadata": { "labels": "x" } }),
        json!({ "spec": { "nodeSelector": "x" } }),
        json!({ "spec": { "containers": [{ "name": "job", "resources": { "requests": 1 } }] } }),
    ] {
        let mut more = overrides();
        more["template"] = template.clone();
        let message = asking(&[("dayfly.cpu", "1"), ("dayfly.nodeSelector.disk", "ssd")]);
        let job = Job { message: &message, nonce: "1" };
        let error = shape(&set(&more), "linux", &job, &facts()).expect_err("it is none").to_string();
        assert!(error.contains("invalid type"), "{template}: {error}");
    }
    let error = shaped(&json!({ "template": { "spec": 1 } }), "linux", "60").expect_err("it is none");
    assert_eq!(error.to_string(), "`spec.template` of AgentSet `linux` cannot be used: `spec` is no object");
    let mut message = with_containers();
    let refused = |message: &AgentJobRequestMessage, more: &Value| {
        let job = Job { message, nonce: "1" };
        shape(&set(more), "linux", &job, &facts()).expect_err("it cannot be").to_string()
    };
    assert!(refused(&message, &json!({ "layout": "OneContainer" })).contains("`layout: TwoContainers`"));
    let environment = &mut message.resources.containers[2].properties.env;
    environment.insert("PGPASSWORD".to_owned(), "x$(Password)".to_owned());
    let text = refused(&message, &json!({}));
    assert!(text.contains("`password`") && !text.contains("hush"), "{text}");
}

fn overrides() -> Value {
    json!({ "jobOverrides": {
        "maxCpu": "8", "maxMemory": "16Gi", "images": ["registry.example/ci/*", "alpine:3"],
        "nodeSelector": { "disk": ["ssd", "hdd"] },
    }})
}

fn asking(variables: &[(&str, &str)]) -> AgentJobRequestMessage {
    let variables: serde_json::Map<String, Value> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), json!({ "value": value }))).collect();
    serde_json::from_value(json!({ "requestId": 42, "variables": variables })).expect("a message")
}

#[test]
fn a_job_gets_what_its_variables_ask_for_within_what_the_set_allows() {
    let message = asking(&[
        ("Dayfly.CPU", "4"),
        ("dayfly.memory", "8Gi"),
        ("dayfly.image", "registry.example/ci/rust:1"),
        ("dayfly.nodeSelector.disk", "ssd"),
    ]);
    let mut more = overrides();
    let limits = json!({ "limits": { "cpu": "2", "memory": "1Gi" } });
    more["template"] = json!({ "spec": { "containers": [{ "name": "job", "resources": limits }] } });
    let pod =
        shape(&set(&more), "linux", &Job { message: &message, nonce: "1" }, &facts()).expect("a pod").pod;
    let job = container(&pod, "containers", "job");
    assert_eq!(job["image"], "registry.example/ci/rust:1");
    let resources = json!({
        "requests": { "cpu": "4", "memory": "8Gi" }, "limits": { "cpu": "4", "memory": "8Gi" },
    });
    assert_eq!(job["resources"], resources);
    assert_eq!(pod["spec"]["nodeSelector"], json!({ "disk": "ssd" }));
    assert_eq!(container(&pod, "containers", "agent")["image"], "debian:13");
}

#[test]
fn what_the_set_does_not_allow_is_refused_with_what_it_does() {
    let refused = |more: &Value, variable: &str, value: &str| {
        let message = asking(&[(variable, value)]);
        let job = Job { message: &message, nonce: "1" };
        shape(&set(more), "linux", &job, &facts()).expect_err("it is refused").to_string()
    };
    for (variable, value, reason) in [
        ("dayfly.cpu", "9", "its `jobOverrides.maxCpu` is 8"),
        ("dayfly.memory", "17Gi", "its `jobOverrides.maxMemory` is 16Gi"),
        ("dayfly.cpu", "many", "it is no quantity such as 500m, 4 or 8Gi"),
        ("dayfly.image", "evil:1", "its `jobOverrides.images` allows only registry.example/ci/*, alpine:3"),
        ("dayfly.nodeSelector.disk", "tape", "its `jobOverrides.nodeSelector` allows only ssd, hdd"),
        ("dayfly.nodeSelector.zone", "a", "its `jobOverrides.nodeSelector` has no zone"),
    ] {
        assert_eq!(
            refused(&overrides(), variable, value),
            format!(
                "the variable `{variable}` of this job asks for {value}, which AgentSet `linux` does not allow: {reason}"
            )
        );
    }
    assert!(refused(&json!({}), "dayfly.cpu", "1").ends_with("its `jobOverrides.maxCpu` is not set"));
}

#[test]
fn the_authorities_of_the_connection_are_in_every_container_that_runs_steps() {
    let bundle = json!({ "secretRef": { "name": "company", "key": "root.pem" } });
    let facts = Facts { ca_bundle: serde_json::from_value(bundle).expect("a bundle"), ..facts() };
    let message = with_containers();
    let job = Job { message: &message, nonce: "1" };
    let pod = shape(&set(&json!({})), "linux", &job, &facts).expect("a pod").pod;
    let known: Pod = serde_json::from_value(pod.clone()).expect("a pod of Kubernetes");
    assert_eq!(serde_json::to_value(known).expect("JSON"), pod);
    for name in ["agent", "job", "step-1"] {
        let container = container(&pod, "containers", name).to_string();
        assert!(container.contains("/var/run/dayfly-trust/ca.crt"), "{container}");
        assert!(container.contains(&format!("/work/.ca-{name}.pem")), "{container}");
    }
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    let trust = volumes.iter().find(|volume| volume["name"] == "trust").expect("it is there");
    assert_eq!(trust["secret"]["secretName"], "company");
}
