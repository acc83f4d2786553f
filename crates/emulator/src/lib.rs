//! An Azure DevOps on this machine: pools, agents, sessions, queue, plans, logs, tasks, repositories.
//!
//! [`Emulator::start`] listens on a port of loopback and answers the REST calls of agents, of Dayfly, of
//! KEDA's scaler and of Microsoft's client libraries. It is not a mock: sessions expire, locks run out,
//! messages are encrypted and come again until they are deleted, each token may do only what it should, and a
//! job has exactly one result.
//!
//! - `state`: all that it knows, in plain maps behind one lock; functions take `now` and do no I/O.
//! - `http`: one file per resource; what a caller may do is checked there.
//! - [`runs`]: pipelines from a request to a result, one orchestration each; `queue` reads and compiles,
//!   `state::engine` drives.
//! - [`snapshot`] and [`git`]: a user's present work tree as a commit, and repositories served to git.
//!   `tasks` and `containers`: what agents download and upload. `disk`: how much of it may be kept.
//! - [`faults`]: requests which are to fail, and how. [`events`]: what happens, for who asks.

pub mod clock;
pub mod events;
pub mod faults;
pub mod git;
pub mod runs;
pub mod settings;
pub mod snapshot;

mod app;
mod containers;
mod control;
mod disk;
mod emulator;
mod http;
mod predefined;
mod queue;
mod single_job;
mod state;
mod tasks;

pub use clock::Clock;
pub use containers::Error as ContainerError;
pub use disk::Full as DiskFull;
pub use emulator::{Emulator, Error, Statistics};
pub use events::{CompletionReason, JobChange, JobSignal};
pub use faults::{Fault, FaultRule};
pub use predefined::Predefined;
pub use queue::Error as QueueError;
pub use settings::{AccessToken, Limits, Scope, Settings};
pub use state::Error as StateError;
pub use state::jobs::NewJob;
pub use tasks::Error as TasksError;
