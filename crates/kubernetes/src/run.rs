//! The place of one `dayfly run` in a cluster: its jobs run in pods, and nothing needs to be installed there.
//!
//! Jobs are kept in the memory of the run, and its "set" is no object. A ConfigMap with the authority of the
//! run's certificates is all that there is beside the pods; it owns them, so that a pod whose creation was
//! under way when the run ended goes as well. All of them have a label with the name of the run.

mod address;
mod front;
mod rights;
mod traces;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use dayfly_listener::{Executor, Gate};
use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::PostParams,
    config::{KubeConfigOptions, KubeconfigError},
};
use serde_json::json;
use tokio::net::TcpListener;
use url::Url;

use self::front::Front;
pub use self::traces::Traces;
use crate::{
    api::{
        AgentSet, AgentSetSpec, Agents, CaBundle, ContainerUser, Delivery, KeyReference, Layout, Timeouts,
    },
    cluster::{ConnectError, bounded, client, delivery},
    executor::PodExecutor,
    identity::{AuthorityError, CA_KEY, PassingAuthority, PodIdentity},
    login::Network,
    names::{MANAGED_BY, MANAGER, RUN_LABEL},
    pod::{CaConfigMap, Facts, merge_template},
};

/// How long a job has to end when its pod must leave its node, and a service that does not heed SIGTERM when
/// its job is over.
const GRACE_SECONDS: u32 = 30;

/// Where and with what the jobs of a run get their pods.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// Context of the kubeconfig; the current one if there is none here.
    pub context: Option<String>,
    /// Namespace of the pods; that of the context if there is none here.
    pub namespace: Option<String>,
    /// Name or address by which pods reach this machine; found out if there is none here.
    pub address: Option<String>,
    /// What the pods are like.
    pub pods: RunPods,
    /// Dayfly's own image, from which pods take the program.
    pub dayfly_image: String,
}

/// What the pods of a run are like.
#[derive(Debug, Clone)]
pub enum RunPods {
    /// As they are by default.
    Plain {
        /// Image in which steps run when their job names no container. It must have git.
        image: String,
    },
    /// As an `AgentSet` of the namespace has them. Its connection and its agents play no part.
    AgentSet {
        /// Its name.
        name: String,
    },
}

/// A run has no place in a cluster, or left something there.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No cluster.
    #[error("no cluster can be used; set KUBECONFIG, and see `kubectl config get-contexts`")]
    Connect(#[from] ConnectError),
    /// No such context, or one that is damaged.
    #[error("the context `{name}` cannot be used; see `kubectl config get-contexts`")]
    Context {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: KubeconfigError,
    },
    /// The API server does not say what we may do.
    #[error("the API server at {server} did not answer; see whether `kubectl get pods` works")]
    Silent {
        /// Its address.
        server: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// We may not do what is needed.
    #[error(
        "you may not {missing} in namespace {namespace}; ask an administrator of the cluster for that, or \
         give another namespace with --namespace"
    )]
    Forbidden {
        /// Verbs and resources.
        missing: String,
        /// Where.
        namespace: String,
    },
    /// How pods reach this machine cannot be told from how the API server is reached.
    #[error(
        "pods must reach this machine, and the address for that is not known: {reason}; give it with \
         --address"
    )]
    NoAddress {
        /// Why not.
        reason: String,
    },
    /// No port.
    #[error("cannot listen on {address} for the pods; give another address of this machine with --address")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// We cannot reach ourselves.
    #[error("nobody reaches this machine at {address}, not even itself; give another address with --address")]
    Unreachable {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// No certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The namespace does not exist.
    #[error(
        "namespace {0} does not exist; make it by `kubectl create namespace {0}`, or give another one with \
         --namespace"
    )]
    NoNamespace(String),
    /// The pods cannot be made as the agent set says.
    #[error("agent set {name} of namespace {namespace} cannot be read; see `kubectl get agentsets`")]
    AgentSet {
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// Its template makes no pod.
    #[error("`spec.template` of the agent set cannot be used: {0}")]
    Template(String),
    /// The first object could not be made.
    #[error("could not create ConfigMap {name} in namespace {namespace}")]
    Publish {
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// Something is left.
    #[error("could not delete all objects of the run in namespace {namespace}; delete them by `{command}`")]
    Left {
        /// Where.
        namespace: String,
        /// What deletes them.
        command: String,
        /// Why not; none if they only take too long.
        #[source]
        source: Option<Box<kube::Error>>,
    },
}

/// What a run has found out and opened on this machine. Nothing is in the cluster yet.
pub struct RunPlace {
    client: Client,
    traces: Traces,
    host: String,
    channel: TcpListener,
    service: TcpListener,
    authority: PassingAuthority,
    spec: AgentSetSpec,
    dayfly_image: String,
}

impl std::fmt::Debug for RunPlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RunPlace").field("traces", &self.traces).finish_non_exhaustive()
    }
}

