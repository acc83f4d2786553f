//! Shows a run to people: live, job by job and step by step; on a terminal with colours and a status line for each running
//! job, elsewhere as plain lines.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use dayfly_protocol::TaskResult;

use super::change::{Change, StepKind};
use super::lines::{self, ERROR, FAINT, GOOD, STRONG, WARNING};
use crate::output;

/// Colours of job names, in turn.
const JOB_COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::BrightBlack,
];
/// The widest a job's name may make its column; longer ones lose their middle, since legs differ in their ends.
const MAX_LABEL_WIDTH: usize = 28;
/// How many of the last lines of a step that is not shown are kept in case it fails.
const HELD_BACK_LINES: usize = 500;
/// How many running jobs have a status line.
const MAX_STATUS_LINES: usize = 8;
/// How many `=` make a rule.
const RULE_WIDTH: usize = 70;
/// How long a step may be silent before its name is shown.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(300);
/// The line before a script's own output, as CmdLine, Bash and PowerShell print it, and what the next one begins with.
const OUTPUT_BEGINS: &str = "= Starting Command Output =";
const SHELL_COMMAND: &str = "[command]";
/// The first line of a step that is skipped (`StepsRunner.cs`); what follows it says why.
const SKIPPED: &str = "Skipping step due to condition evaluation.";

/// How a run is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Whether standard output is a terminal: status lines may be drawn.
    pub(crate) terminal: bool,
    /// Whether every line is shown, also the worker's own.
    pub(crate) verbose: bool,
    /// How many jobs there will be; from two on each line begins with its job's name.
    pub(crate) many_jobs: bool,
    /// Width of the column for job names, in characters.
    pub(crate) label_width: usize,
}

/// The console.
pub(crate) struct Console {
    look: Look,
    jobs: BTreeMap<String, Job>,
    status: Option<MultiProgress>,
}

struct Job {
    label: String,
    colour: AnsiColor,
    steps: BTreeMap<usize, Step>,
    bar: Option<ProgressBar>,
}

struct Step {
    name: String,
    kind: StepKind,
    /// Lines not shown so far; `None` once lines are shown.
    held_back: Option<HeldBack>,
    /// Whether the script's own output begins with the next line.
    output_begins: bool,
    /// Whether its name is still to be shown: steps that are skipped at once are not announced.
    unannounced: bool,
    /// How many of the two rules round the task's description have come.
    rules: u8,
    started: Instant,
}

/// The last lines of a step that is not shown: the first are those which a failure needs least.
#[derive(Default)]
struct HeldBack {
    lines: VecDeque<String>,
    dropped: usize,
}

impl HeldBack {
    fn push(&mut self, line: &str) {
        if self.lines.len() == HELD_BACK_LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line.to_owned());
    }

    fn show(&self, prefix: &str, text: &mut String) {
        if self.dropped > 0 {
            text.push_str(&format!("{prefix}  {FAINT}({} lines before these){FAINT:#}\n", self.dropped));
        }
        for line in &self.lines {
            push_line(text, prefix, line);
        }
    }
}

impl Console {
    pub(crate) fn new(look: Look) -> Self {
        let status = look.terminal.then(MultiProgress::new);
        Self {
            look: Look { label_width: look.label_width.min(MAX_LABEL_WIDTH), ..look },
            jobs: BTreeMap::new(),
            status,
        }
    }

    /// Shows what happened.
    pub(crate) fn show(&mut self, changes: &[Change]) -> io::Result<()> {
        let mut text = String::new();
        for change in changes {
            self.render(change, &mut text);
        }
        self.print(&text)
    }

