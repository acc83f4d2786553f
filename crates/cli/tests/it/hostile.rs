//! Jobs that attack their worker, the next job, and the machine's user, as an ordinary user runs them: `dayfly agent` with the real worker.
//!
//! Where the tests run as root they become somebody else first, since root may look into every process.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dayfly_protocol::TaskResult;
use nix::unistd::{Gid, Uid, chown, geteuid};

use crate::service::{Process, Service, eventually, is_alive};

/// What the process is that one of these tests has started from its own program.
const ROLE: &str = "HOSTILE_ROLE_OF_TEST";

/// A user with few rights.
const NOBODY: u32 = 65_534;

/// Not a test by itself: an attacker's process runs it, see [`World::attacker`].
#[test]
fn hostile_process() {
    match std::env::var(ROLE).as_deref() {
        Ok("hide") => {
            nix::sys::prctl::set_dumpable(false).unwrap();
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        Ok("watch") => watch(),
        _ => {}
    }
}

/// Looks into every process that starts, as early as it can, and says what it got hold of.
fn watch() {
    println!("WATCHING");
    let mut last = newest();
    loop {
        let newest = newest();
        for id in last + 1..=newest {
            look_into(id);
        }
        last = newest;
    }
}

/// The number of the process that was started last.
fn newest() -> u32 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.trim_end().rsplit(' ').next().unwrap().parse().unwrap()
}

/// Tries for as long as the process is young.
fn look_into(id: u32) {
    for _ in 0..2_000 {
        let Ok(arguments) = std::fs::read(format!("/proc/{id}/cmdline")) else { return };
        if !arguments.ends_with(b"\0worker\0") {
            // It may be on its way to become one.
            if arguments.windows(6).any(|part| part == b"dayfly") {
                continue;
            }
            return;
        }
        for what in ["mem", "environ", "fd/0", "fd/1", "fd/2"] {
            if std::fs::File::options().read(true).open(format!("/proc/{id}/{what}")).is_ok() {
                println!("GOT {what} of {id}");
                return;
            }
        }
    }
}

/// An emulator with one agent, run by an ordinary user.
struct World {
    service: Service,
    agent: Process,
    dayfly: PathBuf,
}

