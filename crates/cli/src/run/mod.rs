//! `dayfly run` beside its arguments: the run itself, what happens in it, and how it is shown.

mod agents;
pub(crate) mod caveats;
mod change;
mod console;
pub(crate) mod engine;
pub(crate) mod inputs;
mod json;
pub(crate) mod keep;
mod lines;
pub(crate) mod list;
mod masking;
mod model;
pub(crate) mod pipeline;
mod screen;
mod summary;
pub(crate) mod warnings;
mod work_folder;
