//! What idle virtual agents cost: this process holds them, another one the emulator.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use url::Url;

use crate::machine::{self, say};

/// How long the agents are watched: longer than a poll.
const WATCHED: Duration = Duration::from_secs(60);

pub(crate) fn run() -> anyhow::Result<()> {
    for count in [1_000, 10_000] {
        let folder = tempfile::tempdir()?;
        let (mut emulator, url) = start_emulator(folder.path())?;
        let outcome = machine::runtime()?.block_on(idle(&url, count, folder.path(), emulator.id()));
        emulator.kill()?;
        emulator.wait()?;
        outcome?;
    }
    Ok(())
}

fn start_emulator(folder: &std::path::Path) -> anyhow::Result<(Child, Url)> {
    let pat = folder.join("pat");
    std::fs::write(&pat, machine::PAT)?;
    let mut emulator = Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(["emulator", "--listen", "127.0.0.1:0", "--pat-file"])
        .arg(&pat)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(emulator.stdout.take().context("no output")?).read_line(&mut line)?;
    Ok((emulator, Url::parse(line.trim())?))
}

async fn idle(url: &Url, count: usize, folder: &std::path::Path, emulator: u32) -> anyhow::Result<()> {
    let me = std::process::id();
    let before = machine::resident_kib(me)?;
    let begun = std::time::Instant::now();
    let set = machine::agents(url, count, folder).await?;
    say(&format!("{count} virtual agents registered and online in {:.1} s", begun.elapsed().as_secs_f64()));
    // Registration's own work is over when the polls are out.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (used, theirs) = (machine::processor_time(me)?, machine::processor_time(emulator)?);
    tokio::time::sleep(WATCHED).await;
    let (used, theirs) = (machine::processor_time(me)? - used, machine::processor_time(emulator)? - theirs);
    let memory = machine::resident_kib(me)?.saturating_sub(before);
    let share = |used: Duration| used.as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
    say(&format!(
        "{count} idle virtual agents: {:.1} MiB ({:.1} KiB each), {:.2} % of a core; the emulator beside them: {:.1} MiB, {:.2} % of a core",
        memory as f64 / 1024.0,
        memory as f64 / count as f64,
        share(used),
        machine::resident_kib(emulator)? as f64 / 1024.0,
        share(theirs),
    ));
    set.stop(Duration::from_secs(60));
    set.wait().await;
    Ok(())
}
