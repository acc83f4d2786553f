//! What the emulator keeps on disk: bytes are reserved before they are written, and given back by dropping
//! what holds them. And where the work on the disk is done: beside the runtime's own threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::task::TaskTracker;

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk space for logs, attachments and artifacts is used up: {limit} bytes in all")]
pub struct Full {
    /// The bound.
    pub limit: u64,
}

/// The bytes that may be kept, and the work that is under way. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u64,
    used: AtomicU64,
    work: TaskTracker,
}

impl Disk {
    /// Room for so many bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicU64::new(0), work: TaskTracker::new() }))
    }

    /// No bytes yet.
    pub(crate) fn nothing(&self) -> Reserved {
        Reserved { disk: self.clone(), bytes: 0 }
    }

    /// So many bytes, if there is room for them.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reserved, Full> {
        let mut reserved = self.nothing();
        reserved.grow(bytes)?;
        Ok(reserved)
    }

    /// Whether there is room for so many bytes more at the moment.
    pub(crate) fn has_room(&self, bytes: u64) -> Result<(), Full> {
        self.reserve(bytes).map(drop)
    }

    /// Does work that waits for the disk. Once begun it goes on when the caller is gone, and [`Disk::idle`]
    /// waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        // Only a panic or the runtime's own end breaks it off.
        self.0.work.spawn_blocking(work).await.map_err(io::Error::other)
    }

    /// Waits until no work is under way.
    pub(crate) async fn idle(&self) {
        self.0.work.close();
        self.0.work.wait().await;
    }
}

/// Bytes that somebody holds.
#[derive(Debug)]
pub(crate) struct Reserved {
    disk: Disk,
    bytes: u64,
}

impl Reserved {
    /// How many.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds so many more, or as many as before.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Full> {
        let Inner { limit, used, .. } = &*self.disk.0;
        let larger = |used: u64| used.checked_add(bytes).filter(|all| all <= limit);
        if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, larger).is_err() {
            return Err(Full { limit: *limit });
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back all beyond so many.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.disk.0.used.fetch_sub(surplus, Ordering::Relaxed);
        self.bytes -= surplus;
    }

    /// Takes over what another holds.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.disk.0, &other.disk.0), "there is one disk in an emulator");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back_once() {
        let disk = Disk::new(100);
        let mut first = disk.reserve(60).unwrap();
        assert_eq!(disk.reserve(41).unwrap_err(), Full { limit: 100 });
        assert!(first.grow(u64::MAX).is_err());
        let second = disk.reserve(40).unwrap();
        first.absorb(second);
        assert_eq!((first.bytes(), disk.has_room(1)), (100, Err(Full { limit: 100 })));
        first.shrink_to(30);
        first.shrink_to(50);
        assert_eq!((first.bytes(), disk.has_room(70)), (30, Ok(())));
        drop(first);
        assert!(disk.has_room(100).is_ok());
    }

    #[tokio::test]
    async fn work_goes_on_without_its_caller_and_is_waited_for() {
        let disk = Disk::new(0);
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let done = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&done);
        let mut work = Box::pin(disk.run(move || {
            let _ = begun.recv();
            seen.store(1, Ordering::SeqCst);
        }));
        assert!(futures::poll!(work.as_mut()).is_pending());
        drop(work);
        begin.send(()).unwrap();
        disk.idle().await;
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }
}
