//! What a built-in step costs over its bare process.

use std::time::Duration;

use dayfly_emulator::runs::RunEvent;

use crate::machine::{self, say};
use crate::{milliseconds, percentile};

const STEPS: usize = 200;

pub(crate) fn run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let bare = machine::bare_process(folder.path())?;
    machine::runtime()?.block_on(steps(folder.path(), bare))
}

async fn steps(folder: &std::path::Path, bare: Duration) -> anyhow::Result<()> {
    let emulator = machine::emulator(folder).await?;
    let set = machine::agents(emulator.url(), 1, folder).await?;
    let step = "- script: echo \"at $EPOCHREALTIME\"\n";
    let plan = machine::plan(&format!("steps:\n- checkout: none\n{}", step.repeat(STEPS)))?;
    let mut events = emulator.run_events();
    emulator.queue_run(machine::request(&plan, folder)).await?;
    let mut moments = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            RunEvent::Lines { lines, .. } => {
                moments.extend(lines.iter().filter_map(|line| machine::moment(line)))
            }
            RunEvent::RunCompleted { .. } => break,
            _ => {}
        }
    }
    anyhow::ensure!(moments.len() == STEPS, "{} of {STEPS} steps said when they ran", moments.len());
    let mut between: Vec<Duration> = moments.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let (p50, p99) = (percentile(&mut between, 0.5), percentile(&mut between, 0.99));
    say(&format!("from one `script` step to the next: p50 {}, p99 {}", milliseconds(p50), milliseconds(p99)));
    say(&format!(
        "of that over a bare process ({}): p50 {}, {:.1} x a bare process in all",
        milliseconds(bare),
        milliseconds(p50.saturating_sub(bare)),
        p50.as_secs_f64() / bare.as_secs_f64()
    ));
    set.drain();
    set.wait().await;
    emulator.stop().await;
    Ok(())
}
