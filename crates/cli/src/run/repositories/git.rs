//! The user's own git, with its settings and logins: it must not ask anything, since nobody would see that,
//! and has its time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::run::lines::sanitize;

/// How often it is looked whether git has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// For how long a program that git has started, and that outlives it, may hold git's output.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much of each output of git is kept: its end.
const MAX_BYTES: usize = 16 << 10;

/// How much of what git says goes into an error.
const MAX_REASON: usize = 500;

/// Runs git and gives the end of what it printed, or its reasons for failing.
pub(super) fn git(folder: &Path, arguments: &[&str], patience: Duration) -> Result<String, String> {
    let mut command = plain(folder);
    command.args(["-c", "core.askPass=", "-c", "credential.interactive=false"]).args(arguments);
    // An empty name of a program stands before `core.askPass` and `SSH_ASKPASS`, and is not run.
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "").env("GCM_INTERACTIVE", "never");
    command.env_remove("SSH_ASKPASS").env("SSH_ASKPASS_REQUIRE", "never");
    if let Some(ssh) = ssh_without_questions(folder) {
        command.env("GIT_SSH_COMMAND", ssh);
    }
    finish(command, patience)
}

/// The answer of a git that asks nobody else; `None` if it has none.
pub(super) fn answer(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = plain(folder);
    command.args(arguments);
    finish(command, LAST_WORDS * 10).ok().map(|answer| answer.trim().to_owned())
}

/// Git in that folder, whatever repository it is told of by who started us.
fn plain(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder);
    for variable in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_SHALLOW_FILE",
    ] {
        command.env_remove(variable);
    }
    // Its words are looked for in what it says.
    command.env("LC_ALL", "C");
    command
}

/// The user's own way to call ssh, told to ask nothing. Another program than ssh does not know how to be
/// told.
fn ssh_without_questions(folder: &Path) -> Option<OsString> {
    let given = std::env::var_os("GIT_SSH_COMMAND").filter(|command| !command.is_empty());
    let configured = || answer(folder, &["config", "--get", "core.sshCommand"]).map(OsString::from);
    let mut command = match given.or_else(configured) {
        Some(command) => command,
        // The name of a program: git takes no arguments with it.
        None if std::env::var_os("GIT_SSH").is_some() => return None,
        None => OsString::from("ssh"),
    };
    let is_ssh = command.to_string_lossy().split_whitespace().next().is_some_and(|program| {
        let program = program.trim_matches(['"', '\'']);
        program.rsplit('/').next() == Some("ssh")
    });
    if is_ssh {
        command.push(" -o BatchMode=yes");
    }
    Some(command)
}

/// Waits for a command, whose output is read all the while: it would stop when a pipe is full.
fn finish(mut command: Command, patience: Duration) -> Result<String, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("git cannot be run: {error}"))?;
    let printed = child.stdout.take().map(End::of);
    let said = child.stderr.take().map(End::of);
    let status = wait(&mut child, patience)?;
    let text = |end: Option<End>| end.map(End::text).unwrap_or_default();
    let (printed, said) = (text(printed), text(said));
    if status { Ok(printed) } else { Err(reason(&said)) }
}

/// Whether it succeeded.
fn wait(child: &mut Child, patience: Duration) -> Result<bool, String> {
    let until = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if Instant::now() < until => std::thread::sleep(PAUSE),
            other => {
                // Whatever it still says is of no use.
                let _ = child.kill();
                let _ = child.wait();
                let in_time = || format!("git did not end within {} seconds", patience.as_secs());
                return Err(other.map_or_else(|error| error.to_string(), |_| in_time()));
            }
        }
    }
}

/// The end of what comes out of a pipe, which is read in the background.
struct End {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    /// Closed when the pipe is.
    open: mpsc::Receiver<()>,
}

