//! Whatever ends a job acts in every stage of its way, also while an executor takes its time to make a place
//! for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dayfly_emulator::{CompletionReason, Fault, FaultRule};
use dayfly_listener::{
    Accepted, AcceptedJob, AgentSet, Change, Event, Executor, InMemory, JobRecord, JobStore, Note, Progress,
    RunningJob, StoreResult, WorkerExit,
};
use dayfly_protocol::{JobId, RequestId, TaskResult};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::Semaphore;

use crate::world::{World, bounded, event, eventually, finish};

const MESSAGES: &str = "_apis/distributedtask/pools/*/messages/*";
const REQUESTS: &str = "_apis/distributedtask/pools/*/jobrequests/*";

/// Takes longer to make a place than any test waits, and says so; counts the places that it was told to give
/// up.
#[derive(Debug, Default)]
struct Slow {
    given_up: Arc<AtomicUsize>,
}

impl Executor for Slow {
    fn run(&self, _job: AcceptedJob) -> RunningJob {
        let given_up = self.given_up.clone();
        RunningJob::spawn(move |controls| async move {
            for _ in 0..3 {
                let note = Note {
                    word: "scheduling",
                    text: "no machine is free".to_owned(),
                    advice: Some("add one".to_owned()),
                    is_problem: true,
                };
                controls.progress.send(Progress::Noted(note)).await.expect("the lease listens");
            }
            tokio::select! {
                () = controls.kill.cancelled() => {
                    given_up.fetch_add(1, Ordering::SeqCst);
                    WorkerExit::not_started("its place was given up")
                }
                () = tokio::time::sleep(Duration::from_secs(600)) => WorkerExit::not_started("no machine was free"),
            }
        })
    }
}

/// Remembers jobs, but only when it is let.
#[derive(Debug)]
struct Hesitant {
    store: InMemory,
    may: Semaphore,
}

impl JobStore for Hesitant {
    fn accept(&self, job: JobRecord) -> BoxFuture<'_, StoreResult<Accepted>> {
        async move {
            let _permit = self.may.acquire().await;
            self.store.accept(job).await
        }
        .boxed()
    }

    fn change(&self, request: RequestId, change: Change) -> BoxFuture<'_, StoreResult<()>> {
        self.store.change(request, change)
    }

    fn close(&self, request: RequestId) -> BoxFuture<'_, StoreResult<()>> {
        self.store.close(request)
    }

    fn open(&self) -> BoxFuture<'_, StoreResult<Vec<JobRecord>>> {
        self.store.open()
    }
}

/// How far the job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Recording,
    Deleting,
    Placing,
    Running,
}

/// What ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cancelled,
    LockLost,
    Shutdown,
}

#[tokio::test]
async fn whatever_ends_a_job_acts_in_every_stage() {
    for stage in [Stage::Recording, Stage::Deleting, Stage::Placing, Stage::Running] {
        for end in [End::Cancelled, End::LockLost, End::Shutdown] {
            println!("{stage:?} {end:?}");
            bounded(&format!("{stage:?} {end:?}"), ends(stage, end)).await;
        }
    }
}

async fn ends(stage: Stage, end: End) {
    let mut world = World::with(|settings| {
        if end == End::LockLost {
            settings.lock_duration = Duration::from_millis(600);
        }
    })
    .await;
    let slow = Slow::default();
    let given_up = slow.given_up.clone();
    let running = format!("echo up > '{}/up'; trap '' TERM; sleep 600", world.folder.path().display());
    let executor: Arc<dyn Executor> = match stage {
        Stage::Running => world.script(&running),
        _ => Arc::new(slow),
    };
    let store = Arc::new(Hesitant { store: InMemory::default(), may: Semaphore::new(0) });
    if stage != Stage::Recording {
        store.may.add_permits(1_000);
    }
    let mut config = world.config(&["a"]);
    config.store = store.clone();
    let away = Fault::Status { status: 503, type_key: None, message: None, headers: Default::default() };
    let messages = (stage == Stage::Deleting).then(|| {
        let rule = FaultRule::new(MESSAGES, away.clone()).method("DELETE");
        world.emulator.add_fault(rule).expect("a fault")
    });
    let set = world.set(config, 1, executor).await;
    let mut events = set.events();
    let job = world.queue("job");
    world.started(job).await;
    reach(&world, stage, messages, &mut events).await;

    bring_about(&world, &set, job, end, &away).await;
    // The end of it is there although the stage would go on for long, unless the message is not known to be
    // gone.
    if let Some(rule) = messages {
        if end == End::Cancelled {
            // The cancellation is a message too: it has been handled once its deletion is tried.
            let tried = world.strikes(rule);
            world.struck(rule, tried + 2).await;
        }
        world.emulator.remove_fault(rule);
    }
    if stage == Stage::Recording {
        store.may.add_permits(1_000);
    }
    let told = event(&mut events, "the job is over", |event| match event {
        Event::JobFinished { result, .. } => Some(*result),
        _ => None,
    })
    .await;
    let expected = if end == End::LockLost { TaskResult::Abandoned } else { TaskResult::Canceled };
    assert_eq!(told, Some(expected), "{stage:?} {end:?}");
    match end {
        End::LockLost => {
            assert_eq!(world.completed(job).await, (TaskResult::Abandoned, CompletionReason::LockLost));
        }
        End::Cancelled | End::Shutdown => {
            assert_eq!(world.completed(job).await, (TaskResult::Canceled, CompletionReason::Event));
        }
    }
    if stage != Stage::Running {
        eventually("the place is given up", || (given_up.load(Ordering::SeqCst) == 1).then_some(())).await;
        assert!(world.runs().is_empty());
    }
    assert_eq!(world.emulator.statistics().refused_completions, 0, "{stage:?} {end:?}");
    set.stop(Duration::from_secs(5));
    set.wait().await;
    world.stop().await;
}

