//! Where the jobs of a run get their workers.

/// Where jobs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum On {
    /// This machine
    #[default]
    Local,
    /// Pods of the cluster of KUBECONFIG
    Kubernetes,
}
