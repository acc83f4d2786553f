//! What a run is started with.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use dayfly_protocol::{job::Variables, timeline::VariableValue};

/// Numbers for the expression function `counter`, kept over runs by the owner.
pub trait Counters: Send + Sync {
    /// The next number of the counter with this prefix: `seed` the first time, then one more each time.
    fn next(&self, prefix: &str, seed: i64) -> i64;
}

/// What a run is started with.
#[derive(Clone, Default)]
pub struct RunInputs {
    /// Variables given for the run, predefined ones and secrets included. Those written in the file win,
    /// except over read-only ones.
    pub variables: Variables,
    /// Run only these stages. Empty: all. What they depend on besides counts as succeeded.
    pub stages: Vec<String>,
    /// Run only these jobs (`Job` or `Stage.Job`). Empty: all. What they depend on besides counts as
    /// succeeded.
    pub jobs: Vec<String>,
    /// Which attempt at the run this is; 0 counts as the first.
    pub attempt: u32,
    /// `pipeline.startTime` in expressions, such as `2026-11-24 20:55:00+00:00`.
    pub start_time: String,
    /// Where `counter` gets its numbers.
    pub counters: RunCounters,
}

impl fmt::Debug for RunInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunInputs")
            .field("variables", &self.variables)
            .field("stages", &self.stages)
            .field("jobs", &self.jobs)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Values that a job's steps set for others: `step.variable` to value.
pub type Outputs = BTreeMap<String, VariableValue>;

/// The numbers of `counter` in one run, in which each counter has one value however often it is asked for.
/// Clones are the same.
#[derive(Clone, Default)]
pub struct RunCounters(Arc<OfRun>);

#[derive(Default)]
struct OfRun {
    source: Option<Arc<dyn Counters>>,
    taken: Mutex<BTreeMap<String, i64>>,
}

impl RunCounters {
    /// New values from `source`. Without one, as by default, every counter is at its seed.
    pub fn new(source: Arc<dyn Counters>) -> Self {
        Self(Arc::new(OfRun { source: Some(source), taken: Mutex::default() }))
    }

    pub(super) fn value(&self, prefix: &str, seed: i64) -> i64 {
        // A poisoned lock holds numbers that are still right.
        let mut taken = self.0.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *taken.entry(prefix.to_lowercase()).or_insert_with(|| match &self.0.source {
            Some(source) => source.next(prefix, seed),
            None => seed,
        })
    }
}
