//! What attackers do that a shell cannot: this program, started once more.

#![allow(clippy::print_stdout, reason = "it tells the test what it got by what it prints")]

use std::io::{IoSliceMut, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::{OBJECT, ROLE};

/// Not a test by itself: an attacker's process runs it, see [`World::attacker`].
#[test]
fn hostile_process() {
    match std::env::var(ROLE).as_deref() {
        Ok("hide") => {
            nix::sys::prctl::set_dumpable(false).unwrap();
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        Ok("watch") => watch(),
        Ok("attach") => attach(),
        Ok("listen") => listen(),
        Ok("imitate") => imitate(),
        Ok("crowd") => crowd(),
        _ => {}
    }
}

/// Looks into every process of one `dayfly` that starts, as early as it can, and says what it got hold of.
///
/// Only of this one: other tests start theirs beside it, some of them open on purpose.
fn watch() {
    let dayfly = object();
    println!("WATCHING");
    let mut last = newest();
    loop {
        let newest = newest();
        for id in last + 1..=newest {
            look_into(id, dayfly.as_bytes());
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
fn look_into(id: u32, dayfly: &[u8]) {
    let Some(process) = process_of(id) else { return };
    for _ in 0..2_000 {
        let Ok(arguments) = std::fs::read(format!("/proc/{id}/cmdline")) else { return };
        if !arguments.windows(dayfly.len()).any(|part| part == dayfly) {
            return;
        }
        if !arguments.ends_with(b"\0worker\0") {
            // It may be on its way to become one.
            continue;
        }
        for what in ["mem", "environ", "fd/0", "fd/1", "fd/2"] {
            if std::fs::File::options().read(true).open(format!("/proc/{id}/{what}")).is_ok() {
                println!("GOT {what} of {process}");
                return;
            }
        }
    }
}

/// The process that a thread belongs to: threads are started, numbered and open in the same way.
fn process_of(id: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Tries to become the debugger of a process, and to read its memory; fails when it can.
fn attach() {
    let victim = Pid::from_raw(object().parse().unwrap());
    assert_eq!(ptrace::seize(victim, ptrace::Options::empty()), Err(Errno::EPERM), "seize");
    assert_eq!(ptrace::attach(victim), Err(Errno::EPERM), "attach");
    // Nothing lies at this address, which is what somebody is told who may read there.
    let place = RemoteIoVec { base: 8, len: 8 };
    let read = |of| process_vm_readv(of, &mut [IoSliceMut::new(&mut [0; 8])], &[place]);
    assert_eq!(read(victim), Err(Errno::EPERM), "read");
    assert_eq!(read(Pid::this()), Err(Errno::EFAULT), "what may be read");
    println!("ATTACHED TO NOTHING");
}

/// Takes a name for a socket, makes one in a folder, and stays; fails when a former one is still there.
fn listen() {
    let folder = PathBuf::from(object());
    let file = folder.join("socket");
    assert!(UnixStream::connect(&file).is_err(), "somebody listens in the folder");
    let name = SocketAddr::from_abstract_name(folder.as_os_str().as_encoded_bytes()).unwrap();
    let _named = UnixListener::bind_addr(&name).expect("nobody has the name");
    let _placed = UnixListener::bind(file).expect("nothing is in the folder");
    let mut ready = std::fs::File::create(folder.join("listens")).unwrap();
    ready.write_all(b"yes").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(600));
}

/// Says hello at a job channel in the place of workers: as one without a job, as that of the running job, and
/// in ways that are none. Prints every answer.
fn imitate() {
    let job = std::env::var("SYSTEM_JOBID").unwrap();
    let own = std::process::id();
    let hello = |process: u32, resume: &str, job: &str| {
        format!(
            r#"{{"hello":{{"protocol":2,"version":"1","process":{process},"resume":"{resume}","course":"waiting"{job}}}}}"#
        )
    };
    let job = format!(r#","job":"{job}""#);
    let waiting = [own, worker().unwrap_or(1)].map(|process| hello(process, "guess", ""));
    let resuming = ["", "guess"].map(|resume| hello(own, resume, &job));
    let others = ["nonsense".to_owned(), r#"{"course":"reporting"}"#.to_owned(), "{".repeat(100_000)];
    let answer = |words: String| {
        let mut connection = UnixStream::connect(object()).unwrap();
        // Longer than a worker is waited for that no job expects.
        connection.set_read_timeout(Some(std::time::Duration::from_secs(8))).unwrap();
        // One that is shut out in the middle of its words learns nothing either.
        let _ = connection.write_all(words.as_bytes()).and_then(|()| connection.write_all(b"\n"));
        let mut answer = [0; 64 * 1024];
        let read = connection.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).trim_end().to_owned()
    };
    let all = waiting.into_iter().chain(resuming).chain(others);
    let asked: Vec<_> = all.map(|words| std::thread::spawn(move || answer(words))).collect();
    for asked in asked {
        println!("ANSWER {}", asked.join().unwrap());
    }
}

/// The worker above this process: the first parent that is called so.
fn worker() -> Option<u32> {
    let mut id = std::process::id();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("Name:") == Some("dayfly") {
            return Some(id);
        }
        id = field("PPid:")?.parse().ok().filter(|parent| *parent > 1)?;
    }
}

/// Fills a job channel with connections that say nothing, and stays.
fn crowd() {
    let connections: Vec<_> = (0..400).map_while(|_| UnixStream::connect(object()).ok()).collect();
    println!("CROWD {}", connections.len());
    std::thread::sleep(std::time::Duration::from_secs(600));
}

/// What the attack is on.
fn object() -> String {
    std::env::var(OBJECT).unwrap()
}
