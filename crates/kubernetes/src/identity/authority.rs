//! The authority whose certificates the controller shows to workers.
//!
//! Its roots are kept in a Secret that all replicas share. A root is in the bundle that pods get long before
//! it signs anything, so a worker that was started with an older bundle never meets a root it does not know.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};

/// Name of the ConfigMap with the public bundle in the jobs' namespaces.
pub const CA_CONFIG_MAP: &str = "dayfly-channel-authority";

/// Its key.
pub const CA_KEY: &str = "ca.crt";

/// Name of the Secret with the roots in the controller's namespace, and its key.
const ROOTS_SECRET: &str = "dayfly-channel-authority";
const ROOTS_KEY: &str = "roots.json";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// For how long a root is valid.
const ROOT_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A new root is made when the newest one has less time left than this, and signs once the one before it has
/// less than half of it: so it is in bundles for two months before it counts.
const ROOT_OVERLAP: Duration = Duration::from_secs(120 * 24 * 3600);

/// For how long the controller's own certificate is valid; a new one is made every day.
const LEAF_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often two replicas may stand in each other's way before that is an error.
const TRIES: u32 = 5;

/// Who manages what we apply.
const FIELD_MANAGER: &str = "dayfly";

/// There is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The cluster.
    #[error("could not {doing}")]
    Cluster {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// What is in the Secret.
    #[error("the Secret {ROOTS_SECRET} holds no usable authority; delete it to have a new one made")]
    Damaged(#[source] serde_json::Error),
    /// A certificate.
    #[error("could not make a certificate for the job channel")]
    Certificate(#[source] rcgen::Error),
    /// TLS.
    #[error("TLS cannot be used")]
    Tls(#[source] rustls::Error),
    /// Somebody else was always quicker.
    #[error("other replicas keep changing the Secret {ROOTS_SECRET}")]
    Contended,
}

/// One root: whoever knows its key can be the controller to a worker.
#[derive(Clone, Serialize, Deserialize)]
struct Root {
    certificate: String,
    key: String,
    until: Timestamp,
}

/// Dayfly's own authority.
pub struct Authority {
    client: Client,
    namespace: String,
    /// The name or address by which workers reach us.
    host: String,
    roots: RwLock<Vec<Root>>,
    leaf: Arc<Leaf>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The certificate that is shown now.
#[derive(Debug)]
struct Leaf(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Authority {
    /// Takes up the authority of this namespace, or makes it. `host` is the name or address by which workers
    /// reach the job channel.
    ///
    /// # Errors
    ///
    /// The Secret cannot be read or written, or holds no authority.
    pub async fn open(client: Client, namespace: &str, host: &str) -> Result<Self, AuthorityError> {
        let roots = roots(&client, namespace).await?;
        let leaf = Arc::new(Leaf(RwLock::new(leaf(&roots, host)?)));
        Ok(Self {
            client,
            namespace: namespace.to_owned(),
            host: host.to_owned(),
            roots: RwLock::new(roots),
            leaf,
        })
    }

    /// TLS for the job channel; it shows new certificates as they are made.
    ///
    /// # Errors
    ///
    /// TLS cannot be used.
    pub fn server(&self) -> Result<Arc<ServerConfig>, AuthorityError> {
        server(self.leaf.clone()).map(Arc::new)
    }

    /// Puts the bundle where the pods of a namespace find it.
    ///
    /// # Errors
    ///
    /// The ConfigMap cannot be written.
    pub async fn publish(&self, namespace: &str) -> Result<(), AuthorityError> {
        let bundle: String = {
            let roots = self.roots.read().unwrap_or_else(PoisonError::into_inner);
            roots.iter().map(|root| root.certificate.as_str()).collect()
        };
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(CA_CONFIG_MAP.to_owned()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/managed-by".to_owned(),
                    "dayfly".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(CA_KEY.to_owned(), bundle)])),
            ..ConfigMap::default()
        };
        Api::<ConfigMap>::namespaced(self.client.clone(), namespace)
            .patch(CA_CONFIG_MAP, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&map))
            .await
            .map(drop)
            .map_err(|source| AuthorityError::Cluster {
                doing: "publish the job channel's authority",
                source,
            })
    }

    /// Makes new certificates as the old ones age, for as long as it is polled.
    pub async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(DAY).await;
            if let Err(error) = self.refresh().await {
                let error = dayfly_client::describe(&error);
                tracing::warn!(error, "the job channel keeps its old certificate");
            }
        }
    }

    async fn refresh(&self) -> Result<(), AuthorityError> {
        let roots = roots(&self.client, &self.namespace).await?;
        let leaf = leaf(&roots, &self.host)?;
        *self.roots.write().unwrap_or_else(PoisonError::into_inner) = roots;
        *self.leaf.0.write().unwrap_or_else(PoisonError::into_inner) = leaf;
        Ok(())
    }
}

/// An authority that nobody keeps: it ends with the run that made it.
pub(crate) struct PassingAuthority {
    /// Its public certificate, PEM.
    pub(crate) bundle: String,
    /// TLS with a certificate by it.
    pub(crate) server: ServerConfig,
}

impl PassingAuthority {
    /// One whose certificate is for the name or address `host`.
    pub(crate) fn new(host: &str) -> Result<Self, AuthorityError> {
        let root = new_root().map_err(AuthorityError::Certificate)?;
        let bundle = root.certificate.clone();
        let leaf = leaf(&[root], host)?;
        Ok(Self { bundle, server: server(Arc::new(Leaf(RwLock::new(leaf))))? })
    }
}

