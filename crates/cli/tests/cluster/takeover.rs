//! Controllers die, logins expire; jobs do not notice.

use std::time::Duration;

use crate::world::{World, eventually};

/// A job that says how often each of its steps ran, long enough to be taken over.
const LONG: &str = "pool: k8s\nsteps:\n- bash: echo once >> /work/count; touch /work/began; sleep 40\n- bash: echo ran $(wc -l < /work/count) time\n";

#[test]
fn a_job_does_not_notice_that_its_controller_is_killed() {
    let Some(mut world) = World::new("takeover", 2) else { return };
    let run = world.queue(LONG);
    let pod = world.pod_whose_step_began();
    for _ in 0..2 {
        world.kill_controller();
        std::thread::sleep(Duration::from_secs(1));
        world.start_controller();
        eventually("the next controller has the job", || {
            (world.get("agentset/linux", "{.status.running}") == "1").then_some(())
        });
    }
    assert_eq!(world.pods(), [pod], "no other pod was made");
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("ran 1 time"), "{text}");
    world.no_pod_is_left();
    eventually("the record says that the job is over", || {
        (world.get("pipelinejobs", "{.items[*].status.phase}") == "Finished").then_some(())
    });
}

#[test]
fn a_login_that_is_void_stops_neither_running_nor_queued_jobs() {
    let Some(mut world) = World::new("void", 2) else { return };
    let run = world.queue(LONG);
    world.pod_whose_step_began();
    world.kubectl(&[
        "patch",
        "secret",
        "azure-devops",
        "--type=merge",
        "--patch",
        r#"{"stringData":{"token":"expired"}}"#,
    ]);
    world.kill_controller();
    world.start_controller();
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("ran 1 time"), "{text}");
    let (is_green, text) = world.queue("pool: k8s\nsteps:\n- script: echo still here\n").end();
    assert!(is_green && text.contains("still here"), "{text}");
    world.renew_login();
}
