//! TLS with a private authority, and HTTP/2.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use dayfly_client::{Connection, Credential, Error, HttpSettings};
use dayfly_protocol::{PoolId, SessionId};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use uuid::Uuid;

use crate::server::{POOLS, Seen, application, bounded, json, quick, wait_until};

/// A server for `https://localhost` with a certificate of an authority made for it, speaking HTTP/2 with at
/// most 100 streams on a connection.
pub(crate) struct SecureServer {
    address: SocketAddr,
    authority: tempfile::NamedTempFile,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for SecureServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SecureServer {
    pub(crate) async fn start(seen: Arc<Mutex<Vec<Seen>>>, application: Router) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Self::with_certificate(&certificate, &key, &issuer.pem(), seen, application).await
    }

    /// As `openssl req -x509` makes it: the server's certificate is its own authority.
    async fn start_self_signed(seen: Arc<Mutex<Vec<Seen>>>, application: Router) -> Self {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self::with_certificate(&certificate, &key, &certificate.pem(), seen, application).await
    }

    async fn with_certificate(
        certificate: &Certificate,
        key: &KeyPair,
        authority: &str,
        seen: Arc<Mutex<Vec<Seen>>>,
        application: Router,
    ) -> Self {
        let mut tls = ServerConfig::builder_with_provider(Arc::new(
            tokio_rustls::rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, application) = (acceptor.clone(), application.clone());
                connections.spawn(async move {
                    // A client that does not trust us closes during the handshake.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    builder.http2().max_concurrent_streams(100);
                    let service = TowerToHyperService::new(application);
                    builder.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), authority).unwrap();
        SecureServer { address, authority: file, seen, task }
    }

    pub(crate) fn connect(&self, settings: HttpSettings) -> Connection {
        let url = format!("https://localhost:{}/dayfly", self.address.port()).parse().unwrap();
        Connection::new(&url, Credential::Bearer("token".into()), settings).unwrap()
    }

    pub(crate) fn trusting(&self) -> HttpSettings {
        HttpSettings { ca_files: vec![self.authority.path().to_owned()], ..quick() }
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_its_file_is_given() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let application = application(seen.clone(), |_, _| async { json(200, POOLS) });
    let server = SecureServer::start(seen, application).await;
    server.connect(server.trusting()).find_pool("Default").await.unwrap();
    assert_eq!(server.seen.lock().unwrap().len(), 1);

    // Without the file: refused. A system without any authority is told as such.
    let error = server.connect(quick()).find_pool("Default").await.unwrap_err();
    match &error {
        Error::Connection { sent, cause, .. } => {
            assert!(!sent);
            let mut chain = format!("{cause:?}");
            chain.make_ascii_lowercase();
            assert!(chain.contains("unknownissuer"), "{chain}");
            assert!(error.to_string().contains("the service's certificate is not trusted"), "{error:?}");
        }
        Error::Setting { name, .. } => assert_eq!(*name, "CA file"),
        error => panic!("{error:?}"),
    }
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_its_own_authority_is_trusted_when_its_file_is_given() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let application = application(seen.clone(), |_, _| async { json(200, POOLS) });
    let server = SecureServer::start_self_signed(seen.clone(), application.clone()).await;
    server.connect(server.trusting()).find_pool("Default").await.unwrap();

    let other = SecureServer::start_self_signed(seen, application).await;
    let error = other.connect(server.trusting()).find_pool("Default").await.unwrap_err();
    assert!(error.to_string().contains("the service's certificate is not trusted"), "{error}");
}

#[tokio::test]
async fn a_missing_authority_file_is_named() {
    let settings = HttpSettings { ca_files: vec!["/nowhere/ca.pem".into()], ..quick() };
    let url = "https://localhost:1/x".parse().unwrap();
    let connection = Connection::new(&url, Credential::Bearer("token".into()), settings).unwrap();
    let error = connection.find_pool("Default").await.unwrap_err();
    assert_eq!(error.to_string(), "the setting CA file cannot be used: /nowhere/ca.pem cannot be read");
}

#[tokio::test]
async fn more_polls_than_streams_of_a_connection_all_wait_at_the_service() {
    const POLLS: usize = 210;
    let barrier = Arc::new(Barrier::new(POLLS + 1));
    let waiting = barrier.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let application = application(seen.clone(), move |seen: Seen, _| {
        let waiting = waiting.clone();
        async move {
            if seen.uri.path().ends_with("/messages") {
                waiting.wait().await;
                return json(202, "");
            }
            json(200, POOLS)
        }
    });
    let server = SecureServer::start(seen, application).await;
    let connection = server.connect(server.trusting());
    let polls: Vec<_> = (0..POLLS)
        .map(|_| {
            let connection = connection.clone();
            let session = SessionId(Uuid::new_v4());
            tokio::spawn(async move { connection.next_message(PoolId(3), session, None).await })
        })
        .collect();
    wait_until(|| server.seen.lock().unwrap().len() == POLLS).await;
    // No stream of the polls' connections is left for it.
    bounded(connection.find_pool("Default")).await.unwrap();
    bounded(barrier.wait()).await;
    for poll in polls {
        assert_eq!(bounded(poll).await.unwrap().unwrap(), None);
    }
    let versions: Vec<_> =
        server.seen.lock().unwrap().iter().map(|seen| seen.uri.scheme_str().is_some()).collect();
    assert!(versions.iter().all(|absolute| *absolute), "HTTP/2 requests carry their scheme");
}
