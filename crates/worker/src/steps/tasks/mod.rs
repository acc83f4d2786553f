//! The host for tasks that are downloaded: packages from the service, run by Node (`TaskManager.cs`,
//! `NodeHandler.cs`).
//!
//! All packages of a job are there before its first step runs, in the folder where the official agent keeps
//! them, so that either finds what the other has downloaded. A package that cannot be had fails the steps
//! that need it, not the job: a condition may skip them.

mod environment;
mod manifest;
mod node;
mod package;

use manifest::{Input, Manifest};

pub(crate) use manifest::Stage;
pub(crate) use node::run;
pub(crate) use package::{Package, Packages};
