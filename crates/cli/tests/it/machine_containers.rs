//! Jobs with containers on a plain machine, where Docker or Podman starts them.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use dayfly_protocol::TaskResult;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::json;

use crate::engines::{IMAGE, Podman, Registry, SERVICE_IMAGE};
use crate::project::{Ended, Project};
use crate::service::{Process, Service, children, eventually, pid};
use crate::tasks::{program, task};

/// A user with few rights.
const NOBODY: u32 = 65_534;

/// A pipeline with the resources that most tests need, and these jobs.
fn project(jobs: &str) -> Project {
    let project = Project::with_pipeline(&format!(
        "resources:\n  containers:\n  \
         - {{ container: tools, image: '{IMAGE}', localImage: true, env: {{ COLOUR: red }} }}\n  \
         - {{ container: other, image: '{IMAGE}', localImage: true, env: {{ COLOUR: $(shade) }} }}\n  \
         - {{ container: repositories, image: '{SERVICE_IMAGE}', localImage: true, ports: [ '9418' ] }}\n\
         variables: {{ shade: green }}\n{jobs}"
    ));
    project.git(&["init", "--quiet"]);
    project.git(&["add", "--all"]);
    project.git(&["commit", "--quiet", "--message", "first"]);
    project
}

/// Waits for a service, which may need a moment.
const REACH: &str =
    "reach() { until (exec 3<>/dev/tcp/$1/$2) 2>/dev/null; do sleep 0.1; done; echo reached $1; }";

fn run(podman: &Podman, project: &Project, arguments: &[&str]) -> Ended {
    let mut command = project.command(&["run"]);
    Ended::from(podman.lead(&mut command).args(arguments).output().unwrap())
}

fn has(ended: &Ended, code: i32, parts: &[&str]) {
    let text = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}

#[test]
fn a_job_finds_its_container_its_services_and_other_containers() {
    let Some(podman) = Podman::new() else { return };
    let project = project(&format!(
        "jobs:\n- job: first\n  container: tools\n  services: {{ git.local: repositories }}\n  steps:\n  \
         - checkout: self\n  \
         - bash: |\n      {REACH}\n      reach git.local 9418\n      echo job is $COLOUR in $PWD as $(id -u)\n      \
             [ -f azure-pipelines.yml ] && echo it has the sources\n      echo shared > word\n      \
             echo '##vso[task.setvariable variable=word;isOutput=true]spoken'\n    name: said\n  \
         - bash: echo other is $COLOUR with $(cat word) and $(said.word)\n    target: other\n  \
         - bash: |\n      {REACH}\n      reach localhost $AGENT_SERVICES_GIT_LOCAL_PORTS_9418\n      \
             echo host is ${{COLOUR:-colourless}} with $(cat word), beside $AGENT_CONTAINERID\n    target: host\n\
         - job: second\n  dependsOn: first\n  variables: {{ word: \"$[ dependencies.first.outputs['said.word'] ]\" }}\n  \
         steps: [ {{ checkout: none }}, {{ bash: 'echo later $(word)' }} ]\n"
    ));
    let ended = run(&podman, &project, &[]);
    has(
        &ended,
        0,
        &[
            "reached git.local",
            "job is red in /",
            "it has the sources",
            "other is green with shared and spoken",
            "reached localhost",
            "host is colourless with shared, beside ",
            "later spoken",
        ],
    );
    assert!(ended.stdout.contains(&format!("as {}", geteuid())), "{}", ended.stdout);
    podman.has_nothing();
}