fn server(leaf: Arc<Leaf>) -> Result<ServerConfig, AuthorityError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let configuration = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(AuthorityError::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(leaf);
    Ok(configuration)
}

/// The roots of this namespace, the oldest first, with a new one if it is time for that.
async fn roots(client: &Client, namespace: &str) -> Result<Vec<Root>, AuthorityError> {
    let cluster = |doing| move |source| AuthorityError::Cluster { doing, source };
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    for _ in 0..TRIES {
        let found =
            secrets.get_opt(ROOTS_SECRET).await.map_err(cluster("read the job channel's authority"))?;
        let saved = found.as_ref().and_then(|secret| secret.data.as_ref()?.get(ROOTS_KEY));
        let saved: Vec<Root> = match saved {
            Some(saved) => serde_json::from_slice(&saved.0).map_err(AuthorityError::Damaged)?,
            None => Vec::new(),
        };
        let now = Timestamp::now();
        let (mut roots, is_changed) = (saved.clone(), needs_root(&saved, now));
        if !is_changed {
            return Ok(roots);
        }
        roots.retain(|root| root.until > now);
        roots.push(new_root().map_err(AuthorityError::Certificate)?);
        let json = serde_json::to_vec(&roots).map_err(AuthorityError::Damaged)?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(ROOTS_SECRET.to_owned()),
                resource_version: found.as_ref().and_then(|secret| secret.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(ROOTS_KEY.to_owned(), ByteString(json))])),
            ..Secret::default()
        };
        let written = match found {
            Some(_) => secrets.replace(ROOTS_SECRET, &PostParams::default(), &secret).await,
            None => secrets.create(&PostParams::default(), &secret).await,
        };
        match written {
            Ok(_) => return Ok(roots),
            // Another replica was quicker; what it wrote counts.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
            Err(source) => return Err(cluster("write the job channel's authority")(source)),
        }
    }
    Err(AuthorityError::Contended)
}

fn needs_root(roots: &[Root], now: Timestamp) -> bool {
    roots.last().is_none_or(|newest| remaining(newest, now) < ROOT_OVERLAP)
}

fn remaining(root: &Root, now: Timestamp) -> Duration {
    Duration::try_from(root.until.duration_since(now)).unwrap_or_default()
}

/// The root that signs: the oldest that will do so for a while yet.
fn signing(roots: &[Root], now: Timestamp) -> Option<&Root> {
    roots.iter().find(|root| remaining(root, now) >= ROOT_OVERLAP / 2).or_else(|| roots.last())
}

/// What a root says of itself. Always the same, since it is made again from the key alone.
fn root_parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Dayfly job channel");
    parameters.distinguished_name = name;
    parameters
}

fn new_root() -> Result<Root, rcgen::Error> {
    let (key, mut parameters) = (KeyPair::generate()?, root_parameters());
    let now = SystemTime::now();
    // Clocks of nodes differ a little.
    parameters.not_before = (now - DAY).into();
    parameters.not_after = (now + ROOT_LIFE).into();
    let certificate = parameters.self_signed(&key)?.pem();
    let until = Timestamp::try_from(now + ROOT_LIFE).unwrap_or(Timestamp::MAX);
    Ok(Root { certificate, key: key.serialize_pem(), until })
}

/// A certificate for `host`.
fn leaf(roots: &[Root], host: &str) -> Result<Arc<CertifiedKey>, AuthorityError> {
    let make = || -> Result<(Vec<u8>, Vec<u8>), rcgen::Error> {
        let root = signing(roots, Timestamp::now()).ok_or(rcgen::Error::CouldNotParseKeyPair)?;
        let issuer = Issuer::new(root_parameters(), KeyPair::from_pem(&root.key)?);
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(vec![host.to_owned()])?;
        let now = SystemTime::now();
        parameters.not_before = (now - DAY).into();
        parameters.not_after = (now + LEAF_LIFE).into();
        let certificate = parameters.signed_by(&key, &issuer)?;
        Ok((certificate.der().to_vec(), key.serialize_der()))
    };
    let (certificate, key) = make().map_err(AuthorityError::Certificate)?;
    let key = PrivateKeyDer::Pkcs8(key.into());
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(AuthorityError::Tls)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.into()], key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(days: i64) -> Root {
        let until = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * days);
        Root { certificate: String::new(), key: days.to_string(), until }
    }

    #[test]
    fn a_root_is_in_bundles_for_two_months_before_it_signs() {
        let day = |days: i64| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * days);
        assert!(needs_root(&[], day(0)));
        let one = [root(365)];
        assert!(!needs_root(&one, day(244)));
        assert!(needs_root(&one, day(246)), "120 days are left");
        let two = [root(365), root(246 + 365)];
        assert!(!needs_root(&two, day(247)));
        assert_eq!(signing(&two, day(247)).map(|root| root.key.as_str()), Some("365"));
        assert_eq!(signing(&two, day(304)).map(|root| root.key.as_str()), Some("365"));
        assert_eq!(signing(&two, day(306)).map(|root| root.key.as_str()), Some("611"));
    }

    #[test]
    fn a_certificate_is_by_the_root_in_the_bundle() {
        let roots = [new_root().expect("a root")];
        leaf(&roots, "dayfly-channel.dayfly.svc").expect("a certificate for a name");
        leaf(&roots, "10.244.0.1").expect("a certificate for an address");
    }
}
