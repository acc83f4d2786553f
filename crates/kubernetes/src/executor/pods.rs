//! What the cluster says of the pods of one set: one watch for all of them, and one for their warnings.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Config, Event as Change},
    },
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cluster::bounded,
    names::{AGENT_SET_LABEL, MANAGED_BY, MANAGER},
};

/// How many warnings are kept of a pod; older ones are forgotten.
const KEPT_EVENTS: usize = 20;

/// What is known of a pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// As it was last; `None` until it was seen.
    pub(crate) pod: Option<Arc<Pod>>,
    /// That it is gone as far as the watch has told; the API server is to be asked.
    pub(crate) may_be_gone: bool,
    /// Its warnings, the oldest first.
    pub(crate) events: Vec<Event>,
}

/// The pods of one set.
#[derive(Debug)]
pub(crate) struct Pods {
    api: Api<Pod>,
    any: Api<DynamicObject>,
    minded: Arc<Minded>,
    _watching: [AbortOnDropHandle<()>; 2],
}

/// The pods that somebody minds, by their names.
#[derive(Debug, Default)]
struct Minded(Mutex<HashMap<String, watch::Sender<Seen>>>);

impl Minded {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.lock().get(name) {
            seen.send_modify(change);
        }
    }
}

/// The wait for news of one pod.
#[derive(Debug)]
pub(crate) struct News {
    name: String,
    minded: Arc<Minded>,
    pub(crate) seen: watch::Receiver<Seen>,
}

impl Drop for News {
    fn drop(&mut self) {
        self.minded.lock().remove(&self.name);
    }
}

impl Pods {
    /// Watches the pods of `set` from now on.
    pub(crate) fn watch(client: Client, namespace: &str, set: &str) -> Self {
        let api = Api::<Pod>::namespaced(client.clone(), namespace);
        let any = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
        let minded = Arc::<Minded>::default();
        let labels = format!("{MANAGED_BY}={MANAGER},{AGENT_SET_LABEL}={set}");
        let pods = tokio::spawn(watch_pods(api.clone(), labels, minded.clone()));
        let events = tokio::spawn(watch_events(Api::namespaced(client, namespace), minded.clone()));
        Self { api, any, minded, _watching: [AbortOnDropHandle::new(pods), AbortOnDropHandle::new(events)] }
    }

    /// The calls about pods.
    pub(crate) fn api(&self) -> &Api<Pod> {
        &self.api
    }

    /// The calls about pods of whatever fields.
    pub(crate) fn any(&self) -> &Api<DynamicObject> {
        &self.any
    }

    /// News of the pod of this name from now on. There is one reader per pod. `is_new`: it was made just now;
    /// of another one we may have missed all there is, and it may have ended long ago.
    pub(crate) fn news(&self, name: &str, is_new: bool) -> News {
        let (sender, seen) = watch::channel(Seen { may_be_gone: !is_new, ..Seen::default() });
        self.minded.lock().insert(name.to_owned(), sender);
        News { name: name.to_owned(), minded: self.minded.clone(), seen }
    }

    /// Says that the pod is there, as somebody found who had seen `before` and asked the API server. What
    /// came in between is newer than its answer.
    pub(crate) fn found(&self, before: &Seen, pod: Pod) {
        self.minded.change(&pod.name_any(), |seen| {
            let is_as_before = match (&seen.pod, &before.pod) {
                (Some(now), Some(before)) => Arc::ptr_eq(now, before),
                (now, before) => now.is_none() && before.is_none(),
            };
            if is_as_before {
                (seen.pod, seen.may_be_gone) = (Some(Arc::new(pod)), false);
            }
        });
    }

    /// The pod itself, as the API server has it now; `None` if there is none of this name and UID. Caches are
    /// late, so this is asked before a pod is judged gone.
    pub(crate) async fn live(&self, name: &str, uid: &str) -> Result<Option<Pod>, kube::Error> {
        let found = bounded(self.api.get_opt(name)).await?;
        Ok(found.filter(|pod| pod.uid().as_deref() == Some(uid)))
    }
}

async fn watch_pods(api: Api<Pod>, labels: String, minded: Arc<Minded>) {
    let mut changes = watcher::watcher(api, Config::default().labels(&labels)).default_backoff().boxed();
    let mut listed = Vec::new();
    while let Some(change) = changes.next().await {
        match change {
            Ok(Change::Init) => listed.clear(),
            Ok(Change::InitApply(pod)) => {
                listed.push(pod.name_any());
                now(&minded, pod);
            }
            // What was not in the list may have gone while nobody watched, or may be newer than the list.
            Ok(Change::InitDone) => {
                for (name, seen) in &*minded.lock() {
                    if !listed.contains(name) {
                        seen.send_modify(|seen| seen.may_be_gone = true);
                    }
                }
            }
            Ok(Change::Apply(pod)) => now(&minded, pod),
            Ok(Change::Delete(pod)) => {
                let name = pod.name_any();
                minded.change(&name, |seen| (seen.pod, seen.may_be_gone) = (Some(Arc::new(pod)), true));
            }
            Err(error) => tracing::info!(%error, "the watch of pods broke, and begins anew"),
        }
    }
}

fn now(minded: &Minded, mut pod: Pod) {
    pod.metadata.managed_fields = None;
    let name = pod.name_any();
    minded.change(&name, |seen| (seen.pod, seen.may_be_gone) = (Some(Arc::new(pod)), false));
}

async fn watch_events(api: Api<Event>, minded: Arc<Minded>) {
    let config = Config::default().fields("involvedObject.kind=Pod,type=Warning");
    let mut changes = watcher::watcher(api, config).default_backoff().boxed();
    while let Some(change) = changes.next().await {
        match change {
            Ok(Change::Apply(event) | Change::InitApply(event)) => {
                let name = event.involved_object.name.clone().unwrap_or_default();
                minded.change(&name, |seen| {
                    if seen.events.len() == KEPT_EVENTS {
                        seen.events.remove(0);
                    }
                    seen.events.push(event);
                });
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the watch of events broke, and begins anew"),
        }
    }
}
