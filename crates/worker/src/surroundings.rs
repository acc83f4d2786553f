//! What the worker's process found around it. Only its `main` reads the environment, so it is handed over as
//! values.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use dayfly_client::ProxySettings;

/// The environment of the worker's process and the proxies it names.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// What steps inherit, but for credentials and for what the listener wants hidden.
    pub environment: Vec<(OsString, OsString)>,
    /// Proxies on the way to the service.
    pub proxy: ProxySettings,
    /// Where this program's file is. The worker may run a copy that nobody can read.
    pub program: Option<PathBuf>,
    /// Folder with the sockets of the step hosts, where the worker is in a pod whose steps run in containers
    /// of their own.
    pub step_hosts: Option<PathBuf>,
}

/// Names only: values may be secrets.
impl fmt::Debug for Surroundings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&OsString> = self.environment.iter().map(|(name, _)| name).collect();
        formatter
            .debug_struct("Surroundings")
            .field("environment", &names)
            .field("proxy", &self.proxy)
            .field("program", &self.program)
            .field("step_hosts", &self.step_hosts)
            .finish()
    }
}
