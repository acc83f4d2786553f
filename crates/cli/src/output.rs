//! Everything that is printed goes through here. A closed pipe is no error: whoever read has read enough.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

/// The run, the job or the command failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Bad usage or bad input, such as YAML that does not compile.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Style of the word `error`.
const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Style of the words `caused by` and `hint`.
const NOTE: Style = AnsiColor::Cyan.on_default().bold();

/// Writes to standard output as it is.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    closed_pipe_is_fine(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Writes a line to standard error.
pub(crate) fn note(text: &str) {
    let mut stderr = anstream::stderr().lock();
    // Nobody can be told when standard error is gone.
    let _ = writeln!(stderr, "{text}");
}

/// Prints an error and what caused it.
pub(crate) fn print_error(error: &anyhow::Error) {
    note(&format!("{ERROR}error{ERROR:#}: {error}"));
    for cause in error.chain().skip(1) {
        note(&format!("  {NOTE}caused by{NOTE:#}: {cause}"));
    }
}

/// Prints what is wrong with the way a command was used; the exit code for that.
pub(crate) fn usage_error(message: &str) -> std::process::ExitCode {
    note(&format!("{ERROR}error{ERROR:#}: {message}"));
    std::process::ExitCode::from(EXIT_USAGE)
}

/// Says what to do about what was printed before.
pub(crate) fn hint(text: &str) {
    note(&format!("{NOTE}hint{NOTE:#}: {text}"));
}

/// Whether standard output is, or was, a terminal or another device.
fn is_device() -> bool {
    fstat(io::stdout())
        .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR)
}

fn closed_pipe_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        // So does a terminal that was closed. A file that says so is on a disk that fails.
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) && is_device() => Ok(()),
        other => other,
    }
}
