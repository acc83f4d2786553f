//! What stands between a company's machines and a service: TLS by an authority of the company's own, and a
//! proxy that wants a login.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::Authority;

/// Ends TLS in front of a server that does not speak it.
#[derive(Debug)]
pub struct TlsFront {
    /// Where it listens.
    pub address: SocketAddr,
    backend: Arc<OnceLock<SocketAddr>>,
    _serving: AbortOnDropHandle<()>,
}

impl TlsFront {
    /// Listens at a port of this address, with a certificate of this authority.
    pub async fn start(address: IpAddr, authority: &Authority) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let acceptor = TlsAcceptor::from(authority.server(&address.to_string()));
        let backend = Arc::<OnceLock<SocketAddr>>::default();
        let (address, behind) = (listener.local_addr().unwrap(), backend.clone());
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((client, _)) = listener.accept() => {
                        let (acceptor, behind) = (acceptor.clone(), behind.get().copied());
                        connections.spawn(async move {
                            // Whoever does not trust us says so and goes.
                            let Ok(mut client) = acceptor.accept(client).await else { return };
                            let Some(behind) = behind else { return };
                            let Ok(mut server) = TcpStream::connect(behind).await else { return };
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, backend, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Says what is behind it.
    pub fn is_front_of(&self, backend: SocketAddr) {
        self.backend.set(backend).unwrap();
    }
}

/// A proxy for `https` addresses that lets those through who show this login.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    passed: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens at a port of this address. `login` is the value of `Proxy-Authorization`.
    pub async fn start(address: IpAddr, login: String) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let (passed, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (address, counts) = (listener.local_addr().unwrap(), (passed.clone(), refused.clone()));
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((client, _)) = listener.accept() => {
                        let (login, (passed, refused)) = (login.clone(), counts.clone());
                        connections.spawn(async move { pass(client, &login, &passed, &refused).await });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, passed, refused, _serving: AbortOnDropHandle::new(serving) }
    }

    /// How many connections it let through.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    /// How many had no login, or a wrong one.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

/// One connection: `CONNECT host:port`, then bytes.
async fn pass(client: TcpStream, login: &str, passed: &AtomicUsize, refused: &AtomicUsize) -> Option<()> {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    let shows_login = head.lines().any(|line| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == login
    });
    if !shows_login {
        refused.fetch_add(1, Ordering::SeqCst);
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\
                      Content-Length: 0\r\nConnection: close\r\n\r\n";
        client.write_all(answer.as_bytes()).await.ok()?;
        client.shutdown().await.ok()?;
        // A client that still sends must not have its answer reset away.
        client.read_to_end(&mut Vec::new()).await.ok()?;
        return None;
    }
    let mut server = TcpStream::connect(target).await.ok()?;
    passed.fetch_add(1, Ordering::SeqCst);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}