/// A place for the jobs of a run. Dropping it closes the ports; [`Traces::remove`] deletes what is in the
/// cluster.
#[derive(Debug)]
pub struct OpenRun {
    /// Runs the jobs in pods.
    pub executor: Arc<dyn Executor>,
    _front: Front,
}

impl RunPlace {
    /// Finds the cluster, sees whether it allows what a run does, and opens two ports for its pods.
    ///
    /// # Errors
    ///
    /// There is no cluster, it refuses, or pods cannot reach this machine as far as that can be seen.
    pub async fn prepare(settings: RunSettings) -> Result<Self, RunError> {
        let configuration = configuration(settings.context.clone()).await?;
        let server = configuration.cluster_url.clone();
        let client = client(configuration)?;
        let namespace = settings.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        rights::check(&client, &namespace, &server.to_string()).await?;
        let spec = spec(&client, &namespace, settings.pods).await?;
        let host = match &settings.address {
            Some(address) => address.trim_matches(['[', ']']).to_owned(),
            None => address::towards(&server).await?.to_string(),
        };
        let (channel, service) = (address::listen(&host).await?, address::listen(&host).await?);
        address::try_out(&host, &service).await?;
        let authority = PassingAuthority::new(&host)?;
        let traces = Traces::new(client.clone(), namespace, settings.context);
        let dayfly_image = settings.dayfly_image;
        Ok(Self { client, traces, host, channel, service, authority, spec, dayfly_image })
    }

    /// What will be in the cluster.
    pub fn traces(&self) -> Traces {
        self.traces.clone()
    }

    /// Where pods, and this machine, will reach the service, without a path.
    ///
    /// # Errors
    ///
    /// The address has no place in a URL.
    pub fn service_url(&self) -> Result<Url, RunError> {
        let address = self.reached_at(&self.service)?;
        let wrong = |_| RunError::NoAddress { reason: format!("`{}` is no name of a host", self.host) };
        Url::parse(&format!("https://{address}/")).map_err(wrong)
    }

    /// The authority of the certificates at both ports, PEM.
    pub fn authority(&self) -> &str {
        &self.authority.bundle
    }

    /// Makes the ConfigMap, lets workers in, and passes what comes for the service on to `behind`.
    ///
    /// # Errors
    ///
    /// The ConfigMap cannot be made; it may be there even so.
    pub async fn open(mut self, behind: SocketAddr) -> Result<OpenRun, RunError> {
        let owner = self.publish().await?;
        mark(&mut self.spec, self.traces.name(), &owner)?;
        let channel = self.reached_at(&self.channel)?;
        let name = self.traces.name().to_owned();
        let key = KeyReference { name: name.clone(), key: CA_KEY.to_owned() };
        let facts = Facts {
            dayfly_image: self.dayfly_image,
            channel,
            ca: CaConfigMap { name, key: CA_KEY.to_owned() },
            delivery: delivery(&self.client).await,
            ca_bundle: None,
            service_account: "default".to_owned(),
        };
        let ca_bundle = Some(CaBundle { config_map_ref: Some(key), secret_ref: None });
        let network = Network { ca_bundle, proxy: None };
        let identity = Arc::new(PodIdentity::new(self.client.clone()));
        let server = Arc::new(self.authority.server.clone());
        let executor = PodExecutor::new(
            self.client.clone(),
            self.traces.namespace(),
            self.traces.name(),
            self.spec,
            (facts, network),
            Arc::new(Gate::tls(self.channel, server, Some(identity))),
            None,
        );
        let front = Front::start(self.service, self.authority.server, behind);
        Ok(OpenRun { executor: Arc::new(executor), _front: front })
    }

