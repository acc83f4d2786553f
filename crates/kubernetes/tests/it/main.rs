//! Tests of the Kubernetes parts.

mod api_server;
mod definitions;
mod ownership;
mod pod;
mod store;
