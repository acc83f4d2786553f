//! Secure files of runs: who has the ticket of one may download it.

use std::path::PathBuf;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use dayfly_protocol::job::SecureFile;
use dayfly_protocol::{PlanId, ProjectId};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::tokens::random_token;
use super::{Error, Result, State, named_id};

/// A secure file of a run.
#[derive(Clone, Debug)]
pub(crate) struct KeptFile {
    /// As jobs get it, with the ticket of this run.
    pub(crate) file: SecureFile,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl KeptFile {
    pub(crate) fn new((name, path): (String, PathBuf)) -> Self {
        let ticket = Some(random_token().expose_secret().to_owned());
        Self { file: SecureFile { id: named_id("secure file", &name), name, ticket }, path }
    }
}

impl State {
    /// Where a secure file of a plan's run is, for who has its ticket.
    pub(crate) fn secure_file(
        &self,
        project: ProjectId,
        plan: PlanId,
        id: Uuid,
        ticket: &str,
    ) -> Result<&KeptFile> {
        let missing = Error::SecureFileNotFound(id);
        let run = self.runs.of_plan(plan).and_then(|run| self.runs.get(project, run).ok());
        let is_it = |kept: &&KeptFile| {
            let own = kept.file.ticket.as_deref().unwrap_or_default();
            kept.file.id == id && verify_slices_are_equal(own.as_bytes(), ticket.as_bytes()).is_ok()
        };
        run.and_then(|run| run.secure_files.iter().find(is_it)).ok_or(missing)
    }
}