#[test]
fn what_steps_in_a_container_of_docker_leave_belongs_to_the_user() {
    let Some(podman) = Podman::new() else { return };
    let Some(docker) = podman.docker() else { return };
    let project = project(
        "container: tools\nsteps:\n- checkout: self\n\
         - bash: |\n    echo mine > mine; touch ~/at-home && echo at home in $HOME\n    id\n    \
             ls -l /etc/sudoers\n\
         - bash: cat mine; id -u\n  target: other\n",
    );
    // The folder and the program are the user's.
    let dayfly = project.path().join("dayfly");
    std::fs::copy(env!("CARGO_BIN_EXE_dayfly"), &dayfly).unwrap();
    let state = tempfile::tempdir().unwrap();
    let owner = format!("{NOBODY}:{NOBODY}");
    let folders = [project.path(), state.path()];
    assert!(Command::new("chown").args(["-R", &owner]).args(folders).status().unwrap().success());
    let mut command = Command::new(&dayfly);
    command.args(["run", "--keep-work"]).current_dir(project.path()).uid(NOBODY).gid(NOBODY);
    for name in ["HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"] {
        command.env(name, state.path());
    }
    let ended = Ended::from(docker.lead(&mut command).output().unwrap());
    has(
        &ended,
        0,
        &[
            "at home in /home/nobody_azpcontainer",
            "uid=65534(nobody_azpcontainer)",
            "(azure_pipelines_sudo)",
            "-r--r----- 1 root root",
        ],
    );
    let work = ended.stderr.lines().find_map(|line| line.strip_prefix("work folders: ")).unwrap();
    let mine = std::path::Path::new(work).join("Job/1/s/mine");
    assert_eq!(std::fs::metadata(&mine).unwrap().uid(), NOBODY, "{}", mine.display());
    std::fs::remove_dir_all(std::path::Path::new(work).parent().unwrap()).unwrap();
    podman.has_nothing();
}

#[test]
fn what_the_pipeline_says_of_a_container_holds() {
    let Some(podman) = Podman::new() else { return };
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("word"), "from outside\n").unwrap();
    let project = project(&format!(
        "container:\n  image: '{IMAGE}'\n  localImage: true\n  options: --hostname boxed --env \"WORDS=two words\"\n  \
         volumes: [ '{}:/outside:ro' ]\n  mountReadOnly: {{ work: true }}\nsteps:\n- checkout: none\n\
         - bash: |\n    hostname; echo \"$WORDS\"; cat /outside/word\n    \
             touch /outside/more || echo outside is read-only\n    \
             touch $(Pipeline.Workspace)/more || echo work is read-only\n",
        outside.path().display()
    ));
    let ended = run(&podman, &project, &[]);
    has(&ended, 0, &["boxed", "two words", "from outside", "outside is read-only", "work is read-only"]);
    podman.has_nothing();
}

#[test]
fn an_image_that_cannot_be_pulled_fails_the_job_before_its_steps() {
    let Some(podman) = Podman::new() else { return };
    let project = project(
        "container: 127.0.0.1:9/none:1\nsteps:\n- checkout: none\n- bash: echo never here\n  displayName: Next\n\
         - bash: echo cleaned up\n  condition: always()\n  target: host\n",
    );
    let ended = run(&podman, &project, &[]);
    has(
        &ended,
        1,
        &[
            "the image '127.0.0.1:9/none:1' of the container '127.0.0.1:9/none:1' cannot be pulled",
            "cleaned up",
        ],
    );
    assert!(!ended.stdout.contains("never here"), "{}", ended.stdout);
    podman.has_nothing();
}

#[test]
fn an_image_is_pulled_by_the_login_of_its_service_connection_which_nobody_else_sees() {
    let Some(podman) = Podman::new() else { return };
    let registry = Registry::start(&podman, "ada:open sesame");
    let project = project(
        "container: { image: 'private/tools:1', endpoint: Images }\nsteps:\n- checkout: none\n\
         - bash: echo green in a private image\n",
    );
    project.write(
        "dayfly.toml",
        &format!(
            "[service-connections.images]\nurl = 'http://{0}'\ntype = 'dockerregistry'\n\
             scheme = 'UsernamePassword'\n\
             parameters = {{ registry = 'http://{0}', username = 'ada', password = {{ env = 'WORD' }} }}\n",
            registry.address
        ),
    );
    let mine = tempfile::tempdir().unwrap();
    let run = |word: &str| {
        let mut command = project.command(&["run"]);
        registry.lead(podman.lead(&mut command)).env("WORD", word);
        // Where a login would be kept by default.
        command.env("XDG_RUNTIME_DIR", mine.path()).env("HOME", mine.path());
        let ended = Ended::from(command.output().unwrap());
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("sesame"), "{ended:?}");
        ended
    };
    has(&run("open sesame"), 0, &["green in a private image"]);
    let image = format!("{}/private/tools", registry.address);
    assert!(podman.ask(&["images", "--format", "{{.Repository}}"]).contains(&image), "it has its registry");
    let wrong = run("close sesame");
    has(&wrong, 1, &[&format!("the image '{image}:1' of the container "), "`podman login` failed"]);
    let found = Command::new("grep").args(["-rlE", "auths|sesame"]).arg(mine.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "no login is kept");
    podman.has_nothing();
}

