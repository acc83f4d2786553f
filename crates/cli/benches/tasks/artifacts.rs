//! Pipeline artifacts: 10,000 small files, and one of two GiB.

use std::fs::File;
use std::io::Write as _;

use crate::project::{Project, make_small_files, noise, say, say_ratio};

const FILES: usize = 10_000;
const MEBIBYTES: usize = 2048;

pub(crate) fn run() -> anyhow::Result<()> {
    let project = Project::new()?;
    make_small_files(&project.path("small"), FILES)?;
    exchange(&project, "small", &format!("{FILES} files"))?;
    std::fs::create_dir(project.path("large"))?;
    let mut file = File::create(project.path("large/file.bin"))?;
    let piece = noise();
    for _ in 0..MEBIBYTES {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    exchange(&project, "large", &format!("one file of {MEBIBYTES} MiB"))
}

/// Publishes a folder and downloads it.
fn exchange(project: &Project, name: &str, what: &str) -> anyhow::Result<()> {
    let from = project.path(name);
    let to = project.path(&format!("{name}-again"));
    let ran = project.run(&format!(
        "- publish: {}\n  artifact: a\n  displayName: publish\n\
         - task: DownloadPipelineArtifact@2\n  displayName: download\n  inputs: {{artifact: a, path: '{}'}}\n",
        from.display(),
        to.display()
    ))?;
    let copied = project.time(&format!("cp --recursive {name} plain; rm -r plain"))?;
    let same = project.time(&format!("diff --recursive {name} {name}-again"));
    anyhow::ensure!(same.is_ok(), "what was downloaded is not what was published");
    std::fs::remove_dir_all(to)?;
    say_ratio(&format!("publish {what}"), ran.step("publish")?, "cp --recursive", copied);
    say_ratio(&format!("download {what}"), ran.step("download")?, "cp --recursive", copied);
    say(&ran.peaks());
    Ok(())
}
