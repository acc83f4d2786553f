//! Objects of a repository on this disk, put into a new clone before the fetch, which then transfers none.
//!
//! Copied, as `git clone --local --no-hardlinks` does it: through hard links a step's `chmod -R` would reach
//! the other repository, and borrowed objects (`info/alternates`) would be missing in a container that has
//! only the sources. References come by the fetch, as ever: it asks for objects only if some that the
//! references need are not there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::StepError;
use crate::context::StepContext;

/// How many files are copied at the most: to make so many takes longer than to fetch one pack (4,800 loose
/// objects: 1.4 to 3.5 s, fetched 1.0 s).
const MAX_FILES: usize = 2_000;
/// How many folders of objects are looked through.
const MAX_FOLDERS: usize = 16;

/// Copies the objects of the bare repository `from` into the one that was just initialised in `folder`: all
/// or none. Without them the fetch gets everything, so no failure is the step's.
pub(super) async fn copy_objects(step: &StepContext, from: &Path, folder: &Path) -> Result<(), StepError> {
    let (source, target, cancel) = (from.to_owned(), folder.join(".git/objects"), step.cancel.clone());
    let copied = tokio::task::spawn_blocking(move || copy(&source, &target, &cancel)).await;
    if step.cancel.is_cancelled() {
        return Err(StepError::Canceled);
    }
    let text = match copied.map_err(io::Error::other).flatten() {
        Ok(count) => format!("{count} files of objects were copied from '{}'.", from.display()),
        Err(error) => format!("No objects are copied from '{}': {error}", from.display()),
    };
    step.debug(&text).await;
    Ok(())
}

fn copy(from: &Path, target: &Path, cancel: &CancellationToken) -> io::Result<usize> {
    if from.join("shallow").try_exists()? {
        return Err(io::Error::other("it is shallow"));
    }
    let files = list(&from.join("objects"), MAX_FILES)?;
    // Whatever ends this half-way: git never sees half of the objects, or half of a file.
    let staging = target.with_extension("copied");
    let copied = copy_files(&files, &staging, cancel).and_then(|()| replace(target, &staging));
    if copied.is_err() {
        // What is left of it takes room and nothing else.
        let _ = std::fs::remove_dir_all(&staging);
    }
    copied.map(|()| files.len())
}

fn copy_files(files: &Files, staging: &Path, cancel: &CancellationToken) -> io::Result<()> {
    for folder in ["info", "pack"] {
        std::fs::create_dir_all(staging.join(folder))?;
    }
    for (name, source) in files {
        if cancel.is_cancelled() {
            return Err(io::Error::other("the step is cancelled"));
        }
        let to = staging.join(name);
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(source, to)?;
    }
    Ok(())
}

/// Puts a folder in the place of one in which git has made nothing but its empty folders.
fn replace(target: &Path, staging: &Path) -> io::Result<()> {
    for folder in ["info", "pack"] {
        std::fs::remove_dir(target.join(folder))?;
    }
    std::fs::rename(staging, target)
}

/// Files by their name below the folder of objects.
type Files = BTreeMap<PathBuf, PathBuf>;

/// The files of a folder of objects and of those it borrows from.
fn list(objects: &Path, max_files: usize) -> io::Result<Files> {
    let mut files = Files::new();
    let mut folders = vec![objects.to_owned()];
    let mut looked_through = 0;
    while let Some(folder) = folders.get(looked_through).cloned() {
        looked_through += 1;
        for entry in std::fs::read_dir(&folder)? {
            let name = entry?.file_name();
            if name == "pack" {
                list_packs(&folder.join("pack"), &mut files)?;
            } else if name.len() == 2 && is_hexadecimal(&name) {
                list_loose(&folder, Path::new(&name), &mut files)?;
            }
            if files.len() > max_files {
                return Err(io::Error::other("there are too many objects"));
            }
        }
        for alternate in alternates(&folder)? {
            if !folders.contains(&alternate) {
                folders.push(alternate);
            }
        }
        if folders.len() > MAX_FOLDERS {
            return Err(io::Error::other("there are too many alternates"));
        }
    }
    Ok(files)
}

/// The packs. Bitmaps are left out, since git warns of a second one.
fn list_packs(folder: &Path, files: &mut Files) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let index = entry?.path();
        let extension = index.extension().unwrap_or_default();
        if extension == "promisor" {
            return Err(io::Error::other("it is a partial clone"));
        }
        let name = |file: &Path| Path::new("pack").join(file.file_name().unwrap_or_default());
        // Files of one name from two folders may differ and not fit together.
        if extension != "idx" || files.contains_key(&name(&index)) {
            continue;
        }
        let reverse = index.with_extension("rev");
        if reverse.try_exists()? {
            files.insert(name(&reverse), reverse);
        }
        let pack = index.with_extension("pack");
        files.insert(name(&pack), pack);
        files.insert(name(&index), index);
    }
    Ok(())
}

fn list_loose(objects: &Path, name: &Path, files: &mut Files) -> io::Result<()> {
    for entry in std::fs::read_dir(objects.join(name))? {
        let entry = entry?;
        // Git has temporary files there as well.
        if is_hexadecimal(&entry.file_name()) {
            files.entry(name.join(entry.file_name())).or_insert_with(|| entry.path());
        }
    }
    Ok(())
}

