//! Certificates.

mod own_certificate;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Result};

/// Which authorities to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// None: for connections that never use TLS. Loading the system's takes milliseconds, which a worker's
    /// start should not.
    None,
    /// The system's, and those of the files.
    System,
}

/// The TLS configuration; shared by all HTTP clients, so that thousands of long polls hold one copy of the
/// authorities.
pub(crate) fn configuration(roots: Roots, ca_files: &[std::path::PathBuf]) -> Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    let mut given = HashSet::new();
    if roots == Roots::System {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "could not read the system's certificate authorities");
        }
        store.add_parsable_certificates(system.certs);
        for file in ca_files {
            for certificate in read_certificates(file)? {
                given.insert(certificate.clone());
                store.add(certificate).map_err(|error| Error::Setting {
                    name: "CA file",
                    reason: format!("{} holds a certificate that cannot be trusted", file.display()),
                    source: Some(Box::new(error)),
                })?;
            }
        }
        if store.is_empty() {
            return Err(Error::Setting {
                name: "CA file",
                reason: "this system has no certificate authorities; install its CA bundle or name a file"
                    .to_owned(),
                source: None,
            });
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Setting {
            name: "TLS",
            reason: "no protocol version is available".to_owned(),
            source: Some(Box::new(error)),
        })?;
    let mut configuration = if given.is_empty() {
        builder.with_root_certificates(store).with_no_client_auth()
    } else {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build();
        let verifier = verifier.map_err(|error| Error::Setting {
            name: "CA file",
            reason: "its certificates cannot be used together".to_owned(),
            source: Some(Box::new(error)),
        })?;
        let verifier = own_certificate::Verifier::new(verifier, given);
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
    };
    // The HTTP client leaves this to whoever brings the configuration.
    configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(configuration)
}

/// The certificates of a PEM file; at least one.
fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let setting = |reason: String, source: Option<Box<dyn std::error::Error + Send + Sync>>| Error::Setting {
        name: "CA file",
        reason,
        source,
    };
    let text = std::fs::read(file)
        .map_err(|error| setting(format!("{} cannot be read", file.display()), Some(Box::new(error))))?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| setting(format!("{} is not PEM", file.display()), Some(Box::new(error))))?;
    if certificates.is_empty() {
        return Err(setting(format!("{} holds no certificate in PEM", file.display()), None));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let message = |file: &Path| configuration(Roots::System, &[file.to_owned()]).unwrap_err().to_string();
        assert!(message(&file).contains("ca.pem cannot be read"));
        std::fs::write(&file, "nothing here").unwrap();
        assert!(message(&file).contains("ca.pem holds no certificate"));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n§\n-----END CERTIFICATE-----\n").unwrap();
        assert!(message(&file).contains("ca.pem is not PEM"));
    }
}
