//! The connections that are open, and how they are cut.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The connections that are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    open: HashMap<u64, CancellationToken>,
}

impl Connections {
    pub(crate) fn add(&self) -> Connection {
        let mut open = self.lock();
        open.last += 1;
        let connection = Connection { id: open.last, cut: CancellationToken::new() };
        open.open.insert(connection.id, connection.cut.clone());
        connection
    }

    pub(crate) fn remove(&self, connection: &Connection) {
        self.lock().open.remove(&connection.id);
    }

    /// Closes all at once but `kept`, with whatever is under way on them; returns how many.
    pub(crate) fn cut(&self, kept: Option<&Connection>) -> usize {
        let open = self.lock();
        let cut = open.open.iter().filter(|(id, _)| kept.is_none_or(|kept| kept.id != **id));
        cut.inspect(|(_, cut)| cut.cancel()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection a request came by: lets a fault cut it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    id: u64,
    cut: CancellationToken,
}

impl Connection {
    /// Closes the connection at once, with whatever is under way on it: also with the request of the caller,
    /// so this never comes back.
    pub(crate) async fn cut(&self) -> Infallible {
        self.cut.cancel();
        std::future::pending().await
    }

    /// The same for those who poll: the connection is closed when this returns to it.
    pub(crate) fn cut_soon(&self) {
        self.cut.cancel();
    }

    /// Cancelled when the connection is cut.
    pub(crate) fn token(&self) -> CancellationToken {
        self.cut.clone()
    }
}
