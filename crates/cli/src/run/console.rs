//! Shows a run to people: live, job by job and step by step; on a terminal with colours and a status line for
//! each running job, elsewhere as plain lines.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Effects, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use dayfly_protocol::TaskResult;

use super::change::{Change, StepKind, is_implicit};
use super::held::Held;
use super::lines::{self, FAINT, STRONG};
use super::status::{MAX_LABEL_WIDTH, message, plain_line, progress, status_line};
use super::step::{HeldBack, Step, is_progress, push_line};
use super::words::{duration, mark, shorten, word};
use crate::output;

/// Colours of job names, in turn.
const JOB_COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Green,
    AnsiColor::Yellow,
    // Not grey, which is how skipped jobs look.
    AnsiColor::BrightCyan,
];
/// How many running jobs have a status line.
const MAX_STATUS_LINES: usize = 8;
/// How long a step may be silent before its name is shown.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(300);
/// The line before a script's own output, as CmdLine, Bash and PowerShell print it, and what the next one
/// begins with.
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
    /// Whether a job's lines are shown together when it is done.
    pub(crate) grouped: bool,
    /// Width of the column for job names, in characters.
    pub(crate) label_width: usize,
}

/// The console.
pub(crate) struct Console {
    look: Look,
    jobs: BTreeMap<String, Job>,
    status: Option<MultiProgress>,
    /// The status line for the jobs that have none of their own.
    rest: Option<ProgressBar>,
    /// Identifiers and names of the jobs that wait for an agent.
    waiting: Vec<(String, String)>,
    /// Whether a question stands below all that was printed.
    is_asking: bool,
}

struct Job {
    label: String,
    colour: AnsiColor,
    is_running: bool,
    /// What is shown when the job is done.
    held: Option<Held>,
    steps: BTreeMap<usize, Step>,
    bar: Option<ProgressBar>,
}

impl Console {
    pub(crate) fn new(look: Look) -> Self {
        let status = look.terminal.then(MultiProgress::new);
        Self {
            look: Look { label_width: look.label_width.min(MAX_LABEL_WIDTH), ..look },
            jobs: BTreeMap::new(),
            status,
            rest: None,
            waiting: Vec::new(),
            is_asking: false,
        }
    }

    /// Shows what happened.
    pub(crate) fn show(&mut self, changes: &[Change]) -> io::Result<()> {
        let mut text = String::new();
        for change in changes {
            if !self.look.grouped {
                self.render(change, &mut text);
                continue;
            }
            let mut part = String::new();
            self.render(change, &mut part);
            match change.job().and_then(|id| self.jobs.get_mut(id)) {
                Some(job) => {
                    job.held.get_or_insert_with(Held::default).push(&part)?;
                    if let Change::JobCompleted { job, .. } = change {
                        self.print(&std::mem::take(&mut text))?;
                        self.print_held(job)?;
                    }
                }
                None => text.push_str(&part),
            }
        }
        self.tell_of_the_rest();
        self.print(&text)
    }

