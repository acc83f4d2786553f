//! Virtual agents, job leases, and the Executor trait with the process executor.
//!
//! An [`AgentSet`] registers agents in a pool and holds a session for each: an async task and a long poll, no machine. When the service
//! gives a job to one of them, a lease takes it: renews its lock, deletes its message, has an [`Executor`] start a worker, passes on
//! cancellations, and sees to it that exactly one result is reported, whatever dies.
//!
//! Nothing here prints, reads the environment, or knows how a job's steps run; the worker talks to the service by itself.

mod agent_context;
mod agent_set;
mod backoff;
mod cancellation;
mod capabilities;
mod events;
mod executor;
mod job_message;
mod lease;
mod lines;
mod outage;
mod process;
mod program;
mod redact;
mod registration;
mod renewal;
mod report;
mod service;
mod timings;
mod virtual_agent;

pub use agent_set::{
    AgentSet, Agents, CONNECTING_AGENTS, Config, Description, Error, ExistingAgent, Stopper, Summary,
};
pub use capabilities::{Machine, scan as scan_capabilities};
pub use events::{AgentEnd, Event, EventStream, JobLabel, Next as NextEvent};
pub use executor::{
    AcceptedJob, Command, Controls, Executor, Progress, Reported, RunningJob, StartError, WorkerEvent,
    WorkerExit,
};
pub use process::{ProcessExecutor, listed_environment};
pub use registration::{Error as RegistrationError, OnExisting};
pub use timings::Timings;
