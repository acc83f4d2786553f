//! Accepted jobs in a real API server.

use std::{sync::Arc, time::Duration};

use dayfly_kubernetes::{
    AcceptingSet, Calls, Fence, KubernetesStore, Sweep, Swept,
    api::{Phase, PipelineJob},
};
use dayfly_listener::{
    Accepted, Cancelled, Change, Claim, JobRecord, JobStore, Reported, Stage, StoreError, Verdict,
};
use dayfly_protocol::{
    AgentId, JobId, LogId, MessageId, PoolId, RequestId, TaskResult,
    channel::{Key, SecretJson},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::api_server::ApiServer;

/// Where the jobs of one set are kept.
struct Place<'server> {
    server: &'server ApiServer,
    jobs: String,
    secrets: String,
    uid: String,
}

impl<'server> Place<'server> {
    async fn new(server: &'server ApiServer) -> Self {
        let uid = uuid::Uuid::new_v4().to_string();
        Self { server, jobs: server.namespace().await, secrets: server.namespace().await, uid }
    }

    fn set(&self) -> AcceptingSet {
        AcceptingSet {
            namespace: self.jobs.clone(),
            name: "linux".to_owned(),
            uid: self.uid.clone(),
            pool: PoolId(7),
        }
    }

    fn sweep(&self) -> Sweep {
        let calls = Arc::new(Calls::default());
        Sweep::new(self.server.client(), self.set(), &self.secrets, Fence::new(), calls)
    }

    /// A store of a controller called `holder`.
    fn store(&self, holder: &str) -> (KubernetesStore, Fence, Arc<Calls>) {
        let (fence, calls) = (Fence::new(), Arc::new(Calls::default()));
        let set = self.set();
        let client = self.server.client();
        let store =
            KubernetesStore::new(client, set, &self.secrets, holder.to_owned(), fence.clone(), calls.clone());
        (store, fence, calls)
    }

    fn jobs(&self) -> Api<PipelineJob> {
        Api::namespaced(self.server.client(), &self.jobs)
    }

    async fn job(&self, request: i64) -> PipelineJob {
        self.jobs().get(&format!("linux-{request}")).await.expect("the record is there")
    }

    async fn secrets(&self) -> Vec<Secret> {
        let api = Api::<Secret>::namespaced(self.server.client(), &self.secrets);
        api.list(&ListParams::default()).await.expect("they can be listed").items
    }
}

fn record(request: i64) -> JobRecord {
    let body = json!({
        "jobId": uuid::Uuid::nil(), "jobDisplayName": "Build", "requestId": request,
        "variables": {
            "build.buildNumber": { "value": "20261126.1" },
            "build.buildId": { "value": "12" },
            "system.definitionName": { "value": "nightly" },
            "system.teamProject": { "value": "a project" },
            "system.teamFoundationCollectionUri": { "value": "https://dev.azure.com/org/" },
            "token": { "value": "hush", "isSecret": true },
        },
    });
    job_with(request, body.to_string().as_bytes())
}

fn job_with(request: i64, body: &[u8]) -> JobRecord {
    JobRecord {
        request: RequestId(request),
        job: JobId::default(),
        agent: AgentId(1),
        message_id: MessageId(5),
        body: Arc::new(SecretJson::new(body).expect("it is JSON")),
        stage: Stage::Accepted,
        cancelled: None,
        log: None,
    }
}

fn claimed() -> Stage {
    Stage::Claimed(Claim { resume: Key::new("resume").digest(), place: "pod-1".to_owned() })
}

fn reporting() -> Stage {
    Stage::Reporting(Verdict { result: TaskResult::Succeeded, reported: Reported::Yes, reason: None })
}

