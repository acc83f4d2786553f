//! What somebody changes of a set and its connection while both are at work.

use crate::world::{World, eventually};

/// One job runs all the time, in the pod that it had from the start.
#[test]
fn changes_are_taken_up_without_a_restart_and_leave_busy_pods_alone() {
    let Some(mut world) = World::new("changes", 1) else { return };
    let busy = world.queue(
        "pool: k8s\nsteps:\n- bash: touch /work/began; until test -e /work/end; do sleep 0.2; done; \
         echo was ${COLOUR:-colourless}\n",
    );
    let pod = world.pod_whose_step_began();

    let template = r#"{"spec":{"containers":[{"name":"job","env":[{"name":"COLOUR","value":"red"}]}]}}"#;
    let patch = format!(r#"{{"spec":{{"agents":{{"max":2}},"template":{template}}}}}"#);
    world.kubectl(&["patch", "agentset", "linux", "--type=merge", "--patch", &patch]);
    world.has_online(2);
    let (is_green, text) = world.queue("pool: k8s\nsteps:\n- bash: echo is $COLOUR\n").end();
    assert!(is_green && text.contains("is red"), "{text}");
    eventually("the first pod alone is left", || (world.pods() == [pod.as_str()]).then_some(()));
    world.kubectl(&["exec", &pod, "--", "touch", "/work/end"]);
    let (is_green, text) = busy.end();
    assert!(is_green && text.contains("was colourless"), "{text}");

    world.move_service();
    eventually("the agents are in the pool of the other service", || (world.agents() == 2).then_some(()));
    world.has_online(2);
    let (is_green, text) = world.queue("pool: k8s\nsteps:\n- bash: echo moved\n").end();
    assert!(is_green && text.contains("moved"), "{text}");
    world.no_pod_is_left();
}
