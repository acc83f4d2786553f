//! One address for several controllers, as a Service of the cluster gives it to the replicas of the chart.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// How long an end may take to answer before the next one is tried.
const CONNECTING: Duration = Duration::from_secs(1);

/// Hands each connection to any of its ends that takes it. Like kube-proxy it does not know whether who
/// listens there is of any use: a process that is frozen still takes connections.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    ends: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Service {
    /// One at a free port of this machine, with no ends.
    pub(crate) fn new(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let ends = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let known = ends.clone();
        // It lives as long as the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut ends = known.lock().expect("nobody panicked").clone();
                fastrand::shuffle(&mut ends);
                let end = ends.iter().find_map(|end| TcpStream::connect_timeout(end, CONNECTING).ok());
                if let Some(end) = end {
                    forward(&stream, &end);
                }
            }
        });
        Self { address, ends }
    }

    pub(crate) fn add(&self, end: SocketAddr) {
        let mut ends = self.ends.lock().expect("nobody panicked");
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
}

/// Copies what comes from either to the other, until both have ended.
fn forward(one: &TcpStream, other: &TcpStream) {
    for (from, to) in [(one, other), (other, one)] {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}
