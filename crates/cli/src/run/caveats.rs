//! What a pipeline asks for that a run does not do, as far as it is known before the run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dayfly_emulator::runs::runs_on_server;
use dayfly_pipelines::plan::{Container, Job, Legs, Pool, Stage, Step, Strategy, TaskReference, Variable};
use dayfly_pipelines::{Location, Plan};
use dayfly_protocol::task::{BASH, CHECKOUT, CMD_LINE, DOWNLOAD_SECURE_FILE, MANUAL_VALIDATION, POWERSHELL};
use dayfly_worker::{NoEngine, container_engine};

use super::on::On;
use super::tasks::{Pulled, State, short};
use super::validations::Decider;

/// What the wanted jobs ask for, each kind with the names of what does.
#[derive(Debug, Default)]
struct Wishes {
    images: BTreeSet<String>,
    /// Tasks that nothing here can run, and those whose steps are left out, each with where it is first.
    tasks: BTreeMap<String, String>,
    left_out: BTreeMap<String, String>,
    /// Jobs that may need an engine for containers, and why there is none.
    containers: BTreeSet<String>,
    no_engine: String,
    /// Jobs that wait for a validation which nobody can give.
    validations: BTreeSet<String>,
    /// Shells that are not on the PATH.
    shells: BTreeSet<&'static str>,
}

/// Sentences for whoever starts a run of the wanted jobs.
pub(crate) fn caveats(
    plan: &Plan,
    wanted: &[Vec<bool>],
    on: On,
    decider: Decider,
    pulled: &Pulled,
    no_engine: Option<&NoEngine>,
) -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| dayfly_processes::programs::find(program, &path).is_some();
    let mut wishes = Wishes::default();
    for (stage, job) in wanted_jobs(plan, wanted) {
        wishes.add(plan, stage, job, on, has);
        wishes.add_tasks(job, pulled);
    }
    if decider != Decider::Nobody {
        wishes.validations.clear();
    }
    if on == On::Kubernetes {
        // Pods have containers, and shells of their own.
        wishes.containers.clear();
        wishes.shells.clear();
        return wishes.sentences("in Linux pods");
    }
    match no_engine {
        Some(reason) => wishes.no_engine = reason.to_string(),
        None => wishes.containers.clear(),
    }
    wishes.sentences(&format!("on this {} machine", system_name()))
}

impl Wishes {
    fn add(&mut self, plan: &Plan, stage: &Stage, job: &Job, on: On, has: impl Fn(&str) -> bool) {
        let name = || format!("`{}`", job.name);
        let images = foreign_images(plan, stage, job, on);
        self.images.extend(images.into_iter().map(|image| format!("`{image}`")));
        if needs_engine(job) {
            self.containers.insert(name());
        }
        if steps(job).any(|step| step.task.id == MANUAL_VALIDATION) {
            self.validations.insert(name());
        }
        for step in steps(job) {
            self.shells.extend(
                shells(step)
                    .filter(|programs| !programs.iter().any(|one| has(one)))
                    .map(|programs| programs[0]),
            );
        }
    }

    fn add_tasks(&mut self, job: &Job, pulled: &Pulled) {
        for step in steps(job) {
            let tasks = match pulled.state(&step.task) {
                State::Missing => &mut self.tasks,
                State::LeftOut => &mut self.left_out,
                State::BuiltIn | State::Pulled | State::StandsIn => continue,
            };
            tasks.entry(short(&step.task)).or_insert_with(|| place(step));
        }
    }

