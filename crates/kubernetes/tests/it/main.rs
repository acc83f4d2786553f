//! Tests of the Kubernetes parts.

mod api_server;
mod definitions;
mod pod;
mod store;
