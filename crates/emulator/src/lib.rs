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

mod app;
mod clock;
mod emulator;
mod events;
mod faults;
mod http;
pub mod runs;
mod settings;
mod state;
mod stores;

pub use clock::Clock;
pub use emulator::{Emulator, Error};
pub use events::{CompletionReason, Event, JobChange, JobSignal};
pub use faults::{ActiveFault, Error as FaultError, Fault, FaultRule};
pub use runs::compile::Error as QueueError;
pub use settings::{AccessToken, Library, Limits, Scope, Settings};
pub use state::jobs::NewJob;
pub use state::{Error as StateError, Statistics};
pub use stores::containers::Error as ContainerError;
pub use stores::disk::Full as DiskFull;
pub use stores::tasks::Error as TasksError;
pub use stores::{git, snapshot};
