//! Submodules of a work tree, each taken as it lies there into a repository of its own. That stands in the
//! snapshot where git has it in a clone, `modules/<name>` (and `modules/<name>/modules/<inner name>`), so
//! that whoever clones the snapshot on this machine can put it in place before git looks for it elsewhere: by
//! a relative URL, a path, or for a commit that nobody has pushed.

use std::path::PathBuf;

use futures::future::BoxFuture;

use super::{Error, Result, Snapshot, Taking, os_string, source_git, take_all};

/// What became of the submodules.
#[derive(Debug, Default)]
pub(super) struct Submodules {
    /// Paths of those that are not checked out.
    pub(super) missing: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// One that `.gitmodules` names.
struct Submodule {
    name: String,
    /// From the top folder.
    path: PathBuf,
}

impl Taking<'_> {
    /// Takes the submodules that are checked out, and puts the commits of their snapshots into the index.
    pub(super) async fn take_submodules(&self) -> Result<Submodules> {
        let mut done = Submodules::default();
        let mut links = Vec::new();
        for submodule in self.submodules().await? {
            let shown = submodule.path.display().to_string();
            let folder = self.source.work_tree.join(&submodule.path);
            if !tokio::fs::try_exists(folder.join(".git")).await.unwrap_or(false) {
                done.missing.push(shown);
                continue;
            }
            match take_submodule(folder, self.into.join("modules").join(&submodule.name)).await {
                Ok(taken) => {
                    links.extend_from_slice(format!("160000 {}\t", taken.commit).as_bytes());
                    links.extend_from_slice(submodule.path.as_os_str().as_encoded_bytes());
                    links.push(0);
                    done.missing
                        .extend(taken.missing_submodules.iter().map(|inner| format!("{shown}/{inner}")));
                    let said = taken.warnings.iter();
                    done.warnings
                        .extend(said.map(|warning| format!("in the submodule `{shown}`, {warning}")));
                }
                Err(error @ Error::Start(_)) => return Err(error),
                Err(error) => done.warnings.push(format!(
                    "could not snapshot the submodule `{shown}`, so jobs fetch it from its URL: {error}"
                )),
            }
        }
        if !links.is_empty() {
            self.output(self.git(&["update-index", "-z", "--index-info"]), Some(links)).await?;
        }
        Ok(done)
    }

    /// Those that `.gitmodules` names and the index has.
    async fn submodules(&self) -> Result<Vec<Submodule>> {
        let file = self.source.work_tree.join(".gitmodules");
        if self.source.repository.is_none() || !tokio::fs::try_exists(&file).await.unwrap_or(false) {
            return Ok(Vec::new());
        }
        let mut command = source_git(&self.source.work_tree);
        command.args(["config", "-z", "--file"]).arg(&file).args(["--get-regexp", r"^submodule\..*\.path$"]);
        let listed = command.output().await.map_err(Error::Start)?;
        let entries = listed.stdout.split(|byte| *byte == 0).filter_map(|entry| {
            let at = entry.iter().position(|byte| *byte == b'\n')?;
            let key = std::str::from_utf8(&entry[..at]).ok()?;
            let name = key.strip_prefix("submodule.")?.strip_suffix(".path")?.to_owned();
            Some(Submodule { name, path: os_string(&entry[at + 1..]).into() })
        });
        let named: Vec<_> = entries.filter(|submodule| is_name(&submodule.name)).collect();
        let mut command = self.git(&["ls-files", "-z", "--stage", "--"]);
        command.env("GIT_LITERAL_PATHSPECS", "1").args(named.iter().map(|submodule| &submodule.path));
        let present = self.output(command, None).await?;
        let links: Vec<PathBuf> = present
            .split(|byte| *byte == 0)
            .filter(|entry| entry.starts_with(b"160000 "))
            .filter_map(|entry| {
                Some(os_string(&entry[entry.iter().position(|byte| *byte == b'\t')? + 1..]).into())
            })
            .collect();
        Ok(named.into_iter().filter(|submodule| links.contains(&submodule.path)).collect())
    }
}

/// Boxed, as a submodule may have submodules.
fn take_submodule(folder: PathBuf, into: PathBuf) -> BoxFuture<'static, Result<Snapshot>> {
    Box::pin(async move { take_all(&folder, &into, true).await })
}

/// Whether git takes it for the name of a submodule, which becomes the path of a folder.
fn is_name(name: &str) -> bool {
    name.split('/').all(|part| !["", ".", ".."].contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_folder() {
        for (name, expected) in [
            ("lib", true),
            ("libs/lib", true),
            ("../x", false),
            ("a/../../x", false),
            ("/x", false),
            ("", false),
        ] {
            assert_eq!(is_name(name), expected, "{name}");
        }
    }
}