    /// `HOST:PORT` of a port for pods.
    fn reached_at(&self, listener: &TcpListener) -> Result<String, RunError> {
        let failed = |source| RunError::Listen { address: self.host.clone(), source };
        let port = listener.local_addr().map_err(failed)?.port();
        let host = &self.host;
        Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    /// Puts the authority where the pods find it.
    async fn publish(&self) -> Result<OwnerReference, RunError> {
        let (name, namespace) = (self.traces.name().to_owned(), self.traces.namespace().to_owned());
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([
                    (MANAGED_BY.to_owned(), MANAGER.to_owned()),
                    (RUN_LABEL.to_owned(), name.clone()),
                ])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(CA_KEY.to_owned(), self.authority.bundle.clone())])),
            ..ConfigMap::default()
        };
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &namespace);
        let made = bounded(maps.create(&PostParams::default(), &map)).await.map_err(|error| match error {
            kube::Error::Api(status) if status.is_not_found() => RunError::NoNamespace(namespace.clone()),
            source => RunError::Publish { name: name.clone(), namespace, source: Box::new(source) },
        })?;
        let uid = made.uid().unwrap_or_default();
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name,
            uid,
            ..OwnerReference::default()
        })
    }
}

/// The cluster of this context.
async fn configuration(context: Option<String>) -> Result<kube::Config, RunError> {
    let Some(name) = context else {
        return Ok(kube::Config::infer().await.map_err(ConnectError::from)?);
    };
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let found = kube::Config::from_kubeconfig(&options).await;
    found.map_err(|source| RunError::Context { name, source })
}

/// The pods of a run, as an agent set says it.
async fn spec(client: &Client, namespace: &str, pods: RunPods) -> Result<AgentSetSpec, RunError> {
    match pods {
        RunPods::Plain { image } => Ok(plain(image)),
        RunPods::AgentSet { name } => {
            let sets = Api::<AgentSet>::namespaced(client.clone(), namespace);
            let set = bounded(sets.get(&name)).await.map_err(|source| RunError::AgentSet {
                name: name.clone(),
                namespace: namespace.to_owned(),
                source: Box::new(source),
            })?;
            Ok(set.spec)
        }
    }
}

fn plain(image: String) -> AgentSetSpec {
    AgentSetSpec {
        connection_ref: String::new(),
        pool_name: String::new(),
        agents: Agents { max: 1, spare: None, name_prefix: None },
        capabilities: BTreeMap::new(),
        image: Some(image),
        agent_image: None,
        layout: Layout::default(),
        container_user: ContainerUser::default(),
        template: Some(json!({ "spec": { "terminationGracePeriodSeconds": GRACE_SECONDS } })),
        job_overrides: None,
        delivery: Delivery::default(),
        max_pending_jobs: None,
        timeouts: Timeouts::default(),
        ttl_seconds_after_finished: 0,
        paused: false,
    }
}

/// Has the pods found by their run, and go with its ConfigMap.
fn mark(spec: &mut AgentSetSpec, run: &str, owner: &OwnerReference) -> Result<(), RunError> {
    let template = spec.template.get_or_insert_with(|| json!({}));
    let marks = json!({ "metadata": { "labels": { RUN_LABEL: run }, "ownerReferences": [owner] } });
    merge_template(template, &marks).map_err(RunError::Template)
}
