//! Code coverage: reports are read, summed up and published as that of the build (`CodeCoverageCommands.cs`).

mod report;

use std::path::PathBuf;

use dayfly_protocol::test_results::{CodeCoverageData, CodeCoverageStatistics};

pub(crate) use self::report::Coverage;
use crate::context::JobContext;
use crate::files::read_bounded_text;

/// The largest report that is read.
const MAX_REPORT_BYTES: u64 = 256 * 1024 * 1024;

/// Reads a report; else says what is wrong with it.
pub(crate) async fn read(file: PathBuf) -> Result<Coverage, String> {
    let work = move || Coverage::read(&read_bounded_text(&file, MAX_REPORT_BYTES)?);
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

/// Gives the service the sums; answers what the log is to say.
pub(crate) async fn publish(
    job: &JobContext,
    coverage: Coverage,
) -> Result<Vec<String>, crate::service::Error> {
    let (connection, project, build) = job.service.build_place()?;
    let stats: Vec<_> = (1..)
        .zip(coverage.shares())
        .map(|(position, (label, covered, total))| CodeCoverageStatistics {
            label: label.to_owned(),
            position,
            total,
            covered,
            is_delta_available: false,
        })
        .collect();
    let mut lines = vec!["Publishing coverage summary data to TFS server.".to_owned()];
    lines
        .extend(stats.iter().map(|one| format!(" {}- {} of {} covered.", one.label, one.covered, one.total)));
    let data = CodeCoverageData { coverage_stats: stats, ..CodeCoverageData::default() };
    connection
        .add_code_coverage(project, build, &data)
        .await
        .map_err(crate::service::call("publishing code coverage"))?;
    Ok(lines)
}
