//! Jobs in pods beside bare pods of the same shape:
//! `cargo bench -p dayfly --bench pods [-- RUNS [PART ...]]`. The parts: one at a time (`single`), the same
//! with the program copied (`copied`), many at once (`burst`), with services (`services`), ten more while ten
//! run (`more`), what a job costs the API server (`writes`), 200 jobs (`crowd`), and 1,000 agents of which
//! some have jobs, and that are taken over (`agents`). Without parts, all of them.
//!
//! It needs the cluster that `.ci/run cluster` says; without it nothing is measured. Each figure is the time
//! until the first command of a container connects to this process: from the queueing of a job, and from the
//! creation of a pod. The bare pod is the pod of a job with other commands in its containers. Nothing is
//! asserted.

#![expect(dead_code, reason = "the world of the cluster tests has more than is needed here")]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "it is a program that prints figures")]

#[path = "../../tests/cluster/service.rs"]
mod service;
mod usage;
#[path = "../../tests/cluster/world.rs"]
mod world;
mod writes;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::world::{PAT, World};

/// Jobs and pods at once.
const BURST: usize = 20;

/// How often so many are measured.
const BURSTS: usize = 3;

/// Jobs that are queued at once when there are agents for [`BURST`] of them.
const CROWD: usize = 200;

/// After [`Bench::command`]: goes on until its connection is dropped here.
const LAST: &str = "read -r -u 3 || true";

/// Agents that are online at once.
const AGENTS: u16 = 1_000;

/// Jobs that run while that many agents are online.
const BUSY: usize = 100;

