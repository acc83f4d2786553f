//! Servers whose own certificate stands in a CA file.
//!
//! `openssl req -x509` makes a certificate that calls itself an authority, and servers of a company's own
//! often present just that. The official agent and curl take it once it is trusted; rustls refuses any server
//! that presents an authority's certificate.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Verifies as rustls does, and takes a server besides whose certificate is itself one of those that were
/// given.
#[derive(Debug)]
pub(super) struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    given: HashSet<CertificateDer<'static>>,
}

impl Verifier {
    pub(super) fn new(usual: Arc<WebPkiServerVerifier>, given: HashSet<CertificateDer<'static>>) -> Self {
        Self { usual, given }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // Its times were found good before; that the server has its key, the handshake's signature shows.
            Err(error) if is_of_an_authority(&error) => {
                if !self.given.contains(end_entity) {
                    return Err(CertificateError::UnknownIssuer.into());
                }
                let certificate = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&certificate, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whether a server was refused only because its certificate is an authority's.
fn is_of_an_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::RootCertStore;

    use super::*;

    /// A certificate for `localhost`, signed by itself, that calls itself an authority; good from 1975 to
    /// 4096.
    fn certificate() -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn verify(
        given: &CertificateDer<'static>,
        shown: &CertificateDer<'_>,
        name: &str,
        seconds: u64,
    ) -> Result<(), Error> {
        let mut store = RootCertStore::empty();
        store.add(given.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
        let verifier = Verifier::new(usual, HashSet::from([given.clone()]));
        let name = ServerName::try_from(name).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_server_cert(shown, &[], &name, &[], now).map(|_| ())
    }

    #[test]
    fn only_the_very_certificate_is_taken_for_its_names_and_times() {
        const NOW: u64 = 1_700_000_000;
        let given = certificate();
        assert_eq!(verify(&given, &given, "localhost", NOW), Ok(()));
        let refusal =
            |shown: &CertificateDer<'_>, name: &str, seconds: u64| match verify(&given, shown, name, seconds)
            {
                Err(Error::InvalidCertificate(reason)) => reason,
                other => panic!("{other:?}"),
            };
        assert_eq!(refusal(&certificate(), "localhost", NOW), CertificateError::UnknownIssuer);
        assert!(matches!(
            refusal(&given, "elsewhere", NOW),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ));
        assert!(matches!(
            refusal(&given, "localhost", 0),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
        ));
        assert!(matches!(
            refusal(&given, "localhost", 100_000_000_000),
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        ));
    }
}