#[test]
fn options_that_the_engine_refuses_are_told_in_its_words() {
    let Some(podman) = Podman::new() else { return };
    let project = project(&format!(
        "container: {{ image: '{IMAGE}', localImage: true, options: --no-such-option }}\nsteps:\n- checkout: none\n\
         - bash: echo never here\n  displayName: Next\n"
    ));
    let ended = run(&podman, &project, &[]);
    has(&ended, 1, &["cannot be started: `podman create` failed", "unknown flag: --no-such-option"]);
    assert!(!ended.stdout.contains("never here"), "{}", ended.stdout);
    podman.has_nothing();
}

#[test]
fn a_cancelled_run_ends_its_step_and_removes_all_containers() {
    let Some(podman) = Podman::new() else { return };
    let project = project(
        "container: tools\nservices: { git: repositories }\nsteps:\n- checkout: none\n\
         - bash: echo it began; sleep 1000\n\
         - bash: echo tidied up in $COLOUR\n  condition: always()\n",
    );
    let mut child = podman.lead(&mut project.command(&["run"])).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("it began") && !line.contains("sleep")), "the step begins");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("tidied up in red")), "{rest:?}");
    podman.has_nothing();
}

#[tokio::test]
async fn an_agent_removes_what_a_killed_worker_has_left() {
    let Some(podman) = Podman::new() else { return };
    let service = Service::new(|_| {}).await;
    let mut command = service.agent("boxed", &[]);
    let agent = Process::spawn(podman.lead(&mut command));
    service.online("boxed").await;
    let shared = service.path("shared");
    std::fs::create_dir(&shared).unwrap();
    let job = |name: &str, script: &str| {
        format!(
            "- job: {name}\n  container: {{ image: '{IMAGE}', localImage: true, volumes: [ '{}:/shared' ] }}\n  \
             services: {{ git: {{ image: '{SERVICE_IMAGE}', localImage: true }} }}\n  \
             steps: [ {{ checkout: none }}, {{ bash: '{script}' }} ]\n",
            shared.display()
        )
    };
    let began = shared.join("began");
    let killed = async {
        eventually("the step runs", || began.exists().then_some(())).await;
        assert_eq!(podman.ask(&["ps", "--quiet"]).lines().count(), 2);
        for worker in children(agent.0.id()) {
            kill(pid(worker), Signal::SIGKILL).unwrap();
        }
    };
    // Whatever is left of the first is removed by the second, which finds its own.
    let jobs = format!(
        "jobs:\n{}{}  dependsOn: first\n  condition: always()\n",
        job("first", "touch /shared/began; sleep 1000"),
        job("second", "echo green >/shared/green")
    );
    let ((result, log), ()) = tokio::join!(service.pipeline(&jobs), killed);
    assert_eq!(result, TaskResult::Failed);
    for part in ["Starting: Initialize containers", "podman rm --force", "Starting: Stop Containers"] {
        assert!(log.contains(part), "no `{part}` in {log}");
    }
    assert!(shared.join("green").exists(), "{log}");
    podman.has_nothing();
}

/// As images for the agent say it that have a Node of their own which is not on the path.
#[tokio::test]
async fn a_task_runs_by_the_node_that_the_image_names() {
    let Some(podman) = Podman::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Containerfile");
    let label = "LABEL com.azure.dev.pipelines.agent.handler.node.path=/own/node";
    std::fs::write(&file, format!("FROM {IMAGE}\n{label}\n")).unwrap();
    let image = "localhost/dayfly-test-node:1";
    podman.ask(&["build", "--quiet", "--tag", image, &folder.path().to_string_lossy()]);
    let (tasks, own) = (folder.path().join("tasks"), folder.path().join("own"));
    std::fs::create_dir(&own).unwrap();
    program(
        &own,
        "node",
        "if [ \"$1\" = --version ]; then echo v20.1.0; else echo the image runs ${1##*/}; fi",
    );
    let handler = json!({ "execution": { "Node20_1": { "target": "main.js" } } });
    task(&tasks, "Say", 0x9001, handler, &[("main.js", "")]);

    let service = Service::new(move |settings| settings.tasks_folder = Some(tasks)).await;
    let _agent = Process::spawn(podman.lead(&mut service.agent("one", &[])));
    service.online("one").await;
    let (result, log) = service
        .pipeline(&format!(
            "container: {{ image: '{image}', localImage: true, volumes: [ '{}:/own' ] }}\nsteps:\n\
             - checkout: none\n- task: Say@1\n",
            own.display()
        ))
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    assert!(log.contains("the image runs main.js"), "{log}");
    podman.has_nothing();
}

