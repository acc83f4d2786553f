//! Identifiers of stages, phases, jobs and steps, and the record ids which the service derives from them.
//!
//! The same names give the same ids in every run, on the service and here: `Job.__default` is
//! `12f1170f-54f2-53f3-20dd-22fc7dff55f9` in every organization (actions/runner `PipelineUtilities.cs`,
//! `TimelineRecordIdGenerator.cs`).

use aws_lc_rs::digest;
use uuid::Uuid;

/// The name of the only stage of a file without stages, and of a job that has no legs.
pub const DEFAULT_NAME: &str = "__default";

/// An identifier as people read it: without the names that stand for what the file does not name.
#[must_use]
pub fn shown(identifier: &str) -> String {
    let named = identifier.split('.').filter(|part| !part.eq_ignore_ascii_case(DEFAULT_NAME));
    named.collect::<Vec<_>>().join(".")
}

/// The namespace of the service's name-based ids.
const NAMESPACE: [u8; 16] = [83, 55, 27, 127, 212, 97, 75, 93, 197, 226, 39, 51, 83, 35, 223, 36];

/// The id of the timeline record with this identifier.
///
/// A UUID of version 5, but over UTF-16 and in the byte order of .NET, without the bits of the variant.
#[must_use]
pub fn record_id(identifier: &str) -> Uuid {
    let mut bytes = NAMESPACE.to_vec();
    bytes.extend(identifier.to_lowercase().encode_utf16().flat_map(u16::to_be_bytes));
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &bytes);
    let mut id = [0_u8; 16];
    id.copy_from_slice(&hash.as_ref()[..16]);
    id[7] = (id[7] & 0x0f) | 0x50;
    Uuid::from_bytes_le(id)
}

/// The identifier of a stage.
#[must_use]
pub fn stage(stage: &str, attempt: u32) -> String {
    numbered(stage.to_owned(), attempt)
}

/// The identifier of a phase; the implicit stage is left out.
#[must_use]
pub fn phase(stage: &str, phase: &str, attempt: u32) -> String {
    let name =
        if stage.eq_ignore_ascii_case(DEFAULT_NAME) { phase.to_owned() } else { format!("{stage}.{phase}") };
    numbered(name, attempt)
}

/// The identifier of a job.
#[must_use]
pub fn job(stage: &str, phase_name: &str, job: &str, attempt: u32) -> String {
    numbered(format!("{}.{job}", phase(stage, phase_name, 1)), attempt)
}

/// Later attempts carry their number.
fn numbered(name: String, attempt: u32) -> String {
    if attempt > 1 { format!("{name}.{attempt}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_service() {
        // Seen in the addresses of every run of every public organization.
        for (identifier, id) in [
            (job(DEFAULT_NAME, "Job", DEFAULT_NAME, 1), "12f1170f-54f2-53f3-20dd-22fc7dff55f9"),
            (stage(DEFAULT_NAME, 1), "96ac2280-8cb4-5df5-99de-dd2da759617d"),
        ] {
            assert_eq!(record_id(&identifier).to_string(), id, "{identifier}");
        }
    }

    #[test]
    fn identifiers_are_dotted_paths() {
        assert_eq!(job("Build", "Test", "linux", 1), "Build.Test.linux");
        assert_eq!(job("Build", "Test", "linux", 2), "Build.Test.linux.2");
        assert_eq!(phase(DEFAULT_NAME, "Test", 1), "Test");
        assert_eq!(stage("Build", 3), "Build.3");
        assert_eq!(record_id("Build.Test"), record_id("build.TEST"));
    }
}
