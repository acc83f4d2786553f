#![allow(clippy::print_stdout, reason = "the process that adopts answers by what it prints")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dayfly_processes::orphans::{self, Adopt};

use crate::{PATIENCE, is_alive, wait_until_gone};

/// Set in the process that adopts: the tests' own must not, since it has the children of other tests.
const WHICH: &str = "ADOPTING_PROCESS_OF_TEST";

/// Runs one of the cases below in a process of its own, and answers what it printed.
fn adopting(case: &str) -> Vec<String> {
    let mut process = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "orphans::adopting_process", "--nocapture", "--test-threads=1"])
        .env(WHICH, case)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(process.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    let lines = lines.filter_map(|line| line.split_once("SAID ").map(|(_, said)| said.to_owned())).collect();
    assert!(process.wait().expect("reaped").success());
    lines
}

/// Not a test by itself: see [`adopting`].
#[test]
fn adopting_process() {
    match std::env::var(WHICH).as_deref() {
        Ok("shapes") => end_every_shape(),
        Ok("walkers") => end_walkers(),
        Ok("sessions") => spare_the_own_session(),
        Ok("zombies") => take_zombies_away(),
        _ => {}
    }
}

fn sh(script: &str) -> Child {
    let start = || Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn();
    orphans::spawn(start, |child| Some(child.id())).expect("sh starts")
}

/// The numbers that a process prints.
fn numbers(child: &mut Child, count: usize) -> Vec<i32> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.take(count).map(|line| line.expect("a line").trim().parse().expect("a process id")).collect()
}

fn end_every_shape() {
    orphans::adopt(Adopt::All).expect("Linux");
    let mut own = sh("echo 1; exec sleep 600");
    numbers(&mut own, 1);
    let mut leaver = sh("
        (setsid env -i sh -c 'echo $$; exec sleep 600' &)
        (setsid sh -c '(setsid sh -c \"echo \\$\\$; trap : TERM HUP INT; while :; do sleep 600; done\" &)' &)
        (setsid sh -c 'echo $$; kill -STOP $$' &)
        sleep 600 & echo $!
        wait");
    let ids = numbers(&mut leaver, 4);
    leaver.kill().expect("killed");
    leaver.wait().expect("reaped");
    let ended = orphans::end_all(PATIENCE);
    for id in ids {
        assert!(ended.iter().any(|ended| ended.process_id == id), "{id} of {ended:?}");
        // Reaped as well.
        assert!(!std::fs::exists(format!("/proc/{id}")).expect("it can be asked"));
    }
    assert!(is_alive(own.id().cast_signed()), "an own child is no orphan");
    own.kill().expect("killed");
    own.wait().expect("reaped");
    println!("SAID done");
}

/// Each life starts the next, in a session and a group of its own, and ends: whoever makes a list of them is
/// late.
fn end_walkers() {
    orphans::adopt(Adopt::All).expect("Linux");
    let folder = tempfile::tempdir().expect("a folder");
    let walker = folder.path().join("walker");
    std::fs::write(&walker, "setsid sh $0 &\nexit\n").expect("written");
    let mut starter = sh(&format!("setsid sh {0} & setsid sh {0} & echo 1", walker.display()));
    numbers(&mut starter, 1);
    starter.wait().expect("reaped");
    std::thread::sleep(Duration::from_millis(100));
    let ended = orphans::end_all(PATIENCE);
    assert!(!ended.is_empty());
    assert_eq!(orphans::end_all(PATIENCE), [], "all of them had ended");
    println!("SAID done");
}

fn spare_the_own_session() {
    orphans::adopt(Adopt::OtherSessions).expect("Linux");
    let mut other = Command::new("sleep").arg("600").spawn().expect("started");
    let mut worker = sh("(setsid sh -c 'echo $$; exec sleep 600' &)");
    let left = numbers(&mut worker, 1)[0];
    worker.wait().expect("reaped");
    let ended = orphans::end_all(PATIENCE);
    assert_eq!(ended.iter().map(|ended| ended.process_id).collect::<Vec<_>>(), [left]);
    assert!(is_alive(other.id().cast_signed()));
    other.kill().expect("killed");
    other.wait().expect("still ours to reap");
    println!("SAID done");
}

fn take_zombies_away() {
    orphans::adopt(Adopt::All).expect("Linux");
    let mut leaver = sh("(setsid sh -c 'echo $$' &)");
    let orphan = numbers(&mut leaver, 1)[0];
    leaver.wait().expect("reaped");
    wait_until_gone(orphan);
    orphans::reap();
    assert!(!std::fs::exists(format!("/proc/{orphan}")).expect("it can be asked"));
    println!("SAID done");
}

#[test]
fn orphans_of_every_shape_are_ended_and_own_children_spared() {
    assert_eq!(adopting("shapes"), ["done"]);
}

#[test]
fn those_that_never_stand_still_are_ended_too() {
    assert_eq!(adopting("walkers"), ["done"]);
}

#[test]
fn programs_of_the_own_session_are_no_orphans() {
    assert_eq!(adopting("sessions"), ["done"]);
}

#[test]
fn ended_orphans_are_taken_away() {
    assert_eq!(adopting("zombies"), ["done"]);
}

#[test]
fn nothing_is_ended_by_a_process_that_has_not_asked() {
    let mut other = Command::new("setsid").args(["sleep", "600"]).spawn().expect("started");
    assert_eq!(orphans::end_all(Duration::ZERO), []);
    assert!(is_alive(other.id().cast_signed()));
    other.kill().expect("killed");
    other.wait().expect("reaped");
}
