//! Jobs as people write them.

use crate::world::{World, eventually};

#[test]
fn a_job_runs_in_a_pod_of_its_own_which_is_gone_afterwards() {
    let Some(world) = World::new("job", 2) else { return };
    let run = world
        .queue("pool: k8s\nsteps:\n- checkout: self\n- script: echo pod $(hostname) user $(id -u) in $PWD\n");
    let (is_green, text) = run.end();
    assert!(is_green, "{text}");
    assert!(text.contains("pod linux-1-") && text.contains("user 1000 in /work/1/s"), "{text}");
    world.no_pod_is_left();
    eventually("the set has no job any more", || {
        let counts = world.get("agentset/linux", "{.status.running}{.status.pending}{.status.online}");
        (counts == "002").then_some(())
    });
    let metrics = world.metrics();
    for line in [
        "dayfly_jobs_pending 0",
        "dayfly_jobs_total{result=\"succeeded\"} 1",
        "dayfly_job_queue_seconds_count 1",
        "dayfly_pod_start_seconds_count{stage=\"created\"} 1",
        "dayfly_pod_start_seconds_count{stage=\"scheduled\"} 1",
        "dayfly_pod_start_seconds_count{stage=\"running\"} 1",
        "dayfly_pod_start_seconds_count{stage=\"claimed\"} 1",
        "dayfly_requests_total{operation=\"create_agent\",answer=\"ok\"} 2",
    ] {
        assert!(metrics.lines().any(|known| known == line), "no {line} in {metrics}");
    }
}

#[test]
fn a_script_that_fails_fails_its_job_with_its_exit_code() {
    let Some(world) = World::new("failing", 1) else { return };
    let phases = world.watch("pods", "{.status.phase} ");
    let (is_green, text) = world.queue("pool: k8s\nsteps:\n- bash: exit 7\n").end();
    assert!(!is_green, "{text}");
    assert!(text.contains("exited with code '7'"), "{text}");
    world.no_pod_is_left();
    // The pod did what it is for, so nobody is alerted.
    let phases = eventually("the pod has ended", || {
        Some(phases.seen()).filter(|phases| phases.contains("Succeeded") || phases.contains("Failed"))
    });
    assert!(!phases.contains("Failed"), "{phases}");
}

#[test]
fn more_jobs_than_agents_run_in_turn_and_hand_over_outputs() {
    let Some(world) = World::new("many", 3) else { return };
    let (is_green, text) = world
        .queue(
            "pool: k8s\njobs:\n- job: first\n  steps:\n  - bash: echo \"##vso[task.setvariable variable=word;isOutput=true]swordfish\"\n    name: say\n\
             - job: many\n  dependsOn: first\n  strategy:\n    parallel: 6\n  variables:\n    heard: $[ dependencies.first.outputs['say.word'] ]\n  steps:\n  - script: echo heard $(heard) $(System.JobPositionInPhase)\n",
        )
        .end();
    assert!(is_green, "{text}");
    for position in 1..=6 {
        assert!(text.contains(&format!("heard swordfish {position}")), "{position}: {text}");
    }
    world.no_pod_is_left();
}

#[test]
fn a_record_that_is_deleted_cancels_its_job() {
    let Some(world) = World::new("cancelled", 1) else { return };
    let run = world.queue(
        "pool: k8s\nsteps:\n- bash: touch /work/began; sleep 300\n- bash: echo cleaned up\n  condition: always()\n",
    );
    world.pod_whose_step_began();
    world.kubectl(&["delete", "pipelinejobs", "--all", "--wait=false"]);
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("cleaned up"), "{text}");
    world.no_pod_is_left();
    eventually("the record is gone", || {
        world.get("pipelinejobs", "{.items[*].metadata.name}").is_empty().then_some(())
    });
}

/// One job has begun and the other's pod waits for a node.
#[test]
fn a_run_that_is_cancelled_ends_its_jobs_wherever_they_are() {
    let Some(world) = World::with("cancelled", 2, "  jobOverrides: { maxMemory: 9000Gi }\n") else {
        return;
    };
    let run = world.queue(
        "pool: k8s\njobs:\n- job: running\n  steps:\n  - bash: touch /work/began; sleep 300\n  \
         - bash: echo cleaned up\n    condition: always()\n\
         - job: pending\n  variables: { dayfly.memory: 8000Gi }\n  steps:\n  - bash: echo never\n",
    );
    world.is_told_why_it_waits("Insufficient memory");
    world.pod_whose_step_began();
    world.cancel();
    let (is_green, text) = run.end();
    assert!(!is_green && text.contains("cleaned up") && !text.contains("never\n"), "{text}");
    eventually("both records say so", || {
        (world.get("pipelinejobs", "{.items[*].status.result}") == "Canceled Canceled").then_some(())
    });
    world.no_pod_is_left();
}

#[test]
fn a_set_that_is_deleted_lets_its_job_end_and_leaves_no_agent_in_the_pool() {
    let Some(world) = World::new("deleted", 2) else { return };
    assert_eq!(world.agents(), 2);
    let run = world.queue("pool: k8s\nsteps:\n- bash: touch /work/began; sleep 8; echo ended\n");
    world.pod_whose_step_began();
    world.kubectl(&["delete", "agentset", "linux", "--wait=false"]);
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("ended"), "{text}");
    eventually("the set is gone", || {
        world.get("agentsets", "{.items[*].metadata.name}").is_empty().then_some(())
    });
    assert_eq!(world.agents(), 0);
}
