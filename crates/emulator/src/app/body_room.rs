//! The bound on the memory that bodies of requests take together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The memory for the bodies of all requests. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct BodyRoom(Arc<Semaphore>);

impl BodyRoom {
    /// Room for so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Nothing of it yet.
    pub(crate) fn share(&self) -> Share {
        Share { room: Arc::clone(&self.0), taken: None }
    }
}

/// What a body has of the memory, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    room: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes so many bytes more, if there are as many.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let Some(more) = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| Arc::clone(&self.room).try_acquire_many_owned(bytes).ok())
        else {
            return false;
        };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            none => *none = Some(more),
        }
        true
    }
}