/// Where commands connect to, and what starts pods and jobs.
struct Bench {
    world: World,
    listener: TcpListener,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    proxy: Child,
    /// The API server, and the pods there.
    server: String,
    api: String,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn main() {
    let arguments = || std::env::args().skip(1).filter(|argument| argument != "--bench");
    let runs = arguments().find_map(|argument| argument.parse().ok()).unwrap_or(20);
    let parts = arguments().filter(|argument| argument.parse::<usize>().is_err()).collect::<Vec<_>>();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    if PARTS.into_iter().any(&wanted) {
        measure(runs, &wanted);
    }
    if wanted("agents") {
        many_agents();
    }
}

/// What needs a few agents only.
const PARTS: [&str; 7] = ["single", "copied", "burst", "services", "more", "writes", "crowd"];

fn measure(runs: usize, wanted: &impl Fn(&str) -> bool) {
    let Some(world) = World::new("bench", BURST as u16) else { return };
    let mut proxy =
        Command::new("kubectl").args(["proxy", "--port=0"]).stdout(Stdio::piped()).spawn().expect("kubectl");
    let mut line = String::new();
    BufReader::new(proxy.stdout.take().expect("its output")).read_line(&mut line).expect("its address");
    let address = line.trim().rsplit(' ').next().expect("an address");
    let server = format!("http://{address}");
    let api = format!("{server}/api/v1/namespaces/{}/pods", world.namespace);
    let listener = TcpListener::bind((world.cluster.address.as_str(), 0)).expect("a port");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bench = Bench { world, listener, http: reqwest::Client::new(), runtime, proxy, server, api };
    for layout in ["TwoContainers", "OneContainer"] {
        bench.change(&format!(r#"{{"spec":{{"layout":"{layout}"}}}}"#));
        let bare = bench.bare_pod("");
        if wanted("single") {
            bench.one_at_a_time(layout, "", &bare, runs);
        }
        if wanted("burst") {
            bench.burst(layout, &bare);
        }
    }
    if wanted("copied") {
        bench.change(r#"{"spec":{"layout":"TwoContainers","delivery":"Copy"}}"#);
        bench.one_at_a_time("program copied", "", &bench.bare_pod(""), runs);
    }
    bench.change(USUAL);
    for count in [1, 3].into_iter().filter(|_| wanted("services")) {
        let services = bench.services(count);
        let bare = bench.bare_pod(&services);
        bench.one_at_a_time(&format!("{count} services"), &services, &bare, runs);
    }
    if wanted("more") {
        bench.ten_more();
    }
    if wanted("writes") {
        bench.writes();
    }
    if wanted("crowd") {
        bench.crowd();
    }
}

const USUAL: &str = r#"{"spec":{"layout":"TwoContainers","delivery":"Auto"}}"#;

/// How long a thousand agents take to come online, and to be taken over by the next controller.
fn many_agents() {
    // So that the node has room for [`BUSY`] pods.
    let small =
        "  template: { spec: { containers: [{ name: agent, resources: { requests: { cpu: 5m } } }] } }\n";
    let Some(mut world) = World::without_agents("thousand", AGENTS, &small.into()) else { return };
    let began = Instant::now();
    let all_idle = format!(r#"{{"spec":{{"agents":{{"spare":{AGENTS}}}}}}}"#);
    world.kubectl(&["patch", "agentset", "linux", "--type=merge", "--patch", &all_idle]);
    world.has_online(AGENTS);
    println!("{AGENTS} agents: registered and online in {:.1} s", began.elapsed().as_secs_f64());
    println!(
        "  the controller with them: {}",
        usage::of(world.controller_signal("0"), Duration::from_secs(30))
    );
    busy(&world);
    world.kill_controller();
    let began = Instant::now();
    world.start_controller();
    let zero = || world.get("agentset/linux", "{.status.online}") != AGENTS.to_string();
    world::eventually("the next controller says what it has", || zero().then_some(()));
    world.has_online(AGENTS);
    println!("  taken over after SIGKILL in {:.1} s", began.elapsed().as_secs_f64());
}

/// What a controller uses while a hundred of its agents have jobs.
fn busy(world: &World) {
    let run = world.queue(&format!(
        "pool: k8s\njobs:\n- job: many\n  strategy: {{ parallel: {BUSY} }}\n  steps:\n  - checkout: none\n  \
         - bash: sleep 150\n"
    ));
    let running = || world.get("agentset/linux", "{.status.running}") == BUSY.to_string();
    world::eventually("all jobs run", || running().then_some(()));
    println!(
        "  the controller while {BUSY} of them have jobs: {}",
        usage::of(world.controller_signal("0"), Duration::from_secs(20))
    );
    let _ = run.end_within(Duration::from_secs(400));
}

impl Bench {
    /// Changes the set.
    fn change(&self, patch: &str) {
        self.world.kubectl(&["patch", "agentset", "linux", "--type=merge", "--patch", patch]);
        self.world.has_online(BURST as u16);
    }

    /// A command for bash that tells us that it runs.
    fn command(&self) -> String {
        let address = self.listener.local_addr().expect("an address");
        format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port())
    }

    /// Jobs with `more` in their pipeline, and bare pods like theirs, in turn.
    fn one_at_a_time(&self, what: &str, more: &str, bare: &Value, runs: usize) {
        let pipeline = format!("pool: k8s\n{more}steps:\n- checkout: none\n- bash: {}\n", self.command());
        let (mut pods, mut jobs) = (Vec::new(), Vec::new());
        let before = self.world.metrics();
        for run in 0..=runs {
            let began = Instant::now();
            self.create(bare, &format!("bare-{run}"));
            let pod = self.arrivals(1, began);
            self.delete(&format!("bare-{run}"));
            self.world.no_pod_is_left();
            let began = Instant::now();
            self.queue(&pipeline);
            let job = self.arrivals(1, began);
            self.world.no_pod_is_left();
            // The first of each has more to do.
            if run > 0 {
                pods.extend(pod);
                jobs.extend(job);
            }
        }
        let (pod, job) = (percentiles(&mut pods), percentiles(&mut jobs));
        println!("{}, one at a time, {runs} of each in turn:", what.trim());
        println!("  bare pod of the same shape, created -> process: {}", told(pod));
        println!(
            "  job, queued -> first step's process:            {}, {:.2} x the bare pod",
            told(job),
            job[0].as_secs_f64() / pod[0].as_secs_f64()
        );
        println!("  means since the job was accepted: {}", stages(&before, &self.world.metrics()));
    }

    /// Many at once, so often in turn; the median of the times until the last process.
    fn burst(&self, layout: &str, bare: &Value) {
        // As the bare pods last, or not, so that their pods end while others are made.
        let ends = [("which all last until then:", LAST), ("which end at once:", "true")];
        let (mut pods, mut jobs) = (Vec::new(), ends.map(|_| Vec::new()));
        for _ in 0..BURSTS {
            let began = Instant::now();
            (0..BURST).for_each(|number| self.create(bare, &format!("bare-{number}")));
            pods.push(self.last_of_burst(began));
            (0..BURST).for_each(|number| self.delete(&format!("bare-{number}")));
            self.world.no_pod_is_left();
            for ((_, end), jobs) in ends.iter().zip(&mut jobs) {
                let began = Instant::now();
                self.queue(&format!(
                    "pool: k8s\njobs:\n- job: many\n  strategy: {{ parallel: {BURST} }}\n  steps:\n  - checkout: \
                     none\n  - bash: {}; {end}\n",
                    self.command()
                ));
                jobs.push(self.last_of_burst(began));
                self.world.no_pod_is_left();
            }
        }
        let median = |samples: &mut [Duration]| percentiles(samples)[0].as_secs_f64();
        let bare = median(&mut pods);
        println!("{layout}, {BURST} at once, until the last process, {BURSTS} times in turn:");
        println!("  bare pods, which all last until then:  p50 {bare:.2} s");
        for ((what, _), mut jobs) in ends.into_iter().zip(jobs) {
            let jobs = median(&mut jobs);
            println!("  jobs, {what:<33} p50 {jobs:.2} s, {:.2} x", jobs / bare);
        }
    }

    /// How long after `began` the last of a burst has connected; all connections last until then.
    fn last_of_burst(&self, began: Instant) -> Duration {
        let arrivals = (0..BURST).map(|_| self.arrival(began)).collect::<Vec<_>>();
        arrivals.last().map(|(after, _)| *after).unwrap_or_default()
    }

    /// So many services, in YAML.
    fn services(&self, count: usize) -> String {
        let image = &self.world.cluster.service_image;
        // All containers of a pod share its ports, so each listens at another.
        let container = |n| format!("{{ container: c{n}, image: {image}, env: {{ PORT: {} }} }}", 9418 + n);
        let join = |one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(", ");
        format!(
            "resources: {{ containers: [{}] }}\nservices: {{ {} }}\n",
            join(&container),
            join(&|n| format!("s{n}: c{n}"))
        )
    }

    /// Ten more jobs while ten run.
    fn ten_more(&self) {
        let ten = |step: &str| {
            format!(
                "pool: k8s\njobs:\n- job: ten\n  strategy: {{ parallel: 10 }}\n  steps:\n  - checkout: none\n  - bash: \
                 {}; {step}\n",
                self.command()
            )
        };
        let [first, more] = ["sleep 45", "true"].map(|step| {
            let began = Instant::now();
            self.queue(&ten(step));
            percentiles(&mut self.arrivals(10, began))
        });
        self.world.no_pod_is_left();
        println!("ten jobs: {}; ten more while they run: {}", told(first), told(more));
    }

    /// What the API server writes for a job.
    fn writes(&self) {
        let before = self.writes_so_far();
        let began = Instant::now();
        for _ in 0..10 {
            self.queue(&format!("pool: k8s\nsteps:\n- checkout: none\n- bash: {}\n", self.command()));
            self.arrivals(1, began);
            self.world.no_pod_is_left();
        }
        println!("calls that write, for one of ten jobs, by all of the cluster:");
        for (what, count) in self.writes_so_far() {
            let made = count - before.get(&what).copied().unwrap_or_default();
            if made > 0 {
                println!("  {:4.1}  {what}", f64::from(made) / 10.0);
            }
        }
    }

    fn writes_so_far(&self) -> BTreeMap<String, u32> {
        let text = self.runtime.block_on(async {
            self.http.get(format!("{}/metrics", self.server)).send().await?.error_for_status()?.text().await
        });
        writes::count(&text.expect("its metrics"))
    }

    /// Many more jobs than agents.
    fn crowd(&self) {
        let began = Instant::now();
        for run in 0..CROWD / 50 {
            self.queue(&format!(
                "pool: k8s\njobs:\n- job: many\n  strategy: {{ parallel: 50 }}\n  steps:\n  - checkout: none\n  - \
                 bash: {}; echo {run}-$(System.JobPositionInPhase) >&3\n",
                self.command()
            ));
        }
        let mut ran = BTreeMap::<String, usize>::new();
        for _ in 0..CROWD {
            let (mut stream, _) = self.listener.accept().expect("a connection");
            let mut name = String::new();
            stream.read_to_string(&mut name).expect("a name");
            *ran.entry(name).or_default() += 1;
        }
        let took = began.elapsed().as_secs_f64();
        self.world.no_pod_is_left();
        let twice = ran.values().filter(|count| **count > 1).count();
        println!(
            "{CROWD} jobs on {BURST} agents: {took:.0} s until the last step, {} jobs, {twice} of them twice",
            ran.len()
        );
    }

    /// How long after `began` so many commands have connected.
    fn arrivals(&self, count: usize, began: Instant) -> Vec<Duration> {
        (0..count).map(|_| self.arrival(began).0).collect()
    }

    /// How long after `began` a command has connected, and its connection.
    fn arrival(&self, began: Instant) -> (Duration, TcpStream) {
        let (stream, _) = self.listener.accept().expect("a connection");
        (began.elapsed(), stream)
    }

    fn queue(&self, pipeline: &str) {
        self.world.write_pipeline(pipeline);
        let request = self
            .http
            .post(format!("{}/dayfly/_apis/pipelines/1/runs?api-version=7.1", self.world.url))
            .basic_auth("", Some(PAT))
            .json(&json!({}));
        self.send(request);
    }

    fn create(&self, bare: &Value, name: &str) {
        let mut pod = bare.clone();
        pod["metadata"]["name"] = name.into();
        self.send(self.http.post(&self.api).json(&pod));
    }

    /// With a grace period, however short: a pod that is deleted without one is gone from the API server
    /// before the kubelet has begun to remove it, which then takes its time from what is measured next.
    fn delete(&self, name: &str) {
        self.send(self.http.delete(format!("{}/{name}?gracePeriodSeconds=1", self.api)));
    }

    fn send(&self, request: reqwest::RequestBuilder) {
        let answer = self.runtime.block_on(async { request.send().await?.error_for_status() });
        answer.expect("it is taken");
    }

    /// The pod that a job with `more` in its pipeline has now, with a command that connects in the container
    /// of its steps.
    fn bare_pod(&self, more: &str) -> Value {
        let run = self.world.queue(&format!(
            "pool: k8s\n{more}steps:\n- checkout: none\n- bash: touch /work/began; sleep 3\n"
        ));
        let pod = self.world.pod_whose_step_began();
        let text = self.world.kubectl(&["get", "pod", &pod, "--output", "json"]);
        let mut spec = serde_json::from_str::<Value>(&text).expect("JSON")["spec"].take();
        assert!(run.end().0, "the run succeeds");
        self.world.no_pod_is_left();
        let fields = spec.as_object_mut().expect("an object");
        for field in ["nodeName", "priority", "preemptionPolicy", "tolerations"] {
            fields.remove(field);
        }
        let containers = spec["containers"].as_array_mut().expect("containers");
        let steps = containers.len() - 1;
        for (number, container) in containers.iter_mut().enumerate() {
            container["command"] = match number == steps {
                true => json!(["bash", "-c", format!("{}; {LAST}", self.command())]),
                false => json!(["sleep", "infinity"]),
            };
        }
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": spec })
    }
}

/// The median and the ninetieth percentile.
fn percentiles(samples: &mut [Duration]) -> [Duration; 2] {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    [0.5, 0.9].map(|part| samples[(last as f64 * part).round() as usize])
}

fn told([p50, p90]: [Duration; 2]) -> String {
    format!("p50 {:.3} s, p90 {:.3} s", p50.as_secs_f64(), p90.as_secs_f64())
}

/// When pods came to each stage on average, by the controller's metrics before and after.
fn stages(before: &str, after: &str) -> String {
    let value = |metrics: &str, kind: &str, stage: &str| {
        let name = format!("dayfly_pod_start_seconds_{kind}{{stage=\"{stage}\"}} ");
        let found = metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
        found.unwrap_or(0.0_f64)
    };
    let mean = |stage: &&str| {
        let grown = |kind: &str| value(after, kind, stage) - value(before, kind, stage);
        format!("{stage} {:.2} s", grown("sum") / grown("count"))
    };
    ["created", "scheduled", "running", "claimed"].iter().map(mean).collect::<Vec<_>>().join(", ")
}
