//! The node or the API server goes away for a while. Nothing else can run on the cluster meanwhile, so these
//! tests run only where variables say how it is done, one at a time.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use dayfly_testing::skip;

use crate::world::{World, eventually};

/// How long the API server is away, in seconds: a few times as long as a Lease lasts. The variable
/// `DAYFLY_TEST_AWAY_SECONDS` asks for more.
const AWAY: u64 = 45;

/// A part of the cluster that can be taken away, by commands for the shell.
struct Part {
    down: String,
    up: String,
}

impl Part {
    /// The one for which there are `DAYFLY_TEST_<name>_DOWN` and `_UP`; else a word about it.
    fn find(name: &str) -> Option<Self> {
        let variable = |way| std::env::var(format!("DAYFLY_TEST_{name}_{way}")).ok();
        let found = (|| Some(Self { down: variable("DOWN")?, up: variable("UP")? }))();
        if found.is_none() {
            skip(&format!(
                "set DAYFLY_TEST_{name}_DOWN and DAYFLY_TEST_{name}_UP to commands that take it away and bring \
                 it back"
            ));
        }
        found
    }

    /// Away until this is dropped.
    fn down(self) -> Away {
        run(&self.down);
        Away { up: self.up }
    }
}

struct Away {
    up: String,
}

impl Drop for Away {
    fn drop(&mut self) {
        run(&self.up);
    }
}

fn run(command: &str) {
    let output = Command::new("bash").args(["-c", command]).output().expect("bash");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A job of so many seconds.
fn waits(seconds: u64) -> String {
    format!("pool: k8s\nsteps:\n- bash: touch /work/began; sleep {seconds}; echo still here\n")
}

#[test]
fn a_running_job_does_not_notice_that_the_api_server_is_away() {
    let Some(api_server) = Part::find("API_SERVER") else { return };
    let Some(world) = World::new("away", 2) else { return };
    let asked = std::env::var("DAYFLY_TEST_AWAY_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let seconds = asked.unwrap_or(AWAY);
    let run = world.queue(&waits(seconds / 3));
    world.pod_whose_step_began();
    let began = Instant::now();
    let away = api_server.down();
    // The time itself is what is tested.
    std::thread::sleep(Duration::from_secs(seconds).saturating_sub(began.elapsed()));
    drop(away);
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("still here"), "{text}");
    let (is_green, text) = world.queue("pool: k8s\nsteps:\n- bash: echo the next one\n").end();
    assert!(is_green && text.contains("the next one"), "{text}");
    world.no_pod_is_left();
    eventually("all records say that their job is over", || {
        let phases = world.get("pipelinejobs", "{.items[*].status.phase}");
        phases.split_whitespace().all(|phase| phase == "Finished").then_some(())
    });
}

#[test]
fn a_job_whose_node_is_lost_says_so_and_fails() {
    let Some(node) = Part::find("NODE") else { return };
    let Some(world) = World::with("lost", 1, "  timeouts: { nodeLostSeconds: 20 }\n") else { return };
    let run = world.queue(&waits(600));
    world.pod_whose_step_began();
    let away = node.down();
    // The cluster gives a node up after up to a minute, and we wait for the end of its pod for another.
    let (is_green, text) = run.end_within(Duration::from_mins(4));
    drop(away);
    assert!(!is_green && text.contains("does not answer"), "{text}");
    let (is_green, text) = world.queue("pool: k8s\nsteps:\n- bash: echo the next one\n").end();
    assert!(is_green && text.contains("the next one"), "{text}");
    world.no_pod_is_left();
}