async fn reach(
    world: &World,
    stage: Stage,
    messages: Option<u64>,
    events: &mut dayfly_listener::EventStream,
) {
    match stage {
        Stage::Recording => {}
        Stage::Deleting => world.struck(messages.expect("a rule"), 1).await,
        Stage::Placing => {
            event(events, "the job is accepted", |event| {
                matches!(event, Event::JobAccepted { .. }).then_some(())
            })
            .await;
        }
        Stage::Running => drop(world.file("up").await),
    }
}

async fn bring_about(world: &World, set: &AgentSet, job: JobId, end: End, away: &Fault) {
    match end {
        End::Cancelled => world.cancel(job),
        End::LockLost => {
            let rule = FaultRule::new(REQUESTS, away.clone()).method("PATCH");
            world.emulator.add_fault(rule).expect("a fault");
        }
        End::Shutdown => set.stop(Duration::from_secs(4)),
    }
}

#[tokio::test]
async fn what_keeps_a_worker_away_is_told_in_the_jobs_log() {
    let mut world = World::new().await;
    let set = world.agents(&["a"], Arc::new(Slow::default())).await;
    let mut events = set.events();
    let job = world.queue("waiting");
    let note = event(&mut events, "it is told", |event| match event {
        Event::Noted { note, .. } => Some(note.clone()),
        _ => None,
    })
    .await;
    assert_eq!((note.word, note.text.as_str()), ("scheduling", "no machine is free"));
    let prepare = eventually_record(&world, job, |record| !record.issues.is_empty()).await;
    assert_eq!(prepare.issues.len(), 1, "equal notes are told once: {:?}", prepare.issues);
    assert_eq!(prepare.issues[0].message, "no machine is free add one");
    let log = prepare.log.expect("it has a log").id;
    world.cancel(job);
    assert_eq!(world.completed(job).await, (TaskResult::Canceled, CompletionReason::Event));
    let prepare = eventually_record(&world, job, |record| record.result.is_some()).await;
    assert_eq!((prepare.result, prepare.order), (Some(TaskResult::Canceled), Some(0)));
    assert_eq!(prepare.parent_id.map(|parent| parent.0), Some(job.0));
    let text = world.log(job, log).await;
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(' ')).map(|(_, text)| text).collect();
    assert_eq!(lines, ["##[warning]no machine is free", "add one"]);
    set.drain();
    set.wait().await;
}

#[tokio::test]
async fn a_worker_that_starts_at_once_leaves_no_trace_of_its_start() {
    let mut world = World::new().await;
    let set = world.agents(&["a"], world.script(&finish("succeeded"))).await;
    let job = world.queue("quick");
    assert_eq!(world.completed(job).await.0, TaskResult::Succeeded);
    assert!(world.records(job).await.iter().all(|record| record.name.as_deref() != Some("Prepare worker")));
    set.drain();
    set.wait().await;
}

/// The record of how the worker is prepared, once it is as wanted.
async fn eventually_record(
    world: &World,
    job: JobId,
    is_it: impl Fn(&dayfly_protocol::timeline::TimelineRecord) -> bool,
) -> dayfly_protocol::timeline::TimelineRecord {
    bounded("the record is there", async {
        loop {
            let records = world.records(job).await;
            let found = records
                .into_iter()
                .find(|record| record.name.as_deref() == Some("Prepare worker") && is_it(record));
            if let Some(record) = found {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}