#[test]
fn a_service_that_says_so_is_waited_for() {
    let Some(podman) = Podman::new() else { return };
    let project = |check: &str| {
        project(&format!(
            "services:\n  git:\n    image: '{SERVICE_IMAGE}'\n    localImage: true\n    \
             options: --health-cmd \"{check}\" --health-interval 1s --health-retries 2\n\
             steps:\n- checkout: none\n- bash: echo green\n  displayName: Next\n"
        ))
    };
    let healthy = project("[ -e /tmp/second ] || { touch /tmp/second; exit 1; }");
    let ended = run(&podman, &healthy, &["--log-dir", "logs"]);
    has(&ended, 0, &["green"]);
    let logs = healthy.path().join("logs");
    let log = Command::new("grep").args(["-rh", "service is"]).arg(&logs).output().unwrap();
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.contains("git service is starting.") && log.contains("git service is healthy."), "{log}");
    let ended = run(&podman, &project("exit 1"), &[]);
    has(&ended, 1, &["Failed to initialize, git service is unhealthy."]);
    assert!(!ended.stdout.contains("green"), "{}", ended.stdout);
    podman.has_nothing();
}

/// Docker costs a job nothing that does not use it.
#[test]
fn a_job_without_containers_asks_no_engine() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = project("steps:\n- checkout: none\n- bash: echo hello\n");
    let asked = project.path().join("asked");
    for name in ["docker", "podman"] {
        let script = format!("#!/bin/sh\necho {name} \"$@\" >>{}\nexit 1\n", asked.display());
        let path = project.write(&format!("bin/{name}"), &script);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", project.path().join("bin").display());
    let ended = Ended::from(project.command(&["run"]).env("PATH", &path).output().unwrap());
    has(&ended, 0, &["hello"]);
    assert!(!asked.exists(), "{}", project.read("asked"));
    // Another job would have.
    project.write("other.yml", &format!("container: '{IMAGE}'\nsteps:\n- bash: echo hello\n"));
    let ended = Ended::from(project.command(&["run", "other.yml"]).env("PATH", &path).output().unwrap());
    has(&ended, 2, &["cannot run here: containers need Docker or Podman, and `docker` cannot be used"]);
    assert!(project.read("asked").contains("docker version"), "{}", project.read("asked"));
}

#[test]
fn a_run_that_needs_an_engine_is_refused_where_there_is_none() {
    let project = project(
        "jobs:
- job: first
  steps: [ { checkout: none }, { bash: echo hello } ]
- job: boxed
  steps: [ { checkout: none }, { bash: echo never } ]
  container: tools
- job: served
  services: { db: repositories }
  steps: [ { checkout: none } ]
- job: targets
  steps:
  - checkout: none
  - { bash: echo never, target: other }
- job: sometimes
  condition: eq(variables.shade, 'red')
  container: tools
  steps: [ { checkout: none } ]
- deployment: ship
  environment: prod
  strategy:
    runOnce:
      deploy:
        steps:
        - download: none
        - { task: UseNode@1, target: other }
",
    );
    let programs = project.few_programs();
    let run = |arguments: &[&str]| {
        let mut command = project.command(&["run", "--skip-task", "UseNode"]);
        Ended::from(command.args(arguments).env("PATH", &programs).output().unwrap())
    };
    let all = run(&[]);
    has(
        &all,
        2,
        &[
            "nothing was run: `boxed` (azure-pipelines.yml:12), `served` (azure-pipelines.yml:14), `targets` \
             (azure-pipelines.yml:19) cannot run here: containers need Docker or Podman, and `docker` is not on \
             the PATH; `podman` is not on the PATH. Install or start one of them",
            "--on kubernetes",
        ],
    );
    assert_eq!(all.stdout, "", "nothing was run");
    let of_programs = run(&["--json"]);
    let told: serde_json::Value = serde_json::from_str(of_programs.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(told["diagnostics"][0]["severity"], "error", "{told}");
    // What is not chosen, or has no container without this task, does not matter.
    let ended = run(&["--job", "first", "--job", "sometimes", "--job", "ship"]);
    has(&ended, 0, &["hello", "`sometimes` will fail unless a condition skips them"]);
}
