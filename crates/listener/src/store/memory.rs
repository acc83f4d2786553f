//! A store for listeners whose workers do not outlive them.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use dayfly_protocol::RequestId;
use futures::{FutureExt as _, future::BoxFuture};

use super::{Accepted, Change, JobRecord, JobStore, Registration, RegistrationStore, Result};

/// How many closed requests are remembered, so that a message that comes again is known.
pub(super) const REMEMBERED_REQUESTS: usize = 4096;

/// Remembers which requests were accepted, running or done: none is accepted twice, whichever agent its
/// message comes to.
#[derive(Debug, Default)]
pub struct InMemory(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    accepted: HashSet<RequestId>,
    /// Closed ones, oldest first.
    closed: VecDeque<RequestId>,
}

impl InMemory {
    /// What a panicking holder left is still whole, since every change here is a single step.
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobStore for InMemory {
    fn accept(&self, job: JobRecord) -> BoxFuture<'_, Result<Accepted>> {
        let is_new = self.requests().accepted.insert(job.request);
        async move { Ok(if is_new { Accepted::New } else { Accepted::Known }) }.boxed()
    }

    fn change(&self, _request: RequestId, _change: Change) -> BoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn close(&self, request: RequestId) -> BoxFuture<'_, Result<()>> {
        let mut requests = self.requests();
        requests.closed.push_back(request);
        if requests.closed.len() > REMEMBERED_REQUESTS
            && let Some(oldest) = requests.closed.pop_front()
        {
            requests.accepted.remove(&oldest);
        }
        async { Ok(()) }.boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<JobRecord>>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

impl RegistrationStore for InMemory {
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn save(&self, _registration: Registration) -> BoxFuture<'_, Result<()>> {
        async { Ok(()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dayfly_protocol::{AgentId, JobId, MessageId, channel::SecretJson};

    use super::*;
    use crate::store::Stage;

    fn record(request: i64) -> JobRecord {
        JobRecord {
            request: RequestId(request),
            job: JobId::default(),
            agent: AgentId(1),
            message_id: MessageId(1),
            body: Arc::new(SecretJson::new(b"{}").expect("it is JSON")),
            stage: Stage::Accepted,
            cancelled: None,
            log: None,
        }
    }

    #[tokio::test]
    async fn a_request_is_accepted_once_and_remembered_when_closed() {
        let store = InMemory::default();
        let accept = async |request| store.accept(record(request)).await.expect("it can");
        assert_eq!(accept(1).await, Accepted::New);
        assert_eq!(accept(1).await, Accepted::Known);
        store.close(RequestId(1)).await.expect("it can");
        assert_eq!(accept(1).await, Accepted::Known);
        for number in 2..=i64::try_from(REMEMBERED_REQUESTS).expect("small") + 1 {
            assert_eq!(accept(number).await, Accepted::New);
            store.close(RequestId(number)).await.expect("it can");
        }
        assert_eq!(accept(1).await, Accepted::New, "forgotten at last, memory is bounded");
    }
}
