//! Controllers that die or freeze at any moment, many jobs at once, a namespace that goes away: each job runs
//! once and nothing is stuck.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::world::{Differences, PAT, Run, World, eventually};

/// Rounds for each moment at which the controller is killed; each takes as long as a Lease lasts. The
/// variable `DAYFLY_TEST_ROUNDS` asks for more.
const ROUNDS: usize = 2;

/// Counts how often steps ran, wherever they did: each tells its name to a port of this process.
struct Tally {
    listener: TcpListener,
    counts: BTreeMap<String, usize>,
}

impl Tally {
    fn new(world: &World) -> Self {
        let listener = TcpListener::bind((world.cluster.address.as_str(), 0)).expect("a port");
        listener.set_nonblocking(true).expect("a port that does not wait");
        Self { listener, counts: BTreeMap::new() }
    }

    /// A command for bash by which a step says that it runs.
    fn command(&self, name: &str) -> String {
        let address = self.listener.local_addr().expect("an address");
        format!("exec 3<>/dev/tcp/{}/{}; echo {name} >&3; exec 3>&-", address.ip(), address.port())
    }

    /// How often each name was told so far.
    fn counts(&mut self) -> &BTreeMap<String, usize> {
        while let Ok((mut stream, _)) = self.listener.accept() {
            stream.set_nonblocking(false).expect("a stream that waits");
            let mut name = String::new();
            stream.read_to_string(&mut name).expect("a name");
            *self.counts.entry(name.trim().to_owned()).or_default() += 1;
        }
        &self.counts
    }

    fn has(&mut self, name: &str) -> bool {
        self.counts().contains_key(name)
    }
}

fn pipeline(steps: &str) -> String {
    format!("pool: k8s\nsteps:\n- checkout: none\n{steps}")
}

fn is_green(run: Run) {
    let (is_green, text) = run.end();
    assert!(is_green, "{text}");
}

#[test]
fn twenty_jobs_on_ten_agents_run_once_each() {
    let Some(world) = World::new("many", 10) else { return };
    let mut tally = Tally::new(&world);
    let runs: Vec<Run> =
        (0..20).map(|_| world.queue(&pipeline(&format!("- bash: {}\n", tally.command("ran"))))).collect();
    let mut most = 0;
    eventually("all jobs have run", || {
        // Those that end have no job any more.
        let columns = "custom-columns=DELETED:.metadata.deletionTimestamp";
        let pods = world.kubectl(&["get", "pods", "--no-headers", "--output", columns]);
        most = most.max(pods.matches("<none>").count());
        (tally.counts().get("ran") >= Some(&20)).then_some(())
    });
    runs.into_iter().for_each(is_green);
    assert!(most <= 10, "{most} pods at a time");
    world.no_pod_is_left();
    assert_eq!(tally.counts().get("ran"), Some(&20));
}

#[test]
fn a_controller_that_is_killed_at_any_moment_loses_no_job_and_runs_none_twice() {
    let Some(mut world) = World::new("crashes", 2) else { return };
    let mut tally = Tally::new(&world);
    let rounds = std::env::var("DAYFLY_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    for round in 0..rounds {
        for moment in ["accepted", "placed", "running", "reporting"] {
            let name = format!("{moment}-{round}");
            // Long enough to be seen while it runs.
            let steps = format!("- bash: {}\n- bash: sleep 2\n", tally.command(&name));
            let before = world.pods();
            let run = world.queue(&pipeline(&steps));
            let has_pod = || world.pods().iter().any(|pod| !before.contains(pod));
            eventually(&format!("the job is {moment}"), || {
                let phases = world.get("pipelinejobs", "{.items[*].status.phase}");
                let is_it = match moment {
                    "accepted" => phases.split_whitespace().any(|phase| phase != "Finished"),
                    "placed" => has_pod(),
                    "running" => tally.has(&name),
                    _ => run.text().contains("succeeded") || tally.has(&name) && !has_pod(),
                };
                is_it.then_some(())
            });
            world.kill_controller();
            world.start_controller();
            is_green(run);
            eventually("the record says that the job is over", || {
                let phases = world.get("pipelinejobs", "{.items[*].status.phase}");
                phases.split_whitespace().all(|phase| phase == "Finished").then_some(())
            });
        }
    }
    // Also not those that a controller had just made when it was killed.
    world.no_pod_is_left();
    assert_eq!(tally.counts().len(), rounds * 4);
    assert!(tally.counts().values().all(|count| *count == 1), "{:?}", tally.counts);
}