    /// `place`: where jobs run, in words.
    fn sentences(self, place: &str) -> Vec<String> {
        let mut sentences = Vec::new();
        let mut say = |names: BTreeSet<String>, sentence: &dyn Fn(&str) -> String| {
            if !names.is_empty() {
                let names: Vec<_> = names.into_iter().collect();
                sentences.push(sentence(&names.join(", ")));
            }
        };
        say(self.images, &|images| {
            format!("jobs for {images} will run {place}; `--skip-foreign` leaves them out")
        });
        let with_places = |tasks: BTreeMap<String, String>| {
            tasks.into_iter().map(|(task, place)| format!("`{task}`{place}")).collect::<BTreeSet<_>>()
        };
        say(with_places(self.tasks), &|tasks| {
            format!(
                "Dayfly cannot run {tasks}: these steps will fail unless a condition skips them; \
                 `--skip-task NAME` leaves them out, `dayfly tasks pull` fetches them from your organization"
            )
        });
        say(with_places(self.left_out), &|tasks| {
            format!("steps of {tasks} will be left out: what they act on is reached from Azure DevOps only")
        });
        say(self.containers, &|jobs| {
            format!("{jobs} will fail unless a condition skips them: {}", self.no_engine)
        });
        say(self.validations, &|jobs| {
            format!("{jobs} will fail: there is no terminal to ask on; `--approve` approves all validations")
        });
        for shell in self.shells {
            sentences.push(match shell {
                "pwsh" => "`pwsh` is not on the PATH: PowerShell steps will fail unless an earlier step \
                           installs it (https://aka.ms/install-powershell)"
                    .to_owned(),
                shell => format!(
                    "`{shell}` is not on the PATH: its steps will fail unless an earlier step installs it"
                ),
            });
        }
        sentences
    }
}

/// The jobs that are wanted, each with its stage.
pub(super) fn wanted_jobs<'a>(
    plan: &'a Plan,
    wanted: &'a [Vec<bool>],
) -> impl Iterator<Item = (&'a Stage, &'a Job)> {
    plan.stages.iter().zip(wanted).flat_map(|(stage, wanted)| {
        let jobs = stage.jobs.iter().zip(wanted).filter(|(_, wanted)| **wanted);
        jobs.map(move |(job, _)| (stage, job))
    })
}

/// Whether a job has containers, of its own, beside it or for single steps.
pub(crate) fn needs_engine(job: &Job) -> bool {
    job.container.is_some() || !job.services.is_empty() || targets_containers(job)
}

/// Whether steps of a job run in containers that the job itself does not.
pub(crate) fn targets_containers(job: &Job) -> bool {
    container_targets(job).next().is_some()
}

fn container_targets(job: &Job) -> impl Iterator<Item = &Step> {
    steps(job).filter(|step| {
        let target = step.target.as_ref().and_then(|target| target.container.as_deref());
        target.is_some_and(|target| !target.is_empty() && !target.eq_ignore_ascii_case("host"))
    })
}

/// Why this machine has no containers for the wanted jobs, if they want some and are to run here.
pub(crate) async fn no_engine(plan: &Plan, wanted: &[Vec<bool>], on: On) -> Option<NoEngine> {
    if on == On::Kubernetes || !wanted_jobs(plan, wanted).any(|(_, job)| needs_engine(job)) {
        return None;
    }
    container_engine(std::env::vars_os().collect()).await.err()
}

/// What is wrong if wanted jobs that run for certain need an engine for containers, and there is none.
pub(crate) fn containers_without_engine(
    plan: &Plan,
    wanted: &[Vec<bool>],
    reason: &NoEngine,
) -> Option<String> {
    let jobs = wanted_jobs(plan, wanted).filter(|(stage, job)| is_certain(stage, job));
    let jobs: Vec<_> = jobs.filter_map(|(_, job)| certain_containers(job)).collect();
    (!jobs.is_empty()).then(|| {
        format!(
            "nothing was run: {} cannot run here: {reason}. Install or start one of them \
             (https://docs.docker.com/engine/install, https://podman.io/docs/installation), run in a cluster \
             with `--on kubernetes`, or choose other jobs with `--job` or `--stage`",
            jobs.join(", ")
        )
    })
}

/// A job with its place if it has containers whatever its variables are.
fn certain_containers(job: &Job) -> Option<String> {
    // An expression may give no container.
    let is_open = matches!(&job.container, Some(Container::Text(text)) if text.contains("$["));
    let location = if (job.container.is_some() && !is_open) || !job.services.is_empty() {
        job.containers_location.as_ref()
    } else {
        container_targets(job).next()?.location.as_ref()
    };
    Some(format!("`{}`{}", job.name, in_brackets(location)))
}

/// Whether the conditions of a job and its stage, as long as all goes well, are true whatever its variables.
fn is_certain(stage: &Stage, job: &Job) -> bool {
    let holds = |condition: &Option<String>| {
        let condition = condition.as_deref().unwrap_or("true").trim();
        let known = ["true", "always()", "succeeded()", "succeededOrFailed()"];
        known.iter().any(|known| condition.eq_ignore_ascii_case(known))
    };
    holds(&stage.condition) && holds(&job.condition)
}

