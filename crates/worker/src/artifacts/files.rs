//! The files of an artifact on this machine.

use std::fs::{self, FileType, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use super::ignore::Ignored;
use super::{Error, Kind, Result};

/// Files and folders that are looked at, at the most: links between folders can make any number of paths.
const MAX_ENTRIES: usize = 500_000;

/// Characters that the service takes in no path of a container (TF10123), by which it forgoes what Windows
/// cannot write.
const REFUSED: [char; 7] = ['"', ':', '<', '>', '|', '*', '?'];

/// What is to be uploaded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The folder that the files are in.
    pub(super) root: PathBuf,
    /// The files' paths below it, with `/`, by name.
    pub(super) files: Vec<String>,
    /// Links that lead to a folder above them, which is in the artifact already.
    pub(super) loops: Vec<String>,
    /// How many files and folders are left out on purpose.
    pub(super) left_out: usize,
    /// Whether an `.artifactignore` says so.
    pub(super) has_ignore_file: bool,
}

/// `source` itself if it is a file, else all files below it.
///
/// Links are followed, as the official agent does (`FileContainerServer.cs`: `Directory.EnumerateFiles`), so
/// a folder is there as often as links lead to it; only a link to a folder that holds it ends there. What has
/// no content to keep, a link to nothing among it, is an error and no file less.
pub(super) fn find(source: &Path, kind: Kind, cancel: &CancellationToken) -> Result<Found> {
    let metadata = fs::metadata(source).map_err(|_| Error::Missing { path: source.to_owned() })?;
    if metadata.is_dir() {
        let ignored = if kind == Kind::Pipeline { Ignored::of_folder(source)? } else { Ignored::default() };
        let has_ignore_file = ignored.is_of_file;
        let found = Found { root: source.to_owned(), has_ignore_file, ..Found::default() };
        return Walk { kind, ignored, seen: 0, found }.run(&metadata, cancel);
    }
    check_type(metadata.file_type(), source)?;
    let name = source.file_name().unwrap_or(source.as_os_str());
    let name = name.to_str().ok_or_else(|| Error::Name { path: source.to_owned() })?;
    check_name(kind, name, source)?;
    let root = source.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Found { root, files: vec![name.to_owned()], ..Found::default() })
}

/// The name a file has in a container, where `\` parts folders too (`FileContainerServer.cs`).
pub(super) fn item_path(folder: &str, relative: &str) -> String {
    format!("{folder}/{relative}").replace('\\', "/")
}

/// A folder by its device and number, and those above it on the way that led to it.
struct Ancestry {
    id: (u64, u64),
    above: Option<Rc<Ancestry>>,
}

impl Ancestry {
    fn has(&self, id: (u64, u64)) -> bool {
        std::iter::successors(Some(self), |one| one.above.as_deref()).any(|one| one.id == id)
    }
}

struct Walk {
    kind: Kind,
    ignored: Ignored,
    seen: usize,
    found: Found,
}

impl Walk {
    fn run(mut self, root: &Metadata, cancel: &CancellationToken) -> Result<Found> {
        let root = Rc::new(Ancestry { id: id(root), above: None });
        let mut folders = vec![(String::new(), root)];
        while let Some((folder, ancestry)) = folders.pop() {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let path = self.found.root.join(&folder);
            let read_error = |source| Error::File { action: "read", path: path.clone(), source };
            for entry in fs::read_dir(&path).map_err(read_error)? {
                let path = entry.map_err(read_error)?.path();
                if let Some((relative, metadata)) = self.entry(&folder, &path)? {
                    let id = id(&metadata);
                    if ancestry.has(id) {
                        self.found.loops.push(relative);
                    } else {
                        folders.push((relative, Rc::new(Ancestry { id, above: Some(Rc::clone(&ancestry)) })));
                    }
                }
            }
        }
        self.found.files.sort_unstable();
        self.check_collisions()?;
        Ok(self.found)
    }

    /// Takes a file; gives a folder back.
    fn entry(&mut self, folder: &str, path: &Path) -> Result<Option<(String, Metadata)>> {
        self.seen += 1;
        if self.seen > MAX_ENTRIES {
            return Err(Error::TooMany { path: self.found.root.clone(), limit: MAX_ENTRIES });
        }
        let name = path.file_name().unwrap_or_default();
        // Only what is not left out needs a name that can be written.
        let is_utf8 = name.to_str().is_some();
        let name = name.to_string_lossy();
        let relative = if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") };
        let metadata = fs::metadata(path);
        let is_folder = metadata.as_ref().is_ok_and(Metadata::is_dir);
        let is_ignored =
            if is_folder { self.ignored.whole_folder(&relative) } else { self.ignored.file(&relative) };
        if is_ignored {
            self.found.left_out += 1;
            return Ok(None);
        }
        if !is_utf8 {
            return Err(Error::Name { path: path.to_owned() });
        }
        let metadata = metadata.map_err(|source| match fs::read_link(path) {
            Ok(target) => Error::Dangling { path: path.to_owned(), target },
            Err(_) => Error::File { action: "read", path: path.to_owned(), source },
        })?;
        if is_folder {
            return Ok(Some((relative, metadata)));
        }
        check_type(metadata.file_type(), path)?;
        check_name(self.kind, &relative, path)?;
        self.found.files.push(relative);
        Ok(None)
    }