fn is_hexadecimal(name: &OsStr) -> bool {
    name.as_bytes().iter().all(u8::is_ascii_hexdigit)
}

/// The folders that one borrows from: one a line, relative to it unless absolute (`gitrepository-layout`).
fn alternates(objects: &Path) -> io::Result<Vec<PathBuf>> {
    let text = match std::fs::read(objects.join("info/alternates")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let mut folders = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")) {
        if line.starts_with(b"\"") {
            // A path with a line break; git quotes it as C does.
            return Err(io::Error::other("the path of an alternate is quoted"));
        }
        folders.push(objects.join(OsStr::from_bytes(line)));
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, text).expect("written");
    }

    /// A repository `a` which borrows from `b`, which borrows from `a` and `c`.
    fn repositories() -> tempfile::TempDir {
        let top = tempfile::tempdir().expect("a folder");
        for (name, alternates) in
            [("a", "# a comment\n\n../../b/objects"), ("b", "TOP/a/objects\n../../c/objects\n"), ("c", "")]
        {
            let objects = top.path().join(name).join("objects");
            let alternates = alternates.replace("TOP", &top.path().to_string_lossy());
            write(&objects, "info/alternates", &alternates);
            write(&objects, &format!("0{name}/1234"), name);
            write(&objects, "ff/both", "no object");
            write(&objects, "ff/12", name);
            write(&objects, "pack/tmp_pack_1", name);
            write(&objects, "pack/pack-1.idx", name);
            write(&objects, "pack/pack-1.pack", name);
        }
        write(top.path(), "b/objects/pack/pack-1.rev", "b");
        write(top.path(), "c/objects/pack/pack-2.rev", "c");
        write(top.path(), "c/objects/pack/pack-2.idx", "c");
        for folder in ["info", "pack"] {
            std::fs::create_dir_all(top.path().join("target/objects").join(folder)).expect("made");
        }
        top
    }

    #[test]
    fn objects_of_all_alternates_are_found_once() {
        let top = repositories();
        let files = list(&top.path().join("a/objects"), 9).expect("listed");
        let found: Vec<_> = files
            .iter()
            .map(|(name, file)| {
                // Through the alternates' own spelling.
                let owner = file.components().rev().skip_while(|part| part.as_os_str() != "objects").nth(1);
                (
                    name.to_str().expect("text"),
                    owner.and_then(|owner| owner.as_os_str().to_str()).expect("text"),
                )
            })
            .collect();
        let expected = [
            ("0a/1234", "a"),
            ("0b/1234", "b"),
            ("0c/1234", "c"),
            ("ff/12", "a"),
            ("pack/pack-1.idx", "a"),
            ("pack/pack-1.pack", "a"),
            ("pack/pack-2.idx", "c"),
            ("pack/pack-2.pack", "c"),
            ("pack/pack-2.rev", "c"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_is_copied_of_what_is_not_whole() {
        let top = repositories();
        let (from, target) = (top.path().join("a"), top.path().join("target/objects"));
        let copied =
            |cancel: &CancellationToken| copy(&from, &target, cancel).map_err(|error| error.to_string());
        let token = CancellationToken::new();
        // `pack-2.pack` is not there.
        assert!(copied(&token).expect_err("refused").contains("No such file"));
        write(top.path(), "c/objects/pack/pack-2.pack", "c");
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        assert!(copied(&cancelled).expect_err("refused").contains("cancelled"));
        write(top.path(), "a/shallow", "");
        assert!(copied(&token).expect_err("refused").contains("shallow"));
        std::fs::remove_file(from.join("shallow")).expect("removed");
        write(top.path(), "b/objects/pack/pack-1.promisor", "");
        assert!(copied(&token).expect_err("refused").contains("partial"));
        std::fs::remove_file(top.path().join("b/objects/pack/pack-1.promisor")).expect("removed");
        let there = || std::fs::read_dir(top.path().join("target")).expect("there").count();
        assert_eq!((there(), target.join("pack").is_dir()), (1, true));
        assert_eq!(copied(&token), Ok(9));
        assert_eq!((there(), target.join("ff/12").is_file()), (1, true));
        // Now it is no new repository any more.
        copied(&token).expect_err("refused");
        assert_eq!((there(), target.join("ff/12").is_file()), (1, true));
    }

    #[test]
    fn too_many_alternates_or_files_are_refused() {
        let top = repositories();
        let objects = top.path().join("a/objects");
        let refused = |max_files| list(&objects, max_files).expect_err("refused").to_string();
        assert_eq!(refused(8), "there are too many objects");
        let lines = (0..=MAX_FOLDERS).map(|number| format!("/{number}\n")).collect::<String>();
        write(&objects, "info/alternates", &lines);
        assert_eq!(refused(9), "there are too many alternates");
        write(&objects, "info/alternates", "\"/a\\nb\"\n");
        assert_eq!(refused(9), "the path of an alternate is quoted");
    }
}
