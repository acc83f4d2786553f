//! The lines a step's process writes: commands are carried out, all else goes into the log.

use crate::commands;
use crate::context::StepContext;
use crate::process::{Line, Sink, Stream};

/// How much of the standard error is kept for `failOnStderr`; the log has all of it.
const MAX_STDERR_BYTES: usize = 64 * 1024;

/// Takes the lines of one process of a step.
pub(super) struct StepOutput<'a> {
    step: &'a StepContext,
    /// Whether lines may be logging commands; git's are not (`ProcessInvoker`, `disableWorkerCommands`).
    commands: bool,
    /// The standard error for `failOnStderr`, kept if asked for.
    stderr: Option<String>,
    wrote_stderr: bool,
    /// Whether the step was told of commands in its shell's trace.
    told_of_trace: bool,
    /// Whether the previous piece of each stream did not end its line.
    continued: [bool; 2],
}

impl<'a> StepOutput<'a> {
    /// Lines of a script: both streams may hold commands.
    pub(super) fn of_script(step: &'a StepContext, keep_stderr: bool) -> StepOutput<'a> {
        StepOutput {
            step,
            commands: true,
            stderr: keep_stderr.then(String::new),
            wrote_stderr: false,
            told_of_trace: false,
            continued: [false; 2],
        }
    }

    /// Lines of a program the worker itself runs.
    pub(super) fn of_program(step: &'a StepContext) -> StepOutput<'a> {
        StepOutput { commands: false, ..StepOutput::of_script(step, false) }
    }

    /// What was written to the standard error, if anything was and it was to be kept.
    pub(super) fn into_stderr(self) -> Option<String> {
        self.stderr.filter(|_| self.wrote_stderr)
    }

    /// The command itself comes on the standard output. The official worker carries out both, in an order
    /// that is left to chance, so now and then a value ends with the quote of the trace.
    async fn tell_of_trace(&mut self) {
        if !std::mem::replace(&mut self.told_of_trace, true) {
            self.step
                .warning(
                    "The shell's trace (`set -x`) repeats logging commands. Dayfly ignores the repetition, \
                        but on Azure DevOps it may append a quote to a variable's value; use `set +x` \
                        before logging commands.",
                )
                .await;
        }
    }

    fn keep(&mut self, text: &str) {
        let Some(stderr) = &mut self.stderr else { return };
        self.wrote_stderr = true;
        if stderr.len() + text.len() < MAX_STDERR_BYTES {
            if !stderr.is_empty() {
                stderr.push('\n');
            }
            stderr.push_str(text);
        }
    }
}

impl Sink for StepOutput<'_> {
    async fn line(&mut self, line: Line<'_>) {
        let stream = match line.stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        if stream == 1 {
            self.keep(line.text);
            self.step.hear_of_macros(line.text);
        }
        let whole = !self.continued[stream] && !line.continues;
        if whole && stream == 1 && self.commands && is_traced_command(line.text) {
            self.tell_of_trace().await;
            return;
        }
        self.continued[stream] = line.continues;
        if line.continues {
            self.step.record.part(line.text).await;
        } else if !(whole && self.commands && commands::process(self.step, line.text).await) {
            self.step.output(line.text).await;
        }
    }
}

/// Keeps what a program writes, beside what is shown of it.
pub(super) struct Kept<'a> {
    /// Where it is shown, if it is.
    shown: Option<StepOutput<'a>>,
    /// How much of each output is kept.
    most_bytes: usize,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// How much the standard output had.
    pub(super) stdout_bytes: usize,
}

impl<'a> Kept<'a> {
    /// Keeps so much of each output, and shows all of it in the step's log if wanted.
    pub(super) fn new(step: &'a StepContext, most_bytes: usize, is_shown: bool) -> Kept<'a> {
        let shown = is_shown.then(|| StepOutput::of_script(step, false));
        Kept { shown, most_bytes, stdout: String::new(), stderr: String::new(), stdout_bytes: 0 }
    }
}

impl Sink for Kept<'_> {
    async fn line(&mut self, line: Line<'_>) {
        let end = if line.continues { "" } else { "\n" };
        let kept = match line.stream {
            Stream::Stdout => {
                self.stdout_bytes += line.text.len() + end.len();
                &mut self.stdout
            }
            Stream::Stderr => &mut self.stderr,
        };
        if kept.len() + line.text.len() < self.most_bytes {
            kept.push_str(line.text);
            kept.push_str(end);
        }
        if let Some(shown) = &mut self.shown {
            shown.line(line).await;
        }
    }
}

/// Whether a line of the standard error is the trace of a shell that is about to print a logging command.
fn is_traced_command(line: &str) -> bool {
    let after = line.trim_start_matches('+');
    after.len() < line.len() && after.starts_with(' ') && after.contains("##vso[")
}
