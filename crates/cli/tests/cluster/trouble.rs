//! What goes wrong with pods is told in the build.

use crate::world::World;

#[test]
fn an_image_that_cannot_be_pulled_is_told_and_fails_the_job() {
    let Some(world) = World::with_image("image", 1, Some("127.0.0.1:9/no/such-image:1")) else { return };
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
