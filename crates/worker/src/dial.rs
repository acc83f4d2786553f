//! How a worker comes by a connection to its listener.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dayfly_protocol::channel::Key;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::link::Connection;

/// The longest file with a claim that is read.
const LONGEST_CLAIM: u64 = 16 * 1024;

/// A connection on which nothing has come for so long is dead; listeners ping every few seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// Makes connections to a listener.
pub trait Dial: Send {
    /// Makes one. `None`: there is no more than there was.
    fn dial(&mut self) -> BoxFuture<'_, io::Result<Option<Connection>>>;

    /// What proves which place this worker runs in, where the connection does not.
    fn claim(&self) -> Option<Key> {
        None
    }

    /// The listener has sent us to another address. False if there is no going there.
    fn redirect(&mut self, _address: &str) -> bool {
        false
    }
}

/// The one connection there is: standard input and output.
#[derive(Debug)]
pub struct Once(Option<Connection>);

impl Once {
    /// Of its two directions.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self(Some(Connection::new(reader, writer)))
    }
}

impl Dial for Once {
    fn dial(&mut self) -> BoxFuture<'_, io::Result<Option<Connection>>> {
        let connection = self.0.take();
        async move { Ok(connection) }.boxed()
    }
}

/// A listener on this machine, behind a socket in a folder of its own. It knows us by our process.
#[derive(Debug)]
pub struct Unix {
    path: PathBuf,
    silence: Duration,
}

impl Unix {
    /// The socket's path.
    pub fn new(path: PathBuf) -> Self {
        Self { path, silence: SILENCE }
    }
}

impl Dial for Unix {
    fn dial(&mut self) -> BoxFuture<'_, io::Result<Option<Connection>>> {
        async move {
            let (reader, writer) = UnixStream::connect(&self.path).await?.into_split();
            Ok(Some(Connection::new(reader, writer).with_silence(self.silence)))
        }
        .boxed()
    }
}

/// A listener behind TLS, which is who its authority says; it knows us by a token of the place where we run.
pub struct Tls {
    address: String,
    name: ServerName<'static>,
    connector: TlsConnector,
    claim_file: Option<PathBuf>,
    silence: Duration,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What is wrong with how a listener is to be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address.
    #[error("`{0}` is not the address of a listener; expected HOST:PORT")]
    Address(String),
    /// The authority's certificate.
    #[error("the authority's certificate in {} cannot be used", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS itself.
    #[error("TLS cannot be used")]
    Tls(#[source] rustls::Error),
}

impl Tls {
    /// A listener at `address` (`HOST:PORT`) whose certificate is by the authority in `ca_file`, and by no
    /// other. `claim_file` holds the token; it is read for each connection, since such tokens are replaced
    /// while the worker runs.
    ///
    /// # Errors
    ///
    /// The address is none, or the file holds no certificate.
    pub fn new(address: &str, ca_file: &Path, claim_file: Option<PathBuf>) -> Result<Self, DialError> {
        let name = server_name(address)?;
        let authority = |source| DialError::Authority { file: ca_file.to_owned(), source };
        let mut roots = RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(ca_file).map_err(|error| authority(Box::new(error) as Box<_>))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| authority(Box::new(error) as Box<_>))?;
            roots.add(certificate).map_err(|error| authority(Box::new(error) as Box<_>))?;
        }
        if roots.is_empty() {
            return Err(authority("it holds none".into()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let configuration = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(DialError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            address: address.to_owned(),
            name,
            connector: TlsConnector::from(Arc::new(configuration)),
            claim_file,
            silence: SILENCE,
        })
    }
}

fn server_name(address: &str) -> Result<ServerName<'static>, DialError> {
    let wrong = || DialError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| wrong())
}

impl Dial for Tls {
    fn dial(&mut self) -> BoxFuture<'_, io::Result<Option<Connection>>> {
        async move {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let stream = self.connector.connect(self.name.clone(), stream).await?;
            let (reader, writer) = tokio::io::split(stream);
            Ok(Some(Connection::new(reader, writer).with_silence(self.silence)))
        }
        .boxed()
    }

    fn claim(&self) -> Option<Key> {
        let file = self.claim_file.as_ref()?;
        let read = || -> io::Result<String> {
            if std::fs::metadata(file)?.len() > LONGEST_CLAIM {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"));
            }
            std::fs::read_to_string(file)
        };
        match read() {
            Ok(text) => Some(Key::new(text.trim())),
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "the token for the listener cannot be read");
                None
            }
        }
    }

    fn redirect(&mut self, address: &str) -> bool {
        // The certificate must be for the same name: an address alone proves nothing.
        let is_address = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if is_address {
            address.clone_into(&mut self.address);
        }
        is_address
    }
}
