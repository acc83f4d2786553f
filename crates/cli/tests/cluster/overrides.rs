//! What sets and jobs may say of their pods.

use crate::world::{World, eventually};

#[test]
fn a_job_asks_for_memory_within_what_its_set_allows() {
    let spec = "  jobOverrides: { maxMemory: 256Mi }\n";
    let Some(world) = World::with("overrides", 1, spec) else { return };
    let pipeline = |memory: &str| {
        format!(
            "pool: k8s\nvariables:\n  dayfly.memory: {memory}\nsteps:\n- bash: touch /work/began; \
             until test -e /work/seen; do sleep 0.2; done\n"
        )
    };
    let run = world.queue(&pipeline("192Mi"));
    let pod = world.pod_whose_step_began();
    let limit =
        world.get(&format!("pod/{pod}"), "{.spec.containers[?(@.name=='job')].resources.limits.memory}");
    assert_eq!(limit, "192Mi");
    world.kubectl(&["exec", &pod, "--", "touch", "/work/seen"]);
    assert!(run.end().0);
    let (is_green, text) = world.queue(&pipeline("1Gi")).end();
    assert!(!is_green && text.contains("`jobOverrides.maxMemory` is 256Mi"), "{text}");
}

/// Jobs stay in the queue of the service until the template is right.
#[test]
fn a_template_that_the_cluster_refuses_is_told_before_any_job_fails() {
    let spec = "  template: { spec: { hostNetwork: true } }\n";
    let Some(world) = World::without_agents("template", 1, &spec.into()) else { return };
    let message = world.has_condition("agentset/linux", "TemplateValid", "PodRejected");
    assert!(message.contains("PodSecurity") && message.contains("host namespaces"), "{message}");
    world.has_condition("agentset/linux", "Ready", "TemplateInvalid");
    let events = eventually("it is an event", || {
        let events = world.kubectl(&["events", "--for", "agentset/linux"]);
        events.contains("PodRejected").then_some(events)
    });
    assert!(events.contains("Warning"), "{events}");
    let run = world.queue("pool: k8s\nsteps:\n- script: echo at last\n");
    let patch = r#"{"spec":{"template":null}}"#;
    world.kubectl(&["patch", "agentset", "linux", "--type=merge", "--patch", patch]);
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("at last"), "{text}");
    world.has_condition("agentset/linux", "TemplateValid", "PodAccepted");
}

/// The API server itself drops what it does not know.
#[test]
fn a_template_with_a_mistyped_field_is_told() {
    let spec = "  template: { spec: { nodeSelectr: { disk: ssd } } }\n";
    let Some(world) = World::without_agents("mistyped", 1, &spec.into()) else { return };
    let message = world.has_condition("agentset/linux", "TemplateValid", "PodRejected");
    assert!(message.contains("unknown field \"spec.nodeSelectr\""), "{message}");
}

#[test]
fn idle_agents_are_offline_while_the_cluster_is_full() {
    let spec = "  maxPendingJobs: 1\n  template: { spec: { containers: [{ name: job, \
                resources: { requests: { cpu: \"900\" } } }] } }\n";
    let Some(world) = World::with("full", 3, spec) else { return };
    let run = world.queue("pool: k8s\nsteps:\n- script: echo never\n");
    let message = world.has_condition("agentset/linux", "Ready", "Full");
    assert!(message.ends_with("the jobs that wait for it: 1"), "{message}");
    world.has_online(1);
    world.kubectl(&["delete", "pipelinejobs", "--all", "--wait=false"]);
    assert!(!run.end().0);
    world.has_online(3);
}

/// Another cluster may serve the pool with a set of the same name.
#[test]
fn agents_of_others_keep_their_names() {
    let Some(world) = World::new("foreign", 1) else { return };
    world.register_foreign_agent("linux-2");
    world.kubectl(&[
        "patch",
        "agentset",
        "linux",
        "--type=merge",
        "--patch",
        r#"{"spec":{"agents":{"max":2}}}"#,
    ]);
    world.has_online(2);
    assert_eq!(world.agent_names(), ["linux-1", "linux-2", "linux-3"]);
    world.kubectl(&["delete", "agentset", "linux"]);
    assert_eq!(world.agent_names(), ["linux-2"]);
}
