//! Azure DevOps over HTTP, as an agent needs it: authentication, retries, rate limits, typed calls.
//!
//! ```text
//! Connection --typed call--> Request --transport--> HTTP client (one for calls, several for long polls)
//!                                        |  ^
//!                              login: PAT, bearer, agent's JWT (clock correction), Entra ID (token cell)
//! ```
//!
//! A [`Connection`] is an organization's (or collection's) address with a [`Credential`]. It is cheap: ten
//! thousand agents have ten thousand connections over one set of HTTP clients
//! ([`Connection::with_credential`]). Its methods are the typed calls, one file per resource in `calls/`.
//!
//! **Waiting.** Each call has a deadline over all its attempts ([`HttpSettings::call_deadline`],
//! [`Connection::with_deadline`]); dropping its future cancels it at once and closes what it held. Which
//! calls are repeated after which failures is decided in one place, [`Operation`].
//!
//! **Errors.** [`Error`] names the call, its object and the service's own message. [`Error::kind`] goes by
//! the body's `typeKey` first, since the service's HTTP status says little (`WrappedException.cs`).
//!
//! **Redirects** are not followed: Azure DevOps redirects to a sign-in page where other services answer 401.
//! Only downloads follow them.
//!
//! This crate reads no environment variable for its settings; proxies and certificate files are given to it.
//! The system's certificate authorities are loaded at the first `https` call and never for plain `http`.

mod answer;
mod calls;
mod clock;
mod connection;
mod download;
mod error;
mod file;
mod login;
mod observer;
mod operation;
mod polls;
mod request;
mod retry;
mod settings;
mod throttle;
mod tls;
mod transport;

pub use calls::artifacts::ContainerUpload;
pub use calls::builds::BuildQuery;
pub use calls::plans::JobPlan;
pub use connection::Connection;
pub use error::{Call, Error, ErrorKind, Result, ServiceAnswer, describe};
pub use file::{open_file, open_file_blocking};
pub use login::{
    AgentCredential, Credential, ENTRA_AUTHORITY, EntraApplication, EntraCredential, INSTANCE_METADATA,
};
pub use observer::Observer;
pub use operation::{Operation, Repeat};
pub use request::Content;
pub use retry::{Again, Backoff, RetryPolicy, pause_around, random_pause};
pub use settings::{HttpSettings, ProxySettings};