#[tokio::test]
async fn a_job_is_recorded_in_six_writes_and_seen_by_people() {
    let Some(server) = ApiServer::find().await else { return };
    let place = Place::new(&server).await;
    let (store, _fence, calls) = place.store("one");
    assert_eq!(store.accept(record(1)).await.expect("it can"), Accepted::New);
    assert_eq!(store.accept(record(1)).await.expect("it can"), Accepted::Known);
    let job = place.job(1).await;
    assert_eq!(job.spec.build.as_deref(), Some("20261126.1"));
    assert_eq!(job.spec.pipeline.as_deref(), Some("nightly"));
    let url = "https://dev.azure.com/org/a%20project/_build/results?buildId=12";
    assert_eq!(job.spec.url.as_deref(), Some(url));
    assert_eq!(job.finalizers(), ["dayfly.dev/job"]);
    assert!(store.note(RequestId(1), Some("pod-1".to_owned()), None).await.expect("it can"));
    assert!(!store.note(RequestId(2), None, Some("x".to_owned())).await.expect("there is no such job"));
    store.change(RequestId(1), Change::Log(LogId(3))).await.expect("it can");
    store.change(RequestId(1), Change::Stage(claimed())).await.expect("it can");
    let status = place.job(1).await.status.expect("it has one");
    assert_eq!((status.phase, status.pod.as_deref()), (Phase::Running, Some("pod-1")));
    store.change(RequestId(1), Change::Stage(reporting())).await.expect("it can");
    store.change(RequestId(1), Change::Stage(reporting())).await.expect("it is so already");
    let text = serde_json::to_string(&place.job(1).await).expect("it is JSON");
    assert!(!text.contains("hush") && !text.contains(&digest()), "{text}");
    assert_eq!(place.secrets().await.len(), 1);
    assert_eq!(calls.written(), 4, "the pod is the fifth until the result");
    store.close(RequestId(1)).await.expect("it can");
    assert_eq!(calls.written(), 6, "the pod's two make eight");
    let job = place.job(1).await;
    let status = job.status.clone().expect("it has one");
    assert_eq!((status.phase, status.result.as_deref()), (Phase::Finished, Some("Succeeded")));
    assert!(status.started_at.is_some() && status.finished_at.is_some(), "{status:?}");
    assert!(job.finalizers().is_empty(), "{job:?}");
    assert!(place.secrets().await.is_empty());
    assert_eq!(store.accept(record(1)).await.expect("it can"), Accepted::Known, "it is over");
    assert!(place.secrets().await.is_empty());
    assert!(store.open().await.expect("it can").is_empty());
}

fn digest() -> String {
    serde_json::to_value(Key::new("resume").digest()).expect("it is JSON").as_str().expect("text").to_owned()
}

#[tokio::test]
async fn the_next_controller_goes_on_and_the_last_one_cannot() {
    let Some(server) = ApiServer::find().await else { return };
    let place = Place::new(&server).await;
    let (first, _fence, _) = place.store("one");
    for request in [1, 2, 3] {
        assert_eq!(first.accept(record(request)).await.expect("it can"), Accepted::New);
    }
    first.change(RequestId(2), Change::Log(LogId(3))).await.expect("it can");
    first.change(RequestId(2), Change::Stage(claimed())).await.expect("it can");
    let cancelled = Cancelled { at: Timestamp::UNIX_EPOCH, timeout_seconds: 60 };
    first.change(RequestId(3), Change::Cancelled(cancelled)).await.expect("it can");
    let (second, _fence, _) = place.store("two");
    let expected = [
        record(1),
        JobRecord { stage: claimed(), log: Some(LogId(3)), ..record(2) },
        JobRecord { cancelled: Some(cancelled), ..record(3) },
    ];
    assert_eq!(second.open().await.expect("it can"), expected);
    for request in [1, 2, 3] {
        let late = first.change(RequestId(request), Change::Stage(claimed())).await;
        assert!(matches!(late, Err(StoreError::NotOurs)), "{late:?}");
        let late = first.close(RequestId(request)).await;
        assert!(matches!(late, Err(StoreError::NotOurs)), "{late:?}");
        second.change(RequestId(request), Change::Stage(claimed())).await.expect("it can");
    }
    assert_eq!(place.secrets().await.len(), 3);
    assert_eq!(place.job(1).await.status.expect("it has one").holder.as_deref(), Some("two"));
}

