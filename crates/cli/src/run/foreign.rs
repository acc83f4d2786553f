//! Jobs for other systems, left out on request.

use dayfly_pipelines::Plan;
use dayfly_pipelines::plan::{Job, Leg, Legs, Strategy};

use super::caveats::foreign_images;
use super::on::On;

/// The names of those wanted jobs that are for the system on which jobs run here. The plan keeps only such
/// legs of their matrices; legs that are not written in the file all stay.
pub(crate) fn own_jobs(plan: &mut Plan, wanted: &[Vec<bool>], on: On) -> Vec<String> {
    let whole = plan.clone();
    let mut own = Vec::new();
    for ((stage, before), wanted) in plan.stages.iter_mut().zip(&whole.stages).zip(wanted) {
        let is_own = |job: &Job| foreign_images(&whole, before, job, on).is_empty();
        for (job, _) in stage.jobs.iter_mut().zip(wanted).filter(|(_, wanted)| **wanted) {
            match own_legs(job, is_own) {
                Some(legs) if legs.is_empty() => continue,
                Some(legs) => set_legs(job, legs),
                None if !is_own(job) => continue,
                None => {}
            }
            own.push(format!("{}.{}", stage.name, job.name));
        }
    }
    own
}

/// The legs of a job's matrix with which it is a job of this system, if its legs are written in the file.
fn own_legs(job: &Job, is_own: impl Fn(&Job) -> bool) -> Option<Vec<Leg>> {
    let Strategy::Matrix { legs: Legs::List(legs), .. } = &job.strategy else { return None };
    let alone = |leg: &&Leg| {
        let mut one = job.clone();
        set_legs(&mut one, vec![(*leg).clone()]);
        is_own(&one)
    };
    Some(legs.iter().filter(alone).cloned().collect())
}

fn set_legs(job: &mut Job, legs: Vec<Leg>) {
    if let Strategy::Matrix { legs: known, .. } = &mut job.strategy {
        *known = Legs::List(legs);
    }
}
