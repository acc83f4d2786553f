//! `--log-dir` and `--artifacts-dir`: what is left of a run.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use dayfly_emulator::Emulator;
use dayfly_emulator::runs::RunLog;
use dayfly_pipelines::identifiers::shown;
use dayfly_protocol::BuildId;

/// Makes the folder and sees whether files can be made in it, so that nobody learns only after a long run
/// that they cannot.
pub(crate) fn prepare(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .and_then(|()| tempfile::tempfile_in(folder))
        .map(drop)
        .with_context(|| format!("cannot write to the folder `{}`", folder.display()))
}

/// Copies logs and artifacts where they were asked for.
pub(super) async fn keep(
    emulator: &Emulator,
    build: BuildId,
    logs: Option<&Path>,
    artifacts: Option<&Path>,
) -> anyhow::Result<()> {
    if let Some(folder) = logs {
        for log in emulator.run_logs(build)? {
            copy(&log.file, &folder.join(place(&log))).await?;
        }
    }
    if let Some(folder) = artifacts {
        for artifact in emulator.run_artifacts(build)? {
            let to = folder.join(file_name(&artifact.name));
            emulator.copy_artifact(&artifact, &to).await.with_context(|| {
                format!("could not copy the artifact `{}` to `{}`", artifact.name, to.display())
            })?;
        }
    }
    Ok(())
}

pub(super) async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let failed = || format!("could not copy a log to `{}`", to.display());
    if let Some(folder) = to.parent() {
        tokio::fs::create_dir_all(folder).await.with_context(failed)?;
    }
    tokio::fs::copy(from, to).await.with_context(failed)?;
    Ok(())
}

/// `<job>/<number> <step>.log`, or `<job>/job.log`.
pub(super) fn place(log: &RunLog) -> PathBuf {
    let job = log.job.as_ref().map_or("run".to_owned(), |job| shown(&job.identifier));
    let name = match &log.step {
        Some((order, step)) => format!("{order:02} {step}.log"),
        None => "job.log".to_owned(),
    };
    Path::new(&file_name(&job)).join(file_name(&name))
}

/// A name without what a file's name may not hold.
fn file_name(name: &str) -> String {
    const MAX_CHARACTERS: usize = 100;
    let clean = name.chars().map(|c| if c.is_control() || r#"/\:*?"<>|"#.contains(c) { '_' } else { c });
    let short: String = clean.take(MAX_CHARACTERS).collect();
    match short.trim_matches('.').trim() {
        "" => "_".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_folder() {
        for (name, expected) in
            [("a/b", "a_b"), ("..", "_"), ("Say: hello", "Say_ hello"), ("../../etc", "_.._etc")]
        {
            assert_eq!(file_name(name), expected);
        }
        assert_eq!(file_name(&"é".repeat(300)).chars().count(), 100);
    }
}
