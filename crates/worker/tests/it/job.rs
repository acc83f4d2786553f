//! Makes job messages and runs them.

use std::collections::BTreeMap;
use std::time::Duration;

use dayfly_protocol::channel::{Cancel, CancelReason, FromWorker, Heard, Orders, WorkerSettings};
use dayfly_protocol::job::{
    AgentJobRequestMessage, EndpointAuthorization, EndpointReference, JobResources, RepositoryProperties,
    RepositoryResource, SYSTEM_CONNECTION, ServiceEndpoint, Step,
};
use dayfly_protocol::plan::TaskOrchestrationPlanReference;
use dayfly_protocol::task;
use dayfly_protocol::timeline::{TaskReference, TimelineReference, VariableValue};
use dayfly_protocol::{
    BuildId, JobId, PlanId, ProjectId, RecordId, RequestId, TaskId, TaskResult, TimelineId,
};
use dayfly_worker::{Control, Outcome, Surroundings, run};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::service::{Service, TOKEN};

/// Longer than any job of these tests takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A job to be run.
pub(crate) struct Job {
    pub(crate) message: AgentJobRequestMessage,
    pub(crate) settings: WorkerSettings,
    pub(crate) surroundings: Surroundings,
    pub(crate) folder: TempDir,
}

/// A job that runs.
pub(crate) struct Running {
    control: watch::Sender<Control>,
    pub(crate) progress: mpsc::Receiver<FromWorker>,
    job: JoinHandle<Outcome>,
    pub(crate) folder: TempDir,
}

impl Job {
    /// A job of the service without steps, in a work folder of its own.
    pub(crate) fn new(service: &Service) -> Job {
        let folder = tempfile::tempdir().expect("a folder");
        let project = Uuid::new_v4();
        let endpoint = ServiceEndpoint {
            name: Some(SYSTEM_CONNECTION.to_owned()),
            url: Some(service.url.clone()),
            authorization: Some(EndpointAuthorization {
                scheme: "OAuth".to_owned(),
                parameters: BTreeMap::from([("AccessToken".to_owned(), TOKEN.to_owned())]),
            }),
            ..ServiceEndpoint::default()
        };
        let repository = RepositoryResource {
            alias: "self".to_owned(),
            endpoint: Some(EndpointReference { id: None, name: Some(SYSTEM_CONNECTION.to_owned()) }),
            properties: RepositoryProperties {
                id: Some(Uuid::new_v4().to_string()),
                repository_type: Some("Git".to_owned()),
                name: Some("garden".to_owned()),
                reference: Some("refs/heads/main".to_owned()),
                url: Some(service.url.join("_git/garden").expect("an address")),
                ..RepositoryProperties::default()
            },
        };
        let message = AgentJobRequestMessage {
            message_type: "PipelineAgentJobRequest".to_owned(),
            plan: TaskOrchestrationPlanReference {
                scope_identifier: ProjectId(project),
                plan_type: "Build".to_owned(),
                version: 8,
                plan_id: PlanId(Uuid::new_v4()),
                ..TaskOrchestrationPlanReference::default()
            },
            timeline: TimelineReference { id: TimelineId(service.timeline), ..TimelineReference::default() },
            job_id: JobId(Uuid::new_v4()),
            job_display_name: "Job".to_owned(),
            job_name: "__default".to_owned(),
            request_id: RequestId(17),
            resources: JobResources {
                endpoints: vec![endpoint],
                repositories: vec![repository],
                ..JobResources::default()
            },
            ..AgentJobRequestMessage::default()
        };
        let settings = WorkerSettings {
            work_directory: folder.path().join("work"),
            home_directory: folder.path().join("home"),
            agent_name: "agent-1".to_owned(),
            machine_name: "machine".to_owned(),
            ..WorkerSettings::default()
        };
        let path = std::env::var_os("PATH").expect("tests have a path");
        let surroundings = Surroundings {
            environment: vec![
                ("PATH".into(), path),
                ("HOME".into(), folder.path().into()),
                ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
                ("AZP_TOKEN".into(), "agent-credential".into()),
            ],
            ..Surroundings::default()
        };
        Job { message, settings, surroundings, folder }
            .variable("system.hosttype", "build")
            .variable("system.servertype", "Hosted")
            .variable("system.teamProjectId", &project.to_string())
            .variable("build.buildId", &BuildId(42).to_string())
            .variable("build.containerId", "7")
            .variable("build.buildNumber", "20261124.1")
            .secret("system.accessToken", TOKEN)
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Job {
        self.message.variables.insert(name.to_owned(), VariableValue::public(value));
        self
    }

    pub(crate) fn secret(mut self, name: &str, value: &str) -> Job {
        self.message.variables.insert(name.to_owned(), VariableValue::secret(value));
        self
    }

    /// Adds a `script:` step.
    pub(crate) fn script(self, name: &str, script: &str) -> Job {
        self.step(script_step(name, script))
    }

    pub(crate) fn step(mut self, step: Step) -> Job {
        self.message.steps.push(step);
        self
    }

    /// Adds a repository of the service beside `self`.
    pub(crate) fn repository(mut self, alias: &str, service: &Service) -> Job {
        let mut repository = self.message.resources.repositories[0].clone();
        alias.clone_into(&mut repository.alias);
        repository.properties.name = Some(alias.to_owned());
        repository.properties.url = Some(service.url.join(&format!("_git/{alias}")).expect("an address"));
        self.message.resources.repositories.push(repository);
        self
    }

    /// Says which commit of `self` to build.
    pub(crate) fn commit(mut self, commit: &str) -> Job {
        self.message.resources.repositories[0].properties.version = Some(commit.to_owned());
        self
    }

    /// Says which branch of `self` to build.
    pub(crate) fn branch(mut self, branch: &str) -> Job {
        self.message.resources.repositories[0].properties.reference = Some(branch.to_owned());
        self
    }

    /// Uses the work folder of an earlier job.
    pub(crate) fn after(mut self, folder: TempDir) -> Job {
        self.settings.work_directory = folder.path().join("work");
        self.folder = folder;
        self
    }

    /// Starts the job.
    pub(crate) fn start(self) -> Running {
        // Whatever the job says is heard at once.
        let (control, wanted) = watch::channel(Control { heard: Heard::Finished, ..Control::default() });
        let (progress, told) = mpsc::channel(1024);
        let job = tokio::spawn(run(self.message, self.settings, self.surroundings, wanted, progress));
        Running { control, progress: told, job, folder: self.folder }
    }

    /// Runs the job to its end.
    pub(crate) async fn run(self) -> (TaskResult, TempDir) {
        let (outcome, folder) = self.start().wait().await;
        assert!(outcome.reported, "the service knows the result");
        (outcome.result, folder)
    }
}

impl Running {
    /// Waits for the end, with whom gave the orders still there.
    pub(crate) async fn wait(self) -> (Outcome, TempDir) {
        let Running { control, job, folder, progress } = self;
        let outcome = tokio::time::timeout(PATIENCE, job).await.expect("the job ends").expect("no panic");
        drop((control, progress));
        (outcome, folder)
    }

