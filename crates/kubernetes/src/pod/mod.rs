//! The pod of a job: what it looks like. Nothing here talks to a cluster.

mod containers;
mod overrides;
mod quantity;
mod registries;
mod shape;
mod template;

use dayfly_protocol::{containers::UnknownContainer, job::AgentJobRequestMessage};

pub(crate) use self::{
    containers::{AGENT_CONTAINER, DELIVERER, WORK_DIRECTORY, ca_bundle_file, is_step_host},
    template::merge as merge_template,
};
pub use self::{
    registries::PullLogins,
    shape::{Shaped, shape},
};
use crate::api::{CaBundle, Delivery};

/// A job for which a pod is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Its message.
    pub message: &'a AgentJobRequestMessage,
    /// What makes the pod's name its own: a pod that nobody claimed may be replaced, and whoever creates one
    /// twice, since an answer was lost, must find it again.
    pub nonce: &'a str,
}

/// What the controller knows and the set does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Image whose root directory holds the binary `dayfly`.
    pub dayfly_image: String,
    /// Where the controller waits for workers, `HOST:PORT`.
    pub channel: String,
    /// The authority that signed the controller's certificate.
    pub ca: CaConfigMap,
    /// How the binary gets into the pod; `Auto` has been decided by the controller.
    pub delivery: Delivery,
    /// Authorities that everything in the pod trusts besides those of its images.
    pub ca_bundle: Option<CaBundle>,
    /// Service account of the pods, whose token proves which pod a worker is in.
    pub service_account: String,
}

/// The key of a ConfigMap in the namespace of the pod that holds authorities in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaConfigMap {
    /// Name of the ConfigMap.
    pub name: String,
    /// Its key.
    pub key: String,
}

/// Why there can be no pod for a job. The text is for the job's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The set has no image.
    #[error("AgentSet `{0}` names no image for its jobs; set `spec.image`")]
    NoImage(String),
    /// The set's name cannot be the value of a label.
    #[error("AgentSet `{0}` has a name of more than 63 characters, too long for a label; use a shorter name")]
    LongName(String),
    /// A container is wanted, and the set has no place for it.
    #[error(
        "this job runs steps in a container of its own, but AgentSet `{0}` has `layout: OneContainer`; use \
         `layout: TwoContainers`, or remove `container:` from the job"
    )]
    OneContainer(String),
    /// A container is wanted that the message does not describe.
    #[error(transparent)]
    UnknownContainer(#[from] UnknownContainer),
    /// A service would get a secret, which would be readable in the cluster.
    #[error(
        "the service `{service}` takes the secret variable `{variable}` in its environment, where everybody \
         who may read pods could read it; give the service a Secret of the cluster by `spec.template`"
    )]
    SecretInService {
        /// The service.
        service: String,
        /// The variable.
        variable: String,
    },
    /// Two services cannot be told apart.
    #[error(
        "the services `{one}` and `{other}` both listen on port {port}, and the containers of a pod share \
         one network; have one of them listen on another port"
    )]
    SamePort {
        /// A service.
        one: String,
        /// Another one.
        other: String,
        /// Where both would listen.
        port: u16,
    },
    /// A container's image is in a registry to which its service connection is no way.
    #[error(transparent)]
    Registry(#[from] dayfly_protocol::registries::UnusableConnection),
    /// The job wants what its set does not allow.
    #[error(
        "the variable `{variable}` of this job asks for {value}, which AgentSet `{set}` does not allow: \
         {reason}"
    )]
    Override {
        /// The set.
        set: String,
        /// The variable.
        variable: String,
        /// What it says.
        value: String,
        /// Why not.
        reason: String,
    },
    /// The set's template is no `PodTemplateSpec`.
    #[error("`spec.template` of AgentSet `{set}` cannot be used: {reason}")]
    Template {
        /// The set.
        set: String,
        /// What is wrong with it.
        reason: String,
    },
}
