//! What a task that runs by Node costs over Node itself.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::project::{Project, say};

const STEPS: usize = 50;

const SCRIPT: &str = "console.log('at ' + (performance.timeOrigin + performance.now()));";

pub(crate) fn run() -> anyhow::Result<()> {
    let project = Project::new()?;
    let task = project.cache().join("tasks/Bench_00000000-0000-0000-0000-00000000001d/1.0.0");
    fs::create_dir_all(&task)?;
    let manifest = json!({
        "id": "00000000-0000-0000-0000-00000000001d", "name": "Bench", "friendlyName": "Bench",
        "author": "Dayfly", "version": { "Major": 1, "Minor": 0, "Patch": 0 }, "inputs": [],
        "execution": { "Node20_1": { "target": "main.js" } },
    });
    fs::write(task.join("task.json"), manifest.to_string())?;
    fs::write(task.join("main.js"), SCRIPT)?;
    fs::write(task.with_file_name("1.0.0.completed"), "")?;

    let mut bare: Vec<Duration> = Vec::new();
    for _ in 0..STEPS {
        let begun = Instant::now();
        Command::new("node").arg(task.join("main.js")).stdout(Stdio::null()).status()?;
        bare.push(begun.elapsed());
    }
    let ran = project.run(&"- task: Bench@1\n".repeat(STEPS))?;
    let moments = ran.lines.iter().filter_map(|line| line.strip_prefix("at ")?.parse::<f64>().ok());
    let moments: Vec<f64> = moments.collect();
    anyhow::ensure!(moments.len() == STEPS, "{} of {STEPS} steps said when they ran", moments.len());
    let between = moments.windows(2).map(|pair| Duration::from_secs_f64((pair[1] - pair[0]) / 1000.0));
    let (bare, between) = (median(bare), median(between.collect()));
    say(&format!(
        "bare node: p50 {:.1} ms; from one Node task to the next: p50 {:.1} ms; {:.2} x, {:.1} ms more",
        bare * 1000.0,
        between * 1000.0,
        between / bare,
        (between - bare) * 1000.0
    ));
    say(&ran.peaks());
    Ok(())
}

/// In seconds.
fn median(mut samples: Vec<Duration>) -> f64 {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default().as_secs_f64()
}