    fn render(&mut self, change: &Change, text: &mut String) {
        match change {
            // Said on standard error.
            Change::Warning(_) => {}
            Change::RunStarted { run, pipeline } => {
                text.push_str(&format!("{STRONG}{run}{STRONG:#} {FAINT}{pipeline}{FAINT:#}\n"));
            }
            Change::StageStarted { display_name, stage } => {
                if stage != "__default" {
                    text.push_str(&format!("\n{STRONG}{display_name}{STRONG:#}\n"));
                }
            }
            Change::StageCompleted { stage, display_name, result } => {
                if *result == TaskResult::Skipped && stage != "__default" {
                    text.push_str(&format!("\n{FAINT}- {display_name} skipped{FAINT:#}\n"));
                }
            }
            Change::JobStarted { job, display_name, agent, .. } => self.job_started(job, display_name, agent),
            Change::JobCompleted { job, display_name, result, seconds, errors, warnings, .. } => {
                let issues = Issues { errors, warnings };
                self.job_completed(job, display_name, *result, *seconds, issues, text);
            }
            Change::StepStarted { job, number, step, kind } => self.step_started(job, *number, step, *kind),
            Change::Line { job, number, line } => self.line(job, *number, line, text),
            Change::StepCompleted { job, number, step, result, seconds, .. } => {
                self.step_completed(job, *number, step, *result, *seconds, text);
            }
            Change::RunCompleted { .. } => {
                for job in self.jobs.values_mut() {
                    if let Some(bar) = job.bar.take() {
                        bar.finish_and_clear();
                    }
                }
            }
        }
    }

    fn job(&mut self, id: &str, display_name: &str) -> &mut Job {
        let number = self.jobs.len();
        self.jobs.entry(id.to_owned()).or_insert_with(|| Job {
            label: display_name.to_owned(),
            colour: JOB_COLOURS[number % JOB_COLOURS.len()],
            steps: BTreeMap::new(),
            bar: None,
        })
    }

    fn job_started(&mut self, id: &str, display_name: &str, agent: &str) {
        let running = self.jobs.values().filter(|job| job.bar.is_some()).count();
        let bar = match &self.status {
            Some(status) if running < MAX_STATUS_LINES => Some(status.add(status_line(display_name, agent))),
            _ => None,
        };
        self.job(id, display_name).bar = bar;
    }

    fn step_started(&mut self, id: &str, number: usize, name: &str, kind: StepKind) {
        let verbose = self.look.verbose;
        let job = self.job(id, id);
        if let Some(bar) = &job.bar {
            bar.set_message(message(name, Duration::ZERO));
        }
        let unannounced = kind != StepKind::Own || verbose;
        let held_back = (!verbose && kind != StepKind::Task).then(HeldBack::default);
        let (name, started, rules) = (name.to_owned(), Instant::now(), 0);
        job.steps.insert(
            number,
            Step { name, kind, held_back, output_begins: false, unannounced, rules, started },
        );
    }

    fn line(&mut self, id: &str, number: usize, line: &str, text: &mut String) {
        let verbose = self.look.verbose;
        let prefix = self.prefix(id);
        let Some(step) = self.job(id, id).steps.get_mut(&number) else { return };
        if !verbose && step.is_frame(line) {
            return;
        }
        if std::mem::take(&mut step.output_begins) && line.starts_with(SHELL_COMMAND) {
            return;
        }
        // A step that runs begins with the description of its task.
        if !verbose && step.rules == 0 && line == SKIPPED {
            step.unannounced = false;
            step.held_back.get_or_insert_default();
        }
        match &mut step.held_back {
            Some(_) if step.kind == StepKind::Script && line.contains(OUTPUT_BEGINS) => {
                step.held_back = None;
                step.output_begins = true;
            }
            Some(held) => {
                if !(step.kind == StepKind::Quiet && is_progress(line)) {
                    held.push(line);
                }
            }
            None => {
                step.announce(&prefix, text);
                push_line(text, &prefix, line);
            }
        }
    }

    fn step_completed(
        &mut self,
        id: &str,
        number: usize,
        name: &str,
        result: TaskResult,
        seconds: f64,
        text: &mut String,
    ) {
        let verbose = self.look.verbose;
        let prefix = self.prefix(id);
        let mut step = self.job(id, id).steps.remove(&number);
        if let Some(step) = step.as_mut().filter(|_| result != TaskResult::Skipped) {
            step.announce(&prefix, text);
        }
        let kind = step.as_ref().map_or(StepKind::Task, |step| step.kind);
        let bad = !result.is_success() && result != TaskResult::Skipped;
        // With `continueOnError`, a step that failed has issues only.
        let has_issues = result == TaskResult::SucceededWithIssues && kind != StepKind::Own;
        if let Some(held) = step.and_then(|step| step.held_back).filter(|_| bad || has_issues) {
            held.show(&prefix, text);
        }
        if kind == StepKind::Own && !bad && !verbose {
            return;
        }
        let (style, mark) = mark(result);
        let name = lines::sanitize(name);
        let took = if result == TaskResult::Skipped { "skipped".to_owned() } else { duration(seconds) };
        text.push_str(&format!("{prefix}{style}{mark} {name}{style:#} {FAINT}{took}{FAINT:#}\n"));
    }