/// What is wrong if wanted jobs that run without an agent have tasks which only Azure DevOps runs.
pub(crate) fn unknown_on_server(plan: &Plan, wanted: &[Vec<bool>]) -> Option<String> {
    let steps = wanted_jobs(plan, wanted).flat_map(|(_, job)| server_steps(job));
    let unknown: BTreeSet<String> = steps
        .filter(|step| !runs_on_server(step.task.id))
        .map(|step| format!("`{}`{}", short(&step.task), place(step)))
        .collect();
    (!unknown.is_empty()).then(|| {
        format!(
            "Dayfly cannot run {}: in jobs of `pool: server` it runs Delay, InvokeRESTAPI and \
             ManualValidation; `--skip-task NAME` leaves other steps out",
            Vec::from_iter(unknown).join(", ")
        )
    })
}

/// A sentence on the secure files that steps of the wanted jobs download and that this run was not given.
pub(crate) fn missing_secure_files(
    plan: &Plan,
    wanted: &[Vec<bool>],
    given: &[(String, PathBuf)],
) -> Option<String> {
    let downloads = wanted_jobs(plan, wanted)
        .flat_map(|(_, job)| steps(job))
        .filter(|step| step.task.id == DOWNLOAD_SECURE_FILE);
    let missing: BTreeSet<String> = downloads
        .filter_map(|step| Some((step, step.inputs.get("secureFile")?.trim())))
        // What a variable names is known when the step runs.
        .filter(|(_, name)| !name.is_empty() && !name.contains("$("))
        .filter(|(_, name)| !given.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)))
        .map(|(step, name)| format!("`{name}`{}", place(step)))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "this run was not given the secure files {}: their steps will fail; name the files in the \
             `secure-files` of dayfly.toml, or leave the steps out with `--skip-task DownloadSecureFile`",
            Vec::from_iter(missing).join(", ")
        )
    })
}

/// Whether a step of the wanted jobs has a text for an input.
pub(crate) fn is_input(plan: &Plan, wanted: &[Vec<bool>], text: &str) -> bool {
    let mut inputs =
        wanted_jobs(plan, wanted).flat_map(|(_, job)| steps(job)).flat_map(|step| step.inputs.values());
    inputs.any(|value| value.trim().eq_ignore_ascii_case(text))
}

/// The steps of a job, or of its hooks, that run without an agent.
fn server_steps(job: &Job) -> impl Iterator<Item = &Step> {
    let of_hooks = hooks(job)
        .filter(|hook| hook.pool.as_ref().map_or(job.pool.server, |pool| pool.server))
        .flat_map(|hook| &hook.steps);
    job.steps.iter().filter(|_| job.pool.server).chain(of_hooks)
}

/// As people call the system that this runs on.
fn system_name() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "macOS",
        other => other,
    }
}

/// A word to whoever runs this by `sudo`, most likely without need.
pub(crate) fn of_sudo() -> Option<String> {
    let user = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty() && user != "root")?;
    nix::unistd::geteuid().is_root().then(|| {
        format!(
            "steps run as root, and what they leave behind belongs to root, not to `{user}`; leave out \
             `sudo` if you can"
        )
    })
}

/// The programs one of which a script step needs.
fn shells(step: &Step) -> impl Iterator<Item = &'static [&'static str]> {
    let shells: Option<&'static [&'static str]> = match step.task.id {
        CMD_LINE | BASH => Some(&["bash"]),
        POWERSHELL => Some(&["pwsh", "powershell"]),
        _ => None,
    };
    shells.into_iter()
}

/// The alias of the repository that a step checks out if it is not the pipeline's own.
pub(crate) fn foreign_repository(step: &Step) -> Option<&str> {
    let repository = step.inputs.get("repository").filter(|_| step.task.id == CHECKOUT)?;
    (!["self", "none"].iter().any(|known| known.eq_ignore_ascii_case(repository))).then_some(repository)
}

/// Whether a step checks out submodules.
fn wants_submodules(step: &Step) -> bool {
    let wish = step.inputs.get("submodules").filter(|_| step.task.id == CHECKOUT);
    wish.is_some_and(|wish| ["true", "recursive"].iter().any(|known| known.eq_ignore_ascii_case(wish)))
}

