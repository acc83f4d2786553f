//! What `dotnet publish` is asked for beside its arguments: which projects, where to, and as an archive.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use roxmltree::Document;
use tokio_util::sync::CancellationToken;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::super::super::{Inputs, StepError};
use super::super::delete_files::remove;
use super::super::matching::{Links, files_in, find};
use super::super::program::words;
use crate::context::StepContext;

/// The projects that may be those of web applications.
const PROJECTS: &str = "**/*.csproj\n**/*.vbproj\n**/*.fsproj";

/// How projects are published.
pub(super) struct Publishing {
    /// Whether the web projects are published, whatever the patterns say.
    pub(super) of_web: bool,
    zips: bool,
    /// Whether each project gets a folder of its own.
    own_folders: bool,
    arguments: Vec<OsString>,
    /// Which of the arguments is the folder for the output.
    output: Option<usize>,
}

impl Publishing {
    pub(super) fn new(inputs: &Inputs) -> Publishing {
        let arguments = words(inputs.text("arguments"));
        let option = arguments
            .iter()
            .position(|word| ["--output", "-o"].iter().any(|name| word.eq_ignore_ascii_case(name)));
        Publishing {
            of_web: inputs.flag("publishWebProjects"),
            zips: inputs.flag("zipAfterPublish"),
            own_folders: inputs.flag("modifyOutputPath"),
            output: option.map(|option| option + 1).filter(|output| *output < arguments.len()),
            arguments,
        }
    }

    /// The arguments for a project.
    pub(super) fn arguments(&self, project: Option<&Path>) -> Vec<OsString> {
        let mut arguments = self.arguments.clone();
        if let (Some(output), Some(folder)) = (self.output, self.folder(project)) {
            arguments[output] = folder.into();
        }
        arguments
    }

    /// Where the option says that a project goes.
    fn folder(&self, project: Option<&Path>) -> Option<PathBuf> {
        let folder = PathBuf::from(&self.arguments[self.output?]);
        let name = project.and_then(|project| project.parent()?.file_name()).filter(|_| self.own_folders);
        Some(name.map_or_else(|| folder.clone(), |name| folder.join(name)))
    }

    /// Makes an archive of what was published and puts it in its place, if that is wanted.
    pub(super) async fn zip(
        &self,
        step: &StepContext,
        started_in: &Path,
        project: Option<&Path>,
    ) -> Result<(), StepError> {
        if !self.zips {
            return Ok(());
        }
        let named = self.folder(project).map(|folder| started_in.join(folder));
        let stays = named.is_some() && !(self.own_folders && project.is_some());
        let project = project.unwrap_or(started_in).to_owned();
        let cancel = step.cancel.clone();
        let work = move || {
            let Some(folder) = named.or_else(|| published(&project, &cancel)) else {
                return Err(StepError::Failed(format!(
                    "A publish folder could not be found to zip for project file: {}.",
                    project.display()
                )));
            };
            archive(&folder, stays, &cancel).map_err(|error| {
                StepError::Failed(format!("Zip failed with error: {}: {error}", folder.display()))
            })
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| StepError::Failed(format!("Zip failed with error: {error}")))?
    }
}

/// The folder that dotnet chooses itself, below that of the project.
fn published(project: &Path, cancel: &CancellationToken) -> Option<PathBuf> {
    let root = if project.is_dir() { project } else { project.parent()? };
    let found = find(root, Links::Kept, cancel).ok()?;
    found.into_iter().find(|entry| entry.is_folder && entry.path.ends_with("publish")).map(|entry| entry.path)
}

/// Puts `folder.zip` in the place of a folder, or into it if the folder stays.
fn archive(folder: &Path, stays: bool, cancel: &CancellationToken) -> io::Result<()> {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".zip");
    let target = folder.with_file_name(&name);
    write(folder, &target, cancel)?;
    remove(folder)?;
    if stays {
        fs::create_dir(folder)?;
        fs::rename(&target, folder.join(&name))?;
    }
    Ok(())
}

fn write(folder: &Path, target: &Path, cancel: &CancellationToken) -> io::Result<()> {
    let mut archive = ZipWriter::new(io::BufWriter::new(File::create(target)?));
    let entries = find(folder, Links::Followed, cancel).map_err(io::Error::other)?;
    for entry in entries {
        let name = entry.path.strip_prefix(folder).unwrap_or(&entry.path).to_string_lossy().into_owned();
        if entry.is_folder || name.is_empty() {
            continue;
        }
        let metadata = fs::metadata(&entry.path)?;
        let options = SimpleFileOptions::default()
            .unix_permissions(metadata.permissions().mode())
            .large_file(metadata.len() >= u64::from(u32::MAX));
        archive.start_file(name, options)?;
        io::copy(&mut File::open(&entry.path)?, &mut archive)?;
    }
    archive.finish()?;
    Ok(())
}

/// The projects of web applications: they have a `web.config` or a `wwwroot`, or else use the SDK for them.
pub(super) async fn web_projects(step: &StepContext) -> Result<Vec<Option<PathBuf>>, StepError> {
    let mut projects = files_in(step, "", PROJECTS, Links::Followed).await?;
    let work = move || {
        let is_beside = |project: &Path| {
            let beside = |name: &str| project.parent().is_some_and(|folder| folder.join(name).exists());
            beside("web.config") || beside("wwwroot")
        };
        let has_files = projects.iter().any(|project| is_beside(project));
        projects.retain(|project| if has_files { is_beside(project) } else { is_of_web_sdk(project) });
        projects
    };
    let projects = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StepError::Failed(format!("The search ended unexpectedly: {error}")))?;
    if projects.is_empty() {
        step.error(
            "No web project was found in the repository. Web projects are identified by presence of either a \
             web.config file, wwwroot folder in the directory, or by the usage of Microsoft.Net.Web.Sdk in \
             your project file. You can set Publish Web Projects property to false (publishWebProjects: \
             false in yml) if your project doesn't follow this convention or if you want to publish projects \
             other than web projects.",
        )
        .await;
    }
    Ok(projects.into_iter().map(Some).collect())
}

fn is_of_web_sdk(project: &Path) -> bool {
    let Ok(text) = fs::read_to_string(project) else { return false };
    let Ok(document) = Document::parse(text.trim_start_matches('\u{feff}')) else { return false };
    let sdk = document.root_element().attribute("Sdk").or(document.root_element().attribute("sdk"));
    sdk.is_some_and(|sdk| sdk.eq_ignore_ascii_case("Microsoft.NET.Sdk.Web"))
}
