//! Which stages and jobs of a plan are wanted.

use std::collections::BTreeSet;

use crate::{
    identifiers::DEFAULT_NAME,
    plan::{Job, Leg, Legs, Plan, Stage, Strategy},
    schema::{closest, listed},
};

/// Names of stages or jobs that the plan does not have, or of jobs that are in none of the wanted stages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} no {kind} {names}{hint}", place = if *.in_stages { "the chosen stages have" } else { "the pipeline has" }, names = listed(.names), hint = .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct UnknownNames {
    /// `stage` or `job`.
    pub kind: &'static str,
    /// Whether some stages only were searched.
    pub in_stages: bool,
    /// The names.
    pub names: Vec<String>,
    /// What was perhaps meant.
    pub hint: Option<String>,
}

/// For each stage and each of its jobs whether it is wanted. Names match as they do in the service, whatever
/// their case.
///
/// # Errors
/// Names that the plan, or the part of it that is wanted, does not have.
pub fn select(plan: &Plan, stages: &[String], jobs: &[String]) -> Result<Vec<Vec<bool>>, UnknownNames> {
    let stage_names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    let unknown: Vec<&String> = stages
        .iter()
        .filter(|wanted| !stage_names.iter().any(|name| name.eq_ignore_ascii_case(wanted)))
        .collect();
    if !unknown.is_empty() {
        let mut error = unknown_names("stage", &unknown, &stage_names);
        if stage_names.as_slice() == [DEFAULT_NAME] {
            error.hint = Some("it has no stages; choose among its jobs".to_owned());
        }
        return Err(error);
    }
    let matches = |wanted: &str, stage: &str, job: &str| {
        wanted.eq_ignore_ascii_case(job) || wanted.eq_ignore_ascii_case(&format!("{stage}.{job}"))
    };
    let is_chosen = |stage: &Stage| {
        stages.is_empty() || stages.iter().any(|wanted| wanted.eq_ignore_ascii_case(&stage.name))
    };
    let chosen = || plan.stages.iter().filter(|stage| is_chosen(stage));
    let every_job = || chosen().flat_map(|stage| stage.jobs.iter().map(move |job| (&stage.name, &job.name)));
    let unknown: Vec<&String> =
        jobs.iter().filter(|wanted| !every_job().any(|(stage, job)| matches(wanted, stage, job))).collect();
    if !unknown.is_empty() {
        let names: BTreeSet<&str> = every_job().map(|(_, job)| job.as_str()).collect();
        let mut names: Vec<&str> = names.into_iter().collect();
        let legs: Vec<String> = chosen().flat_map(|stage| &stage.jobs).flat_map(leg_names).collect();
        let unknown_jobs = |names: &[&str]| UnknownNames {
            in_stages: !stages.is_empty(),
            ..unknown_names("job", &unknown, names)
        };
        // Whoever names a leg alone means the leg of its job.
        let is_alone = |leg: &&String| unknown.iter().any(|wanted| is_leg(leg, wanted));
        if let Some(leg) = legs.iter().find(is_alone) {
            let mut error = unknown_jobs(&[]);
            error.hint = Some(format!("did you mean `{leg}`?"));
            return Err(error);
        }
        // Whoever names a leg of a job wants to know the legs.
        let about_legs = |name: &&str| unknown.iter().any(|wanted| strip_prefix(wanted, name).is_some());
        if let Some(job) = names.iter().copied().find(about_legs) {
            let of_job: Vec<&str> =
                legs.iter().map(String::as_str).filter(|leg| strip_prefix(leg, job).is_some()).collect();
            if !of_job.is_empty() {
                names = of_job;
            }
        }
        return Err(unknown_jobs(&names));
    }
    Ok(plan
        .stages
        .iter()
        .map(|stage| {
            let wanted =
                |job: &str| jobs.is_empty() || jobs.iter().any(|wanted| matches(wanted, &stage.name, job));
            stage.jobs.iter().map(|job| is_chosen(stage) && wanted(&job.name)).collect()
        })
        .collect())
}

/// Takes the names of matrix legs, `JOB.LEG` or `STAGE.JOB.LEG`, among the wanted jobs: the plan keeps only
/// these legs of those jobs, and the answer names the jobs instead. Legs that are not written in the file
/// cannot be named.
pub fn select_legs(plan: &mut Plan, jobs: &[String]) -> Vec<String> {
    let is_job = |plan: &Plan, wanted: &str| {
        plan.stages.iter().any(|stage| {
            stage.jobs.iter().any(|job| {
                wanted.eq_ignore_ascii_case(&job.name)
                    || strip_prefix(wanted, &stage.name)
                        .is_some_and(|name| name.eq_ignore_ascii_case(&job.name))
            })
        })
    };
    let (mut selected, named): (Vec<String>, Vec<String>) =
        jobs.iter().cloned().partition(|wanted| is_job(plan, wanted));
    let whole = selected.clone();
    let mut found = vec![false; named.len()];
    for stage in &mut plan.stages {
        for job in &mut stage.jobs {
            let path = format!("{}.{}", stage.name, job.name);
            let Strategy::Matrix { legs: Legs::List(legs), .. } = &mut job.strategy else { continue };
            let wants = |wanted: &String, leg: &str| {
                let leg_of =
                    |job: &str| strip_prefix(wanted, job).is_some_and(|name| name.eq_ignore_ascii_case(leg));
                leg_of(&job.name) || leg_of(&path)
            };
            for (found, wanted) in found.iter_mut().zip(&named) {
                *found |= legs.iter().any(|leg| wants(wanted, &leg.name));
            }
            let is_whole =
                |name: &String| name.eq_ignore_ascii_case(&job.name) || name.eq_ignore_ascii_case(&path);
            let is_wanted = |leg: &Leg| named.iter().any(|wanted| wants(wanted, &leg.name));
            if legs.iter().any(is_wanted) && !whole.iter().any(is_whole) {
                legs.retain(is_wanted);
                selected.push(path);
            }
        }
    }
    // What is neither a job nor a leg stays, to be reported.
    selected.extend(named.into_iter().zip(found).filter(|(_, found)| !found).map(|(name, _)| name));
    selected
}

fn leg_names(job: &Job) -> Vec<String> {
    match &job.strategy {
        Strategy::Matrix { legs: Legs::List(legs), .. } => {
            legs.iter().map(|leg| format!("{}.{}", job.name, leg.name)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether `path`, as of [`leg_names`], ends with this leg.
fn is_leg(path: &str, leg: &str) -> bool {
    let head = path.len().checked_sub(leg.len() + 1);
    let tail = head.and_then(|head| path.get(head..)).and_then(|tail| tail.strip_prefix('.'));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(leg))
}

/// What follows `prefix` and a dot.
fn strip_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| text[prefix.len()..].strip_prefix('.')).flatten()
}

fn unknown_names(kind: &'static str, unknown: &[&String], known: &[&str]) -> UnknownNames {
    let best = unknown.first().and_then(|name| closest(name, known.iter().copied()));
    let hint = match best {
        Some(best) => Some(format!("did you mean `{best}`?")),
        None if !known.is_empty() && known.len() <= 20 => Some(format!("it has {}", listed(known))),
        None => None,
    };
    UnknownNames { kind, in_stages: false, names: unknown.iter().map(|name| (*name).clone()).collect(), hint }
}
