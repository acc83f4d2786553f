//! A row for each thing that can be the matter.

use serde_json::{Value, json};

use super::*;

fn limits() -> Limits {
    let seconds = Duration::from_secs;
    Limits { pending: seconds(4), image: seconds(1), create: seconds(2), node_lost: seconds(3) }
}

fn found(status: &Value, events: &Value) -> Option<Diagnosis> {
    let spec = json!({
        "nodeName": "node-1",
        "initContainers": [{ "name": "prepare" }, { "name": "service-db", "restartPolicy": "Always" }],
        "containers": [{ "name": "agent", "resources": { "limits": { "memory": "1Gi" } } }],
    });
    let pod =
        serde_json::from_value(json!({ "metadata": { "name": "pod-1" }, "spec": spec, "status": status }));
    let events: Vec<Event> = serde_json::from_value(events.clone()).expect("events");
    diagnose(&pod.expect("a pod"), &events, &limits())
}

fn waiting(reason: &str, message: &str) -> Value {
    container(&json!({ "waiting": { "reason": reason, "message": message } }))
}

fn container(state: &Value) -> Value {
    let status = json!({
        "name": "agent", "image": "i:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    });
    json!({ "containerStatuses": [status] })
}

/// A container that comes before the worker's.
fn init(name: &str, state: &Value) -> Value {
    json!({ "initContainerStatuses": [
        { "name": name, "image": "i:1", "imageID": "", "ready": false, "restartCount": 0, "state": state },
    ] })
}

fn crash() -> Value {
    json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s restarting" } })
}

/// All containers run as far as the kubelet said last, and the node controller has its doubts since.
fn lost_node(reason: &str) -> Value {
    let mut status = condition("Ready", "False", reason, "");
    let containers = json!({ "type": "ContainersReady", "status": "True" });
    status["conditions"].as_array_mut().expect("conditions").push(containers);
    status
}

fn condition(kind: &str, value: &str, reason: &str, message: &str) -> Value {
    json!({ "conditions": [{ "type": kind, "status": value, "reason": reason, "message": message }] })
}

#[test]
fn everything_that_can_be_the_matter_has_its_word_and_its_verdict() {
    use Verdict::{FailAt, FailNow, Wait};
    let (pull, image) = (|message| waiting("ErrImagePull", message), FailAt(limits().image));
    let create = FailAt(limits().create);
    let rows = [
        (json!({ "reason": "Evicted", "message": "low on memory" }), "evicted", FailNow, true),
        (json!({ "reason": "DeadlineExceeded" }), "deadline", FailNow, false),
        (json!({ "reason": "OutOfcpu", "message": "no cpu" }), "refused", FailNow, true),
        (json!({ "reason": "NodeAffinity" }), "refused", FailNow, true),
        (json!({ "reason": "NodeLost" }), "node-lost", FailNow, true),
        (condition("DisruptionTarget", "True", "PreemptionByScheduler", ""), "preempted", Wait, true),
        (condition("DisruptionTarget", "True", "EvictionByEvictionAPI", ""), "evicted", Wait, true),
        (condition("DisruptionTarget", "True", "DeletionByTaintManager", ""), "tainted", Wait, true),
        (lost_node(""), "node-lost", FailAt(limits().node_lost), true),
        (
            condition("PodScheduled", "False", "Unschedulable", "0/1 nodes: Insufficient cpu"),
            "scheduling",
            FailAt(limits().pending),
            false,
        ),
        (
            container(&json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } })),
            "memory",
            FailNow,
            false,
        ),
        (waiting("InvalidImageName", ""), "image-name", FailNow, false),
        (waiting("ErrImageNeverPull", ""), "image-absent", FailNow, false),
        (pull("i:1: not found"), "image-not-found", image, false),
        (pull("pull access denied, authorization failed"), "image-unauthorized", image, false),
        (pull("429 Too Many Requests - toomanyrequests"), "image-rate-limit", image, false),
        (pull("dial tcp: lookup r.example: no such host"), "image-network", image, false),
        (pull("no match for platform in manifest: not found"), "image-platform", image, false),
        (pull("something else"), "image-pull", image, false),
        (waiting("CreateContainerConfigError", "secret \"x\" not found"), "configuration", FailNow, false),
        (waiting("CreateContainerError", "context deadline exceeded"), "container", create, false),
        (waiting("RunContainerError", "exec /x: exec format error"), "container", FailNow, false),
        (
            container(&json!({ "terminated": { "reason": "StartError", "exitCode": 128 } })),
            "container",
            FailNow,
            true,
        ),
        (
            init("prepare", &json!({ "terminated": { "reason": "Error", "exitCode": 5 } })),
            "init",
            FailNow,
            false,
        ),
        (init("service-db", &crash()), "restarts", create, false),
    ];
    for (status, word, verdict, replaceable) in rows {
        let found = found(&status, &json!([])).unwrap_or_else(|| panic!("nothing found: {status}"));
        assert_eq!((found.word, found.verdict, found.replaceable), (word, verdict, replaceable), "{status}");
    }
}

