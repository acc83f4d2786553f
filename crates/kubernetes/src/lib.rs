//! One pod per job: Dayfly's custom resources, the controller, and the executor that runs workers in pods.

#[expect(unreachable_pub, reason = "KubeSchema derives hidden public types inside functions")]
pub mod api;
mod calls;
mod check;
mod cluster;
mod controller;
mod diagnose;
mod executor;
mod identity;
mod login;
mod names;
mod ownership;
pub mod pod;
mod protection;
mod registrations;
mod run;
mod store;
mod sweep;

pub use calls::Calls;
pub use check::{Checked, check};
pub use cluster::{ConnectError, connect};
pub use controller::{Config, Error, Watcher, run};
pub use executor::PodStage;
pub use identity::{Authority, AuthorityError, CA_CONFIG_MAP, CA_KEY, PodIdentity, TOKEN_AUDIENCE};
pub use ownership::{Fence, Ownership};
pub use run::{OpenRun, RunError, RunPlace, RunPods, RunSettings, Traces};
pub use store::{AcceptingSet, KubernetesStore};
pub use sweep::{Sweep, SweepError, Swept};
