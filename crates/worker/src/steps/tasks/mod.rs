//! The host for tasks that are downloaded: packages from the service, run by Node, PowerShell or as a program
//! (`TaskManager.cs`, `TaskRunner.cs`).
//!
//! All packages of a job are there before its first step runs, in the folder where the official agent keeps
//! them, so that either finds what the other has downloaded. A package that cannot be had fails the steps
//! that need it, not the job: a condition may skip them.

mod environment;
mod manifest;
mod node;
mod package;
mod powershell;
mod process;
mod run;
mod wishes;

use manifest::{Input, Manifest};

pub(crate) use manifest::Stage;
pub use package::{Error, keep};
pub(crate) use package::{Package, Packages};
pub(crate) use run::run;
pub(crate) use wishes::check;
