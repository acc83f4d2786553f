//! Wire types and cryptography of the Azure Pipelines agent protocol.
//!
//! One file per resource of the service. Nothing here does I/O or looks at a clock. Both sides of the wire
//! use these types: `client` and `worker` on one side, `emulator` on the other.
//!
//! The service is .NET, so its JSON habits differ from serde's defaults: property names are camelCase when
//! written and read without regard to case, enums are strings or numbers, lists are wrapped. Always decode
//! bytes from the network with [`json::from_slice`], never with `serde_json` directly.

pub mod agent;
pub mod agent_files;
pub mod artifact;
pub mod build;
pub mod channel;
pub mod connection;
pub mod containers;
pub mod crypto;
pub mod error;
pub mod ids;
pub mod job;
pub mod job_request;
pub mod json;
pub mod logs;
pub mod message;
pub mod plan;
pub mod pool;
pub mod registries;
pub mod result;
pub mod secrets;
pub mod session;
pub mod task;
pub mod test_results;
pub mod time;
pub mod timeline;

pub use ids::{
    AgentId, BuildId, ContainerId, JobId, LogId, MessageId, PlanId, PoolId, ProjectId, QueueId, RecordId,
    RequestId, SessionId, TaskId, TimelineId,
};
pub use json::ListOf;
pub use result::TaskResult;
pub use time::{DateTime, TimeSpan};
