//! Jobs in pods beside bare pods of the same shape: `cargo bench -p dayfly --bench pods [-- RUNS]`.
//!
//! It needs the cluster that `.ci/run cluster` says; without it nothing is measured. Each figure is the time
//! until the first command of a container connects to this process: from the queueing of a job, and from the
//! creation of a pod. The bare pod is the pod of a job with other commands in its containers. Nothing is
//! asserted.

#![expect(dead_code, reason = "the world of the cluster tests has more than is needed here")]
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "it is a program that prints figures")]

#[path = "../../tests/cluster/world.rs"]
mod world;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::world::{PAT, World};

/// Jobs and pods at once.
const BURST: usize = 20;

/// Where commands connect to, and what starts pods and jobs.
struct Bench {
    world: World,
    listener: TcpListener,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    proxy: Child,
    api: String,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn main() {
    let runs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20);
    let Some(world) = World::new("bench", BURST as u16) else { return };
    let mut proxy =
        Command::new("kubectl").args(["proxy", "--port=0"]).stdout(Stdio::piped()).spawn().expect("kubectl");
    let mut line = String::new();
    BufReader::new(proxy.stdout.take().expect("its output")).read_line(&mut line).expect("its address");
    let address = line.trim().rsplit(' ').next().expect("an address");
    let api = format!("http://{address}/api/v1/namespaces/{}/pods", world.namespace);
    let listener = TcpListener::bind((world.cluster.address.as_str(), 0)).expect("a port");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bench = Bench { world, listener, http: reqwest::Client::new(), runtime, proxy, api };
    for layout in ["TwoContainers", "OneContainer"] {
        let patch = format!(r#"{{"spec":{{"layout":"{layout}"}}}}"#);
        bench.world.kubectl(&["patch", "agentset", "linux", "--type=merge", "--patch", &patch]);
        bench.world.has_online(BURST as u16);
        let bare = bench.bare_pod();
        bench.one_at_a_time(layout, &bare, runs);
        bench.burst(layout, &bare);
    }
}

impl Bench {
    /// A command for bash that tells us that it runs.
    fn command(&self) -> String {
        let address = self.listener.local_addr().expect("an address");
        format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port())
    }

    fn one_at_a_time(&self, layout: &str, bare: &Value, runs: usize) {
        let pipeline = format!("pool: k8s\nsteps:\n- checkout: none\n- bash: {}\n", self.command());
        let (mut pods, mut jobs) = (Vec::new(), Vec::new());
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
        println!("{layout}, one at a time, {runs} of each in turn:");
        println!("  bare pod of the same shape, created -> process: {}", told(pod));
        println!(
            "  job, queued -> first step's process:            {}, {:.2} x the bare pod",
            told(job),
            job[0].as_secs_f64() / pod[0].as_secs_f64()
        );
    }

    fn burst(&self, layout: &str, bare: &Value) {
        let began = Instant::now();
        (0..BURST).for_each(|number| self.create(bare, &format!("bare-{number}")));
        let pods = self.arrivals(BURST, began);
        (0..BURST).for_each(|number| self.delete(&format!("bare-{number}")));
        self.world.no_pod_is_left();
        let began = Instant::now();
        self.queue(&format!(
            "pool: k8s\njobs:\n- job: many\n  strategy: {{ parallel: {BURST} }}\n  steps:\n  - checkout: none\n  - \
             bash: {}\n",
            self.command()
        ));
        let jobs = self.arrivals(BURST, began);
        self.world.no_pod_is_left();
        let last = |arrivals: &[Duration]| arrivals.last().copied().unwrap_or_default().as_secs_f64();
        println!("{layout}, {BURST} at once, until the last process:");
        println!(
            "  bare pods {:.2} s, jobs {:.2} s, {:.2} x",
            last(&pods),
            last(&jobs),
            last(&jobs) / last(&pods)
        );
    }

    /// How long after `began` so many commands have connected.
    fn arrivals(&self, count: usize, began: Instant) -> Vec<Duration> {
        let arrive = |_| {
            self.listener.accept().expect("a connection");
            began.elapsed()
        };
        (0..count).map(arrive).collect()
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

    fn delete(&self, name: &str) {
        self.send(self.http.delete(format!("{}/{name}?gracePeriodSeconds=0", self.api)));
    }

    fn send(&self, request: reqwest::RequestBuilder) {
        let answer = self.runtime.block_on(async { request.send().await?.error_for_status() });
        answer.expect("it is taken");
    }

    /// The pod that a job has now, with a command that connects in the container of its steps.
    fn bare_pod(&self) -> Value {
        let run =
            self.world.queue("pool: k8s\nsteps:\n- checkout: none\n- bash: touch /work/began; sleep 3\n");
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
                true => json!(["bash", "-c", self.command()]),
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
