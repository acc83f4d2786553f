//! `ALIAS=FOLDER`: what stands here for a resource of the pipeline.

use std::path::PathBuf;

/// A folder that the user names for an alias of the pipeline.
#[derive(Debug, Clone)]
pub(crate) struct AliasFolder {
    pub(crate) alias: String,
    folder: PathBuf,
}

/// Resources of a pipeline that folders may stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// The option that names folders for them.
    pub(crate) option: &'static str,
    /// What one is called.
    pub(crate) one: &'static str,
    /// Their list in `resources`.
    pub(crate) list: &'static str,
}

impl AliasFolder {
    /// Reads one. `example` is for who wrote something else.
    pub(crate) fn parse(text: &str, example: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((alias, folder)) if !alias.trim().is_empty() && !folder.is_empty() => {
                Ok(Self { alias: alias.trim().to_owned(), folder: folder.into() })
            }
            _ => Err(format!("expected ALIAS=FOLDER, as in {example}")),
        }
    }

    /// The folder, if it is there.
    pub(crate) fn existing(&self) -> Result<PathBuf, String> {
        match self.folder.is_dir() {
            true => Ok(self.folder.clone()),
            false => Err(format!("the folder `{}` is not there", self.folder.display())),
        }
    }
}

/// The last folder that was given for an alias.
pub(crate) fn given<'a>(folders: &'a [AliasFolder], alias: &str) -> Option<&'a AliasFolder> {
    folders.iter().rev().find(|given| given.alias.eq_ignore_ascii_case(alias))
}

/// What is wrong with the folders that were given, beside these aliases of the pipeline.
pub(crate) fn mistakes(folders: &[AliasFolder], kind: Kind, declared: &[&str]) -> Option<String> {
    let Kind { option, one, list } = kind;
    let is_declared = |alias: &str| declared.iter().any(|known| known.eq_ignore_ascii_case(alias));
    let Some(unknown) = folders.iter().find(|given| !is_declared(&given.alias)) else {
        return folders.iter().find_map(|given| {
            let reason = given.existing().err()?;
            Some(format!("`{option} {}`: {reason}", given.alias))
        });
    };
    let (alias, folder) = (&unknown.alias, unknown.folder.display());
    let known: Vec<_> = declared.iter().map(|alias| format!("`{alias}`")).collect();
    Some(match known.as_slice() {
        [] => format!("`{option} {alias}={folder}`: the pipeline has no {list} under `resources.{list}`"),
        known => format!(
            "`{option} {alias}={folder}`: the pipeline has no {one} `{alias}`; under `resources.{list}` it \
             has {}",
            known.join(", ")
        ),
    })
}
