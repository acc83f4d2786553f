//! Where a run is shown: a console or JSON lines.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use dayfly_pipelines::Plan;
use dayfly_pipelines::plan::{Legs, Setting, Strategy};

use super::caveats::hooks;
use super::change::Change;
use super::console::{Console, Look, TICK};
use super::engine::{Order, Output};
use super::json;
use super::summary::Summary;
use crate::output;

/// As wide as most names of legs that are known only when their job starts.
const LATER_LEG: &str = "leg_of_job";

/// The screen of one run.
pub(crate) enum Screen {
    Json,
    Console { console: Box<Console>, summary: Box<Summary> },
}

impl Screen {
    pub(crate) fn new(order: &Order) -> Self {
        if order.json {
            return Self::Json;
        }
        let labels = labels(&order.plan, &order.wanted);
        let look = Look {
            terminal: io::stdout().is_terminal() && io::stderr().is_terminal(),
            verbose: order.verbose,
            many_jobs: labels.len() > 1,
            grouped: order.output == Output::Grouped,
            label_width: labels.iter().map(|label| label.chars().count()).max().unwrap_or_default(),
        };
        Self::Console {
            console: Box::new(Console::new(look)),
            summary: Box::new(Summary::new(Arc::clone(&order.plan))),
        }
    }

    pub(crate) fn show(&mut self, changes: Vec<Change>) -> io::Result<()> {
        match self {
            Self::Json => json::show(&changes),
            Self::Console { console, summary } => {
                for change in &changes {
                    summary.note(change);
                }
                console.show(&changes)
            }
        }
    }

    /// Says something beside the run, on standard error.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Self::Json => output::note(text),
            Self::Console { console, .. } => console.note(text),
        }
    }

    /// Asks a question, on standard error. What is typed stands below it until the next [`Screen::redraw`].
    pub(crate) fn ask(&mut self, question: &str) -> io::Result<()> {
        match self {
            Self::Json => output::note(question),
            Self::Console { console, .. } => console.ask(question)?,
        }
        Ok(())
    }

    /// How often [`Screen::redraw`] wants to be called.
    pub(crate) fn tick(&self) -> Duration {
        TICK
    }

    pub(crate) fn redraw(&mut self) -> io::Result<()> {
        match self {
            Self::Json => Ok(()),
            Self::Console { console, .. } => console.tick(),
        }
    }

    /// Prints what stands at the end.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Json => Ok(()),
            Self::Console { console, summary } => {
                console.close()?;
                output::write(&summary.render(width()))
            }
        }
    }

    /// The first job that failed, for advice.
    pub(crate) fn failed_job(&self) -> Option<&str> {
        match self {
            Self::Json => None,
            Self::Console { summary, .. } => summary.failed_job(),
        }
    }
}

/// How many columns the terminal has; none where there is no terminal.
fn width() -> Option<usize> {
    let size = io::stdout().is_terminal().then(|| console::Term::stdout().size_checked())?;
    size.map(|(_, columns)| usize::from(columns))
}

/// The display names of the wanted jobs, as far as they are known before the run.
fn labels(plan: &Plan, wanted: &[Vec<bool>]) -> Vec<String> {
    let stages = plan.stages.iter().zip(wanted);
    let jobs = stages.flat_map(|(stage, wanted)| stage.jobs.iter().zip(wanted));
    jobs.filter(|(_, wanted)| **wanted)
        .flat_map(|(job, _)| {
            let name = &job.display_name;
            // Each hook is a job of its own.
            if hooks(job).count() > 1 {
                return hooks(job).map(|hook| format!("{name} {}", hook.label())).collect();
            }
            match &job.strategy {
                Strategy::Matrix { legs: Legs::List(legs), .. } => {
                    legs.iter().map(|leg| format!("{name} {}", leg.name)).collect()
                }
                Strategy::Parallel { count: Setting::Value(count), .. } => {
                    (1..=*count).map(|number| format!("{name} {number}")).collect()
                }
                // Each of these may become several jobs.
                Strategy::Matrix { .. } | Strategy::Parallel { .. } => vec![format!("{name} {LATER_LEG}"); 2],
                Strategy::Single => vec![name.clone()],
            }
        })
        .collect()
}