impl End {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<VecDeque<u8>>>::default();
        let (closes, open) = mpsc::channel();
        let kept = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut block = [0; 4096];
            // A pipe that breaks has ended.
            while let Ok(read @ 1..) = pipe.read(&mut block) {
                let mut kept = lock(&kept);
                kept.extend(&block[..read]);
                let surplus = kept.len().saturating_sub(MAX_BYTES);
                kept.drain(..surplus);
            }
            drop(closes);
        });
        Self { bytes, open }
    }

    /// What has come until now, when whoever writes has ended.
    fn text(self) -> String {
        // It ends by being closed: nothing is ever sent.
        let _ = self.open.recv_timeout(LAST_WORDS);
        let bytes: Vec<u8> = lock(&self.bytes).iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why git failed, out of all it said: git's own verdict comes with advice, and with what ssh and the other
/// side said before.
fn reason(said: &str) -> String {
    let tells = |line: &&str| {
        ["fatal:", "remote:", "ERROR:", "error:", "ssh:"].iter().any(|start| line.starts_with(start))
            || line.contains("Permission denied")
            || line.contains("verification failed")
    };
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "remote:");
    let mut telling: Vec<&str> = lines().filter(tells).collect();
    if telling.is_empty() {
        telling.extend(lines().next_back());
    }
    if telling.is_empty() {
        return "git gives no reason".to_owned();
    }
    let told: Vec<String> =
        telling.iter().map(|line| without_logins(line).trim_end_matches('.').to_owned()).collect();
    let told = told.join("; ");
    // The verdict is at the end.
    let from = told.char_indices().rev().nth(MAX_REASON - 1).map_or(0, |(at, _)| at);
    sanitize(&told[from..])
}

/// A text whose addresses have no user names and passwords.
pub(super) fn without_logins(text: &str) -> String {
    let mut parts = text.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(part.len());
        let host = part[..end].rfind('@').map_or(0, |at| at + 1);
        clean.push_str("://");
        clean.push_str(&part[host..]);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_may_say_more_than_a_pipe_holds() {
        let begun = Instant::now();
        let much = "i=0; while [ $i -lt 9000 ]; do echo 'a line that nobody needs' >&2; i=$((i+1)); done; \
                    echo fatal: the end >&2; exit 1";
        assert_eq!(finish(shell(much), LONG), Err("fatal: the end".to_owned()));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn what_outlives_git_holds_nobody_up() {
        let begun = Instant::now();
        assert_eq!(finish(shell("sleep 60 & echo done"), LONG), Ok("done\n".to_owned()));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let ended = finish(shell("exec sleep 60"), Duration::from_millis(50));
        assert_eq!(ended, Err("git did not end within 0 seconds".to_owned()));
    }

    #[test]
    fn the_reason_is_what_both_sides_say_and_no_advice() {
        let said = "Cloning...\nremote: \nremote: Repository not found.\nERROR: none such\nfatal: Could not \
                    read from remote repository.\n\nPlease make sure you have the correct access rights\nand \
                    the repository exists.\n";
        let expected = "remote: Repository not found; ERROR: none such; fatal: Could not read from remote \
                        repository";
        assert_eq!(reason(said), expected);
        let ssh = "git@github.com: Permission denied (publickey).\nfatal: no\n";
        assert_eq!(reason(ssh), "git@github.com: Permission denied (publickey); fatal: no");
        assert_eq!(reason("something else\n\n"), "something else");
        assert_eq!(reason("\n"), "git gives no reason");
        assert_eq!(reason(&format!("fatal: {}!", "ä".repeat(2 * MAX_REASON))).chars().count(), MAX_REASON);
    }

    #[test]
    fn logins_are_not_told() {
        let said = "fatal: unable to access 'https://me:a-secret@example.org/x@y/': no; http://t0ken@h";
        let expected = "fatal: unable to access 'https://example.org/x@y/': no; http://h";
        assert_eq!(reason(said), expected);
        assert_eq!(without_logins("git@github.com:a/b"), "git@github.com:a/b");
    }
}
