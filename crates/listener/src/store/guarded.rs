//! Stores that tell everybody when the jobs and agents in them are somebody else's.

use std::sync::Arc;

use dayfly_protocol::RequestId;
use futures::{FutureExt as _, future::BoxFuture};
use tokio_util::sync::CancellationToken;

use super::{Accepted, Change, JobRecord, JobStore, Registration, RegistrationStore, Result, StoreError};

/// A store, and a token that is cancelled once the store has refused something for good.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S: ?Sized> {
    lost: CancellationToken,
    store: Arc<S>,
}

impl<S: ?Sized> Guarded<S> {
    pub(crate) fn new(store: Arc<S>, lost: CancellationToken) -> Self {
        Self { lost, store }
    }

    async fn seen<T>(&self, answer: BoxFuture<'_, Result<T>>) -> Result<T> {
        let answer = answer.await;
        if matches!(answer, Err(StoreError::NotOurs)) && !self.lost.is_cancelled() {
            tracing::warn!(
                "another listener has the agents and their jobs by now, so this one lets go of them"
            );
            self.lost.cancel();
        }
        answer
    }
}

impl JobStore for Guarded<dyn JobStore> {
    fn accept(&self, job: JobRecord) -> BoxFuture<'_, Result<Accepted>> {
        self.seen(self.store.accept(job)).boxed()
    }

    fn change(&self, request: RequestId, change: Change) -> BoxFuture<'_, Result<()>> {
        self.seen(self.store.change(request, change)).boxed()
    }

    fn close(&self, request: RequestId) -> BoxFuture<'_, Result<()>> {
        self.seen(self.store.close(request)).boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<JobRecord>>> {
        self.seen(self.store.open()).boxed()
    }
}

impl RegistrationStore for Guarded<dyn RegistrationStore> {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        self.seen(self.store.check()).boxed()
    }

    fn save(&self, registration: Registration) -> BoxFuture<'_, Result<()>> {
        self.seen(self.store.save(registration)).boxed()
    }
}