    /// Two files may have one name in the container, where `a\b` is `a/b`.
    fn check_collisions(&self) -> Result<()> {
        let names = |file: &&String| file.contains('\\');
        for file in self.found.files.iter().filter(names) {
            let other = file.replace('\\', "/");
            if self.found.files.binary_search(&other).is_ok() {
                return Err(Error::Collision { path: self.found.root.join(file), other });
            }
        }
        Ok(())
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Refuses what has no content to keep.
fn check_type(file_type: FileType, path: &Path) -> Result<()> {
    let what = match file_type {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "of a kind that Dayfly does not know",
    };
    Err(Error::Special { path: path.to_owned(), what })
}

/// Refuses names that would be others in the container, or none.
fn check_name(kind: Kind, relative: &str, path: &Path) -> Result<()> {
    let is_refused = |letter: &char| match kind {
        // The store of the official agent takes these, so only what cannot be told from another name is
        // refused.
        Kind::Pipeline => letter.is_control() || *letter == '\\',
        Kind::Build => letter.is_control() || REFUSED.contains(letter),
    };
    match relative.chars().find(is_refused) {
        Some(letter) => Err(Error::Letter { path: path.to_owned(), letter }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn look(folder: &Path) -> Result<Found> {
        find(folder, Kind::Pipeline, &CancellationToken::new())
    }

    /// A folder with these empty files.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn links_lead_to_their_files_and_loops_end() {
        let folder = folder(&["lib/a", "lib/sub/b", "top"]);
        let outside = self::folder(&["out"]);
        for (target, link) in [("lib", "lib64"), ("lib/a", "current"), ("..", "lib/up"), ("sub", "lib/same")]
        {
            symlink(target, folder.path().join(link)).unwrap();
        }
        symlink(outside.path(), folder.path().join("outside")).unwrap();
        let found = look(folder.path()).unwrap();
        let names = [
            "current",
            "lib/a",
            "lib/same/b",
            "lib/sub/b",
            "lib64/a",
            "lib64/same/b",
            "lib64/sub/b",
            "outside/out",
            "top",
        ];
        assert_eq!(found.files, names);
        assert_eq!(found.loops.len(), 2, "lib/up and lib64/up: {:?}", found.loops);
    }

    #[test]
    fn folders_that_link_to_each_other_end() {
        let folder = folder(&["a/1", "b/2"]);
        symlink("../b", folder.path().join("a/b")).unwrap();
        symlink("../a", folder.path().join("b/a")).unwrap();
        let found = look(folder.path()).unwrap();
        assert_eq!(found.files, ["a/1", "a/b/2", "b/2", "b/a/1"]);
    }

    #[test]
    fn a_single_file_is_named_by_its_last_part() {
        let folder = folder(&["one.bin"]);
        let root = folder.path().to_owned();
        let found = look(&root.join("one.bin")).unwrap();
        assert_eq!(
            found,
            Found { root: root.clone(), files: vec!["one.bin".to_owned()], ..Found::default() }
        );
        assert!(matches!(look(&root.join("none")), Err(Error::Missing { .. })));
    }

    #[test]
    fn what_cannot_be_kept_is_an_error_unless_it_is_left_out() {
        let folder = folder(&[]);
        let at = |name: &str| folder.path().join(name);
        symlink("nowhere", at("dangling")).unwrap();
        assert!(matches!(look(folder.path()), Err(Error::Dangling { .. })));
        fs::write(at(super::super::ignore::NAME), "dangling\nfifo\nbad*").unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(at("bad\\name"), "").unwrap();
        let found = look(folder.path()).unwrap();
        assert_eq!((found.files.as_slice(), found.left_out), ([".artifactignore".to_owned()].as_slice(), 3));
        for (target, what) in [("fifo", "a named pipe"), ("/dev/null", "a device")] {
            let refused = look(&at(target)).unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
        }
        let build = |name: &str| find(&at(name), Kind::Build, &CancellationToken::new());
        assert!(build("bad\\name").is_ok());
        fs::write(at("12:30"), "").unwrap();
        assert!(matches!(build("12:30"), Err(Error::Letter { letter: ':', .. })));
        assert!(look(&at("12:30")).is_ok());
    }

    #[test]
    fn names_that_meet_in_the_container_are_refused() {
        let folder = folder(&["a/b", "a\\b", "c\\d"]);
        let both = find(folder.path(), Kind::Build, &CancellationToken::new());
        assert!(matches!(both, Err(Error::Collision { .. })), "{both:?}");
        fs::remove_file(folder.path().join("a/b")).unwrap();
        let found = find(folder.path(), Kind::Build, &CancellationToken::new()).unwrap();
        let paths: Vec<_> = found.files.iter().map(|file| item_path("drop", file)).collect();
        assert_eq!(paths, ["drop/a/b", "drop/c/d"]);
    }
}
