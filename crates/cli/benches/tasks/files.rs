//! Built-in tasks that work on 10,000 files, beside the programs that do the same.

use crate::project::{Project, make_small_files, say, say_ratio};

const FILES: usize = 10_000;

pub(crate) fn run() -> anyhow::Result<()> {
    let project = Project::new()?;
    make_small_files(&project.path("from"), FILES)?;
    let at = |name: &str| project.path(name).display().to_string();
    let (from, to) = (at("from"), at("to"));
    let ran = project.run(&format!(
        "- task: CopyFiles@2\n  displayName: copy\n  inputs: {{SourceFolder: '{from}', TargetFolder: '{to}'}}\n\
         - task: ArchiveFiles@2\n  displayName: archive\n  inputs: {{rootFolderOrFile: '{to}', archiveType: tar, \
         tarCompression: none, archiveFile: '{to}.tar'}}\n\
         - task: ExtractFiles@1\n  displayName: extract\n  inputs: {{archiveFilePatterns: '{to}.tar', \
         destinationFolder: '{to}-again'}}\n\
         - task: DeleteFiles@1\n  displayName: delete\n  inputs: {{SourceFolder: '{to}', Contents: '**'}}\n"
    ))?;
    for (step, plain, script) in [
        ("copy", "cp --recursive", "cp --recursive from plain"),
        ("archive", "tar", "tar --create --file plain.tar plain"),
        ("extract", "tar", "mkdir again; tar --extract --file plain.tar --directory again"),
        ("delete", "rm --recursive", "rm --recursive plain"),
    ] {
        say_ratio(&format!("{step} {FILES} files"), ran.step(step)?, plain, project.time(script)?);
    }
    say(&ran.peaks());
    Ok(())
}
