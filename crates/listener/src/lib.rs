//! Virtual agents, job leases, and the Executor trait with the process executor.
//!
//! An [`AgentSet`] registers agents in a pool and holds a session for each: an async task and a long poll, no
//! machine. When the service gives a job to one of them, a lease takes it: renews its lock, deletes its
//! message, has an [`Executor`] start a worker, passes on cancellations, and sees to it that exactly one
//! result is reported, whatever dies.
//!
//! Nothing here prints, reads the environment, or knows how a job's steps run; the worker talks to the
//! service by itself.

mod agents;
mod channel;
mod context;
mod description;
mod events;
mod executor;
mod failures;
mod lease;
mod notes;
mod service;
mod store;
mod timings;

pub use agents::{
    phase::{Phase, Wanted},
    registration::{OWNER_CAPABILITY, OnExisting, Registrar},
    set::{AgentSet, Agents, CONNECTING_AGENTS, Config, Error, ExistingAgent, Stopper},
    summary::Summary,
};
pub use channel::{Arrival, Expectation, Gate, Host, Hosting, Identify, KnownBy, LastLines, Link, Parted};
pub use description::Description;
pub use events::{AgentEnd, Event, EventStream, JobLabel, Next as NextEvent};
pub use executor::{
    AcceptedJob, Controls, DetachedExecutor, Ending, Executor, ProcessExecutor, RunningJob, WorkerEvent,
    WorkerExit, converse, listed_environment,
};
pub use failures::{AgentFailure, RegistrationError};
pub use notes::{Note, Progress};
pub use store::{
    Accepted, Cancelled, Change, Claim, ClaimError, DiskError, InMemory, JobRecord, JobStore, Ledger, OnDisk,
    RegisteredSet, Registration, RegistrationStore, Reported, Result as StoreResult, SavedSession, Stage,
    StoreError, Verdict,
};
#[doc(hidden)]
pub use timings::Timings;
