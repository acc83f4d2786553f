//! `dayfly logs [JOB] [STEP]`: the logs of the last runs on this machine.

use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use dayfly_protocol::TaskResult;

use crate::output;
use crate::run::history::{self, PastLog, PastRun};
use crate::run::lines::{FAINT, STRONG, sanitize};
use crate::run::words::{duration, mark, word};

/// How much is printed at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Arguments of `dayfly logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dayfly logs                    the logs of the last run
  dayfly logs --failed           only those of its steps that failed
  dayfly logs build.compile      those of one job
  dayfly logs build.compile 3    that of one step, by number or part of its name
  dayfly logs --list             the runs that have logs
  dayfly logs --run 2            the run before the last

The logs of the last ten runs are kept (at most 256 MiB) in $XDG_STATE_HOME/dayfly/runs
(~/.local/state/dayfly/runs). Secrets are masked in them.")]
pub(crate) struct LogsArgs {
    /// Only this job, by identifier (such as `build.compile`) or name
    job: Option<String>,
    /// Only this step, by number or part of its name
    step: Option<String>,
    /// Only steps that failed or have issues
    #[arg(long)]
    failed: bool,
    /// Which run: 1 is the last one, 2 the one before
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    run: u16,
    /// List the runs that have logs
    #[arg(long, conflicts_with_all = ["job", "step", "failed"])]
    list: bool,
    /// Print the paths of the log files instead of their contents
    #[arg(long, conflicts_with = "list")]
    paths: bool,
}

/// Prints them.
pub(crate) fn run(args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let Some(runs) = history::folder() else {
        return Ok(output::usage_error("no logs are kept, as neither XDG_STATE_HOME nor HOME is set"));
    };
    let folders = history::folders(&runs).unwrap_or_default();
    if args.list {
        for (number, folder) in (1..).zip(&folders) {
            let run = history::read(folder).with_context(|| unreadable(folder))?;
            output::write(&format!("{number:>2}  {}\n", describe(&run)))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Some(folder) = folders.get(usize::from(args.run) - 1) else {
        let there = match folders.len() {
            0 => {
                format!(
                    "there are no logs in {} yet; `dayfly run` keeps those of its last runs",
                    runs.display()
                )
            }
            1 => "there are logs of one run only".to_owned(),
            number => format!("there are logs of {number} runs only"),
        };
        return Ok(output::usage_error(&there));
    };
    let run = history::read(folder).with_context(|| unreadable(folder))?;
    let chosen: Vec<_> = run.logs.iter().filter(|log| is_chosen(log, args)).collect();
    if chosen.is_empty() {
        return Ok(nothing(&run, args));
    }
    if args.paths {
        for log in chosen {
            output::write(&format!("{}\n", folder.join(&log.file).display()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    output::write(&format!("{}\n", describe(&run)))?;
    for log in chosen {
        print(folder, log)?;
    }
    if run.is_cut {
        output::note("warning: some logs were too large to be kept; `dayfly run --log-dir DIR` keeps all");
    }
    Ok(ExitCode::SUCCESS)
}

fn unreadable(folder: &Path) -> String {
    format!("cannot read the logs in {}", folder.display())
}

/// One line on a run.
fn describe(run: &PastRun) -> String {
    let (style, mark, word) = match run.result {
        Some(result) => {
            let (style, mark) = mark(result);
            (style, mark, word(result))
        }
        None => (FAINT, "■", "killed"),
    };
    let ended = run.ended.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S");
    let took = duration(run.seconds);
    format!(
        "{style}{mark}{style:#} {STRONG}{}{STRONG:#} {style}{word}{style:#} in {took} {FAINT}{ended} \
         {}{FAINT:#}",
        sanitize(&run.run),
        sanitize(&run.pipeline.display().to_string())
    )
}

fn is_chosen(log: &PastLog, args: &LogsArgs) -> bool {
    let is_bad =
        log.result.is_some_and(|result| !matches!(result, TaskResult::Succeeded | TaskResult::Skipped));
    let is_job = args.job.as_deref().is_none_or(|job| is_job(log, job));
    let is_step = args.step.as_deref().is_none_or(|step| match step.parse::<i32>() {
        Ok(number) => log.number == number,
        Err(_) => log.step.to_lowercase().contains(&step.to_lowercase()),
    });
    is_job && is_step && (is_bad || !args.failed)
}

/// By its identifier (of which the stage or the leg may be left out), or by its name.
fn is_job(log: &PastLog, wanted: &str) -> bool {
    let is = |text: &str| text.eq_ignore_ascii_case(wanted);
    let parts: Vec<&str> = log.job.split('.').collect();
    let any_run_of_parts = (0..parts.len())
        .flat_map(|from| (from..parts.len()).map(move |to| (from, to)))
        .any(|(from, to)| is(&parts[from..=to].join(".")));
    any_run_of_parts || is(&log.job_name)
}

fn nothing(run: &PastRun, args: &LogsArgs) -> ExitCode {
    let known = || {
        let mut jobs: Vec<_> = run.logs.iter().map(|log| format!("`{}`", log.job)).collect();
        jobs.dedup();
        jobs.join(", ")
    };
    match &args.job {
        Some(job) if !run.logs.iter().any(|log| is_job(log, job)) => {
            output::usage_error(&format!("the run has no job `{job}`; it has {}", known()))
        }
        _ if args.failed && args.step.is_none() => {
            output::note("no step failed or has issues");
            ExitCode::SUCCESS
        }
        _ => output::usage_error("no step matches; `dayfly logs` without arguments shows them all"),
    }
}

/// The log of a step below its name. A terminal gets no control characters but colours.
fn print(folder: &Path, log: &PastLog) -> anyhow::Result<()> {
    let (style, mark) = log.result.map_or((FAINT, "·"), mark);
    output::write(&format!(
        "\n{style}{mark}{style:#} {STRONG}{}{STRONG:#} {} {STRONG}{}{STRONG:#}\n",
        sanitize(&log.job),
        log.number,
        sanitize(&log.step)
    ))?;
    let file: PathBuf = folder.join(&log.file);
    let opened = std::fs::File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut lines = BufReader::new(opened);
    let is_terminal = std::io::stdout().is_terminal();
    let (mut line, mut piece) = (Vec::new(), String::new());
    while lines.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        piece.push_str(&if is_terminal { sanitize(text) } else { text.to_owned() });
        piece.push('\n');
        line.clear();
        if piece.len() >= PIECE_BYTES {
            output::write(&std::mem::take(&mut piece))?;
        }
    }
    Ok(output::write(&piece)?)
}
