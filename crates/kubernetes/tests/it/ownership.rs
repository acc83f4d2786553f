//! Who holds an agent set, by a Lease in a real API server.

use std::{sync::mpsc, thread, time::Duration};

use dayfly_kubernetes::Ownership;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;

use crate::api_server::ApiServer;

const LONG: Duration = Duration::from_secs(60);

async fn acquire(server: &ApiServer, namespace: &str, holder: &str) -> Ownership {
    let ownership = Ownership::acquire(server.client(), namespace, "linux", holder);
    timeout(LONG, ownership).await.expect("it becomes free").expect("there is such a namespace")
}

#[tokio::test]
async fn a_released_set_goes_to_the_next_and_only_then() {
    let Some(server) = ApiServer::find().await else { return };
    let namespace = server.namespace().await;
    let one = acquire(&server, &namespace, "one").await;
    let held = one.fence();
    let mut two = Box::pin(acquire(&server, &namespace, "two"));
    // Longer than a Lease: it is renewed.
    assert!(timeout(Duration::from_secs(12), &mut two).await.is_err(), "it was held");
    assert!(held.is_held());
    one.release().await;
    assert!(!held.is_held());
    let two = two.await;
    assert!(two.fence().is_held());
    let lease =
        Api::<Lease>::namespaced(server.client(), &namespace).get("linux").await.expect("it is there");
    let spec = lease.spec.expect("it has one");
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("two"), Some(1)));
}

#[tokio::test]
async fn who_was_stopped_finds_its_set_lost_before_it_acts() {
    let Some(server) = ApiServer::find().await else { return };
    let namespace = server.namespace().await;
    let (wake, asleep) = mpsc::channel::<()>();
    let (fallen, is_held) = mpsc::channel();
    let (got, ready) = tokio::sync::oneshot::channel();
    let (client, place) = (server.client_config(), namespace.clone());
    // A process of its own would be stopped as a whole; so is the only thread of this runtime.
    let stopped = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let client = client.try_into().expect("the configuration is whole");
            let one = Ownership::acquire(client, &place, "linux", "one").await.expect("a Lease");
            let fence = one.fence();
            assert!(fence.is_held());
            got.send(()).expect("it is waited for");
            asleep.recv().expect("it is woken up");
            fallen.send(fence.is_held()).expect("it is waited for");
        });
    });
    ready.await.expect("the first one holds it");
    let two = acquire(&server, &namespace, "two").await;
    wake.send(()).expect("it sleeps");
    assert!(!is_held.recv().expect("it answers"), "both hold it");
    stopped.join().expect("it ended well");
    assert!(two.fence().is_held());
}

#[tokio::test]
async fn a_set_that_somebody_took_is_lost() {
    let Some(server) = ApiServer::find().await else { return };
    let namespace = server.namespace().await;
    let one = acquire(&server, &namespace, "one").await;
    let api = Api::<Lease>::namespaced(server.client(), &namespace);
    let label = json!({ "metadata": { "labels": { "team": "a" } } });
    api.patch("linux", &PatchParams::default(), &Patch::Merge(label)).await.expect("it can be labelled");
    assert!(
        timeout(Duration::from_secs(10), one.fence().lost()).await.is_err(),
        "a label takes nothing away"
    );
    let thief = json!({ "spec": { "holderIdentity": "thief" } });
    api.patch("linux", &PatchParams::default(), &Patch::Merge(thief)).await.expect("it can be taken");
    timeout(LONG, one.fence().lost()).await.expect("it is noticed");
}

#[tokio::test]
async fn a_set_is_lost_when_the_api_server_stays_away() {
    let Some(mut server) = ApiServer::start().await else { return };
    let namespace = server.namespace().await;
    let one = acquire(&server, &namespace, "one").await;
    server.kill();
    timeout(LONG, one.fence().lost()).await.expect("it falls by itself");
    assert!(!one.fence().is_held());
}