/// Whether a wanted job checks something out.
pub(crate) fn checks_out(plan: &Plan, wanted: &[Vec<bool>]) -> bool {
    wanted_jobs(plan, wanted).any(|(_, job)| steps(job).any(|step| step.task.id == CHECKOUT))
}

/// A sentence on the submodules which are not there, if the wanted jobs check out submodules.
pub(crate) fn missing_submodules(plan: &Plan, wanted: &[Vec<bool>], missing: &[String]) -> Option<String> {
    if missing.is_empty() || !wanted_jobs(plan, wanted).any(|(_, job)| steps(job).any(wants_submodules)) {
        return None;
    }
    let names: Vec<_> = missing.iter().map(|path| format!("`{path}`")).collect();
    Some(format!(
        "not checked out here, so jobs fetch from their URLs: {}; `git submodule update --init --recursive` \
         checks submodules out",
        names.join(", ")
    ))
}

/// The tasks of a plan, each with where it is first.
pub(crate) fn tasks(plan: &Plan) -> Vec<(TaskReference, String)> {
    let mut tasks = BTreeMap::new();
    for step in plan.stages.iter().flat_map(|stage| &stage.jobs).flat_map(steps) {
        tasks.entry(short(&step.task)).or_insert_with(|| (step.task.clone(), place(step)));
    }
    tasks.into_values().collect()
}

/// Where a step is written, as people and editors know it.
fn place(step: &Step) -> String {
    in_brackets(step.location.as_ref())
}

fn in_brackets(location: Option<&Location>) -> String {
    location.map(|place| format!(" ({}:{})", place.file, place.line)).unwrap_or_default()
}

/// The images of other operating systems that a job asks for.
pub(crate) fn foreign_images(plan: &Plan, stage: &Stage, job: &Job, on: On) -> BTreeSet<String> {
    let system = if on == On::Kubernetes { "linux" } else { std::env::consts::OS };
    let hooks = hooks(job).filter_map(|hook| hook.pool.as_ref());
    let images = std::iter::once(&job.pool).chain(hooks).flat_map(|pool| images(plan, stage, job, pool));
    images.filter(|image| is_foreign(image, system)).collect()
}

/// The images of a pool: a variable's name stands for its values in all legs.
fn images(plan: &Plan, stage: &Stage, job: &Job, pool: &Pool) -> Vec<String> {
    let Some(image) = &pool.vm_image else { return Vec::new() };
    let Some(name) = image.trim().strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')) else {
        return vec![image.clone()];
    };
    let value = |variables: &[Variable]| {
        let found = variables.iter().rev().find(|variable| variable.name.eq_ignore_ascii_case(name));
        found.map(|variable| variable.value.clone())
    };
    let outside =
        || value(&job.variables).or_else(|| value(&stage.variables)).or_else(|| value(&plan.variables));
    match &job.strategy {
        Strategy::Matrix { legs: Legs::List(legs), .. } => {
            legs.iter().filter_map(|leg| value(&leg.variables).or_else(outside)).collect()
        }
        _ => outside().into_iter().collect(),
    }
}

fn is_foreign(image: &str, here: &str) -> bool {
    let image = image.to_ascii_lowercase();
    let is_windows = image.starts_with("win") || image.starts_with("vs20");
    is_windows && here != "windows" || image.starts_with("macos") && here != "macos"
}

/// The hooks of a deployment.
pub(crate) fn hooks(job: &Job) -> impl Iterator<Item = &dayfly_pipelines::plan::Hook> {
    job.deployment.iter().flat_map(|deployment| {
        deployment.hooks.iter().chain(&deployment.on_success).chain(&deployment.on_failure)
    })
}

/// All steps of a job, also those of its hooks.
pub(crate) fn steps(job: &Job) -> impl Iterator<Item = &Step> {
    job.steps.iter().chain(hooks(job).flat_map(|hook| &hook.steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_other_systems_are_told_from_those_of_this() {
        for image in ["windows-latest", "vs2017-win2016", "macOS-14"] {
            assert!(is_foreign(image, "linux"), "{image}");
        }
        assert!(!is_foreign("ubuntu-latest", "linux"));
        assert!(!is_foreign("macOS-latest", "macos"));
        assert!(is_foreign("windows-2022", "macos"));
    }
}
