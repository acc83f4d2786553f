//! Programs that tests make and run. They are written by processes of their own: a file that this process
//! holds open for writing is still open in whatever child another test is just forking, and then cannot be
//! run ("text file busy").

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes a script that can be run.
pub(crate) fn write(path: &Path, script: &str) {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("install starts");
    install.stdin.take().expect("piped").write_all(script.as_bytes()).expect("written");
    assert!(install.wait().expect("waited for").success(), "{} was not made", path.display());
}

/// Copies a program.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().expect("cp starts");
    assert!(status.success(), "{} was not copied", from.display());
}