#[test]
fn a_controller_that_was_frozen_gives_way_to_the_one_that_took_over() {
    let Some(mut world) = World::new("frozen", 2) else { return };
    let mut tally = Tally::new(&world);
    let frozen = world.controller_signal("STOP");
    let began = Instant::now();
    world.start_another_controller("second");
    let run = world.queue(&pipeline(&format!("- bash: {}\n", tally.command("meanwhile"))));
    eventually("the second controller runs the job", || tally.has("meanwhile").then_some(()));
    is_green(run);
    // The freeze itself is what is tested: longer than a Lease lasts.
    std::thread::sleep(Duration::from_secs(30).saturating_sub(began.elapsed()));
    World::signal(frozen, "CONT");
    for number in 0..4 {
        let name = format!("after-{number}");
        let run = world.queue(&pipeline(&format!("- bash: {}\n", tally.command(&name))));
        is_green(run);
    }
    world.no_pod_is_left();
    assert_eq!(tally.counts().len(), 5);
    assert!(tally.counts().values().all(|count| *count == 1), "{:?}", tally.counts);
}

/// The second of two replicas takes a running job over from the first, which is frozen or killed, and keeps
/// it.
fn a_job_moves_to_the_second_replica(name: &str, signal: &str) {
    let replicas = Differences { is_behind_service: true, ..Differences::default() };
    let Some(mut world) = World::without_agents(name, 2, &replicas) else { return };
    world.has_online(2);
    world.start_another_controller("second");
    let mut tally = Tally::new(&world);
    let run = world.queue(&pipeline(&format!(
        "- bash: {}; touch /work/began; until [ -e /work/go ]; do sleep 0.1; done\n- bash: {}\n",
        tally.command("before"),
        tally.command("after")
    )));
    let pod = world.pod_whose_step_began();
    assert_eq!(world.holder(), "first");
    let first = world.controller_signal(signal);
    eventually("the second replica has the set", || (world.holder() == "second").then_some(()));
    eventually("it has the job", || (world.get("agentset/linux", "{.status.running}") == "1").then_some(()));
    world.kubectl(&["exec", &pod, "--", "touch", "/work/go"]);
    is_green(run);
    if signal == "STOP" {
        World::signal(first, "CONT");
    }
    is_green(world.queue(&pipeline(&format!("- bash: {}\n", tally.command("next")))));
    world.no_pod_is_left();
    assert_eq!(world.holder(), "second", "the first one came back, and leaves the set alone");
    let once = ["after", "before", "next"].map(|name| (name.to_owned(), 1));
    assert_eq!(tally.counts(), &BTreeMap::from(once));
}

#[test]
fn the_job_of_a_replica_that_is_frozen_moves_to_the_other() {
    a_job_moves_to_the_second_replica("thawed", "STOP");
}

#[test]
fn the_job_of_a_replica_that_is_killed_moves_to_the_other() {
    a_job_moves_to_the_second_replica("replicas", "KILL");
}

#[test]
fn a_namespace_goes_away_whose_controller_comes_too_late() {
    let apart = Differences { is_apart: true, ..Differences::default() };
    let Some(mut world) = World::without_agents("late", 2, &apart) else { return };
    world.has_online(2);
    world.kill_controller();
    let namespace = world.namespace.clone();
    world.kubectl(&["delete", "namespace", &namespace, "--wait=false"]);
    eventually("the Lease is gone", || {
        world.kubectl(&["get", "leases", "--output=name"]).is_empty().then_some(())
    });
    world.start_controller();
    eventually("the namespace is gone", || {
        let get = ["get", "namespace", &namespace, "--ignore-not-found", "--output=name"];
        world.kubectl(&get).is_empty().then_some(())
    });
}

#[test]
fn a_namespace_goes_away_with_its_busy_set_and_its_dead_login() {
    let Some(world) = World::new("doomed", 2) else { return };
    let _run = world.queue("pool: k8s\nsteps:\n- bash: touch /work/began; sleep 600\n");
    world.pod_whose_step_began();
    let dead = r#"{"stringData":{"token":"expired"}}"#;
    world.kubectl(&["patch", "secret", "azure-devops", "--type=merge", "--patch", dead]);
    let namespace = &world.namespace;
    world.kubectl(&["delete", "namespace", namespace, "--timeout=110s"]);
    assert_eq!(world.kubectl(&["get", "namespace", namespace, "--ignore-not-found", "--output=name"]), "");
    assert!(!world.controller_log().contains(PAT), "no login is in the log");
}
