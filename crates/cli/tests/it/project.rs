//! A user's folder, and `dayfly` run in it as a user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A temporary folder with files.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    /// Where `dayfly` keeps its logs.
    state: tempfile::TempDir,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Project {
    /// A folder with one pipeline.
    pub(crate) fn with_pipeline(yaml: &str) -> Self {
        let folder = || tempfile::tempdir().expect("a temporary folder can be made");
        let project = Self { folder: folder(), state: folder() };
        project.write("azure-pipelines.yml", yaml);
        project
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where `dayfly` keeps what can be had again.
    pub(crate) fn cache(&self) -> PathBuf {
        self.state.path().join("cache")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("the file is in the folder"))
            .expect("the folder can be made");
        std::fs::write(&path, text).expect("the file can be written");
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A PATH of a machine with little on it: git and bash.
    pub(crate) fn few_programs(&self) -> PathBuf {
        let programs = self.state.path().join("bin");
        std::fs::create_dir(&programs).expect("the folder can be made");
        for name in ["bash", "git"] {
            let asked = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
            let path = String::from_utf8(asked.expect("sh starts").stdout).expect("the path is text");
            std::os::unix::fs::symlink(path.trim(), programs.join(name)).expect("the link can be made");
        }
        programs
    }

    /// Runs git and returns what it printed.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=Test",
                "-c",
                "user.email=test@localhost",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(arguments)
            .current_dir(self.path())
            .output()
            .expect("git starts");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A command that runs `dayfly` here, its output piped.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("XDG_STATE_HOME", self.state.path());
        command.env("XDG_CACHE_HOME", self.cache());
        for name in ["DAYFLY_LOG", "CLICOLOR_FORCE", "RUST_LOG"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs `dayfly` here until it ends.
    pub(crate) fn dayfly(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().expect("the built binary starts"))
    }

    /// Runs the pipeline and expects an exit code.
    pub(crate) fn run(&self, arguments: &[&str], code: i32) -> Ended {
        let all = ["run"].iter().chain(arguments).copied().collect::<Vec<_>>();
        let ended = self.dayfly(&all);
        assert_eq!(
            ended.code,
            Some(code),
            "dayfly {all:?}\n--- stdout\n{}\n--- stderr\n{}",
            ended.stdout,
            ended.stderr
        );
        ended
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
