//! Attacks on the door at which the workers of `--state-dir` arrive.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use dayfly_protocol::TaskResult;

use super::{OBJECT, World};

/// An agent whose jobs outlive it, and the address of its door.
async fn world() -> (World, String) {
    let world =
        World::with(|service| vec!["--state-dir".to_owned(), service.path("state").display().to_string()])
            .await;
    let door = world.service.path("state/channel.sock");
    (world, door.display().to_string())
}

#[tokio::test]
async fn nobody_but_its_worker_gets_a_job_at_the_door() {
    let (mut world, door) = world().await;
    let attack = world.attack("imitate");
    let script = format!("SYSTEM_JOBID=$JOB {OBJECT}={door} {attack} | tee {}", world.path("answers"));
    assert_eq!(world.run(&script).await, TaskResult::Succeeded);
    let answers = std::fs::read_to_string(world.service.path("answers")).unwrap();
    let answers = answers.lines().filter_map(|line| line.split_once("ANSWER "));
    let mut answers: Vec<_> = answers.map(|(_, answer)| answer).collect();
    answers.sort_unstable();
    let refused = r#"{"welcome":{"refused":"unknown"}}"#;
    // Four were hellos; what is none gets no answer.
    assert_eq!(answers, ["", "", "", refused, refused, refused, refused]);
}

#[tokio::test]
async fn a_crowd_at_the_door_keeps_no_worker_out() {
    let (mut world, door) = world().await;
    let (attack, said) = (world.attack("crowd"), world.path("crowd"));
    // It stays for as long as its job does, and tries to stay for longer.
    let script = format!(
        "{OBJECT}={door} setsid {attack} > {said} 2>&1 &\n\
         for i in $(seq 600); do grep -q CROWD {said} && break; sleep 0.1; done; cat {said}"
    );
    assert_eq!(world.run(&script).await, TaskResult::Succeeded);
    let crowd = std::fs::read_to_string(world.service.path("crowd")).unwrap();
    let connections = crowd.lines().find_map(|line| line.split_once("CROWD ")).map(|(_, count)| count);
    let connections: usize = connections.and_then(|count| count.trim().parse().ok()).unwrap();
    assert!(connections >= 256, "{connections} connections");
    for _ in 0..3 {
        assert_eq!(world.run("true").await, TaskResult::Succeeded);
    }
}

#[tokio::test]
async fn other_users_do_not_reach_the_door() {
    let (world, door) = world().await;
    let state = std::fs::metadata(world.service.path("state")).unwrap();
    assert_eq!(state.permissions().mode() & 0o077, 0, "the folder is its user's alone");
    assert!(std::fs::metadata(door).unwrap().file_type().is_socket());
}
