//! Logging commands: lines by which a step talks to the worker.
//!
//! Follows Microsoft's `WorkerCommandManager.cs`: a line that holds a well-formed command of a known area is
//! carried out and not printed; one that only looks like a command is printed after a warning; a command that
//! fails fails the step.

mod artifact;
mod build;
mod command;
mod restrictions;
mod results;
mod task;

pub(crate) use restrictions::Restrictions;
pub(crate) use task::Details;

use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;

use crate::context::StepContext;
pub(crate) use command::unescape;
pub use command::{Command, escape};

const DOCUMENTATION: &str = "http://go.microsoft.com/fwlink/?LinkId=817296";

/// Why a command was not carried out, in words for the step's log.
type CommandResult = Result<(), String>;

/// Carries out the command a line holds. Answers whether the line is done with; if not, it is to be printed.
pub(crate) async fn process(step: &StepContext, line: &str) -> bool {
    if memchr::memmem::find(line.as_bytes(), b"##vso").is_none() {
        return false;
    }
    let decode_percents = decodes_percents(step);
    let Some(command) = Command::parse(line, decode_percents) else {
        step.warning(&format!(
            "'{line}' contains logging command keyword '##vso', but it's not a legal command. Please see \
                the list of accepted commands: https://go.microsoft.com/fwlink/?LinkId=817296"
        ))
        .await;
        return false;
    };
    let area = command.area.to_ascii_lowercase();
    if !AREAS.contains(&area.as_str()) {
        step.warning(&format!(
            "Cannot find command extension for ##vso[{}.command]. Please reference documentation \
                ({DOCUMENTATION})",
            command.area
        ))
        .await;
        return true;
    }
    let host_type = step.job.host_type();
    if !is_supported(&area, &host_type) {
        step.error(&format!(
            "{} commands are not supported for {host_type} flow. Please reference documentation \
                ({DOCUMENTATION})",
            command.area
        ))
        .await;
        step.fail_command(TaskResult::Failed);
        return false;
    }
    if let Err(message) = dispatch(step, &area, &command).await {
        step.error(&format!(
            "Unable to process command '{line}' successfully. Please reference documentation \
                ({DOCUMENTATION})"
        ))
        .await;
        step.error(&message).await;
        step.fail_command(TaskResult::Failed);
    }
    if !(area == "task" && command.event.eq_ignore_ascii_case("debug")) {
        step.debug(&format!("Processed: {}", unescape(line, decode_percents))).await;
    }
    true
}

/// The areas the official worker has an extension for.
const AREAS: &[&str] = &["task", "build", "artifact", "release", "results", "codecoverage", "telemetry"];

/// Whether jobs of this kind may use the area.
fn is_supported(area: &str, host_type: &str) -> bool {
    match area {
        "artifact" => matches!(host_type, "build" | "release"),
        "release" => host_type == "release",
        _ => true,
    }
}

/// `DECODE_PERCENTS`, which is on unless the job turns it off.
pub(crate) fn decodes_percents(step: &StepContext) -> bool {
    step.job.with_variables(|variables| {
        variables.get("DECODE_PERCENTS").is_none_or(crate::variables::convert_to_boolean)
    })
}

/// A command's place in the table: what it is called and whether steps in restricted mode may use it.
struct Known {
    area: &'static str,
    event: &'static str,
    allowed_when_restricted: bool,
}

const fn known(area: &'static str, event: &'static str, allowed_when_restricted: bool) -> Known {
    Known { area, event, allowed_when_restricted }
}

/// Every command of the official worker.
const KNOWN: &[Known] = &[
    known("task", "logissue", true),
    known("task", "issue", true),
    known("task", "setprogress", true),
    known("task", "complete", true),
    known("task", "logdetail", true),
    known("task", "setvariable", true),
    known("task", "setsecret", true),
    known("task", "settaskvariable", true),
    known("task", "debug", true),
    known("task", "prependpath", true),
    known("task", "setendpoint", false),
    known("task", "addattachment", false),
    known("task", "uploadsummary", false),
    known("task", "uploadfile", false),
    known("build", "uploadlog", false),
    known("build", "uploadsummary", false),
    known("build", "updatebuildnumber", false),
    known("build", "addbuildtag", false),
    known("artifact", "associate", false),
    known("artifact", "upload", false),
    known("release", "updatereleasename", false),
    known("results", "publish", false),
    known("results", "publishtoevidencestore", false),
    known("codecoverage", "publish", false),
    known("codecoverage", "enable", false),
    known("telemetry", "publish", false),
];

async fn dispatch(step: &StepContext, area: &str, command: &Command) -> CommandResult {
    let event = command.event.to_ascii_lowercase();
    let Some(known) = KNOWN.iter().find(|known| known.area == area && known.event == event) else {
        return Err(format!(
            "##vso[{area}.{}] is not a recognized command for {} command extension. Please reference \
                documentation ({DOCUMENTATION}).",
            command.event, command.area
        ));
    };
    if step.restrictions.restricted && !known.allowed_when_restricted {
        step.warning(&format!(
            "##vso[{}.{}] is not allowed in this step due to policy restrictions. Please reference \
                documentation ({DOCUMENTATION})",
            command.area, command.event
        ))
        .await;
        return Ok(());
    }
    match (area, event.as_str()) {
        ("task", "logissue" | "issue") => task::log_issue(step, command).await,
        ("task", "setprogress") => task::set_progress(step, command),
        ("task", "complete") => task::complete(step, command),
        ("task", "logdetail") => task::log_detail(step, command),
        ("task", "setvariable") => task::set_variable(step, command).await,
        ("task", "setsecret") => task::set_secret(step, command),
        ("task", "settaskvariable") => task::set_task_variable(step, command).await,
        ("task", "debug") => {
            step.debug(&command.data).await;
            Ok(())
        }
        ("task", "prependpath") => task::prepend_path(step, command).await,
        ("task", "addattachment") => task::add_attachment(step, command).await,
        ("task", "uploadsummary") => task::upload_summary(step, command).await,
        ("task", "uploadfile") => task::upload_file(step, command).await,
        ("task", "setendpoint") => task::set_endpoint(step, command),
        ("build", "uploadlog") => build::upload_log(step, command).await,
        ("build", "uploadsummary") => build::upload_summary(step, command).await,
        ("build", "updatebuildnumber") => build::update_build_number(step, command).await,
        ("build", "addbuildtag") => build::add_build_tag(step, command).await,
        ("artifact", "associate") => artifact::associate(step, command).await,
        ("artifact", "upload") => artifact::upload(step, command).await,
        ("results", "publish") => results::publish(step, command).await,
        ("codecoverage", "publish") => results::publish_code_coverage(step, command).await,
        // Usage data for Microsoft, which this worker does not send.
        ("telemetry", "publish") => Ok(()),
        _ => Err(format!(
            "##vso[{area}.{event}] is not implemented by Dayfly's native worker; run jobs that need it on \
                Microsoft's agent"
        )),
    }
}

/// The file a command names: as it is, or below the default working directory when it is relative.
fn local_path(step: &StepContext, text: &str) -> PathBuf {
    let path = Path::new(text);
    if path.is_absolute() {
        return path.to_owned();
    }
    PathBuf::from(step.job.variable_or_empty("system.defaultworkingdirectory")).join(path)
}
