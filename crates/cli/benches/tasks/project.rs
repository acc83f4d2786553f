//! A folder with a pipeline, `dayfly run` in it, and plain commands to compare with.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

/// A step that says how much memory the worker and the service have had at most.
pub(crate) const PEAK: &str = "- bash: |
    service=$(awk '/^PPid:/ { print $2 }' /proc/$PPID/status)
    for process in $PPID $service; do awk '/^VmHWM:/ { print \"peak\", $2 }' /proc/$process/status; done
  condition: always()
";

pub(crate) fn say(text: &str) {
    // Nobody can be told when standard output is gone.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A folder with a pipeline and all that `dayfly` keeps.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

/// What a run took.
pub(crate) struct Ran {
    /// How long each step took, by its name.
    steps: BTreeMap<String, Duration>,
    /// Lines of its steps.
    pub(crate) lines: Vec<String>,
}

impl Project {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where `dayfly` keeps what can be had again.
    pub(crate) fn cache(&self) -> PathBuf {
        self.path("cache/dayfly")
    }

    /// Runs steps that check nothing out; they must succeed.
    pub(crate) fn run(&self, steps: &str) -> anyhow::Result<Ran> {
        let app = self.path("app");
        fs::create_dir_all(&app)?;
        fs::write(app.join("azure-pipelines.yml"), format!("steps:\n- checkout: none\n{steps}{PEAK}"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
        command.args(["run", "--json"]).current_dir(&app).stdin(Stdio::null()).stderr(Stdio::inherit());
        command.env("XDG_STATE_HOME", self.path("state")).env("XDG_CACHE_HOME", self.path("cache"));
        // Beside the files, not in a file system in memory.
        fs::create_dir_all(self.path("tmp"))?;
        let output = command.env("TMPDIR", self.path("tmp")).output()?;
        let mut ran = Ran { steps: BTreeMap::new(), lines: Vec::new() };
        for event in String::from_utf8(output.stdout)?.lines() {
            ran.add(&serde_json::from_str(event)?);
        }
        anyhow::ensure!(output.status.success(), "the run failed:\n{}", ran.lines.join("\n"));
        Ok(ran)
    }

    /// How long a command of the shell takes in this folder.
    pub(crate) fn time(&self, script: &str) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let status = Command::new("bash").args(["-ec", script]).current_dir(self.folder.path()).status()?;
        anyhow::ensure!(status.success(), "{script} failed");
        Ok(begun.elapsed())
    }
}

impl Ran {
    fn add(&mut self, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("line") => self.lines.push(text("line")),
            Some("stepCompleted") => {
                let seconds = event["seconds"].as_f64().unwrap_or_default();
                self.steps.insert(text("step"), Duration::from_secs_f64(seconds));
            }
            _ => {}
        }
    }

    /// How long a step took.
    pub(crate) fn step(&self, name: &str) -> anyhow::Result<Duration> {
        let known = || self.steps.keys().cloned().collect::<Vec<_>>().join(", ");
        self.steps.get(name).copied().with_context(|| format!("no step {name} in {}", known()))
    }

    /// The most memory that the worker and the service had.
    pub(crate) fn peaks(&self) -> String {
        let peaks = self.lines.iter().filter_map(|line| line.strip_prefix("peak ")?.parse::<u64>().ok());
        let peaks: Vec<String> = peaks.map(|kib| format!("{} MiB", kib / 1024)).collect();
        format!("peak memory of worker and service: {}", peaks.join(" and "))
    }
}

/// A figure beside what it is compared with.
pub(crate) fn say_ratio(what: &str, took: Duration, plain: &str, plain_took: Duration) {
    say(&format!(
        "{what}: {:.2} s; {plain}: {:.2} s; {:.2} x",
        took.as_secs_f64(),
        plain_took.as_secs_f64(),
        took.as_secs_f64() / plain_took.as_secs_f64()
    ));
}

/// Makes small files, a hundred in each folder.
pub(crate) fn make_small_files(folder: &Path, count: usize) -> anyhow::Result<()> {
    for number in 0..count {
        let folder = folder.join(format!("{}", number / 100));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{number}.txt")), format!("{number}\n").repeat(200))?;
    }
    Ok(())
}

/// Makes files of one MiB that cannot be compressed.
pub(crate) fn make_noise(folder: &Path, mebibytes: usize) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for number in 0..mebibytes {
        fs::write(folder.join(format!("{number}.bin")), noise())?;
    }
    Ok(())
}

/// One MiB.
pub(crate) fn noise() -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u64(..).to_le_bytes()).take(1024 * 1024 / 8).flatten().collect()
}
