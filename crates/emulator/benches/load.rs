//! How the emulator bears a crowd: idle sessions, a burst of jobs, and the way of one job from the queue to
//! its agent.
//!
//! `cargo bench -p dayfly-emulator --bench load -- [--sessions 10000] [--jobs 1000] [--agents 50] [--http1]`
//!
//! The emulator runs in a process of its own, this program started again with `serve`, so that its memory and
//! CPU are its alone. The agents are tasks here which speak the wire by hand: each logs in with its own key's
//! assertion, opens a session and polls.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dayfly_emulator::{Emulator, Settings};
use dayfly_protocol::PoolId;
use dayfly_protocol::crypto::{AgentKey, Claims, SessionKey, open_message};
use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::message::TaskAgentMessage;
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

const PAT: &str = "token-of-the-load";
/// Polls on one HTTP/2 connection, as Dayfly's client has them.
const POLLS_PER_CONNECTION: usize = 95;
/// Requests under way at a time while agents are set up.
const SETUP_CONCURRENCY: usize = 64;
/// How long the idle sessions are watched: longer than a poll is held, so that each polls anew once.
const IDLE_WATCH: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Options {
    sessions: usize,
    jobs: usize,
    agents: usize,
    http1: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if arguments.first().is_some_and(|argument| argument == "serve") {
        return runtime.block_on(serve());
    }
    // Run by `cargo test`, which only wants to see it compile.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let number = |name: &str, default: usize| {
        let place = arguments.iter().position(|argument| argument == name);
        place.and_then(|place| arguments.get(place + 1)?.parse().ok()).unwrap_or(default)
    };
    let options = Options {
        sessions: number("--sessions", 10_000),
        jobs: number("--jobs", 1_000),
        agents: number("--agents", 50),
        http1: arguments.iter().any(|argument| argument == "--http1"),
    };
    runtime.block_on(measure(options));
}

/// The other process: an emulator which does what it is told line by line.
async fn serve() {
    let mut settings = Settings::new(PAT.into());
    settings.pools = vec!["Idle".to_owned(), "Busy".to_owned()];
    settings.limits.finished_requests = 100_000;
    let emulator = Arc::new(Emulator::start(settings).await.expect("the emulator starts"));
    println!("{}", emulator.url());
    std::io::stdout().flush().expect("the parent reads");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(tokio::io::stdin()));
    while let Ok(Some(line)) = lines.next_line().await {
        let mut words = line.split(' ');
        let pool = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
        let count = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let start = Instant::now();
        for _ in 0..count {
            queue(&emulator, PoolId(pool));
        }
        println!("queued {}", start.elapsed().as_micros());
        std::io::stdout().flush().expect("the parent reads");
    }
}

/// Queues a job whose message says when.
fn queue(emulator: &Emulator, pool: PoolId) {
    let mut job = emulator.single_job(pool, "job").expect("a new plan");
    // The moment, for the latency.
    job.message.job_name = Timestamp::now().as_nanosecond().to_string();
    emulator.queue_job(job).expect("the queue takes it");
}

/// The emulator's process.
struct Server {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    url: String,
}

