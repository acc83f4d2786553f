//! The program that is the first process of a container in which steps run.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::platform;

/// The program where the engine reads it, for as long as containers are started.
pub(super) struct Program {
    path: PathBuf,
    /// It goes with this.
    _copy: Option<TempPath>,
    /// The loader that it needs; none if it is linked statically.
    interpreter: Option<PathBuf>,
}

impl Program {
    /// Copies the program into `folder`, since its own file may be replaced at any time. Where nothing in
    /// that folder can be run (`noexec`), neither can it in a container, which is given the file itself then.
    pub(super) fn copy(from: &Path, folder: &Path) -> io::Result<Self> {
        let mut program = File::open(from)?;
        let interpreter = interpreter(&program);
        if platform::forbids_programs(folder) {
            return Ok(Self { path: from.to_owned(), _copy: None, interpreter });
        }
        let mut file = tempfile::Builder::new().prefix("dayfly-").tempfile_in(folder)?;
        io::copy(&mut program, &mut file)?;
        fs::set_permissions(file.path(), Permissions::from_mode(0o755))?;
        // It cannot be run while it is open for writing.
        let copy = file.into_temp_path();
        Ok(Self { path: copy.to_path_buf(), _copy: Some(copy), interpreter })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What may be wrong where it does not start.
    pub(super) fn hint(&self) -> String {
        match &self.interpreter {
            Some(interpreter) => format!(
                "; this Dayfly is linked dynamically, so the image must have {} and its libraries, while the \
                 released program needs nothing",
                interpreter.display()
            ),
            None => String::new(),
        }
    }
}

/// What a program of 64 bits says in its header of the type `PT_INTERP` (`elf(5)`).
fn interpreter(program: &File) -> Option<PathBuf> {
    const PT_INTERP: u64 = 3;
    let number = |at: u64, length: usize| {
        let mut bytes = [0; 8];
        program.read_exact_at(&mut bytes[..length], at).ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    let mut headers = (0..count).map_while(|index| table.checked_add(index * size));
    let header = headers.find(|at| number(*at, 4) == Some(PT_INTERP))?;
    let (offset, length) = (number(header + 0x08, 8)?, number(header + 0x20, 8)?.clamp(1, 4096));
    let mut path = vec![0; usize::try_from(length).ok()?];
    program.read_exact_at(&mut path, offset).ok()?;
    path.pop_if(|last| *last == 0);
    Some(OsString::from_vec(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_says_what_loads_it() {
        let own = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = Program::copy(&own, folder.path()).unwrap();
        assert_eq!(fs::read(program.path()).unwrap(), fs::read(own).unwrap());
        // Tests are linked with the system's libraries unless they are built for musl.
        assert_eq!(program.hint().is_empty(), cfg!(target_env = "musl"), "{}", program.hint());
        let path = program.path().to_owned();
        drop(program);
        assert!(!path.exists());
        let script = folder.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        assert_eq!(Program::copy(&script, folder.path()).unwrap().hint(), "");
    }
}