    /// Shows what is still held of jobs that are not done.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        for id in self.jobs.keys().cloned().collect::<Vec<_>>() {
            self.print_held(&id)?;
        }
        Ok(())
    }

    /// Shows what is held of a job, below its name.
    fn print_held(&mut self, id: &str) -> io::Result<()> {
        let Some(job) = self.jobs.get_mut(id) else { return Ok(()) };
        let Some(held) = job.held.take() else { return Ok(()) };
        let style = job.colour.on_default() | Effects::BOLD;
        let title = format!("\n{style}{}{style:#}\n", lines::sanitize(&job.label));
        let many_jobs = self.look.many_jobs;
        held.read(|piece, is_first| {
            let title = if is_first && many_jobs { title.as_str() } else { "" };
            self.print(&format!("{title}{piece}"))
        })
    }

    fn render(&mut self, change: &Change, text: &mut String) {
        match change {
            // Said on standard error.
            Change::Warning(_) => {}
            Change::RunStarted { run, pipeline } => {
                text.push_str(&format!("{STRONG}{run}{STRONG:#} {FAINT}{pipeline}{FAINT:#}\n"));
            }
            Change::StageStarted { display_name, stage } => {
                if !is_implicit(stage) {
                    text.push_str(&format!("\n{STRONG}{display_name}{STRONG:#}\n"));
                }
            }
            Change::StageCompleted { stage, display_name, result } => {
                if *result == TaskResult::Skipped && !is_implicit(stage) {
                    text.push_str(&format!("\n{FAINT}- {display_name} skipped{FAINT:#}\n"));
                }
            }
            Change::JobQueued { job, display_name, .. } => {
                self.waiting.push((job.clone(), display_name.clone()));
            }
            Change::JobStarted { job, display_name, agent, .. } => self.job_started(job, display_name, agent),
            Change::StepProgress { job, number, percent, operation } => {
                if let Some(step) = self.jobs.get_mut(job).and_then(|job| job.steps.get_mut(number)) {
                    step.progress = progress(*percent, operation.as_deref());
                }
            }
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
                let bars = self.jobs.values_mut().filter_map(|job| job.bar.take());
                bars.chain(self.rest.take()).for_each(|bar| bar.finish_and_clear());
            }
        }
    }

    fn job(&mut self, id: &str, display_name: &str) -> &mut Job {
        let number = self.jobs.len();
        self.jobs.entry(id.to_owned()).or_insert_with(|| Job {
            label: display_name.to_owned(),
            colour: JOB_COLOURS[number % JOB_COLOURS.len()],
            is_running: false,
            held: None,
            steps: BTreeMap::new(),
            bar: None,
        })
    }

    fn job_started(&mut self, id: &str, display_name: &str, agent: &str) {
        let running = self.jobs.values().filter(|job| job.bar.is_some()).count();
        let bar = match &self.status {
            Some(status) if running < MAX_STATUS_LINES => {
                let bar = status_line(display_name, agent);
                // The line for the rest stays the last one.
                Some(match &self.rest {
                    Some(rest) => status.insert_before(rest, bar),
                    None => status.add(bar),
                })
            }
            _ => None,
        };
        let job = self.job(id, display_name);
        (job.bar, job.is_running) = (bar, true);
        self.waiting.retain(|(waiting, _)| waiting != id);
    }

    /// Says below the status lines how many jobs have none: those beyond [`MAX_STATUS_LINES`], and those that
    /// wait for an agent.
    fn tell_of_the_rest(&mut self) {
        let Some(status) = &self.status else { return };
        let hidden = self.jobs.values().filter(|job| job.is_running && job.bar.is_none()).count();
        let mut parts = Vec::new();
        if hidden > 0 {
            parts.push(format!("{hidden} more running"));
        }
        if !self.waiting.is_empty() {
            let names: Vec<_> = self.waiting.iter().map(|(_, name)| name.as_str()).collect();
            parts.push(format!("{} waiting: {}", names.len(), names.join(", ")));
        }
        if parts.is_empty() {
            if let Some(bar) = self.rest.take() {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = self.rest.take().unwrap_or_else(|| status.add(plain_line()));
        bar.set_message(lines::sanitize(&parts.join(", ")));
        self.rest = Some(bar);
    }

    fn step_started(&mut self, id: &str, number: usize, name: &str, kind: StepKind) {
        let verbose = self.look.verbose;
        let job = self.job(id, id);
        if let Some(bar) = &job.bar {
            bar.set_message(message(name, Duration::ZERO, ""));
        }
        let unannounced = kind != StepKind::Own || verbose;
        let held_back = (!verbose && kind != StepKind::Task).then(HeldBack::default);
        let step = Step {
            name: name.to_owned(),
            kind,
            held_back,
            output_begins: false,
            unannounced,
            rules: 0,
            started: Instant::now(),
            progress: String::new(),
        };
        job.steps.insert(number, step);
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
        job.is_running = false;
        self.waiting.retain(|(waiting, _)| waiting != id);
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
        if !self.look.many_jobs || self.look.grouped {
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
        if std::mem::take(&mut self.is_asking)
            && let Some(status) = self.status()
        {
            status.set_draw_target(ProgressDrawTarget::stderr());
        }
        let mut text = String::new();
        let prefixes: Vec<String> = self.jobs.keys().map(|id| self.prefix(id)).collect();
        for (job, prefix) in self.jobs.values_mut().zip(prefixes) {
            let Some(step) = job.steps.values_mut().next_back() else { continue };
            let running = step.started.elapsed();
            if running >= ANNOUNCE_AFTER && !self.look.grouped {
                step.announce(&prefix, &mut text);
            }
            if let Some(bar) = &job.bar {
                bar.set_message(message(&step.name, running, &step.progress));
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

    /// Asks a question. There are no status lines until the next [`Console::tick`]: what is typed stands
    /// where they are drawn.
    pub(crate) fn ask(&mut self, question: &str) -> io::Result<()> {
        if let Some(status) = self.status() {
            status.clear()?;
            status.set_draw_target(ProgressDrawTarget::hidden());
        }
        self.is_asking = true;
        output::note(question);
        Ok(())
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

/// How often [`Console::tick`] wants to be called.
pub(crate) const TICK: Duration = Duration::from_millis(120);

/// What went wrong with a job itself.
struct Issues<'a> {
    errors: &'a [String],
    warnings: &'a [String],
}

#[cfg(test)]
mod tests {
    use super::super::step::HELD_BACK_LINES;
    use super::*;

    fn shown(look: Look, changes: &[Change]) -> String {
        let mut console = Console::new(look);
        let mut text = String::new();
        for change in changes {
            console.render(change, &mut text);
        }
        anstream::adapter::strip_str(&text).to_string()
    }

    const PLAIN: Look =
        Look { terminal: false, verbose: false, many_jobs: false, grouped: false, label_width: 8 };

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
}
