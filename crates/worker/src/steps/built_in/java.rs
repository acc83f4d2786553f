//! What the tasks of Java's build tools share: the JDK, and the reports of their tests
//! (`azure-pipelines-tasks-java-common`).

use super::super::definition::{Input, aliased, path, text};
use super::super::installers::java_home;
use super::super::{Inputs, Prepared, StepError};
use super::matching::{Links, files_in};
use super::publish_test_results::publish_all;
use crate::context::StepContext;
use crate::files;
use crate::test_results::Format;

/// The inputs by which a JDK is chosen.
pub(super) const JAVA_HOME_SELECTION: Input = aliased("javaHomeSelection", &["javaHomeOption"], "JDKVersion");
pub(super) const JDK_VERSION: Input = aliased("jdkVersion", &["jdkVersionOption"], "default");
pub(super) const JDK_PATH: Input = path("jdkUserInputPath").called(&["jdkDirectory"]);
pub(super) const JDK_ARCHITECTURE: Input = aliased("jdkArchitecture", &["jdkArchitectureOption"], "x64");

/// The inputs about the reports of tests.
pub(super) const PUBLISHES: Input = text("publishJUnitResults", "true");
pub(super) const TEST_RUN_TITLE: Input = text("testRunTitle", "");

/// The variable `JAVA_HOME` as the inputs want it; none: as it is.
pub(super) async fn home(
    step: &StepContext,
    prepared: &Prepared,
) -> Result<Option<(&'static str, String)>, StepError> {
    let inputs = &prepared.inputs;
    if inputs.text(JAVA_HOME_SELECTION.name) != "JDKVersion" {
        let path = inputs.required(JDK_PATH.name)?;
        return match files::exists(path).await {
            true => Ok(Some(("JAVA_HOME", path.to_owned()))),
            false => Err(StepError::Failed(format!("Not found jdkUserInputPath: {path}"))),
        };
    }
    let version = inputs.text(JDK_VERSION.name);
    if version.is_empty() || version == "default" {
        return Ok(None);
    }
    // Java was 1.8, and is 17: the inputs have both ways.
    let major = version.strip_prefix("1.").unwrap_or(version);
    let variable = format!("JAVA_HOME_{major}_{}", inputs.text(JDK_ARCHITECTURE.name).to_uppercase());
    step.output(&format!("Locate JAVA_HOME for Java {version} {}", inputs.text(JDK_ARCHITECTURE.name))).await;
    let of_agent = || {
        let value = step.job.inherited.get(std::ffi::OsStr::new(&variable))?;
        Some(value.to_string_lossy().into_owned())
    };
    let named = step.job.variable(&variable).or_else(of_agent).filter(|home| !home.is_empty());
    if let Some(home) = named {
        return Ok(Some(("JAVA_HOME", home)));
    }
    match java_home(step, prepared, major).await? {
        Some(home) => Ok(Some(("JAVA_HOME", home.to_string_lossy().into_owned()))),
        None => Err(StepError::Failed(format!(
            "Failed to find the specified JDK version. Please ensure the specified JDK version is installed \
             on the agent and the environment variable '{variable}' exists and is set to the location of a \
             corresponding JDK, or take the Java that is on the PATH: `dayfly run --tools any`."
        ))),
    }
}

/// Sums up the reports of JUnit, if that is wanted.
pub(super) async fn tell_of_tests(step: &StepContext, inputs: &Inputs) -> Result<(), StepError> {
    if !inputs.flag(PUBLISHES.name) {
        return Ok(());
    }
    let patterns = inputs.required("testResultsFiles")?;
    let files = files_in(step, "", patterns, Links::Followed).await?;
    if files.is_empty() {
        step.output(&format!(
            "No test result files matching {patterns} were found, so publishing JUnit test results is being \
             skipped."
        ))
        .await;
        return Ok(());
    }
    let title = inputs.text(TEST_RUN_TITLE.name);
    publish_all(step, Format::JUnit, title, files).await
}

/// Warns of what the task would add to the build, which this worker does not.
pub(super) async fn warn_of_analyses(step: &StepContext, inputs: &Inputs) {
    let coverage = inputs.get("codeCoverageTool").filter(|tool| !tool.eq_ignore_ascii_case("none"));
    let analyses = [
        ("sqAnalysisEnabled", "SonarQube"),
        ("checkstyleAnalysisEnabled", "Checkstyle"),
        ("pmdAnalysisEnabled", "PMD"),
        ("findbugsAnalysisEnabled", "FindBugs"),
        ("spotBugsAnalysisEnabled", "SpotBugs"),
    ];
    let enabled = analyses.into_iter().filter(|(input, _)| inputs.flag(input)).map(|(_, name)| name);
    let left_out: Vec<&str> = coverage.into_iter().chain(enabled).collect();
    if !left_out.is_empty() {
        step.warning(&format!(
            "Dayfly builds without what this step adds to the build: {}. Let the build itself do that.",
            left_out.join(", ")
        ))
        .await;
    }
}
