//! What the agent tells on standard output and standard error: lines for people, in the official agent's
//! words where it has some, or JSON objects.
//!
//! News goes to standard output, warnings and errors to standard error, in either form.

use std::{fmt, process::ExitCode, sync::Arc};

use dayfly_client::describe;
use dayfly_listener::{AgentEnd, Event, JobLabel, NextEvent};
use dayfly_protocol::{AgentId, BuildId, JobId, RequestId};
use serde::Serialize;

use crate::{args::LogFormat, output};

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Level {
    Info,
    Warning,
    Error,
}

/// Something to tell. The members of its JSON are documented for users (`docs/agent.md`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    time: String,
    level: Level,
    event: &'static str,
    message: String,
    #[serde(flatten)]
    details: Details,
}

/// What a line is about.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<BuildId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    away_seconds: Option<u64>,
}

impl Details {
    fn agent(agent: impl fmt::Display) -> Self {
        Self { agent: Some(agent.to_string()), ..Self::default() }
    }

    fn job(agent: impl fmt::Display, job: JobLabel) -> Self {
        Self {
            job: Some(job.name.to_string()),
            job_id: Some(job.id),
            request_id: Some(job.request),
            build_id: job.build,
            ..Self::agent(agent)
        }
    }
}

/// Tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Teller(pub(super) LogFormat);

impl Teller {
    /// Tells what happened to an agent.
    pub(super) fn event(self, event: NextEvent) -> std::io::Result<()> {
        let event = match event {
            NextEvent::Event(event) => event,
            NextEvent::Missed(count) => {
                let text = format!("{count} events were not shown");
                return self.line(Level::Warning, "missed", text, Details::default());
            }
            NextEvent::Closed => return Ok(()),
        };
        match event {
            Event::Registered { agent, id, .. } => {
                let text = format!("Agent {agent} has number {id}");
                let details = Details { agent_id: Some(id), ..Details::agent(agent) };
                self.line(Level::Info, "registered", text, details)
            }
            Event::Online { agent } => {
                self.line(Level::Info, "online", "Listening for Jobs".to_owned(), Details::agent(agent))
            }
            Event::JobResumed { agent, job, .. } => {
                let text = format!("Job {} goes on", job.name);
                self.line(Level::Info, "jobResumed", text, Details::job(agent, job))
            }
            Event::JobStarted { agent, job, .. } => {
                let text = format!("Running job: {}", job.name);
                self.line(Level::Info, "jobStarted", text, Details::job(agent, job))
            }
            Event::JobFinished { agent, job, result, reason, .. } => {
                let result = result.map(|result| result.name());
                let text = match result {
                    Some(result) => format!("Job {} completed with result: {result}", job.name),
                    None => format!("Job {} is over; the service does not say with which result", job.name),
                };
                let details = Details {
                    result,
                    reason: reason.clone().filter(|_| self.is_json()),
                    ..Details::job(agent, job)
                };
                self.line(Level::Info, "jobCompleted", text, details)?;
                if let Some(reason) = reason.filter(|_| !self.is_json()) {
                    output::note(&reason);
                }
                Ok(())
            }
            Event::Disconnected { agent, away, error } => {
                let text = match away.as_secs() / 60 {
                    _ if away.is_zero() => {
                        format!("Agent connect error: {error}. Retrying until reconnected.")
                    }
                    minutes => format!("Agent still not connected after {minutes} min: {error}"),
                };
                let details = Details { away_seconds: Some(away.as_secs()), ..Details::agent(agent) };
                self.line(Level::Warning, "disconnected", text, details)
            }
            Event::Reconnected { agent } => {
                let text = "Agent reconnected.".to_owned();
                self.line(Level::Info, "reconnected", text, Details::agent(agent))
            }
            Event::Warning { agent, message } => {
                self.line(Level::Warning, "warning", message, Details::agent(agent))
            }
            Event::Ended { agent, end } => self.ended(agent, end),
            _ => Ok(()),
        }
    }

    fn ended(self, agent: Arc<str>, end: AgentEnd) -> std::io::Result<()> {
        let (level, text, reason) = match end {
            AgentEnd::Revoked => (Level::Warning, "The agent's login was revoked.".to_owned(), "revoked"),
            AgentEnd::Deleted => (Level::Error, "The agent was deleted from its pool.".to_owned(), "deleted"),
            AgentEnd::Failed(failure) => (Level::Error, describe(&failure), "failed"),
            // People see that by themselves.
            AgentEnd::Once if self.is_json() => {
                (Level::Info, "The agent has run its one job.".to_owned(), "once")
            }
            _ if self.is_json() => (Level::Info, "The agent was stopped.".to_owned(), "stopped"),
            _ => return Ok(()),
        };
        let details = Details { reason: Some(reason.to_owned()), ..Details::agent(agent) };
        self.line(level, "ended", text, details)
    }

    /// Tells where health and metrics are.
    pub(super) fn serving(self, address: std::net::SocketAddr) -> std::io::Result<()> {
        self.line(
            Level::Info,
            "serving",
            format!("Health and metrics at http://{address}"),
            Details::default(),
        )
    }

    /// Tells that the service cannot be had so far.
    pub(super) fn still_connecting(self, text: String) {
        // Nobody can be told when standard error is gone; so below.
        let _ = self.line(Level::Warning, "connecting", text, Details::default());
    }

    /// Tells what a signal does.
    pub(super) fn stopping(self, text: &str) {
        match self.0 {
            LogFormat::Text => output::note(text),
            LogFormat::Json => {
                let _ = self.line(Level::Warning, "stopping", text.to_owned(), Details::default());
            }
        }
    }

    /// Tells something about the way the agent was started.
    pub(super) fn advice(self, text: &str) {
        match self.0 {
            LogFormat::Text => output::note(&format!("warning: {text}")),
            LogFormat::Json => {
                let _ = self.line(Level::Warning, "warning", text.to_owned(), Details::default());
            }
        }
    }

    /// Tells that the way the agent was started is wrong; the exit code for that.
    pub(super) fn usage_error(self, text: &str) -> ExitCode {
        match self.0 {
            LogFormat::Text => output::usage_error(text),
            LogFormat::Json => {
                let _ = self.line(Level::Error, "usage", text.to_owned(), Details::default());
                ExitCode::from(output::EXIT_USAGE)
            }
        }
    }

    /// Tells why the agent cannot go on; the exit code for that.
    pub(super) fn failure(self, error: &anyhow::Error) -> ExitCode {
        match self.0 {
            LogFormat::Text => output::print_error(error),
            LogFormat::Json => {
                let _ = self.line(Level::Error, "failed", describe(error.as_ref()), Details::default());
            }
        }
        ExitCode::from(output::EXIT_FAILED)
    }

    fn is_json(self) -> bool {
        self.0 == LogFormat::Json
    }

    fn line(
        self,
        level: Level,
        event: &'static str,
        message: String,
        details: Details,
    ) -> std::io::Result<()> {
        let now = jiff::Timestamp::now();
        let line = match self.0 {
            LogFormat::Text => format!("{}: {message}", now.strftime("%Y-%m-%d %H:%M:%SZ")),
            LogFormat::Json => {
                let line = Line { time: format!("{now:.3}"), level, event, message, details };
                serde_json::to_string(&line)?
            }
        };
        match level {
            Level::Info => output::write(&format!("{line}\n")),
            Level::Warning | Level::Error => {
                output::note(&line);
                Ok(())
            }
        }
    }
}