    fn job_completed(
        &mut self,
        id: &str,
        display_name: &str,
        result: TaskResult,
        seconds: f64,
        issues: Issues<'_>,
        text: &mut String,
    ) {
        self.job(id, display_name);
        let prefix = self.prefix(id);
        let job = self.job(id, display_name);
        if let Some(bar) = job.bar.take() {
            bar.finish_and_clear();
        }
        job.steps.clear();
        let errors = issues.errors.iter().map(|error| format!("##[error]{error}"));
        let warnings = issues.warnings.iter().map(|warning| format!("##[warning]{warning}"));
        for issue in errors.chain(warnings) {
            for line in issue.lines() {
                push_line(text, &prefix, line);
            }
        }
        if result == TaskResult::Skipped {
            text.push_str(&format!("{FAINT}- {display_name} skipped{FAINT:#}\n"));
        } else {
            let (style, mark) = mark(result);
            let (word, took) = (word(result), duration(seconds));
            text.push_str(&format!("{prefix}{style}{mark} job {word}{style:#} {FAINT}{took}{FAINT:#}\n"));
        }
    }

    /// What each line of a job begins with.
    fn prefix(&self, id: &str) -> String {
        if !self.look.many_jobs {
            return String::new();
        }
        let (label, colour) =
            self.jobs.get(id).map_or((id, AnsiColor::White), |job| (job.label.as_str(), job.colour));
        let style: Style = colour.on_default();
        let label = shorten(label, self.look.label_width);
        format!("{style}{label:<width$}{style:#} {FAINT}│{FAINT:#} ", width = self.look.label_width)
    }

    /// Lets status lines go on and announces steps that say nothing; to be called every [`TICK`].
    pub(crate) fn tick(&mut self) -> io::Result<()> {
        let mut text = String::new();
        let prefixes: Vec<String> = self.jobs.keys().map(|id| self.prefix(id)).collect();
        for (job, prefix) in self.jobs.values_mut().zip(prefixes) {
            let Some(step) = job.steps.values_mut().next_back() else { continue };
            let running = step.started.elapsed();
            if running >= ANNOUNCE_AFTER {
                step.announce(&prefix, &mut text);
            }
            if let Some(bar) = &job.bar {
                bar.set_message(message(&step.name, running));
                bar.tick();
            }
        }
        self.print(&text)
    }

    /// Says something on standard error, where status lines are drawn too.
    pub(crate) fn note(&self, text: &str) {
        match self.status() {
            Some(status) => status.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    /// The status lines, as long as there is a terminal to draw them on: they panic on one that was closed.
    fn status(&self) -> Option<&MultiProgress> {
        self.status.as_ref().filter(|_| io::stderr().is_terminal())
    }

    fn print(&self, text: &str) -> io::Result<()> {
        match self.status() {
            _ if text.is_empty() => Ok(()),
            Some(status) => status.suspend(|| output::write(text)),
            None => output::write(text),
        }
    }
}

impl Step {
    /// Whether it is one of the lines which the worker puts round every step and which are shown here in another way: its
    /// name at both ends, and the description of its task between two rules.
    fn is_frame(&mut self, line: &str) -> bool {
        if self.rules < 2 && line.len() >= RULE_WIDTH && line.bytes().all(|byte| byte == b'=') {
            self.rules += 1;
            return true;
        }
        let section = line.strip_prefix("##[section]");
        let name = section
            .and_then(|rest| rest.strip_prefix("Starting: ").or_else(|| rest.strip_prefix("Finishing: ")));
        self.rules == 1 || name == Some(self.name.as_str())
    }

    /// Shows the step's name if it was not shown.
    fn announce(&mut self, prefix: &str, text: &mut String) {
        if std::mem::take(&mut self.unannounced) {
            text.push_str(&format!("{prefix}{STRONG}▸ {}{STRONG:#}\n", lines::sanitize(&self.name)));
        }
    }
}

/// How often [`Console::tick`] wants to be called.
pub(crate) const TICK: Duration = Duration::from_millis(120);

fn status_line(job: &str, agent: &str) -> ProgressBar {
    let job = shorten(job, MAX_LABEL_WIDTH);
    let bar = ProgressBar::new_spinner().with_prefix(job).with_message(format!("on {agent}"));
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix:.bold} {wide_msg:.dim}") {
        bar.set_style(style);
    }
    bar
}

