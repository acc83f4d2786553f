//! The listener's end of the job channel.
//!
//! A [`Link`] is one connection, a [`Host`] what outlives connections: it gives a worker its orders and hears
//! its course, over one connection after the other. How connections come about, and who may have which job,
//! is the executor's business.

mod gate;
mod host;
mod link;

pub use self::{
    gate::{Arrival, Expectation, Gate, Hosting, Identify, KnownBy},
    host::{Host, LastLines, Parted},
    link::Link,
};
