//! Tests of the Kubernetes parts.

mod definitions;
mod pod;