    /// Waits for the end after the listener vanished.
    pub(crate) async fn abandon(self) -> (Outcome, TempDir) {
        let Running { control, job, folder, progress } = self;
        drop((control, progress));
        (tokio::time::timeout(PATIENCE, job).await.expect("the job ends").expect("no panic"), folder)
    }

    /// Lets these orders hold from now on.
    pub(crate) fn order(&self, orders: Orders) {
        self.control.send_modify(|control| control.orders = orders);
    }

    pub(crate) fn cancel(&self, reason: CancelReason) {
        self.order(Orders { cancel: Some(Cancel { reason, timeout_seconds: 60 }), ..Orders::default() });
    }
}

fn task_step(name: &str, id: Uuid, task: &str, version: &str, inputs: &[(&str, &str)]) -> Step {
    Step {
        step_type: Some("task".to_owned()),
        id: RecordId(Uuid::new_v4()),
        name: Some(name.replace(' ', "_")),
        display_name: Some(name.to_owned()),
        reference: Some(TaskReference { id: TaskId(id), name: task.to_owned(), version: version.to_owned() }),
        enabled: true,
        inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Step::default()
    }
}

pub(crate) fn script_step(name: &str, script: &str) -> Step {
    task_step(name, task::CMD_LINE, "CmdLine", "2.279.1", &[("script", script)])
}

pub(crate) fn bash_step(name: &str, inputs: &[(&str, &str)]) -> Step {
    task_step(name, task::BASH, "Bash", "3.278.0", inputs)
}

pub(crate) fn powershell_step(name: &str, inputs: &[(&str, &str)]) -> Step {
    task_step(name, task::POWERSHELL, "PowerShell", "2.279.0", inputs)
}

pub(crate) fn checkout_step(name: &str, inputs: &[(&str, &str)]) -> Step {
    // A display name that is the step's name counts as none of its own.
    Step { name: Some(format!("of_{name}")), ..task_step(name, task::CHECKOUT, "Checkout", "1.0.0", inputs) }
}

pub(crate) fn other_step(name: &str) -> Step {
    task_step(name, Uuid::new_v4(), "PackerBuild", "1.250.0", &[])
}
