//! What may go wrong, with its kind and its cause: told to people at the edge only.

mod agent;
mod call;
mod registration;

pub(crate) use call::CallFailure;

pub use self::{agent::AgentFailure, registration::RegistrationError};