#[test]
fn what_is_no_trouble_is_not_told() {
    for status in [
        json!({ "phase": "Running" }),
        waiting("ContainerCreating", ""),
        waiting("CreateContainerConfigError", "failed to create subPath directory for volumeMount"),
        container(&json!({ "running": {} })),
        container(&json!({ "terminated": { "reason": "Error", "exitCode": 102 } })),
        init("prepare", &json!({ "terminated": { "reason": "Completed", "exitCode": 0 } })),
        init("service-db", &json!({ "terminated": { "reason": "Error", "exitCode": 1 } })),
        condition("Ready", "False", "ContainersNotReady", ""),
        lost_node("ReadinessGatesNotReady"),
    ] {
        assert_eq!(found(&status, &json!([])), None, "{status}");
    }
}

#[test]
fn the_words_of_the_cluster_and_what_to_do_are_told() {
    let scheduling = condition("PodScheduled", "False", "Unschedulable", "0/1 nodes: Insufficient cpu");
    let told = found(&scheduling, &json!([])).expect("a diagnosis");
    assert_eq!(told.text, "The pod waits for a node: 0/1 nodes: Insufficient cpu");
    assert!(told.advice.is_some_and(|advice| advice.contains("requests")));
    let memory = container(&json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } }));
    let told = found(&memory, &json!([])).expect("a diagnosis");
    assert_eq!(
        told.text,
        "The container agent used more memory than its limit of 1Gi and was killed (exit code 137)."
    );
}

#[test]
fn a_node_that_cannot_start_the_pod_is_told_by_its_warnings_until_something_runs() {
    let event = |reason: &str| json!([{ "metadata": {}, "involvedObject": {}, "reason": reason, "message": "because" }]);
    let told = found(&json!({}), &event("FailedCreatePodSandBox")).expect("a diagnosis");
    assert_eq!((told.word, told.verdict), ("sandbox", Verdict::FailAt(limits().pending)));
    assert_eq!(found(&json!({}), &event("FailedMount")).map(|told| told.word), Some("volume"));
    assert_eq!(found(&container(&json!({ "running": {} })), &event("FailedMount")), None);
}

#[test]
fn who_ends_the_pod_comes_before_what_that_did_to_its_containers() {
    let mut status = container(&json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } }));
    status["reason"] = json!("Evicted");
    assert_eq!(found(&status, &json!([])).map(|told| told.word), Some("evicted"));
}

/// So that the worker does not wait for it.
#[test]
fn a_container_for_steps_that_ends_by_itself_is_told() {
    let ended = |code: i32| {
        let mut status = container(&json!({ "terminated": { "reason": "Error", "exitCode": code } }));
        status["containerStatuses"][0]["name"] = json!("job");
        found(&status, &json!([]))
    };
    let told = ended(127).expect("a diagnosis");
    assert_eq!(told.text, "The container job ended with exit code 127.");
    assert_eq!((told.verdict, told.container.as_deref()), (Verdict::FailNow, Some("job")));
    assert_eq!(ended(0), None, "as it does with its worker");
}

/// A job that runs outlives its services, whatever they do.
#[test]
fn a_service_that_fails_again_and_again_does_not_end_a_job_that_runs() {
    let mut status = init("service-db", &crash());
    status["containerStatuses"] = container(&json!({ "running": {} }))["containerStatuses"].clone();
    status["initContainerStatuses"][0]["lastState"] =
        json!({ "terminated": { "reason": "Error", "exitCode": 7 } });
    let told = found(&status, &json!([])).expect("a diagnosis");
    assert_eq!((told.word, told.verdict, told.is_problem), ("restarts", Verdict::Wait, true));
    assert_eq!(
        told.text,
        "The container service-db is restarted again and again: it ended with exit code 7."
    );
    status["initContainerStatuses"][0]["state"] =
        json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } });
    assert_eq!(found(&status, &json!([])).map(|told| told.verdict), Some(Verdict::Wait));
}

#[test]
fn what_to_do_depends_on_whose_limit_it_was() {
    let advice = |status: &Value| found(status, &json!([])).and_then(|found| found.advice).expect("advice");
    let evicted = |message: &str| advice(&json!({ "reason": "Evicted", "message": message }));
    assert!(evicted("The node was low on resource: memory.").contains("requests"));
    assert!(evicted("Usage of EmptyDir volume \"work\" exceeds the limit \"1Gi\".").contains("that limit"));
    let root = "container has runAsNonRoot and image will run as root";
    assert!(advice(&waiting("CreateContainerConfigError", root)).contains("containerUser"));
}
