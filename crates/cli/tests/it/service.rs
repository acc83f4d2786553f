//! An emulator in this process, jobs of script steps queued to it, and `dayfly agent` as child processes.

use std::{
    collections::BTreeMap,
    io::Read as _,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use dayfly_emulator::{NewJob, Settings};
use dayfly_listener::{Description, OnExisting, Registrar};
use dayfly_protocol::{
    BuildId, JobId, RecordId, TaskId, TaskResult,
    agent::{TaskAgent, TaskAgentAuthorization},
    agent_files::{AgentCredentials, AgentSettings, agent_key_to_json},
    crypto::AgentKey,
    job::Step,
    timeline::{TaskReference, VariableValue},
};
pub(crate) use dayfly_testing::{PAT, bounded, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use uuid::Uuid;

/// `CmdLine`, which is what `script:` becomes.
const CMD_LINE: Uuid = Uuid::from_u128(0xd9ba_fed4_0b18_4f58_968d_8665_5b4d_2ce9);

pub(crate) struct Service(dayfly_testing::Service);

impl Deref for Service {
    type Target = dayfly_testing::Service;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Service {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Service {
    pub(crate) async fn new(tune: impl FnOnce(&mut Settings)) -> Self {
        Self(dayfly_testing::Service::new(tune).await)
    }

    /// `dayfly agent` with Microsoft's variables and nothing else in its environment.
    pub(crate) fn agent(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
        command
            .arg("agent")
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .env("AGENT_ALLOW_RUNASROOT", "1")
            .env("AZP_URL", self.emulator.url().as_str())
            .env("AZP_TOKEN", PAT)
            .env("AZP_AGENT_NAME", name)
            .env("AZP_WORK", self.folder.path().join("work").join(name))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Registers an agent as a controller would, and returns the folder with its three files.
    pub(crate) async fn register(&self, name: &str, key: &AgentKey) -> PathBuf {
        let pool = self.emulator.pool("Default").unwrap();
        let public_key = Some(key.public_key().to_wire());
        let wanted = TaskAgent {
            name: name.to_owned(),
            version: Some("4.260.0".to_owned()),
            authorization: Some(TaskAgentAuthorization { public_key, ..TaskAgentAuthorization::default() }),
            ..TaskAgent::default()
        };
        let agent = self.connection().create_agent(pool, &wanted).await.unwrap();
        let authorization = agent.authorization.unwrap();
        let url = authorization.authorization_url.unwrap().to_string();
        let settings = AgentSettings {
            agent_id: agent.id,
            agent_name: name.to_owned(),
            pool_id: pool,
            server_url: self.emulator.url().to_string(),
            work_folder: "_work".to_owned(),
            ..AgentSettings::default()
        };
        let credentials = AgentCredentials {
            client_id: authorization.client_id.unwrap(),
            oauth_endpoint_url: url.parse().unwrap(),
            authorization_url: url,
        };
        let folder = self.path("agents").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(".agent"), settings.to_json()).unwrap();
        std::fs::write(folder.join(".credentials"), credentials.to_json()).unwrap();
        std::fs::write(folder.join(".credentials_rsaparams"), agent_key_to_json(key).unwrap().expose())
            .unwrap();
        folder
    }

    /// Registers agents as a controller does, all with one key.
    pub(crate) async fn registrar(&self, key: Arc<AgentKey>, description: Description) -> Registrar {
        let service = self.connection().connection_data().await.unwrap();
        let (connection, url) = (self.connection(), self.emulator.url().clone());
        Registrar::new(connection, self.pool, key, OnExisting::Refuse, description, &service, url)
    }

    /// `dayfly agent` with the files of a folder, and no token anywhere.
    pub(crate) fn registered_agent(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = self.agent("unused", arguments);
        for variable in ["AZP_URL", "AZP_TOKEN", "AZP_AGENT_NAME", "AZP_WORK"] {
            command.env_remove(variable);
        }
        command.arg("--agent-dir").arg(folder);
        command
    }

    /// Waits until the agent has a session.
    pub(crate) async fn online(&self, name: &str) {
        let connection = self.connection();
        let pool = self.emulator.pool("Default").unwrap();
        bounded(&format!("agent {name} is online"), async {
            loop {
                let agent = connection.find_agent(pool, name).await.unwrap();
                if agent
                    .is_some_and(|agent| agent.status == Some(dayfly_protocol::agent::AgentStatus::Online))
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Runs a pipeline of a repository with one file, which holds `true`; gives its result and its logs.
    pub(crate) async fn pipeline(&self, jobs: &str) -> (TaskResult, String) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "true").unwrap();
        let pipeline = folder.path().join("azure-pipelines.yml");
        std::fs::write(&pipeline, format!("pool: Default\n{jobs}")).unwrap();
        let made = Command::new("git").args(["init", "-q"]).current_dir(folder.path()).status().unwrap();
        assert!(made.success());
        let definition = self.emulator.add_pipeline("dayfly", "one", pipeline).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let address = format!("{}/dayfly/_apis/build/builds?api-version=7.1", self.emulator.url());
        let queue = client.post(address).basic_auth("", Some(PAT));
        let queue = queue.header("content-type", "application/json");
        let answer = queue.body(format!(r#"{{"definition":{{"id":{definition}}}}}"#)).send().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let build = BuildId(answer["id"].as_i64().expect("a number").try_into().unwrap());
        let result = eventually("the run has ended", || self.emulator.run_result(build).unwrap()).await;
        let mut said = String::new();
        for log in self.emulator.run_logs(build).unwrap() {
            said.push_str(&std::fs::read_to_string(&log.file).unwrap_or_default());
        }
        (result, said)
    }

    /// Queues a job of `script` steps.
    pub(crate) fn queue(&mut self, name: &str, scripts: &[&str]) -> JobId {
        self.queue_with(name, scripts, |_| {})
    }

    /// Queues a job of a pipeline with this number, which has folders of its own.
    pub(crate) fn queue_of(&mut self, definition: &str, name: &str, scripts: &[&str]) -> JobId {
        self.queue_with(name, scripts, |new| {
            let folders = [("system.definitionId", definition), ("build.syncSources", "true")];
            for (name, value) in folders {
                new.message.variables.insert(name.to_owned(), VariableValue::read_only(value));
            }
        })
    }

    /// Queues a job that may run for a time, and has none to end afterwards.
    pub(crate) fn queue_limited(&mut self, name: &str, scripts: &[&str], limit: Duration) -> JobId {
        self.queue_with(name, scripts, |new| {
            (new.timeout, new.cancel_timeout) = (Some(limit), Duration::ZERO);
        })
    }

    /// Queues a job that is changed before.
    pub(crate) fn queue_with(
        &mut self,
        name: &str,
        scripts: &[&str],
        tune: impl FnOnce(&mut NewJob),
    ) -> JobId {
        self.queue_job(name, |new| {
            let job = new.message.job_id.to_string();
            let scripts = scripts.iter().map(|script| script.replace("$JOB", &job));
            new.message.steps = scripts.enumerate().map(|(number, script)| step(number, &script)).collect();
            let variables = [
                ("system.servertype", "Hosted"),
                ("system.hosttype", "build"),
                ("build.syncSources", "false"),
                ("system.definitionId", "1"),
                ("build.buildId", "1"),
            ];
            new.message.variables =
                variables.map(|(name, value)| (name.to_owned(), VariableValue::read_only(value))).into();
            tune(new);
        })
    }
}

fn step(number: usize, script: &str) -> Step {
    Step {
        step_type: Some("task".to_owned()),
        id: RecordId(Uuid::new_v4()),
        name: Some(format!("CmdLine{number}")),
        display_name: Some(format!("Step {number}")),
        reference: Some(TaskReference {
            id: TaskId(CMD_LINE),
            name: "CmdLine".to_owned(),
            version: "2.250.1".to_owned(),
        }),
        enabled: true,
        inputs: BTreeMap::from([("script".to_owned(), script.to_owned())]),
        ..Step::default()
    }
}

/// A child process that is killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(pid(self.0.id()), signal).unwrap();
    }

    /// Waits until it has said this on standard error.
    pub(crate) async fn said(&mut self, text: &'static str) {
        let mut error = self.0.stderr.take().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let (mut said, mut byte) = (Vec::new(), [0]);
            while !said.ends_with(text.as_bytes()) {
                error.read_exact(&mut byte).unwrap();
                said.extend(byte);
            }
            error
        });
        self.0.stderr = Some(tokio::time::timeout(Duration::from_secs(60), read).await.expect(text).unwrap());
    }

    /// Waits until it has said this on standard output.
    pub(crate) async fn told(&mut self, text: &'static str) {
        let mut output = self.0.stdout.take().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let (mut said, mut byte) = (Vec::new(), [0]);
            while !said.ends_with(text.as_bytes()) {
                output.read_exact(&mut byte).unwrap();
                said.extend(byte);
            }
            output
        });
        self.0.stdout = Some(tokio::time::timeout(Duration::from_secs(60), read).await.expect(text).unwrap());
    }

    /// Waits for the end, and returns exit code, standard output and what is left of standard error.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String, String) {
        let status = eventually("the agent has ended", || self.0.try_wait().unwrap()).await;
        let (mut output, mut error) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (status.code(), output, error)
    }
}

pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap())
}

/// The children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let is_child = |id: &u32| is_alive(*id) && stat(*id).is_some_and(|(_, of)| of == parent);
    let ids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(is_child).collect()
}

/// False for a process that is gone, or dead and not yet taken away by its parent.
pub(crate) fn is_alive(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process.
fn stat(id: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
