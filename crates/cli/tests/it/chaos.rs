//! Workers, listeners and connections are killed at random points of many jobs; every job has exactly one
//! result all the same, and no step is run twice.
//!
//! Everything is real: `dayfly agent` processes, their workers, HTTP. The randomness comes from a seed, which
//! is printed, and may be set by `DAYFLY_CHAOS_SEED`; the number of kills by `DAYFLY_CHAOS_KILLS`.

use std::{
    collections::{BTreeMap, HashSet},
    process::Stdio,
    time::Duration,
};

use dayfly_emulator::{Fault, FaultRule};
use dayfly_protocol::{JobId, TaskResult, crypto::AgentKey};
use nix::sys::signal::{Signal, kill};

use crate::service::{Process, Service, bounded, children, pid};

/// How often something is killed.
const KILLS: u32 = 200;

/// How many listeners there are at a time.
const LISTENERS: usize = 4;

/// How many jobs wait or run at a time.
const UNFINISHED_JOBS: usize = 8;

/// Each step notes itself, waits a moment so that it can be hit, and notes its end.
const STEP: &str = "echo \"$JOB STEP begin\" >> JOURNAL; sleep 0.05; echo \"$JOB STEP end\" >> JOURNAL";

const STEPS: usize = 3;

/// Where single requests lose their connection: all that listeners and workers ask for (but not the
/// registrations, which are this test's own).
const CUTS: [&str; 6] = [
    "_apis/distributedtask/pools/*/messages",
    "_apis/distributedtask/pools/*/messages/*",
    "_apis/distributedtask/pools/*/jobrequests/*",
    "_apis/distributedtask/pools/*/sessions",
    "*/_apis/distributedtask/hubs/*/plans/*/events",
    "*/_apis/distributedtask/hubs/*/plans/**",
];

