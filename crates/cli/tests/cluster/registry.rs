//! A registry that wants a login: one without, behind a door that asks for it.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dayfly_testing::skip;

/// The longest head of a request that is read.
const LONGEST_HEAD: usize = 16 * 1024;

const CHALLENGE: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"images\"\r\n\
                         Content-Length: 0\r\nConnection: close\r\n\r\n";

/// The door. Only this machine reaches it, so its node must be this machine.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    refused: Arc<AtomicUsize>,
}

impl Registry {
    /// A door to the registry at `DAYFLY_TEST_REGISTRY`, if there is one.
    pub(crate) fn with_login(user: &str, password: &str) -> Option<Self> {
        let Ok(behind) = std::env::var("DAYFLY_TEST_REGISTRY") else {
            skip(
                "set DAYFLY_TEST_REGISTRY to the address of a registry with the image dayfly-test-private:1 \
                 that this machine, which is the node, reaches",
            );
            return None;
        };
        let login = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, refused) = (listener.local_addr().expect("an address"), Arc::<AtomicUsize>::default());
        let count = refused.clone();
        // It lives as long as the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behind, login, count) = (behind.clone(), login.clone(), count.clone());
                thread::spawn(move || serve(stream, &behind, &login, &count));
            }
        });
        Some(Self { address, refused })
    }

    /// How many came without the login.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Looks at the first request of a connection, and lets it through or not.
fn serve(mut stream: TcpStream, behind: &str, login: &str, refused: &AtomicUsize) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let text = String::from_utf8_lossy(&head);
    let shown = text.lines().filter_map(|line| line.split_once(": "));
    let mut logins = shown.filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if !logins.any(|(_, value)| value == login) {
        refused.fetch_add(1, Ordering::Relaxed);
        return stream.write_all(CHALLENGE.as_bytes());
    }
    let mut registry = TcpStream::connect(behind)?;
    registry.write_all(&head)?;
    let (mut from, mut to) = (stream.try_clone()?, registry.try_clone()?);
    let back = thread::spawn(move || io::copy(&mut from, &mut to));
    let copied = io::copy(&mut registry, &mut stream);
    let _ = stream.shutdown(Shutdown::Both);
    let _ = back.join();
    copied.map(drop)
}
