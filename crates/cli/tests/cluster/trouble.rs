//! What goes wrong with pods is told in the build.

use crate::world::{World, eventually};

#[test]
fn an_image_that_cannot_be_pulled_is_told_and_fails_the_job() {
    let Some(world) = World::with("image", 1, "  image: 127.0.0.1:9/no/such-image:1\n") else { return };
    let run = world.queue("pool: k8s\nsteps:\n- script: echo never\n");
    run.says("127.0.0.1:9/no/such-image:1");
    let (is_green, text) = run.end();
    assert!(!is_green && !text.contains("never\n"), "{text}");
    world.no_pod_is_left();
}

#[test]
fn a_pod_that_somebody_deletes_ends_its_job_properly() {
    let Some(world) = World::new("gone", 1) else { return };
    let run = world.queue(
        "pool: k8s\nsteps:\n- bash: touch /work/began; sleep 300\n- bash: echo cleaned up\n  condition: always()\n",
    );
    let pod = world.pod_whose_step_began();
    world.kubectl(&["delete", "pod", &pod, "--wait=false"]);
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("cleaned up"), "{text}");
    world.no_pod_is_left();
}

#[test]
fn a_pod_that_is_killed_fails_its_job_with_the_reason() {
    let Some(world) = World::new("killed", 1) else { return };
    let run = world.queue("pool: k8s\nsteps:\n- bash: touch /work/began; sleep 300\n");
    let pod = world.pod_whose_step_began();
    world.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains(&pod), "{text}");
    world.no_pod_is_left();
}

/// As `kubectl drain` does it: nothing happens as long as the job runs, unless somebody takes its protection
/// away. Then the worker ends the job properly.
#[test]
fn a_busy_pod_is_evicted_only_without_its_protection() {
    let Some(world) = World::new("evicted", 1) else { return };
    let run = world.queue(
        "pool: k8s\nsteps:\n- bash: touch /work/began; sleep 300\n- bash: echo cleaned up\n  condition: always()\n",
    );
    let pod = world.pod_whose_step_began();
    let refusal = world.evict(&pod).expect_err("it is protected");
    assert!(refusal.contains("disruption budget"), "{refusal}");
    world.kubectl(&["delete", "poddisruptionbudget", "dayfly-linux"]);
    eventually("it can be evicted", || world.evict(&pod).ok());
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("cleaned up"), "{text}");
    world.no_pod_is_left();
}

/// The pod is pending all the time; the scheduler's own words are in the build, and a cancellation is carried
/// out at once.
#[test]
fn a_job_without_a_node_says_so_and_can_be_cancelled() {
    let spec =
        "  template: { spec: { containers: [{ name: job, resources: { requests: { cpu: \"900\" } } }] } }\n";
    let Some(world) = World::with("pending", 1, spec) else { return };
    let run = world.queue("pool: k8s\nsteps:\n- bash: echo never\n");
    world.is_told_why_it_waits("Insufficient cpu");
    world.kubectl(&["delete", "pipelinejobs", "--all", "--wait=false"]);
    let (is_green, text) = run.end();
    assert!(!is_green && !text.contains("never\n"), "{text}");
    assert!(world.logs().contains("Insufficient cpu"), "it is in the build: {}", world.logs());
    world.no_pod_is_left();
}

#[test]
fn a_job_waits_for_a_quota_and_says_so() {
    let Some(world) = World::new("quota", 1) else { return };
    let quota = |pods| {
        format!(
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{ name: few }}\nspec: {{ hard: {{ pods: \"{pods}\" }} }}\n"
        )
    };
    world.apply(&quota(0));
    let run = world.queue("pool: k8s\nsteps:\n- bash: echo at last\n");
    world.is_told_why_it_waits("exceeded quota: few");
    world.apply(&quota(1));
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("at last"), "{text}");
    assert!(world.logs().contains("exceeded quota: few"), "it is in the build: {}", world.logs());
}

/// The worker outlives its steps: the step fails, and what always runs does.
#[test]
fn a_step_that_uses_too_much_memory_fails_and_the_job_goes_on() {
    let spec =
        "  template: { spec: { containers: [{ name: job, resources: { limits: { memory: 64Mi } } }] } }\n";
    let Some(world) = World::with("memory", 1, spec) else { return };
    let (is_green, text) = world
        .queue(
            "pool: k8s\nsteps:\n- bash: x=$(tail -c 500000000 /dev/zero | tr '\\0' x); echo ${#x}\n\
             - bash: echo cleaned up\n  condition: always()\n  target: host\n",
        )
        .end();
    assert!(!is_green && text.contains("cleaned up"), "{text}");
    // One process is killed, or its whole container: that is the cluster's choice.
    assert!(text.contains("memory"), "{text}");
    world.no_pod_is_left();
}
