//! Test runs with their results, and code coverage, as those publish them who read the reports of test
//! runners (`RunCreateModel`, `TestCaseResult`, `RunUpdateModel`, `TestAttachmentRequestModel`,
//! `CodeCoverageData`).

use serde::{Deserialize, Serialize};

/// A test run to be made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NewTestRun {
    /// What people call it.
    pub name: String,
    /// Whether nobody ran the tests by hand.
    pub automated: bool,
    /// `InProgress` until all results are there.
    pub state: String,
    /// The build it belongs to.
    pub build: ShallowReference,
    /// What the tests ran on, as the pipeline calls it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_platform: String,
    /// What was tested, such as `Release`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_flavor: String,
    /// The job it came from.
    pub pipeline_reference: PipelineReference,
}

/// Another object by its number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShallowReference {
    /// Its number, as text.
    pub id: String,
}

/// A job of a run, by names and attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PipelineReference {
    /// The build.
    pub pipeline_id: i32,
    /// Its stage.
    pub stage_reference: StageReference,
    /// Its job as it is written.
    pub phase_reference: PhaseReference,
    /// Its job as it ran, such as a leg of a matrix.
    pub job_reference: JobReference,
}

/// A stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageReference {
    /// Its name.
    pub stage_name: String,
    /// Which time it ran, from 1.
    pub attempt: i32,
}

/// A job as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PhaseReference {
    /// Its name.
    pub phase_name: String,
    /// Which time it ran, from 1.
    pub attempt: i32,
}

/// A job as it ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobReference {
    /// Its name.
    pub job_name: String,
    /// Which time it ran, from 1.
    pub attempt: i32,
}

/// A test run as the service has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TestRun {
    /// Its number.
    pub id: i32,
    /// What people call it.
    pub name: String,
    /// `InProgress` or `Completed`.
    pub state: String,
    /// The page for people.
    pub web_access_url: Option<String>,
}

/// A change of a test run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TestRunUpdate {
    /// `Completed` when all results are there.
    pub state: String,
}

/// The result of one test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TestCaseResult {
    /// What people call the test.
    pub test_case_title: String,
    /// Its full name.
    pub automated_test_name: String,
    /// The class, file or assembly it is in.
    pub automated_test_storage: String,
    /// The kind of report it comes from, such as `JUnit`.
    pub automated_test_type: String,
    /// `Passed`, `Failed`, `NotExecuted`, …
    pub outcome: String,
    /// `Completed`.
    pub state: String,
    /// How long it took, in milliseconds.
    pub duration_in_ms: f64,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error_message: String,
    /// Where it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stack_trace: String,
}

/// A file to be kept with a test run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TestAttachment {
    /// `GeneralAttachment`.
    pub attachment_type: String,
    /// Its name.
    pub file_name: String,
    /// Its bytes in Base64.
    pub stream: String,
}

/// The code coverage of a build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CodeCoverageData {
    /// What it was measured on, if that is of interest.
    pub build_platform: String,
    /// What was measured, such as `Release`.
    pub build_flavor: String,
    /// The sums.
    pub coverage_stats: Vec<CodeCoverageStatistics>,
}

/// One sum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CodeCoverageStatistics {
    /// What is counted, such as `Lines`.
    pub label: String,
    /// Its place among the sums.
    pub position: i32,
    /// How much there is.
    pub total: u64,
    /// How much of it was run.
    pub covered: u64,
    /// Whether the comparison with the build before means something.
    pub is_delta_available: bool,
}
