//! Attacks by processes: that stay, that are many, and on the worker's own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use dayfly_listener::{
    AgentSet, Agents, Config, Description, InMemory, OnExisting, ProcessExecutor, Timings, listed_environment,
};
use dayfly_protocol::TaskResult;
use dayfly_protocol::channel::WorkerSettings;

use super::{OBJECT, World};
use crate::service::{Service, eventually, is_alive};

#[tokio::test]
async fn nothing_that_a_job_starts_outlives_it() {
    let mut world = World::new().await;
    let (left, walker) = (world.path("left"), world.path("walker"));
    let hider = world.attack("hide");
    let script = format!(
        // In place of the subshell, so that nothing of the job is left above what it starts.
        r#"quiet() {{ exec "$@" </dev/null >/dev/null 2>&1; }}
        ( quiet setsid env -i /bin/sh -c 'echo $$ >> {left}; exec sleep 600' & )
        ( quiet setsid /bin/sh -c '( setsid /bin/sh -c "echo \$\$ >> {left}; trap : TERM HUP INT; while :; do sleep 600; done" & )' & )
        ( quiet setsid env -i /bin/sh -c 'echo $$ >> {left}; kill -STOP $$' & )
        ( quiet setsid env -i /bin/sh -c 'echo $$ >> {left}; exec {hider}' & )
        quiet nohup sleep 600 & echo $! >> {left}
        while [ $(wc -l < {left}) -lt 5 ]; do sleep 0.02; done
        echo 'setsid sh $0 & exit' > {walker}; ( quiet setsid sh {walker} & )"#
    );
    assert_eq!(world.run(&script).await, TaskResult::Succeeded);
    let left = world.processes("left");
    assert_eq!(left.len(), 5);
    // The job's result is reported after its processes are gone.
    for process in left {
        assert!(!is_alive(process), "process {process} is left");
    }
    let next = "ps -e -o args | grep -F walker | grep -v grep && exit 9; true";
    assert_eq!(world.run(next).await, TaskResult::Succeeded);
}

#[tokio::test]
async fn a_job_that_kills_its_worker_leaves_nothing_behind() {
    let mut world = World::new().await;
    for signal in ["KILL", "ABRT"] {
        let left = world.path(signal);
        let script = format!(
            "ulimit -c unlimited
            ( setsid env -i /bin/sh -c 'echo $$ > {left}; exec sleep 600' </dev/null >/dev/null 2>&1 & )
            until [ -s {left} ]; do sleep 0.02; done
            kill -{signal} $PPID; sleep 600"
        );
        assert_eq!(world.run(&script).await, TaskResult::Failed, "{signal}");
        for process in world.processes(signal) {
            eventually("the process is gone", || (!is_alive(process)).then_some(())).await;
        }
    }
    let no_core = "find \"$AGENT_WORKFOLDER\" \"$HOME\" -name 'core*' | grep . && exit 9; true";
    assert_eq!(world.run(no_core).await, TaskResult::Succeeded);
    assert!(world.agent.0.try_wait().unwrap().is_none(), "the agent lives on");
}

#[tokio::test]
async fn a_fork_bomb_ends_with_its_job() {
    let mut world = World::new().await;
    let bomb = r#"ulimit -u $(( $(ps -L -u $(id -u) -o lwp= | wc -l) + 200 ))
        bomb() { bomb | bomb & }
        bomb 2>/dev/null; until ! (exec true) 2>/dev/null; do :; done; echo 'there is no room for another'"#;
    // What the shell says when it can no longer fork is its own affair; the job ends all the same.
    world.run(bomb).await;
    let look =
        r#"ps -e -o args= | grep -F "$AGENT_TEMPDIRECTORY" | grep -v grep | grep -vF "$0" && exit 9; true"#;
    assert_eq!(world.run(look).await, TaskResult::Succeeded);
}

#[tokio::test]
async fn a_socket_ends_with_its_job() {
    let mut world = World::new().await;
    let attack = world.attack("listen");
    let listen = format!(
        r#"( exec setsid env -i {OBJECT}="$AGENT_TEMPDIRECTORY" {attack} </dev/null >/dev/null 2>&1 & )
        for i in $(seq 500); do [ -e "$AGENT_TEMPDIRECTORY/listens" ] && exit 0; sleep 0.02; done; exit 9"#
    );
    // The second one finds neither the name nor the file of the first.
    for _ in 0..2 {
        assert_eq!(world.run(&listen).await, TaskResult::Succeeded);
    }
}

/// A set of one agent with the built worker, which waits for nothing long.
async fn impatient_agent(service: &Service) -> AgentSet {
    let short = Duration::from_millis(300);
    let config = Config {
        server_url: service.emulator.url().clone(),
        agents: Agents::Managed {
            connection: service.connection(),
            pool: "Default".to_owned(),
            names: vec![Arc::from("victim")],
            key: None,
            on_existing: OnExisting::Adopt,
            remove_at_end: false,
        },
        description: Description {
            version: dayfly_worker::AGENT_VERSION.to_owned(),
            operating_system: "Linux".to_owned(),
            owner_name: "machine".to_owned(),
            capabilities: Arc::new(BTreeMap::new()),
        },
        worker: WorkerSettings {
            work_directory: service.path("work"),
            home_directory: service.path(""),
            agent_name: "victim".to_owned(),
            ..WorkerSettings::default()
        },
        once: false,
        connecting: 1,
        store: Arc::new(InMemory::default()),
        registrations: Arc::new(InMemory::default()),
    };
    let environment: Vec<(OsString, OsString)> = listed_environment(std::env::vars_os());
    let executor = ProcessExecutor::new(env!("CARGO_BIN_EXE_dayfly"), vec!["worker".into()], environment);
    let timings =
        Timings { cancel_minimum: short, flush_before: short, kill_after: short, ..Timings::default() };
    let (set, _events) = AgentSet::start_with(config, timings, Arc::new(executor)).await.unwrap();
    assert_eq!(set.wait_online(1).await, 1);
    set
}

#[tokio::test]
async fn a_worker_that_its_job_stops_is_killed_when_the_time_is_up() {
    let mut service = Service::new(|_| {}).await;
    let set = impatient_agent(&service).await;
    let left = service.path("left").display().to_string();
    let script = format!("echo $PPID > {left}; echo $$ >> {left}; kill -STOP $PPID; sleep 600");
    let job = service.queue_limited("Stopper", &[&script], Duration::from_secs(2));
    assert_eq!(service.result(job).await, TaskResult::Canceled);
    let left = std::fs::read_to_string(service.path("left")).unwrap();
    for process in left.lines().map(|line| line.parse().unwrap()) {
        eventually("worker and step are gone", || (!is_alive(process)).then_some(())).await;
    }
    let next = service.queue("Next", &["true"]);
    assert_eq!(service.result(next).await, TaskResult::Succeeded);
    assert_eq!(service.results(job).len(), 1);
    set.stop(Duration::from_secs(5));
}
