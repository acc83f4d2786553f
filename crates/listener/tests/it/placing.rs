//! A place whose worker ends before it has the job is made again, a few times; one whose worker had it never.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dayfly_listener::{AcceptedJob, Ending, Executor, Reported, RunningJob, WorkerExit};
use dayfly_protocol::{JobId, TaskResult};

use crate::world::{World, eventually, finish};

/// The first places go as it says, those after them are made by another executor.
#[derive(Debug)]
struct Unsteady {
    early: usize,
    ending: Ending,
    then: Arc<dyn Executor>,
    places: Arc<AtomicUsize>,
}

impl Executor for Unsteady {
    fn run(&self, job: AcceptedJob) -> RunningJob {
        if self.places.fetch_add(1, Ordering::SeqCst) >= self.early {
            return self.then.run(job);
        }
        let exit = WorkerExit {
            result: None,
            reported: Reported::No,
            ending: self.ending.clone(),
            last_lines: Vec::new(),
        };
        RunningJob::spawn(|_| async move { exit })
    }
}

/// A job whose first places went so.
struct Placed {
    world: World,
    job: JobId,
    places: Arc<AtomicUsize>,
    set: dayfly_listener::AgentSet,
}

async fn placed(early: usize, ending: Ending, script: &str, pause: Option<Duration>) -> Placed {
    let mut world = World::new().await;
    let places = Arc::new(AtomicUsize::new(0));
    let then = world.script(script);
    let executor = Arc::new(Unsteady { early, ending, then, places: places.clone() });
    let mut config = world.config(&["a"]);
    config.timings.retry_first = pause.unwrap_or(config.timings.retry_first);
    let set = world.set(config, 1, executor).await;
    let job = world.queue("job");
    Placed { world, job, places, set }
}

fn evicted() -> Ending {
    Ending::Ended("its pod was evicted".to_owned())
}

#[tokio::test]
async fn a_worker_that_ends_before_it_has_the_job_is_followed_by_another() {
    let Placed { mut world, job, places, set: _set } = placed(3, evicted(), &finish("succeeded"), None).await;
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    assert_eq!(places.load(Ordering::SeqCst), 4);
    let records = world.records(job).await;
    let record = records.iter().find(|record| record.name.as_deref() == Some("Prepare worker"));
    let log = record.and_then(|record| record.log.as_ref()).expect("a record with a log");
    let text = world.log(job, log.id).await;
    for number in 1..=3 {
        let line = format!(
            "The worker ended before it had the job: its pod was evicted. Starting another one ({number} of 3)."
        );
        assert!(text.contains(&line), "{text}");
    }
}

#[tokio::test]
async fn there_is_an_end_to_it_and_what_cannot_help_is_not_tried() {
    let not_started = Ending::NotStarted("there is no such image".to_owned());
    for (ending, expected, words) in [
        (evicted(), 4, "its pod was evicted"),
        (not_started, 1, "Could not start the worker of this job: there is no such image"),
    ] {
        let Placed { mut world, job, places, set: _set } = placed(9, ending, "", None).await;
        assert_eq!(world.completed(job).await.0, TaskResult::Failed);
        assert_eq!(places.load(Ordering::SeqCst), expected);
        let issues = world.issues(job).await;
        assert!(issues.iter().any(|issue| issue.contains(words)), "{issues:?}");
    }
}

#[tokio::test]
async fn a_worker_that_had_the_job_is_followed_by_none() {
    let Placed { mut world, job, places, set: _set } = placed(0, evicted(), "exit 3", None).await;
    assert_eq!(world.completed(job).await.0, TaskResult::Failed);
    assert_eq!(places.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_job_that_is_cancelled_between_two_places_gets_no_other() {
    let hour = Some(Duration::from_secs(3600));
    let Placed { mut world, job, places, set: _set } = placed(1, evicted(), &finish("succeeded"), hour).await;
    world.started(job).await;
    eventually("the first place", || (places.load(Ordering::SeqCst) == 1).then_some(())).await;
    world.cancel(job);
    assert_eq!(world.completed(job).await.0, TaskResult::Canceled);
    assert_eq!(places.load(Ordering::SeqCst), 1);
}
