//! The parts of the build API that workers use.

use serde::{Deserialize, Serialize};

use crate::BuildId;

/// A change of a build, as `build.updatebuildnumber` sends it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildUpdate {
    /// The build.
    pub id: BuildId,
    /// Its new number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_number: Option<String>,
    /// `cancelling` cancels it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}
