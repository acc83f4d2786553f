//! Other pipelines whose artifacts a run downloads (`resources.pipelines`): folders stand for their runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dayfly_pipelines::Plan;
use dayfly_pipelines::message::downloaded_alias;
use dayfly_pipelines::plan::Step;

use super::alias_folder::{self, AliasFolder, Kind};
use super::caveats;

const KIND: Kind = Kind { option: "--artifacts-of", one: "pipeline", list: "pipelines" };

/// Reads the value of `--artifacts-of`.
pub(crate) fn folder(text: &str) -> Result<AliasFolder, String> {
    AliasFolder::parse(text, "build=../artifacts")
}

/// The artifacts of other pipelines that the user has.
#[derive(Debug)]
pub(crate) struct Upstream {
    given: Vec<AliasFolder>,
}

impl Upstream {
    pub(crate) fn new(given: Vec<AliasFolder>) -> Self {
        Self { given }
    }

    /// What is wrong with the folders that were given for this pipeline.
    pub(crate) fn mistakes(&self, plan: &Plan) -> Option<String> {
        alias_folder::mistakes(&self.given, KIND, &declared(plan))
    }

    /// Sentences on those that the wanted jobs download and nobody gave.
    pub(crate) fn missing(&self, plan: &Plan, wanted: &[Vec<bool>]) -> Vec<String> {
        let steps = caveats::wanted_jobs(plan, wanted).flat_map(|(_, job)| caveats::steps(job));
        let missing: BTreeSet<_> = steps.filter_map(|step| self.missing_alias(step)).collect();
        let is_declared = |alias: &str| declared(plan).iter().any(|known| known.eq_ignore_ascii_case(alias));
        let advice = |alias: &str| match is_declared(alias) {
            true => format!("give a folder with its artifacts by `--artifacts-of {alias}=FOLDER`"),
            false => "`resources.pipelines` does not have it".to_owned(),
        };
        let sentence = |alias: &str| {
            format!("steps that download from the pipeline `{alias}` will fail: {}", advice(alias))
        };
        missing.into_iter().map(sentence).collect()
    }

    /// The pipeline that a step downloads from and nobody gave.
    pub(crate) fn missing_alias<'s>(&self, step: &'s Step) -> Option<&'s str> {
        let is_given = |alias: &str| alias_folder::given(&self.given, alias).is_some();
        // A download that nobody wrote does not take place then.
        downloaded_alias(step).filter(|alias| step.location.is_some() && !is_given(alias))
    }

    /// The folders by aliases.
    pub(crate) fn folders(&self) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let folder = |given: &AliasFolder| Ok((given.alias.to_lowercase(), given.existing()?));
        self.given.iter().map(folder).collect::<Result<_, String>>().map_err(anyhow::Error::msg)
    }
}

/// The aliases of the pipeline's file.
fn declared(plan: &Plan) -> Vec<&str> {
    plan.resources.pipelines.iter().map(|known| known.alias.as_str()).collect()
}