impl World {
    async fn new() -> World {
        let service = Service::new(|_| {}).await;
        let dayfly = service.path("dayfly");
        std::fs::copy(env!("CARGO_BIN_EXE_dayfly"), &dayfly).unwrap();
        std::fs::create_dir(service.path("home")).unwrap();
        give(service.folder.path());
        give(&service.path("home"));
        let template = service.agent("victim", &[]);
        let mut command = unprivileged(&dayfly);
        command.args(template.get_args());
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
        command.args(["--exact", "hostile::hostile_process", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    async fn run(&mut self, script: &str) -> TaskResult {
        let job = self.service.queue("Job", &[script]);
        self.service.result(job).await
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

#[tokio::test]
async fn nobody_of_the_same_user_gets_into_a_worker() {
    let mut world = World::new().await;
    let mut watcher = Process(world.attacker("watch").spawn().unwrap());
    let mut said = watcher.0.stdout.take().unwrap();
    let mut seen = String::new();
    while !seen.contains("WATCHING") {
        let mut bytes = [0; 64];
        let read = said.read(&mut bytes).unwrap();
        seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    let look =
        "for what in mem environ fd/0 fd/1 fd/2 exe; do (: < /proc/$PPID/$what) 2>/dev/null && exit 9; done
        ls /proc/$PPID/fd >/dev/null 2>&1 && exit 8; true";
    for _ in 0..10 {
        assert_eq!(world.run(look).await, TaskResult::Succeeded);
    }
    // The same program started from its file is open for a moment, and so the watcher can be seen to watch.
    let control = eventually("the watcher gets into an unprotected worker", || {
        let mut worker = unprivileged(&world.dayfly);
        worker.arg("worker").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let worker = Process(worker.spawn().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        let id = worker.0.id();
        drop(worker);
        let mut bytes = [0; 4096];
        nix::fcntl::fcntl(&said, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        if let Ok(read) = said.read(&mut bytes) {
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        seen.contains(&format!(" of {id}\n")).then_some(id)
    })
    .await;
    let got: Vec<_> = seen.lines().filter(|line| line.starts_with("GOT")).collect();
    assert!(got.iter().all(|line| line.ends_with(&format!(" of {control}"))), "{got:?}");
}

#[tokio::test]
async fn nothing_that_a_job_starts_outlives_it() {
    let mut world = World::new().await;
    let (left, walker) = (world.path("left"), world.path("walker"));
    let hider = world.attacker("hide");
    let words: Vec<_> = hider.get_args().map(|word| word.to_string_lossy()).collect();
    let hider = format!("env {ROLE}=hide {} {}", hider.get_program().display(), words.join(" "));
    let script = format!(
        r#"quiet() {{ "$@" </dev/null >/dev/null 2>&1; }}
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
async fn what_a_job_plants_in_the_work_folder_leads_the_next_one_nowhere() {
    let mut world = World::new().await;
    let dear = world.path("home/dear");
    let plant = format!(
        r#"mkdir -p {dear}; echo precious > {dear}/file; cd "$AGENT_WORKFOLDER"
        for name in _temp _tool _tasks _pages SourceRootMapping; do rm -rf $name; ln -s {dear} $name; done
        rm -f .lock; mkfifo .lock"#
    );
    assert_eq!(world.run(&plant).await, TaskResult::Succeeded);
    let check = format!(
        r#"cd "$AGENT_WORKFOLDER"; for name in _temp _tool _tasks _pages; do [ ! -L $name ] && [ -d $name ] || exit 9; done
        case "$0" in "$AGENT_TEMPDIRECTORY"/*) ;; *) exit 8;; esac; [ "$(ls {dear})" = file ]"#
    );
    for _ in 0..2 {
        assert_eq!(world.run(&check).await, TaskResult::Succeeded);
    }
    assert_eq!(std::fs::read_to_string(world.service.path("home/dear/file")).unwrap(), "precious\n");
    // What cannot be written cannot be deleted either, by the way it is usually done.
    let lock = r#"mkdir -p "$AGENT_TEMPDIRECTORY/a/b"; touch "$AGENT_TEMPDIRECTORY/a/b/c"; chmod 0 "$AGENT_TEMPDIRECTORY/a/b" "$AGENT_TEMPDIRECTORY/a""#;
    assert_eq!(world.run(lock).await, TaskResult::Succeeded);
    assert_eq!(world.run(r#"[ ! -e "$AGENT_TEMPDIRECTORY/a" ]"#).await, TaskResult::Succeeded);
    assert!(world.work().join("_temp").is_dir());
}

#[tokio::test]
async fn what_a_job_sets_ends_with_it() {
    let mut world = World::new().await;
    let evil = world.path("home/evil");
    let set = format!(
        r###"echo 'echo caught > {evil}.caught' > {evil}; echo {evil} > "$AGENT_TEMPDIRECTORY/left"
        for name in BASH_ENV ENV LD_PRELOAD PROMPT_COMMAND GIT_EXEC_PATH; do echo "##vso[task.setvariable variable=$name]{evil}"; done
        echo "##vso[task.prependpath]{evil}.d""###
    );
    assert_eq!(world.run(&set).await, TaskResult::Succeeded);
    let look = format!(
        r#"env | grep -F {evil} && exit 9; [ -z "$(ls -A "$AGENT_TEMPDIRECTORY" | grep -Fv "$(basename "$0")")" ] || exit 8; [ ! -e {evil}.caught ]"#
    );
    assert_eq!(world.run(&look).await, TaskResult::Succeeded);
}