/// What a status line says of a step: the time first, since a line that is too long loses its end.
fn message(step: &str, running: Duration) -> String {
    format!("{} {}", duration(running.as_secs_f64()), lines::sanitize(step))
}

fn push_line(text: &mut String, prefix: &str, line: &str) {
    if let Some(shown) = lines::format(line) {
        text.push_str(prefix);
        text.push_str("  ");
        text.push_str(&shown);
        text.push('\n');
    }
}

/// What went wrong with a job itself.
struct Issues<'a> {
    errors: &'a [String],
    warnings: &'a [String],
}

/// Whether a line is one of git's steps on the way to 100 %, as in `Receiving objects:  42% (21/50)`.
fn is_progress(line: &str) -> bool {
    let Some((before, after)) = line.split_once("% (") else { return false };
    let percent = before.rsplit(' ').next().and_then(|number| number.parse::<u8>().ok());
    let is_count = after.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('/');
    is_count && percent.is_some_and(|percent| percent < 100)
}

/// Colour and mark of a result.
pub(crate) fn mark(result: TaskResult) -> (Style, &'static str) {
    match result {
        TaskResult::Succeeded => (GOOD, "✓"),
        TaskResult::SucceededWithIssues => (WARNING, "!"),
        TaskResult::Failed | TaskResult::Abandoned => (ERROR, "✗"),
        TaskResult::Canceled => (WARNING, "■"),
        TaskResult::Skipped => (FAINT, "-"),
    }
}

/// A result in words.
pub(crate) fn word(result: TaskResult) -> &'static str {
    match result {
        TaskResult::Succeeded => "succeeded",
        TaskResult::SucceededWithIssues => "succeeded with issues",
        TaskResult::Failed => "failed",
        TaskResult::Canceled => "cancelled",
        TaskResult::Skipped => "skipped",
        TaskResult::Abandoned => "abandoned",
    }
}

/// A time as people write it: `40ms`, `1.4s`, `12s`, `3m 05s`, `1h 02m`.
pub(crate) fn duration(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1000.0).round() as u64;
    let whole = milliseconds / 1000;
    match whole {
        0 => format!("{milliseconds}ms"),
        1..=9 => format!("{}.{}s", whole, milliseconds % 1000 / 100),
        10..=59 => format!("{whole}s"),
        60..=3599 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
    }
}

