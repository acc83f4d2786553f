//! The certificate authorities of a company, for everything that runs in a container of a job's pod.
//!
//! Most programs know one file with all authorities they trust. So the authorities of the container's image
//! and the further ones are put into one file, and each kind of program is told of it by its own variable.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Where systems keep the authorities they trust: Debian, Ubuntu, Alpine and Arch; Fedora and RHEL; SUSE;
/// others.
const OF_SYSTEMS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Variables that name a file with all authorities: OpenSSL (and what uses it, such as Ruby and Python's own
/// `ssl`) and Go, git, curl, Python's requests and pip.
const OF_PROGRAMS: [&str; 4] = ["SSL_CERT_FILE", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"];

/// Node adds these authorities to its own.
const OF_NODE: &str = "NODE_EXTRA_CA_CERTS";

/// Java takes its options from here.
const OF_JAVA: &str = "JAVA_TOOL_OPTIONS";

/// The authorities cannot be made known.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// What was given is of no use.
    #[error("the file of certificate authorities {0} holds no certificate in PEM")]
    NoCertificate(PathBuf),
    /// A file cannot be read.
    #[error("the file of certificate authorities {0} cannot be read")]
    Read(PathBuf, #[source] io::Error),
    /// A file cannot be written.
    #[error("the file of certificate authorities {0} cannot be written")]
    Write(PathBuf, #[source] io::Error),
}

/// Writes the authorities of this system and those of the file `more` into `bundle`, and adds to
/// `environment` the variables by which programs find them, where it does not have them already.
///
/// # Errors
///
/// A file cannot be read or written, or `more` holds no certificate.
pub fn trust(
    more: &Path,
    bundle: &Path,
    environment: &mut Vec<(OsString, OsString)>,
) -> Result<(), TrustError> {
    let added = std::fs::read(more).map_err(|error| TrustError::Read(more.to_owned(), error))?;
    if CertificateDer::pem_slice_iter(&added).next().is_none() {
        return Err(TrustError::NoCertificate(more.to_owned()));
    }
    let mut all = OF_SYSTEMS.iter().find_map(|file| std::fs::read(file).ok()).unwrap_or_default();
    if !all.is_empty() && !all.ends_with(b"\n") {
        all.push(b'\n');
    }
    all.extend_from_slice(&added);
    write(bundle, &all)?;
    for name in OF_PROGRAMS {
        set(environment, name, bundle.as_os_str());
    }
    set(environment, OF_NODE, more.as_os_str());
    if has_java(environment) {
        let store = bundle.with_extension("jks");
        write(&store, &key_store(&all))?;
        let options = format!(
            "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStoreType=jks \
             -Djavax.net.ssl.trustStorePassword={PASSWORD}",
            store.display()
        );
        set(environment, OF_JAVA, OsStr::new(&options));
    }
    Ok(())
}

/// Whole at once: a reader that is quicker must not see a part.
fn write(file: &Path, content: &[u8]) -> Result<(), TrustError> {
    let failed = |error| TrustError::Write(file.to_owned(), error);
    let new = file.with_extension("new");
    std::fs::write(&new, content).map_err(failed)?;
    std::fs::rename(&new, file).map_err(failed)
}

fn get<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
}

/// What the image or the pod's template says stays.
fn set(environment: &mut Vec<(OsString, OsString)>, name: &str, value: &OsStr) {
    if get(environment, name).is_none() {
        environment.push((name.into(), value.to_owned()));
    }
}

/// Java says at each start that it found options, so they are for images that have it.
fn has_java(environment: &[(OsString, OsString)]) -> bool {
    let path = get(environment, "PATH").unwrap_or_default();
    get(environment, "JAVA_HOME").is_some()
        || std::env::split_paths(path).any(|folder| folder.join("java").is_file())
}

/// What protects a key store from accidents; nothing in it is secret. Java's own has the same.
const PASSWORD: &str = "changeit";

/// A Java key store (the format JKS, version 2, which all Javas read) that trusts these certificates
/// (`sun.security.provider.JavaKeyStore`).
fn key_store(pem: &[u8]) -> Vec<u8> {
    let certificates: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    let mut store = Vec::new();
    let number = |store: &mut Vec<u8>, number: usize| {
        store.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    };
    let text = |store: &mut Vec<u8>, text: &str| {
        store.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        store.extend_from_slice(text.as_bytes());
    };
    store.extend_from_slice(&0xFEED_FEED_u32.to_be_bytes());
    number(&mut store, 2);
    number(&mut store, certificates.len());
    for (index, certificate) in certificates.iter().enumerate() {
        const TRUSTED: usize = 2;
        number(&mut store, TRUSTED);
        text(&mut store, &format!("authority-{index}"));
        // When it was added: nobody asks.
        store.extend_from_slice(&0_u64.to_be_bytes());
        text(&mut store, "X.509");
        number(&mut store, certificate.len());
        store.extend_from_slice(certificate);
    }
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    PASSWORD.encode_utf16().for_each(|unit| hash.update(&unit.to_be_bytes()));
    hash.update(b"Mighty Aphrodite");
    hash.update(&store);
    store.extend_from_slice(hash.finish().as_ref());
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nAAECAw==\n-----END CERTIFICATE-----\n";

    #[test]
    fn programs_find_the_authorities_of_the_system_and_the_further_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (more, bundle) = (folder.path().join("more.pem"), folder.path().join("all.pem"));
        std::fs::write(&more, AUTHORITY).unwrap();
        let mut environment: Vec<(OsString, OsString)> =
            vec![("CURL_CA_BUNDLE".into(), "/mine".into()), ("JAVA_HOME".into(), "/java".into())];
        trust(&more, &bundle, &mut environment).unwrap();
        assert!(std::fs::read_to_string(&bundle).unwrap().ends_with(AUTHORITY));
        let value = |name| get(&environment, name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(value("SSL_CERT_FILE"), bundle.to_str().unwrap());
        assert_eq!(value("NODE_EXTRA_CA_CERTS"), more.to_str().unwrap());
        assert_eq!(value("CURL_CA_BUNDLE"), "/mine", "what the image says stays");
        let store = folder.path().join("all.jks");
        assert!(value("JAVA_TOOL_OPTIONS").contains(store.to_str().unwrap()));
        assert!(std::fs::read(store).unwrap().starts_with(&[0xFE, 0xED, 0xFE, 0xED, 0, 0, 0, 2]));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let more = folder.path().join("more.pem");
        let bundle = folder.path().join("all.pem");
        let refused = |more: &Path| trust(more, &bundle, &mut Vec::new()).unwrap_err().to_string();
        assert!(refused(&more).ends_with("cannot be read"));
        std::fs::write(&more, "hello").unwrap();
        assert!(refused(&more).ends_with("holds no certificate in PEM"));
    }
}
