//! The step host: the process by which steps are started in another container than the worker's.
//!
//! It is the first process of that container, and it does nothing but start processes, pass signals on and
//! tell how they ended. What a step writes does not go through it: the worker makes the pipes and hands their
//! ends over with the request (`SCM_RIGHTS`), so that both ways to run a step are the same from there on.
//!
//! The worker listens on a socket in a folder that only the two containers have. The step host connects once,
//! before there is any step; then the worker removes the socket, so that nobody can take the host's part.
//! Steps cannot reach the connection: a process that is not dumpable keeps its file descriptors to itself,
//! and the first process of a container gets no signal from inside that it has not asked for.

mod client;
mod server;
mod user;
mod wire;

pub(crate) use client::{Remote, Request, StepHost, StepHosts, Unreachable};
pub use server::{ServeHostError, serve as serve_steps};
pub use user::{StepUser, UserError, become_user};
