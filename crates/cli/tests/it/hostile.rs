//! Jobs that attack their worker, the next job, and the machine's user, as an ordinary user runs them:
//! `dayfly agent` with the real worker.
//!
//! Where the tests run as root they become somebody else first, since root may look into every process.

mod attackers;
mod channel;
mod folders;
mod processes;
mod secrets;
mod sources;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dayfly_protocol::{JobId, TaskResult};
use nix::unistd::{Gid, Uid, chown, geteuid};

use crate::service::{Process, Service};

/// What the process is that one of these tests has started from its own program.
const ROLE: &str = "HOSTILE_ROLE_OF_TEST";

/// On what it does that.
const OBJECT: &str = "HOSTILE_OBJECT_OF_TEST";

/// A user with few rights.
const NOBODY: u32 = 65_534;

/// An emulator with one agent, run by an ordinary user.
struct World {
    service: Service,
    agent: Process,
    dayfly: PathBuf,
}

impl World {
    async fn new() -> World {
        Self::with(|_| Vec::new()).await
    }

    /// The same, with more arguments for the agent.
    async fn with(arguments: impl FnOnce(&Service) -> Vec<String>) -> World {
        let service = Service::new(|_| {}).await;
        let dayfly = service.path("dayfly");
        std::fs::copy(env!("CARGO_BIN_EXE_dayfly"), &dayfly).unwrap();
        std::fs::create_dir(service.path("home")).unwrap();
        give(service.folder.path());
        give(&service.path("home"));
        let arguments = arguments(&service);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let template = service.agent("victim", &arguments);
        // With as many open files as most machines give, so that nothing here has room that it lacks there.
        let mut command = unprivileged("/bin/sh".as_ref());
        command.args(["-c", "ulimit -n 1024; exec \"$0\" \"$@\""]).arg(&dayfly).args(template.get_args());
        for (name, value) in template.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("HOME", service.path("home")).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let agent = Process::spawn(&mut command);
        service.online("victim").await;
        World { service, agent, dayfly }
    }

    /// This program as an attacker.
    fn attacker(&self, role: &str) -> Command {
        let program = self.service.path("attacker");
        if !program.exists() {
            std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        }
        let mut command = unprivileged(&program);
        command.args(["--exact", "hostile::attackers::hostile_process", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// The same for a script: the words that start it.
    fn attack(&self, role: &str) -> String {
        let command = self.attacker(role);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        format!("env {ROLE}={role} {} {}", command.get_program().display(), words.join(" "))
    }

    async fn run(&mut self, script: &str) -> TaskResult {
        self.run_of("1", script).await
    }

    /// Runs a job of another pipeline than the usual one.
    async fn run_of(&mut self, definition: &str, script: &str) -> TaskResult {
        let job = self.service.queue_of(definition, "Job", &[script]);
        self.result(job).await
    }

    /// Waits for a job's result, and prints its logs for whom the result surprises.
    #[allow(clippy::print_stdout, reason = "a failed test shows it")]
    async fn result(&mut self, job: JobId) -> TaskResult {
        let result = self.service.result(job).await;
        for record in self.service.records(job).await {
            if let Some(log) = record.log {
                println!("{}", self.service.log(job, log.id).await);
            }
        }
        result
    }

    fn work(&self) -> PathBuf {
        self.service.path("work/victim")
    }

    /// The process ids in a file, one a line.
    fn processes(&self, file: &str) -> Vec<u32> {
        let text = std::fs::read_to_string(self.service.path(file)).unwrap();
        text.lines().map(|line| line.trim().parse().unwrap()).collect()
    }

    fn path(&self, name: &str) -> String {
        self.service.path(name).display().to_string()
    }
}

/// A program as the user who is attacked, with an empty environment.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn give(folder: &Path) {
    if geteuid().is_root() {
        chown(folder, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
    }
}