impl Server {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts again");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut url = String::new();
        output.read_line(&mut url).expect("its address");
        let url = url.trim().to_owned();
        Self { child, output, url }
    }

    /// Lets it queue jobs; returns how long that took.
    fn queue(&mut self, pool: i32, jobs: usize) -> Duration {
        let input = self.child.stdin.as_mut().expect("its input");
        writeln!(input, "{pool} {jobs}").expect("it reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("its word");
        Duration::from_micros(line.trim_start_matches("queued ").trim().parse().expect("a number"))
    }

    /// Resident memory in MiB.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("/proc");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok()).expect("a number")
            / 1024.0
    }

    /// CPU time so far.
    fn cpu(&self) -> Duration {
        /// Ticks of `/proc` in a second, on every Linux.
        const TICKS: u64 = 100;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("/proc");
        let (_, rest) = stat.rsplit_once(") ").expect("the name in parentheses");
        let field = |place: usize| rest.split(' ').nth(place).and_then(|number| number.parse::<u64>().ok());
        Duration::from_millis((field(11).unwrap_or(0) + field(12).unwrap_or(0)) * 1000 / TICKS)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its input; if not, it is ended. An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent with a session.
struct Agent {
    http: reqwest::Client,
    pool: String,
    url: String,
    token: String,
    session: String,
    key: Option<SessionKey>,
}

impl Agent {
    async fn set_up(http: reqwest::Client, url: String, pool: i32, name: String, key: Arc<AgentKey>) -> Self {
        let pool = format!("{url}/_apis/distributedtask/pools/{pool}");
        let public_key = key.public_key().to_wire();
        let capabilities: serde_json::Map<_, _> =
            (0..30).map(|number| (format!("CAPABILITY_{number}"), json!("/usr/bin/some/tool"))).collect();
        let registration = json!({
            "name": name, "version": "4.250.1", "systemCapabilities": capabilities,
            "authorization": { "publicKey": { "exponent": public_key.exponent, "modulus": public_key.modulus } },
        });
        let answer = call(http.post(format!("{pool}/agents")).bearer_auth(PAT).json(&registration)).await;
        let id = answer["id"].as_i64().expect("a number");
        let client =
            answer["authorization"]["clientId"].as_str().and_then(|id| id.parse().ok()).expect("a client");
        let token_url = answer["authorization"]["authorizationUrl"].as_str().expect("an address").to_owned();
        let claims = Claims::new(client, token_url.clone(), Timestamp::now());
        let assertion = tokio::task::block_in_place(|| claims.sign(&key)).expect("a signature");
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.expose_secret()),
        ];
        let token = call(http.post(token_url).form(&form)).await["access_token"]
            .as_str()
            .expect("a token")
            .to_owned();
        let session = json!({
            "ownerName": "load", "agent": { "id": id, "name": name }, "systemCapabilities": capabilities,
        });
        let answer = call(http.post(format!("{pool}/sessions")).bearer_auth(&token).json(&session)).await;
        let session = answer["sessionId"].as_str().expect("a session").to_owned();
        let wire = serde_json::from_value(answer["encryptionKey"].clone()).expect("a key");
        let key = tokio::task::block_in_place(|| SessionKey::from_wire(&wire, &key)).expect("our key");
        Self { http, pool, url, token, session, key }
    }

    /// Polls until there is a message; `None` when it should stop.
    async fn next(&self) -> TaskAgentMessage {
        loop {
            let request = self.http.get(format!("{}/messages?sessionId={}", self.pool, self.session));
            let response = request.bearer_auth(&self.token).send().await.expect("an answer to the poll");
            if response.status() == StatusCode::OK {
                return response.json().await.expect("a message");
            }
            assert_eq!(response.status(), StatusCode::ACCEPTED);
        }
    }

    /// Runs jobs as fast as it can: renew, delete, complete.
    async fn work(self, done: mpsc::Sender<(Uuid, Duration)>) {
        loop {
            let message = self.next().await;
            let body = open_message(self.key.as_ref(), &message).expect("our message");
            let arrived = Timestamp::now();
            let job: AgentJobRequestMessage =
                dayfly_protocol::json::from_slice(body.expose()).expect("a job");
            let queued =
                job.job_name.parse().map(Timestamp::from_nanosecond).expect("a time").expect("a time");
            let latency = Duration::try_from(arrived.duration_since(queued)).unwrap_or_default();
            let request = format!("{}/jobrequests/{}?lockToken=0", self.pool, job.request_id);
            call(
                self.http
                    .patch(request)
                    .bearer_auth(&self.token)
                    .json(&json!({ "requestId": job.request_id })),
            )
            .await;
            let path = format!("{}/messages/{}?sessionId={}", self.pool, message.message_id, self.session);
            call(self.http.delete(path).bearer_auth(&self.token)).await;
            let events = format!(
                "{}/{}/_apis/distributedtask/hubs/Build/plans/{}/events",
                self.url, job.plan.scope_identifier, job.plan.plan_id
            );
            let event = json!({
                "name": "JobCompleted", "jobId": job.job_id, "requestId": job.request_id, "result": "succeeded",
            });
            let connection = job.resources.endpoints[0].authorization.as_ref().expect("a login");
            call(self.http.post(events).bearer_auth(&connection.parameters["AccessToken"]).json(&event))
                .await;
            if done.send((job.job_id.0, latency)).await.is_err() {
                return;
            }
        }
    }
}