#[tokio::test]
async fn of_two_stores_that_race_for_a_job_one_gets_it() {
    let Some(server) = ApiServer::find().await else { return };
    let place = Place::new(&server).await;
    let ((one, _one, _), (two, _two, _)) = (place.store("one"), place.store("two"));
    for request in 1..=20 {
        let (one, two) = tokio::join!(one.accept(record(request)), two.accept(record(request)));
        let answers = [one.expect("it can"), two.expect("it can")];
        assert_eq!(answers.iter().filter(|answer| **answer == Accepted::New).count(), 1, "{answers:?}");
    }
    assert_eq!(place.secrets().await.len(), 20, "the loser's messages are gone");
}

#[tokio::test]
async fn a_large_message_is_split_and_read_back_whole() {
    let Some(server) = ApiServer::find().await else { return };
    let place = Place::new(&server).await;
    let (store, _fence, _) = place.store("one");
    // Random, so that it does not pack.
    let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(4 * 1024 * 1024).collect();
    let job = job_with(1, json!({ "text": text }).to_string().as_bytes());
    assert_eq!(store.accept(job.clone()).await.expect("it can"), Accepted::New);
    assert!(place.secrets().await.len() >= 4);
    let (next, _fence, _) = place.store("two");
    assert!(next.open().await.expect("it can") == [job], "it is another message");
    next.close(RequestId(1)).await.expect("it can");
    assert!(place.secrets().await.is_empty());
}

#[tokio::test]
async fn what_others_change_of_the_object_is_kept_and_stops_nothing() {
    let Some(server) = ApiServer::find().await else { return };
    let place = Place::new(&server).await;
    let (store, _fence, _) = place.store("one");
    store.accept(record(1)).await.expect("it can");
    let labels = json!({ "metadata": { "labels": { "team": "a" }, "finalizers": ["test.invalid/x", "dayfly.dev/job"] } });
    let merge = PatchParams::default();
    place.jobs().patch("linux-1", &merge, &Patch::Merge(labels)).await.expect("it can be labelled");
    store.change(RequestId(1), Change::Stage(claimed())).await.expect("it can");
    place.jobs().delete("linux-1", &DeleteParams::default()).await.expect("it can be deleted");
    store.change(RequestId(1), Change::Stage(reporting())).await.expect("it can");
    store.close(RequestId(1)).await.expect("it can");
    let job = place.job(1).await;
    assert_eq!(job.labels().get("team").map(String::as_str), Some("a"));
    assert_eq!(job.finalizers(), ["test.invalid/x"]);
}

#[tokio::test]
async fn a_sealed_state_that_somebody_changed_is_not_believed() {
    let Some(server) = ApiServer::find().await else { return };
    let place = Place::new(&server).await;
    let (store, _fence, _) = place.store("one");
    for request in [1, 2] {
        store.accept(record(request)).await.expect("it can");
        store.change(RequestId(request), Change::Stage(claimed())).await.expect("it can");
    }
    let other = place.job(2).await.status.and_then(|status| status.record).expect("it has one");
    let patch = json!({ "status": { "record": other } });
    let merge = PatchParams::default();
    place.jobs().patch_status("linux-1", &merge, &Patch::Merge(patch)).await.expect("it can be changed");
    let late = store.change(RequestId(1), Change::Stage(reporting())).await;
    assert!(matches!(late, Err(StoreError::NotOurs)), "{late:?}");
    let (next, _fence, _) = place.store("two");
    let left = next.open().await.expect("the other job is taken up");
    assert_eq!(left, [JobRecord { stage: claimed(), ..record(2) }]);
    // It is left for people to look at.
    assert_eq!(place.job(1).await.status.expect("it has one").record, Some(other));
}

