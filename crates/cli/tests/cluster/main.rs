//! Jobs in pods of a real cluster, from the queue to the result. `.ci/run cluster` says what these tests
//! need; without it they say so and do nothing.

#![expect(clippy::print_stderr, reason = "who runs the tests is told what they need, and what went wrong")]

mod builds;
mod changes;
mod connections;
mod containers;
mod crashes;
mod deployments;
mod jobs;
mod on_kubernetes;
mod outages;
mod overrides;
mod registry;
mod secrets;
mod service;
mod takeover;
mod trouble;
mod world;
