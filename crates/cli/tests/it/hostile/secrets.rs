//! Attacks on what the worker holds.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use dayfly_protocol::TaskResult;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::geteuid;

use super::{OBJECT, World, unprivileged};
use crate::service::{Process, eventually, pid};

#[tokio::test]
async fn nobody_of_the_same_user_gets_into_a_worker() {
    let mut world = World::new().await;
    let mut watcher = Process(world.attacker("watch").env(OBJECT, &world.dayfly).spawn().unwrap());
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
    // It tells of one of these workers when the next is already there, so each of them counts.
    let mut controls = Vec::new();
    nix::fcntl::fcntl(&said, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    eventually("the watcher gets into an unprotected worker", || {
        let mut worker = unprivileged(&world.dayfly);
        worker.arg("worker").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let worker = Process(worker.spawn().unwrap());
        controls.push(format!(" of {}", worker.0.id()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(worker);
        let mut bytes = [0; 4096];
        if let Ok(read) = said.read(&mut bytes) {
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        controls.iter().any(|control| seen.contains(&format!("{control}\n"))).then_some(())
    })
    .await;
    let got: Vec<_> = seen.lines().filter(|line| line.starts_with("GOT")).collect();
    assert!(got.iter().all(|line| controls.iter().any(|control| line.ends_with(control))), "{got:?}");
}

/// Starts `dayfly worker` by way of a shell, which waits until `meanwhile` has been done to its process.
fn worker_after(meanwhile: impl FnOnce(u32)) -> (Option<i32>, String, String) {
    let mut shell = unprivileged("/bin/sh".as_ref());
    shell.args(["-c", "read -r go; exec \"$0\" worker", env!("CARGO_BIN_EXE_dayfly")]);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    meanwhile(child.id());
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    // One that may go on speaks first; when it has, it hears that nobody wants it.
    let mut asked = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut asked).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), asked, String::from_utf8(output.stderr).unwrap())
}

/// Not a `tokio` test: only the thread that attached is the debugger.
#[test]
fn a_worker_that_is_traced_asks_for_no_job() {
    let (_, asked, _) = worker_after(|_| {});
    assert!(asked.contains(r#""hello""#), "{asked}");
    let (code, asked, said) = worker_after(|shell| {
        ptrace::seize(pid(shell), ptrace::Options::empty()).unwrap();
    });
    assert_eq!((asked.as_str(), code), ("", Some(1)), "{said}");
    let own = std::process::id();
    assert!(
        said.contains("traces the worker and could read the job's token from it; stop the debugger"),
        "{said}"
    );
    assert!(said.contains("process "), "{said} names the tracer ({own} has a thread for each test)");
}

#[tokio::test]
async fn nobody_becomes_a_workers_debugger_or_opens_its_channel() {
    let mut world = World::new().await;
    let (worker, go) = (world.path("worker"), world.path("home/go"));
    let attack = world.attack("attach");
    // The worker's own child ...
    let script = format!(
        r#"{OBJECT}=$PPID {attack} || exit 9
        for end in /proc/self/fd/*; do case $(readlink $end) in socket:*|*memfd*) echo "$end is open"; exit 8;; esac; done
        ( : | tee /proc/$PPID/fd/0 /proc/$PPID/fd/1 ) 2>/dev/null && exit 7
        echo $PPID > {worker}; until [ -e {go} ]; do sleep 0.02; done"#
    );
    let job = world.service.queue("Job", &[&script]);
    let text = world.service.file("worker").await;
    // ... and a stranger of the same user.
    let mut stranger = world.attacker("attach");
    let output = stranger.env(OBJECT, text.trim()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("ATTACHED TO NOTHING"), "{said}");
    // Even who may look into every process finds sockets there, which nobody can open.
    let refusal = if geteuid().is_root() { Errno::ENXIO } else { Errno::EACCES };
    for end in ["0", "1", "2"] {
        let opened = std::fs::File::open(format!("/proc/{}/fd/{end}", text.trim()));
        assert_eq!(opened.unwrap_err().raw_os_error(), Some(refusal as i32), "{end}");
    }
    std::fs::write(&go, "").unwrap();
    assert_eq!(world.result(job).await, TaskResult::Succeeded);
}