#[tokio::test]
async fn nothing_is_written_once_the_fence_has_fallen() {
    let Some(server) = ApiServer::find().await else { return };
    let place = Place::new(&server).await;
    let (store, fence, calls) = place.store("one");
    store.accept(record(1)).await.expect("it can");
    let before = calls.written();
    fence.lose();
    assert!(matches!(store.accept(record(2)).await, Err(StoreError::NotOurs)));
    let late = store.change(RequestId(1), Change::Stage(claimed())).await;
    assert!(matches!(late, Err(StoreError::NotOurs)), "{late:?}");
    assert!(matches!(store.close(RequestId(1)).await, Err(StoreError::NotOurs)));
    assert_eq!(calls.written(), before);
}

#[tokio::test]
async fn an_api_server_that_is_killed_and_comes_back_is_waited_for() {
    let Some(mut server) = ApiServer::start().await else { return };
    let (store, _fence, _) = {
        let place = Place::new(&server).await;
        place.store("one")
    };
    store.accept(record(1)).await.expect("it can");
    server.kill();
    let again = async {
        server.start_again().await;
    };
    let (changed, ()) = tokio::join!(store.change(RequestId(1), Change::Stage(claimed())), again);
    changed.expect("it was waited for");
    store.change(RequestId(1), Change::Stage(reporting())).await.expect("it can");
}

#[tokio::test]
async fn a_set_that_is_lost_in_the_middle_of_a_write_ends_it() {
    let Some(mut server) = ApiServer::start().await else { return };
    let (store, fence, calls) = {
        let place = Place::new(&server).await;
        place.store("one")
    };
    store.accept(record(1)).await.expect("it can");
    let before = calls.written();
    server.kill();
    let lose = async {
        while calls.written() == before {
            tokio::task::yield_now().await;
        }
        fence.lose();
    };
    let (changed, ()) = tokio::join!(store.change(RequestId(1), Change::Stage(claimed())), lose);
    assert!(matches!(changed, Err(StoreError::NotOurs)), "{changed:?}");
}

#[tokio::test]
async fn what_a_killed_controller_left_halfway_is_accepted_by_the_next_and_swept() {
    let Some(server) = ApiServer::find().await else { return };
    let place = Place::new(&server).await;
    let (first, _fence, _) = place.store("one");
    first.accept(record(1)).await.expect("it can");
    // As if it had died between the message and the record: the record goes, the message stays.
    let jobs = place.jobs();
    let no_finalizer = json!({ "metadata": { "finalizers": null } });
    jobs.patch("linux-1", &PatchParams::default(), &Patch::Merge(no_finalizer)).await.expect("it can");
    jobs.delete("linux-1", &DeleteParams::default()).await.expect("it can be deleted");
    let (second, _fence, _) = place.store("two");
    assert_eq!(second.accept(record(1)).await.expect("it can"), Accepted::New);
    second.accept(record(2)).await.expect("it can");
    second.close(RequestId(2)).await.expect("it can");
    assert_eq!(place.secrets().await.len(), 2);
    let (sweep, day) = (place.sweep(), Duration::from_hours(24));
    assert_eq!(sweep.run(day).await.expect("it can"), Swept::default(), "it may be on its way");
    let in_time = async {
        while place.secrets().await.len() > 1 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            sweep.run(day).await.expect("it can");
        }
    };
    tokio::time::timeout(Duration::from_secs(120), in_time).await.expect("the orphan is swept");
    assert_eq!(place.jobs().list(&ListParams::default()).await.expect("it can").items.len(), 2);
    let swept = sweep.run(Duration::from_secs(1)).await.expect("it can");
    assert_eq!(swept, Swept { messages: 0, jobs: 1 }, "only what is over");
    second.change(RequestId(1), Change::Stage(claimed())).await.expect("it can");
}