/// Sends a request which has to succeed.
async fn call(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let text = response.text().await.expect("a body");
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

fn client(options: Options) -> reqwest::Client {
    let versioned =
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json;api-version=5.1"))]);
    let builder = reqwest::Client::builder().no_proxy().default_headers(versioned);
    let builder = if options.http1 { builder.http1_only() } else { builder.http2_prior_knowledge() };
    builder.build().expect("a client")
}

/// Sets up agents, many at a time, on shared connections.
async fn set_up(options: Options, server: &Server, pool: i32, count: usize) -> Vec<Agent> {
    let key = Arc::new(AgentKey::generate().expect("a key"));
    let clients: Vec<_> = (0..count.div_ceil(POLLS_PER_CONNECTION)).map(|_| client(options)).collect();
    let mut agents = Vec::with_capacity(count);
    let mut tasks = JoinSet::new();
    for number in 0..count {
        if tasks.len() >= SETUP_CONCURRENCY
            && let Some(agent) = tasks.join_next().await
        {
            agents.push(agent.expect("an agent"));
        }
        let http = clients[number / POLLS_PER_CONNECTION].clone();
        tasks.spawn(Agent::set_up(
            http,
            server.url.clone(),
            pool,
            format!("agent-{number}"),
            Arc::clone(&key),
        ));
    }
    while let Some(agent) = tasks.join_next().await {
        agents.push(agent.expect("an agent"));
    }
    agents
}

async fn measure(options: Options) {
    let mut server = Server::start();
    let empty = server.memory();
    println!("emulator, empty:                     {empty:.1} MiB");

    let start = Instant::now();
    let idle = set_up(options, &server, 1, options.sessions).await;
    println!("{} agents registered and online:  {:.1} s", options.sessions, start.elapsed().as_secs_f64());
    let mut polls = JoinSet::new();
    for agent in idle {
        polls.spawn(async move { agent.next().await });
    }
    let statistics =
        format!("{}/_dayfly/statistics", server.url.rsplit_once('/').expect("an organization").0);
    let http = client(options);
    loop {
        let now = call(http.get(&statistics).bearer_auth(PAT)).await;
        if now["openPolls"].as_u64() == Some(options.sessions as u64) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (cpu, watched) = (server.cpu(), Instant::now());
    tokio::time::sleep(IDLE_WATCH).await;
    let share = (server.cpu() - cpu).as_secs_f64() / watched.elapsed().as_secs_f64() * 100.0;
    let memory = server.memory();
    println!(
        "{} idle sessions with open polls:  {memory:.1} MiB ({:.1} KiB each), {share:.2} % of a core",
        options.sessions,
        (memory - empty) * 1024.0 / options.sessions.max(1) as f64
    );

    let busy = set_up(options, &server, 2, options.agents).await;
    let (done, mut finished) = mpsc::channel(options.jobs.max(1));
    let mut workers = JoinSet::new();
    for agent in busy {
        workers.spawn(agent.work(done.clone()));
    }
    single_jobs(&mut server, &mut finished).await;
    burst(options, &mut server, &mut finished).await;
    workers.shutdown().await;
    polls.shutdown().await;
}

/// One job at a time: how long until its agent has it, decrypted.
async fn single_jobs(server: &mut Server, finished: &mut mpsc::Receiver<(Uuid, Duration)>) {
    const ROUNDS: usize = 300;
    let mut latencies = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        server.queue(2, 1);
        let (_, latency) = finished.recv().await.expect("the job ends");
        latencies.push(latency);
        // The agent polls again before the next job, else its way to the poll would be measured.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    latencies.sort();
    let at = |share: f64| latencies[((ROUNDS as f64 * share) as usize).min(ROUNDS - 1)];
    println!("queued -> agent has the message:     p50 {:?}, p99 {:?}", at(0.5), at(0.99));
}

/// All jobs at once.
async fn burst(options: Options, server: &mut Server, finished: &mut mpsc::Receiver<(Uuid, Duration)>) {
    let cpu = server.cpu();
    let start = Instant::now();
    let queueing = server.queue(2, options.jobs);
    let mut seen = HashSet::new();
    for _ in 0..options.jobs {
        let (job, _) = finished.recv().await.expect("each job ends");
        assert!(seen.insert(job), "each job runs once");
    }
    let took = start.elapsed();
    println!(
        "{} jobs at once on {} agents:        {:.2} s ({:.0} jobs/s), queued in {queueing:?}, {:.2} s of CPU",
        options.jobs,
        options.agents,
        took.as_secs_f64(),
        options.jobs as f64 / took.as_secs_f64(),
        (server.cpu() - cpu).as_secs_f64()
    );
}
