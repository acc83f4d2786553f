use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use dayfly_processes::kill;
use nix::unistd::Pid;

use crate::wait_until_gone;

/// Starts `sh -c script` as the leader of a group and answers it with the process ids it prints first.
fn start(script: &str, value: &str, printed: usize) -> (std::process::Child, Vec<i32>) {
    let mut leader = Command::new("sh")
        .args(["-c", script])
        .env("MARK_OF_TEST", value)
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let lines = BufReader::new(leader.stdout.take().expect("piped")).lines();
    let ids = lines.take(printed).map(|line| line.expect("a line").trim().parse().expect("a process id"));
    let ids = ids.collect();
    (leader, ids)
}

fn id(child: &std::process::Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

#[test]
fn marked_processes_their_descendants_and_the_group_are_killed() {
    let value = format!("{}-marked", std::process::id());
    // One leaves the session but keeps the mark, one cleans its environment but stays a descendant.
    let script = "setsid sleep 600 & echo $!; (env -i sleep 600 & echo $!; wait) & wait";
    let (mut leader, ids) = start(script, &value, 2);
    let ended = kill::with_variable("MARK_OF_TEST", &value, Some(id(&leader)));
    leader.wait().expect("reaped");
    for id in ids {
        assert!(ended.iter().any(|ended| ended.process_id == id), "{ended:?}");
        wait_until_gone(id);
    }
    assert_eq!(kill::with_variable("MARK_OF_TEST", &value, None), []);
}

/// Again and again, because one of them leaves the group while it is being killed.
#[test]
fn a_tree_is_killed_with_those_that_left_its_group() {
    for _ in 0..200 {
        let (mut leader, ids) = start("sleep 600 & echo $!; setsid sleep 600 & echo $!; wait", "", 2);
        kill::tree(id(&leader));
        leader.wait().expect("reaped");
        ids.into_iter().for_each(wait_until_gone);
    }
}