/// The kinds of kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Worker,
    Listener,
    Connections,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_every_job_has_one_result_and_no_step_runs_twice() {
    let seed = number("DAYFLY_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let kills = number("DAYFLY_CHAOS_KILLS").map_or(KILLS, |kills| u32::try_from(kills).unwrap());
    println!("DAYFLY_CHAOS_SEED={seed}");
    let mut chaos = Chaos::new(seed).await;
    let mut killed = BTreeMap::new();
    while killed.values().sum::<u32>() < kills {
        chaos.fill_the_queue();
        chaos.replace_the_dead().await;
        tokio::time::sleep(Duration::from_millis(chaos.random.u64(..120))).await;
        if let Some(victim) = chaos.strike() {
            *killed.entry(victim).or_default() += 1;
        }
    }
    println!("killed {killed:?} among {} jobs", chaos.jobs.len());
    chaos.finish().await;
    println!("results {:?}", chaos.check(&killed));
}

struct Chaos {
    service: Service,
    random: fastrand::Rng,
    /// One key for all agents, since making one takes long.
    key: AgentKey,
    listeners: Vec<Process>,
    generation: usize,
    jobs: Vec<JobId>,
    unfinished: HashSet<JobId>,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        let service = Service::new(|settings| {
            // What the dead leave behind is cleared away in seconds instead of minutes.
            settings.lock_duration = Duration::from_secs(6);
            settings.session_timeout = Duration::from_secs(3);
            settings.poll_hold = Duration::from_secs(2);
        })
        .await;
        let mut chaos = Self {
            service,
            random: fastrand::Rng::with_seed(seed),
            key: AgentKey::generate().unwrap(),
            listeners: Vec::new(),
            generation: 0,
            jobs: Vec::new(),
            unfinished: HashSet::new(),
        };
        chaos.replace_the_dead().await;
        // Jobs can only be queued once there is an agent that could run them.
        chaos.service.online("chaos-1").await;
        chaos
    }

    fn fill_the_queue(&mut self) {
        self.service.look();
        self.unfinished.retain(|job| self.service.results(*job).is_empty());
        while self.unfinished.len() < UNFINISHED_JOBS {
            let journal = self.service.path("journal").display().to_string();
            let scripts: Vec<_> = (0..STEPS)
                .map(|number| STEP.replace("STEP", &number.to_string()).replace("JOURNAL", &journal))
                .collect();
            let scripts: Vec<_> = scripts.iter().map(String::as_str).collect();
            let job = self.service.queue(&format!("job {}", self.jobs.len()), &scripts);
            self.jobs.push(job);
            self.unfinished.insert(job);
        }
    }

    /// Starts listeners in the place of those that are dead, each as a new agent: a dead one's session lives
    /// on for a while.
    async fn replace_the_dead(&mut self) {
        self.listeners.retain_mut(|listener| listener.0.try_wait().unwrap().is_none());
        while self.listeners.len() < LISTENERS {
            self.generation += 1;
            let folder = self.service.register(&format!("chaos-{}", self.generation), &self.key).await;
            let mut command = self.service.registered_agent(&folder, &[]);
            // Nobody reads what they print.
            command.stdout(Stdio::null()).stderr(Stdio::null());
            self.listeners.push(Process::spawn(&mut command));
        }
    }

    /// Kills something around a job that runs, if there is one.
    fn strike(&mut self) -> Option<Victim> {
        let pairs: Vec<(u32, u32)> = self
            .listeners
            .iter()
            .flat_map(|listener| {
                children(listener.0.id()).into_iter().map(|worker| (listener.0.id(), worker))
            })
            .collect();
        let (listener, worker) = *pairs.get(self.random.usize(..pairs.len().max(1)))?;
        match self.random.usize(..20) {
            0..9 => {
                kill(pid(worker), Signal::SIGKILL).ok()?;
                Some(Victim::Worker)
            }
            9..12 => {
                kill(pid(listener), Signal::SIGKILL).ok()?;
                Some(Victim::Listener)
            }
            12..15 => (self.service.emulator.cut_connections() > 0).then_some(Victim::Connections),
            _ => {
                // Before the request is handled, or after; whoever asks next is hit.
                let fault = if self.random.usize(..2) == 0 { Fault::DropBefore } else { Fault::DropAfter };
                let requests = self.random.u64(1..=3);
                let path = CUTS[self.random.usize(..CUTS.len())];
                self.service.emulator.add_fault(FaultRule::new(path, fault).times(requests)).ok()?;
                Some(Victim::Connections)
            }
        }
    }

    /// Lets what is left come to its end in peace.
    async fn finish(&mut self) {
        self.replace_the_dead().await;
        for job in self.jobs.clone() {
            self.service.result(job).await;
        }
        for listener in std::mem::take(&mut self.listeners) {
            kill(pid(listener.0.id()), Signal::SIGTERM).unwrap();
            let mut listener = listener;
            bounded("the listener has ended", async {
                while listener.0.try_wait().unwrap().is_none() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        }
        self.service.look();
    }

    /// Returns how many jobs had each result.
    fn check(&self, killed: &BTreeMap<Victim, u32>) -> BTreeMap<TaskResult, usize> {
        assert_eq!(killed.len(), 3, "every kind of victim was hit: {killed:?}");
        let mut results = BTreeMap::new();
        for job in &self.jobs {
            let of_job = self.service.results(*job);
            assert_eq!(of_job.len(), 1, "job {job} has the results {of_job:?}");
            *results.entry(of_job[0].0).or_insert(0) += 1;
        }
        assert!(results.contains_key(&TaskResult::Succeeded), "something survived: {results:?}");
        assert!(results.len() > 1, "something was hit: {results:?}");
        let journal = std::fs::read_to_string(self.service.path("journal")).unwrap();
        let mut lines = BTreeMap::new();
        for line in journal.lines() {
            *lines.entry(line).or_insert(0) += 1;
        }
        let twice: Vec<_> = lines.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "steps ran twice: {twice:?}");
        for job in self.jobs.iter().filter(|job| self.service.results(**job)[0].0 == TaskResult::Succeeded) {
            for step in 0..STEPS {
                assert!(
                    lines.contains_key(format!("{job} {step} end").as_str()),
                    "job {job} succeeded without its step {step}"
                );
            }
        }
        assert_eq!(self.service.emulator.statistics().unfinished_requests, 0);
        results
    }
}