fn shorten(label: &str, width: usize) -> String {
    if label.chars().count() <= width {
        return label.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept / 2, kept - kept / 2);
    let length = label.chars().count();
    label.chars().take(head).chain(['…']).chain(label.chars().skip(length - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(look: Look, changes: &[Change]) -> String {
        let mut console = Console::new(look);
        let mut text = String::new();
        for change in changes {
            console.render(change, &mut text);
        }
        anstream::adapter::strip_str(&text).to_string()
    }

    const PLAIN: Look = Look { terminal: false, verbose: false, many_jobs: false, label_width: 8 };

    fn step(kind: StepKind, lines: &[&str], result: TaskResult) -> Vec<Change> {
        let job = "build.greet".to_owned();
        let step = "Say hello".to_owned();
        let mut changes = vec![Change::StepStarted { job: job.clone(), number: 1, step: step.clone(), kind }];
        changes.extend(lines.iter().map(|line| Change::Line {
            job: job.clone(),
            number: 1,
            line: (*line).to_owned(),
        }));
        let (errors, warnings) = (Vec::new(), Vec::new());
        changes.push(Change::StepCompleted { job, number: 1, step, result, seconds: 0.25, errors, warnings });
        changes
    }

    const SCRIPT: &[&str] = &[
        "##[section]Starting: Say hello",
        "==============================================================================",
        "Task         : Command line",
        "==============================================================================",
        "Generating script.",
        "========================== Starting Command Output ===========================",
        "[command]/usr/bin/bash --noprofile --norc /tmp/x.sh",
        "hello",
        "##[section]Finishing: Say hello",
    ];

    #[test]
    fn of_a_script_its_own_output_is_shown() {
        let text = shown(PLAIN, &step(StepKind::Script, SCRIPT, TaskResult::Succeeded));
        assert_eq!(text, "▸ Say hello\n  hello\n✓ Say hello 250ms\n");
    }

    #[test]
    fn a_script_that_never_began_shows_why() {
        let lines = [&SCRIPT[..5], &["##[error]no such folder"]].concat();
        let text = shown(PLAIN, &step(StepKind::Script, &lines, TaskResult::Failed));
        assert_eq!(text, "▸ Say hello\n  Generating script.\n  error: no such folder\n✗ Say hello 250ms\n");
        let text = shown(PLAIN, &step(StepKind::Script, &lines, TaskResult::SucceededWithIssues));
        assert_eq!(text, "▸ Say hello\n  Generating script.\n  error: no such folder\n! Say hello 250ms\n");
    }

    #[test]
    fn the_workers_own_steps_are_shown_when_they_fail() {
        assert_eq!(shown(PLAIN, &step(StepKind::Own, &["x"], TaskResult::Succeeded)), "");
        assert_eq!(
            shown(PLAIN, &step(StepKind::Own, &["x"], TaskResult::Failed)),
            "  x\n✗ Say hello 250ms\n"
        );
    }

    #[test]
    fn a_failed_checkout_shows_its_last_lines_without_gits_progress() {
        let many: Vec<String> = (0..HELD_BACK_LINES + 2).map(|number| format!("line {number}")).collect();
        let mut lines = vec!["remote: Counting objects: 100% (4/4)        ", "Receiving objects:  25% (1/4)"];
        lines.extend(many.iter().map(String::as_str));
        lines.extend(["Updating files:   1% (1/90)", "##[error]no space left"]);
        let text = shown(PLAIN, &step(StepKind::Quiet, &lines, TaskResult::Failed));
        assert!(text.starts_with("▸ Say hello\n  (4 lines before these)\n  line 3\n"), "{text}");
        assert!(text.ends_with("\n  line 501\n  error: no space left\n✗ Say hello 250ms\n"), "{text}");
        let lines = [
            "remote: Counting objects: 100% (4/4)",
            "Receiving objects:  25% (1/4)",
            "5% (of all) is no progress",
        ];
        let text = shown(PLAIN, &step(StepKind::Quiet, &lines, TaskResult::Failed));
        assert!(text.contains("100%") && !text.contains("25%") && text.contains("5% (of"), "{text}");
    }

    #[test]
    fn lines_of_many_jobs_begin_with_their_job() {
        let mut changes = vec![Change::JobStarted {
            job: "build.greet".to_owned(),
            display_name: "Greet english".to_owned(),
            stage: "build".to_owned(),
            agent: "dayfly-1".to_owned(),
        }];
        changes.extend(step(StepKind::Task, &["hello"], TaskResult::Failed));
        let text = shown(Look { many_jobs: true, ..PLAIN }, &changes);
        assert_eq!(text, "Gre…lish │ ▸ Say hello\nGre…lish │   hello\nGre…lish │ ✗ Say hello 250ms\n");
    }

    #[test]
    fn of_a_skipped_step_only_that_is_shown() {
        for kind in [StepKind::Task, StepKind::Script, StepKind::Quiet] {
            let lines = [SKIPPED, "Evaluating: succeeded()", "Result: False"];
            let text = shown(PLAIN, &step(kind, &lines, TaskResult::Skipped));
            assert_eq!(text, "- Say hello skipped\n", "{kind:?}");
        }
        let lines = [&SCRIPT[..4], &[SKIPPED]].concat();
        let text = shown(PLAIN, &step(StepKind::Task, &lines, TaskResult::Succeeded));
        assert_eq!(text, format!("▸ Say hello\n  {SKIPPED}\n✓ Say hello 250ms\n"), "its own output");
    }

    #[test]
    fn names_of_legs_stay_apart_when_they_are_cut() {
        assert_eq!(shorten("Run the checks Linux_1", 10), "Run …nux_1");
        assert_eq!(shorten("Run the checks Linux_2", 10), "Run …nux_2");
        assert_eq!(shorten("short", 10), "short");
    }

    #[test]
    fn times_read_well() {
        for (seconds, text) in [
            (0.0404, "40ms"),
            (1.99, "1.9s"),
            (9.96, "9.9s"),
            (59.9, "59s"),
            (65.0, "1m 05s"),
            (3720.0, "1h 02m"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
