//! The client against real HTTP servers that follow a script.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail where it is")]

mod calls;
mod downloads;
mod entra;
mod login;
mod pages;
mod proxy;
mod retries;
mod server;
mod throttling;
mod tls;
mod waiting;
