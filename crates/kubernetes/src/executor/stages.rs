//! How long the pod of a job takes to begin, by stage.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::agent_state;
use crate::controller::Watcher;

/// How far the pod of a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodStage {
    /// The API server has it.
    Created,
    /// It has a node.
    Scheduled,
    /// Its worker's container runs.
    Running,
    /// Its worker has the job.
    Claimed,
}

impl PodStage {
    /// All, in their order.
    pub const ALL: [Self; 4] = [Self::Created, Self::Scheduled, Self::Running, Self::Claimed];
}

/// The stages of one job's pod, counted from when the job was accepted.
pub(super) struct Stages {
    accepted: Instant,
    reached: usize,
    /// Who is told of each stage once; nobody of a pod that was there before us.
    watcher: Option<Arc<dyn Watcher>>,
}

impl Stages {
    pub(super) fn new(watcher: Option<Arc<dyn Watcher>>) -> Self {
        Self { accepted: Instant::now(), reached: 0, watcher }
    }

    /// The pod has come that far, and so past all stages before.
    pub(super) fn reached(&mut self, stage: PodStage) {
        let Some(watcher) = &self.watcher else { return };
        let took = self.accepted.elapsed();
        for reached in PodStage::ALL.into_iter().skip(self.reached).take_while(|reached| *reached <= stage) {
            watcher.pod_reached(reached, took);
            self.reached += 1;
        }
    }

    /// What a look at the pod tells.
    pub(super) fn look(&mut self, pod: &Pod) {
        if agent_state(pod).is_some_and(|state| state.running.is_some()) {
            self.reached(PodStage::Running);
        } else if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            self.reached(PodStage::Scheduled);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use super::*;

    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<(PodStage, Duration)>>);

    impl Watcher for Told {
        fn ready(&self) {}
        fn event(&self, _: &Arc<str>, _: &dayfly_listener::Event) {}
        fn connection(&self, _: &str, _: Option<bool>) {}
        fn failed(&self, _: &'static str) {}
        fn pod_reached(&self, stage: PodStage, took: Duration) {
            self.0.lock().unwrap().push((stage, took));
        }
    }

    #[test]
    fn each_stage_is_told_once_also_one_that_was_passed_unseen() {
        let told = Arc::new(Told::default());
        let mut stages = Stages::new(Some(told.clone()));
        stages.reached(PodStage::Created);
        let pod = serde_json::json!({
            "spec": { "containers": [], "nodeName": "one" },
            "status": { "containerStatuses": [{
                "name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": { "running": {} },
            }] },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        stages.look(&pod);
        stages.look(&pod);
        stages.reached(PodStage::Claimed);
        let told = told.0.lock().unwrap();
        let reached: Vec<_> = told.iter().map(|(stage, _)| *stage).collect();
        assert_eq!(reached, PodStage::ALL);
        assert!(told.is_sorted_by_key(|(_, took)| *took) && told[1].1 == told[2].1, "{told:?}");
    }
}
