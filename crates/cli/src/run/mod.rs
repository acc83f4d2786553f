//! `dayfly run` beside its arguments: the run itself, what happens in it, and how it is shown.

mod agents;
pub(crate) mod caveats;
mod change;
pub(crate) mod console;
pub(crate) mod engine;
mod held;
pub(crate) mod history;
pub(crate) mod inputs;
mod json;
pub(crate) mod keep;
pub(crate) mod lines;
pub(crate) mod list;
mod masking;
pub(crate) mod model;
pub(crate) mod names;
pub(crate) mod pipeline;
pub(crate) mod repositories;
mod screen;
pub(crate) mod skip;
mod stale;
mod status;
mod step;
mod summary;
pub(crate) mod values;
pub(crate) mod warnings;
pub(crate) mod words;
mod work_folder;
