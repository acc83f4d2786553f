//! Identifiers. Each is its own type, so that a pool's number cannot be taken for an agent's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = <$inner as FromStr>::Err;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }
    };
}

id!(
    /// An agent pool of the organization.
    PoolId(i32)
);
id!(
    /// A project's view of a pool.
    QueueId(i32)
);
id!(
    /// An agent registered in a pool.
    AgentId(i32)
);
id!(
    /// One job request of a pool's queue.
    RequestId(i64)
);
id!(
    /// A message in a session's queue; grows within a session.
    MessageId(i64)
);
id!(
    /// A log file of a plan; counts from 1 within the plan.
    LogId(i32)
);
id!(
    /// A build, which is what a run of a pipeline is called in the build API.
    BuildId(i32)
);
id!(
    /// A file container, where build artifacts are kept.
    ContainerId(i64)
);
id!(
    /// A project of the organization.
    ProjectId(Uuid)
);
id!(
    /// An orchestration plan: one run of a pipeline as the task service sees it.
    PlanId(Uuid)
);
id!(
    /// A timeline of a plan.
    TimelineId(Uuid)
);
id!(
    /// A job of a plan; also the id of its timeline record.
    JobId(Uuid)
);
id!(
    /// A record of a timeline. A step's id is its record's id.
    RecordId(Uuid)
);
id!(
    /// A session of an agent.
    SessionId(Uuid)
);
id!(
    /// A task definition, such as CmdLine.
    TaskId(Uuid)
);

impl From<JobId> for RecordId {
    /// A job's record in its timeline carries the job's id.
    fn from(job: JobId) -> Self {
        Self(job.0)
    }
}
