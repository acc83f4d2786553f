//! The predefined variables that `${{ }}` may ask for: what is known of a run when its file is compiled.

use std::collections::BTreeMap;

use crate::state::runs::RunReason;

/// What is known of a run before it starts. Whoever compiles a file for a run gives the compiler these
/// variables.
#[derive(Clone, Copy, Debug)]
pub struct Predefined<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// Why the run is queued.
    pub reason: RunReason,
    /// The name of the pipeline's repository.
    pub repository: &'a str,
    /// The branch or tag in full, such as `refs/heads/main`.
    pub reference: &'a str,
    /// The commit, if there is one yet.
    pub commit: Option<&'a str>,
    /// The collection's address, if there is one yet.
    pub collection: Option<&'a str>,
}

impl Predefined<'_> {
    /// The variables with their values; those not known yet are left out.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let values = [
            ("Build.DefinitionName", Some(self.pipeline)),
            ("Build.Reason", Some(self.reason.name())),
            ("Build.Repository.Name", Some(self.repository)),
            ("Build.SourceBranch", Some(self.reference)),
            ("Build.SourceBranchName", self.reference.rsplit('/').next()),
            ("Build.SourceVersion", self.commit),
            ("System.CollectionUri", self.collection),
            ("System.TeamFoundationCollectionUri", self.collection),
            ("System.TeamProject", Some(self.project)),
        ];
        let known = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
        known.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}
