//! The tool cache: `TOOL/VERSION/x64`, whole where `x64.complete` stands beside it (`tool-lib`'s `tool.ts`).

use std::fs;
use std::path::Path;

use semver::Version;

use super::Found;

/// How the cache calls this processor.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };

/// The versions of a tool that are in the cache, with their programs.
pub(super) fn versions(folder: &Path, tool: &str, programs: &[&str]) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(folder.join(tool)) else { return Vec::new() };
    let of_version = |entry: fs::DirEntry| {
        let version = Version::parse(entry.file_name().to_str()?).ok()?;
        let place = entry.path().join(ARCHITECTURE);
        if !entry.path().join(format!("{ARCHITECTURE}.complete")).is_file() {
            return None;
        }
        let candidates = programs.iter().flat_map(|name| [place.join("bin").join(name), place.join(name)]);
        let program = candidates.into_iter().find(|candidate| candidate.is_file())?;
        Some(Found { version, program, is_on_path: false })
    };
    entries.flatten().filter_map(of_version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_complete_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        for (version, is_complete) in [("3.9.1", true), ("3.10.0", false), ("other", true)] {
            let place = folder.path().join("Python").join(version);
            let bin = place.join(ARCHITECTURE).join("bin");
            fs::create_dir_all(&bin).expect("a folder");
            fs::write(bin.join("python"), "").expect("a program");
            if is_complete {
                fs::write(place.join(format!("{ARCHITECTURE}.complete")), "").expect("a mark");
            }
        }
        let found = versions(folder.path(), "Python", &["python", "python3"]);
        assert_eq!(found.iter().map(|found| &found.version).collect::<Vec<_>>(), [&Version::new(3, 9, 1)]);
        assert!(versions(folder.path(), "node", &["node"]).is_empty());
    }
}
