//! The pipeline's file: finding it, compiling it, checking what was asked of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use dayfly_pipelines::{
    Compiled, Diagnostics, FileError, Files, Inputs, Repository, Source, compile as compile_source,
};

use dayfly_emulator::runs::Predefined;
use dayfly_emulator::runs::RunReason;
use dayfly_emulator::snapshot::{self, Head};

use super::engine::PROJECT;
use super::inputs::Pair;
use super::repositories::Repositories;
use super::tasks::Pulled;

/// Names that are looked for when none is given.
const DEFAULT_NAMES: [&str; 2] = ["azure-pipelines.yml", "azure-pipelines.yaml"];
/// The largest file that is read, in bytes. The service takes less.
const MAX_FILE_BYTES: u64 = 20 * 1024 * 1024;

/// A pipeline's file.
#[derive(Debug)]
pub(crate) struct PipelineFile {
    /// As it was given, for messages.
    pub(crate) name: String,
    /// Absolute.
    pub(crate) path: PathBuf,
    /// The top folder of the repository it is in; of one that is in none, that of the repository which the
    /// user is in; or its own folder.
    pub(crate) root: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

impl PipelineFile {
    /// Its place in the repository, with `/` between the parts. A file from elsewhere counts as one at the
    /// top.
    fn place(&self) -> String {
        let name = || self.path.file_name().map(Path::new).unwrap_or(&self.path);
        let inside = self.path.strip_prefix(&self.root).unwrap_or_else(|_| name());
        let parts: Vec<_> = inside.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        parts.join("/")
    }
}

/// Finds and reads the file.
pub(crate) fn find(given: Option<&Path>) -> anyhow::Result<PipelineFile> {
    let here = std::env::current_dir().context("could not find out the current folder")?;
    let path = match given {
        Some(path) => here.join(path),
        None => search(&here)?,
    };
    let name = path.strip_prefix(&here).unwrap_or(&path).display().to_string();
    let name = if name.is_empty() { ".".to_owned() } else { name };
    let metadata = std::fs::metadata(&path).with_context(|| format!("cannot read the pipeline `{name}`"))?;
    if metadata.is_dir() {
        bail!("`{name}` is a folder; name the pipeline file in it, or run `dayfly run` inside it");
    }
    if metadata.len() > MAX_FILE_BYTES {
        bail!("pipeline `{name}` is larger than 20 MiB");
    }
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the pipeline `{name}` as text"))?;
    let path = path.canonicalize().with_context(|| format!("cannot read the pipeline `{name}`"))?;
    let folder = path.parent().unwrap_or(&path);
    let root = repository_root(folder).or_else(|| repository_root(&here)).unwrap_or(folder).to_owned();
    Ok(PipelineFile { name, root, text, path })
}

fn search(here: &Path) -> anyhow::Result<PathBuf> {
    let folders = [Some(here), repository_root(here)];
    let mut candidates =
        folders.iter().flatten().flat_map(|folder| DEFAULT_NAMES.map(|name| folder.join(name)));
    candidates.find(|path| path.is_file()).with_context(|| {
        format!(
            "found no {} here or at the top of the repository; name the file: dayfly run FILE",
            DEFAULT_NAMES[0]
        )
    })
}

fn repository_root(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|ancestor| ancestor.join(".git").exists())
}

/// What an organization would have.
pub(crate) struct Catalog<'a> {
    /// The variables of each variable group.
    pub(crate) groups: &'a BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) tasks: Arc<Pulled>,
}

/// Compiles the file with what was given on the command line.
pub(crate) fn compile(
    file: &PipelineFile,
    head: &Head,
    parameters: &[Pair],
    variables: &[Pair],
    catalog: &Catalog<'_>,
    repositories: &Arc<Repositories>,
) -> Result<Compiled, Diagnostics> {
    let source = Source { name: file.name.clone(), text: file.text.clone() };
    let parameters = parameters.iter().map(|pair| (pair.name.clone(), pair.value.clone().into())).collect();
    let variables = variables.iter().map(|pair| (pair.name.clone(), pair.value.clone())).collect();
    let definition = file.definition();
    let predefined = Predefined {
        project: PROJECT,
        pipeline: &definition,
        reason: RunReason::Manual,
        repository: &head.repository,
        reference: &head.branch,
        commit: head.commit.as_deref(),
        // There is no server yet.
        collection: None,
    };
    let inputs = Inputs {
        parameters,
        variables,
        variable_groups: catalog.groups.clone(),
        system: predefined.variables(),
        tasks: Arc::clone(&catalog.tasks) as _,
        files: Arc::new(WorkTree { root: file.root.clone(), repositories: Arc::clone(repositories) }),
        path: file.place(),
    };
    compile_source(&source, &inputs)
}

/// The files of the repository and of others, for templates.
struct WorkTree {
    root: PathBuf,
    repositories: Arc<Repositories>,
}

impl Files for WorkTree {
    fn read(&self, path: &str) -> Result<String, FileError> {
        read(&self.root, path)
    }

    fn read_of(&self, repository: &Repository, path: &str) -> Result<String, FileError> {
        let root = self.repositories.folder(repository)?;
        // A link in a repository of others must not lead to what is ours.
        if let (Ok(root), Ok(path)) = (root.canonicalize(), root.join(path).canonicalize())
            && !path.starts_with(&root)
        {
            return Err(FileError::Unreadable("it is a link that leaves its repository".to_owned()));
        }
        read(&root, path)
    }
}

fn read(root: &Path, path: &str) -> Result<String, FileError> {
    let path = root.join(path);
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => FileError::NotFound,
        _ => FileError::Unreadable(error.to_string()),
    };
    let metadata = std::fs::metadata(&path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(FileError::Unreadable("it is not a file, or is larger than 20 MiB".to_owned()));
    }
    std::fs::read_to_string(&path).map_err(failed)
}

/// What the run's snapshot will be called.
pub(crate) async fn head(file: &PipelineFile) -> Head {
    match snapshot::head(&file.root).await {
        Ok(head) => head,
        Err(error) => {
            // A plan can be listed without git; a run fails when it takes the snapshot, and says why.
            tracing::debug!(%error, "the branch is not known");
            Head::of_folder(&file.root)
        }
    }
}

impl PipelineFile {
    /// The pipeline's name: that of the folder its file is in.
    pub(crate) fn definition(&self) -> String {
        let folder = self.path.parent().and_then(Path::file_name);
        folder.map_or_else(|| "pipeline".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}
