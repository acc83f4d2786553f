//! Which stages and jobs of a plan are wanted.

use std::collections::BTreeSet;

use crate::{
    plan::Plan,
    schema::{closest, listed},
};

/// Names of stages or jobs that the plan does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline has no {kind} {names}{hint}", names = listed(.names), hint = .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct UnknownNames {
    /// `stage` or `job`.
    pub kind: &'static str,
    /// The names.
    pub names: Vec<String>,
    /// What was perhaps meant.
    pub hint: Option<String>,
}

/// For each stage and each of its jobs whether it is wanted.
pub(super) fn select(
    plan: &Plan,
    stages: &[String],
    jobs: &[String],
) -> Result<Vec<Vec<bool>>, UnknownNames> {
    let stage_names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    let unknown: Vec<&String> = stages
        .iter()
        .filter(|wanted| !stage_names.iter().any(|name| name.eq_ignore_ascii_case(wanted)))
        .collect();
    if !unknown.is_empty() {
        return Err(unknown_names("stage", &unknown, &stage_names));
    }
    let matches = |wanted: &str, stage: &str, job: &str| {
        wanted.eq_ignore_ascii_case(job) || wanted.eq_ignore_ascii_case(&format!("{stage}.{job}"))
    };
    let every_job =
        || plan.stages.iter().flat_map(|stage| stage.jobs.iter().map(move |job| (&stage.name, &job.name)));
    let unknown: Vec<&String> =
        jobs.iter().filter(|wanted| !every_job().any(|(stage, job)| matches(wanted, stage, job))).collect();
    if !unknown.is_empty() {
        let names: BTreeSet<&str> = every_job().map(|(_, job)| job.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        return Err(unknown_names("job", &unknown, &names));
    }
    Ok(plan
        .stages
        .iter()
        .map(|stage| {
            let stage_wanted =
                stages.is_empty() || stages.iter().any(|wanted| wanted.eq_ignore_ascii_case(&stage.name));
            let wanted =
                |job: &str| jobs.is_empty() || jobs.iter().any(|wanted| matches(wanted, &stage.name, job));
            stage.jobs.iter().map(|job| stage_wanted && wanted(&job.name)).collect()
        })
        .collect())
}

fn unknown_names(kind: &'static str, unknown: &[&String], known: &[&str]) -> UnknownNames {
    let best = unknown.first().and_then(|name| closest(name, known.iter().copied()));
    let hint = match best {
        Some(best) => Some(format!("did you mean `{best}`?")),
        None if !known.is_empty() && known.len() <= 20 => Some(format!("it has {}", listed(known))),
        None => None,
    };
    UnknownNames { kind, names: unknown.iter().map(|name| (*name).clone()).collect(), hint }
}
