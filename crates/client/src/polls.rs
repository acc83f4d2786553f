//! HTTP clients for long polls.
//!
//! One HTTP client keeps one HTTP/2 connection per host and never opens a second: with the server's usual
//! limit of 100 streams, the 101st long poll would wait for an older one to end, and with it the ordinary
//! calls behind it. So polls are spread over several clients, and ordinary calls have their own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;

/// Most polls on one client, below the usual limit of 100 streams by a few for requests that have not ended
/// for the server yet.
pub(crate) const MAX_POLLS_PER_CLIENT: usize = 95;

struct Shard {
    client: reqwest::Client,
    polls: Arc<AtomicUsize>,
}

/// The clients, made as they are needed. They are kept: an agent that polls now will poll again.
#[derive(Default)]
pub(crate) struct Polls {
    shards: Mutex<Vec<Shard>>,
}

/// A place for one poll; free again when dropped.
pub(crate) struct Place {
    pub(crate) client: reqwest::Client,
    polls: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.polls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Polls {
    /// Takes a place on the first client that has one, or on a new client.
    pub(crate) fn place(&self, make: impl FnOnce() -> Result<reqwest::Client>) -> Result<Place> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        // Places are taken under the lock and given back without it, so a count may only have become lower
        // since it was read.
        let free = shards.iter().find(|shard| shard.polls.load(Ordering::Relaxed) < MAX_POLLS_PER_CLIENT);
        let shard = match free {
            Some(shard) => shard,
            None => {
                shards.push(Shard { client: make()?, polls: Arc::default() });
                shards.last().expect("a client was just pushed")
            }
        };
        shard.polls.fetch_add(1, Ordering::Relaxed);
        Ok(Place { client: shard.client.clone(), polls: shard.polls.clone() })
    }

    #[cfg(test)]
    fn clients(&self) -> usize {
        self.shards.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_spread_and_places_are_used_again() {
        let polls = Polls::default();
        let make = || {
            Ok(reqwest::Client::builder()
                .no_proxy()
                .tls_backend_preconfigured(crate::tls::configuration(crate::tls::Roots::None, &[]).unwrap())
                .build()
                .unwrap())
        };
        let mut places: Vec<Place> =
            (0..MAX_POLLS_PER_CLIENT * 2).map(|_| polls.place(make).unwrap()).collect();
        assert_eq!(polls.clients(), 2);
        places.remove(0);
        places.push(polls.place(make).unwrap());
        assert_eq!(polls.clients(), 2);
        places.push(polls.place(make).unwrap());
        assert_eq!(polls.clients(), 3);
    }
}
