//! `##vso[task.…]` (`TaskCommandExtension.cs`).

use std::collections::BTreeMap;
use std::path::Path;

use dayfly_protocol::logs::{ATTACHMENT_FILE, ATTACHMENT_SUMMARY};
use dayfly_protocol::timeline::{Issue, IssueType, TimelineRecord, TimelineRecordState};
use dayfly_protocol::{DateTime, RecordId, TaskResult, TimelineId};
use jiff::Timestamp;
use uuid::Uuid;

use super::command::{Command, escape, unescape};
use super::{CommandResult, Restrictions, decodes_percents, local_path};
use crate::context::{StepContext, lock};
use crate::files;
use crate::variables::{Flags, convert_to_boolean, environment_name};

const READ_ONLY_DETAILS: &str = "See \
    https://github.com/microsoft/azure-pipelines-yaml/blob/master/design/readonly-variables.md for details.";

/// An error or a warning, possibly about a place in a source file.
pub(super) async fn log_issue(step: &StepContext, command: &Command) -> CommandResult {
    let Some(kind) = command.property("type") else {
        step.warning("Can't create TaskIssue from logging event.").await;
        return Ok(());
    };
    let issue_type = if kind.eq_ignore_ascii_case("error") {
        IssueType::Error
    } else if kind.eq_ignore_ascii_case("warning") {
        IssueType::Warning
    } else {
        return Err(format!("issue type {kind} is not an expected issue type."));
    };
    let mut data: BTreeMap<String, String> =
        command.properties().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if step.job.with_variables(|variables| variables.is_on("ENABLE_ISSUE_SOURCE_VALIDATION")) {
        drop_source(step, &mut data).await;
    }
    let mut message = command.data.clone();
    let mut category = "General";
    if let Some(source) = command.property("sourcepath") {
        category = "Code";
        let source = relative_to_repository(step, source).await;
        let of = |name| command.non_empty(name);
        let place = place(&source, of("linenumber"), of("columnnumber"));
        let code = of("code").map(|code| format!(" {code}")).unwrap_or_default();
        message = format!("{place}: {kind}{code}: {message}");
        data.retain(|name, _| !name.eq_ignore_ascii_case("sourcepath"));
        data.insert("sourcepath".to_owned(), source);
    }
    step.issue(Issue { issue_type, category: Some(category.to_owned()), message, data }).await;
    Ok(())
}

/// A place as compilers write it: `Program.cs(13,18)`. What is not known is left out, so that editors and
/// terminals know it for a place.
fn place(source: &str, line: Option<&str>, column: Option<&str>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("{source}({line},{column})"),
        (Some(line), None) => format!("{source}({line})"),
        (None, _) => source.to_owned(),
    }
}

/// Takes away who an issue says it is from. Only tasks of the official worker are told the job's correlation
/// id, which would prove it (`TaskCommandExtension.ProcessIssueSource`).
async fn drop_source(step: &StepContext, data: &mut BTreeMap<String, String>) {
    let had_id = data.keys().any(|name| name.eq_ignore_ascii_case("correlationId"));
    data.retain(|name, _| !["source", "correlationId"].iter().any(|gone| name.eq_ignore_ascii_case(gone)));
    if had_id {
        step.debug("The task provided an invalid correlation ID when using the task.issue command.").await;
    }
}

/// A file's path below its repository, if it is a file of one.
async fn relative_to_repository(step: &StepContext, source: &str) -> String {
    let path = Path::new(source);
    if files::is_file(path).await {
        for repository in step.job.repositories() {
            if let Ok(relative) = path.strip_prefix(&repository.path) {
                return relative.to_string_lossy().into_owned();
            }
        }
    }
    source.to_owned()
}

pub(super) fn set_progress(step: &StepContext, command: &Command) -> CommandResult {
    let percent = command.property("value").and_then(|value| value.trim().parse::<i32>().ok()).unwrap_or(0);
    step.record.progress(Some(percent.clamp(0, 100)), some_text(&command.data));
    Ok(())
}

/// Ends a step with a result; `done=true` ends it even if its process goes on.
pub(super) fn complete(step: &StepContext, command: &Command) -> CommandResult {
    let result = command
        .non_empty("result")
        // .NET parses the names exactly here, unlike on the wire.
        .and_then(|text| TaskResult::ALL.iter().copied().find(|result| result.name() == text))
        .ok_or("Command doesn't have valid result value.")?;
    step.merge_result(result);
    step.record.progress(Some(100), some_text(&command.data));
    if command.non_empty("done").is_some_and(convert_to_boolean) {
        step.completed().cancel();
    }
    Ok(())
}

pub(super) async fn set_variable(step: &StepContext, command: &Command) -> CommandResult {
    let flags = flags(command);
    if flags.secret {
        hide(step, command);
    }
    let name = command
        .non_empty("variable")
        .ok_or("Required field 'variable' is missing in ##vso[task.setvariable] command.")?;
    warn_of_switches(step, command, name).await;
    let (read_only, refuses) = step.job.with_variables(|variables| {
        (variables.is_read_only(name), variables.get_boolean("agent.readonlyvariables").unwrap_or(false))
    });
    if read_only {
        warn_or_refuse(step, "variable", name, refuses).await?;
    }
    if flags.secret {
        refuse_lines(step, &command.data)?;
    }
    if Restrictions::check_settable(step, name).await {
        let output = command.flag("isoutput");
        if !output && !flags.secret {
            warn_of_namesake(step, name).await;
        }
        step.set_variable(name, &command.data, output, flags);
    }
    Ok(())
}

pub(super) async fn set_task_variable(step: &StepContext, command: &Command) -> CommandResult {
    let flags = flags(command);
    if flags.secret {
        hide(step, command);
    }
    let name = command
        .non_empty("variable")
        .ok_or("Required field 'variable' is missing in ##vso[task.settaskvariable] command.")?;
    warn_of_switches(step, command, name).await;
    let read_only = lock(&step.task_variables).is_read_only(name);
    if read_only {
        let refuses = step
            .job
            .with_variables(|variables| variables.get_boolean("agent.readonlyvariables").unwrap_or(false));
        warn_or_refuse(step, "task variable", name, refuses).await?;
    }
    if flags.secret {
        refuse_lines(step, &command.data)?;
    }
    lock(&step.task_variables).set(name, &command.data, flags);
    Ok(())
}

/// Masks a command's data as it is, as it would be escaped, and as it was written. To be done first: a
/// command that fails is quoted.
fn hide(step: &StepContext, command: &Command) {
    let decodes = decodes_percents(step);
    let escaped = escape(&command.data, decodes);
    step.job.masker.add_values([command.data.as_str(), &escaped, &command.written]);
    if !decodes {
        // The task library escapes percent signs whatever the job says, so this is what the task meant
        // (`TaskCommandHelper.AddSecret`).
        step.job.masker.add_value(&unescape(&command.data, true));
    }
}

/// Warns of switches that are neither on nor off. They count as off, as with the official worker, which says
/// nothing: a variable that was to be secret is not.
async fn warn_of_switches(step: &StepContext, command: &Command, name: &str) {
    for (switch, effect) in [
        ("issecret", "is not secret"),
        ("isoutput", "is not an output variable"),
        ("isreadonly", "can be overwritten"),
        ("preservecase", "gets an upper-case name in the environment"),
    ] {
        let unclear =
            command.property(switch).filter(|value| crate::variables::parse_boolean(value).is_none());
        if let Some(value) = unclear {
            step.warning(&format!(
                "`{switch}={value}` is neither `true` nor `false`, so the variable '{name}' {effect}."
            ))
            .await;
        }
    }
}

fn flags(command: &Command) -> Flags {
    Flags {
        secret: command.flag("issecret"),
        read_only: command.flag("isreadonly"),
        preserve_case: command.flag("preservecase"),
    }
}

/// Scripts find the variable that may not be written under the name in the environment which both have.
async fn warn_of_namesake(step: &StepContext, name: &str) {
    let namesake = step.job.with_variables(|variables| variables.read_only_namesake(name).map(str::to_owned));
    if let Some(namesake) = namesake {
        let in_environment = environment_name(name, false);
        step.warning(&format!(
            "The variable '{name}' was set, but the environment variable {in_environment} keeps the value \
                of the read-only variable '{namesake}', which has the same environment name."
        ))
        .await;
    }
}

async fn warn_or_refuse(step: &StepContext, what: &str, name: &str, refuses: bool) -> CommandResult {
    if refuses {
        return Err(format!("Overwriting readonly {what} '{name}' is not permitted. {READ_ONLY_DETAILS}"));
    }
    step.warning(&format!(
        "Overwriting readonly {what} '{name}'. This behavior will be disabled in the future. \
            {READ_ONLY_DETAILS}"
    ))
    .await;
    Ok(())
}

/// Secrets of several lines are refused, since a single line of one may be printed without being recognised.
fn refuse_lines(step: &StepContext, value: &str) -> CommandResult {
    let allowed = step.job.with_variables(|variables| variables.is_on("SYSTEM_UNSAFEALLOWMULTILINESECRET"));
    if value.contains('\n') && !allowed {
        Err("Secrets cannot contain multiple lines".to_owned())
    } else {
        Ok(())
    }
}

pub(super) fn set_secret(step: &StepContext, command: &Command) -> CommandResult {
    hide(step, command);
    Ok(())
}

pub(super) async fn prepend_path(step: &StepContext, command: &Command) -> CommandResult {
    if !Restrictions::check_settable(step, "PATH").await {
        return Ok(());
    }
    if command.data.is_empty() {
        return Err("Value cannot be null. (Parameter 'prependpath')".to_owned());
    }
    step.job.prepend_path(&command.data);
    Ok(())
}

/// Service connections of later tasks cannot be changed, since no task of this worker reads them; what was to
/// be set is masked.
pub(super) fn set_endpoint(step: &StepContext, command: &Command) -> CommandResult {
    if command.property("field").is_some_and(|field| field.eq_ignore_ascii_case("authParameter")) {
        hide(step, command);
    }
    Err("##vso[task.setendpoint] is not implemented by Dayfly's native worker; run jobs that need it on \
        Microsoft's agent"
        .to_owned())
}

pub(super) async fn add_attachment(step: &StepContext, command: &Command) -> CommandResult {
    let kind =
        command.non_empty("type").ok_or("Can't add task attachment, attachment type is not provided.")?;
    let name =
        command.non_empty("name").ok_or("Can't add task attachment, attachment name is not provided.")?;
    attach(step, kind, name, &command.data).await
}

pub(super) async fn upload_summary(step: &StepContext, command: &Command) -> CommandResult {
    if command.data.is_empty() {
        return Err("Cannot upload summary file, summary file location is not specified.".to_owned());
    }
    attach(step, ATTACHMENT_SUMMARY, file_name(&command.data), &command.data).await
}

pub(super) async fn upload_file(step: &StepContext, command: &Command) -> CommandResult {
    if command.data.is_empty() {
        return Err("Cannot upload file because file location is not specified.".to_owned());
    }
    attach(step, ATTACHMENT_FILE, file_name(&command.data), &command.data).await
}

/// The last part of a path, or the whole text when it has none.
pub(super) fn file_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

/// Attaches a file to the step's record.
pub(super) async fn attach(step: &StepContext, kind: &str, name: &str, file: &str) -> CommandResult {
    for (what, text) in [("Type", kind), ("Name", name)] {
        if text.contains(['/', '\0']) {
            return Err(format!("{what} contains invalid characters. (\\0,/)"));
        }
    }
    let path = local_path(step, file);
    if file.is_empty() || !files::is_file(&path).await {
        return Err("Cannot upload task attachment file, attachment file location is not specified or \
            attachment file does not exist on disk."
            .to_owned());
    }
    step.record.attach(kind, name, path).await.map_err(|error| error.to_string())
}

/// The details of a step: a timeline of their own below its record.
#[derive(Debug, Default)]
pub(crate) struct Details {
    timeline: Option<TimelineId>,
    /// The records made so far with their parents.
    records: BTreeMap<RecordId, Option<RecordId>>,
}

impl Details {
    /// How many records a step may make; a script in a loop must not fill the worker's memory.
    const MAX_RECORDS: usize = 10_000;

    /// The timeline and the records in it, for ending those which are still open.
    pub(crate) fn open(&self) -> Option<(TimelineId, Vec<RecordId>)> {
        Some((self.timeline?, self.records.keys().copied().collect()))
    }
}

pub(super) fn log_detail(step: &StepContext, command: &Command) -> CommandResult {
    let id = command
        .non_empty("id")
        .and_then(|text| Uuid::parse_str(text.trim()).ok())
        .filter(|id| !id.is_nil())
        .ok_or("Can't update timeline record, timeline record id is not provided.")?;
    let mut record = detail_record(RecordId(id), command)?;
    let mut details = lock(&step.details);
    if let Some(parent) = details.records.get(&record.id).copied() {
        if record.parent_id.is_some() && record.parent_id != parent {
            return Err("Can't change parent timeline record of an existing timeline record.".to_owned());
        }
        record.parent_id = parent;
        if record.state == Some(TimelineRecordState::Completed) {
            record.percent_complete.get_or_insert(100);
            record.finish_time.get_or_insert_with(now);
        }
    } else {
        if record.name.is_none() {
            return Err("Name is required for this new timeline record.".to_owned());
        }
        if record.record_type.is_none() {
            return Err("Type is required for this new timeline record.".to_owned());
        }
        if record.parent_id.is_some_and(|parent| !parent.0.is_nil() && !details.records.contains_key(&parent))
        {
            return Err(
                "Parent timeline record has not been created for this new timeline record.".to_owned()
            );
        }
        if details.records.len() == Details::MAX_RECORDS {
            return Err(format!("A step can have at most {} timeline records.", Details::MAX_RECORDS));
        }
        record.start_time.get_or_insert_with(now);
        record.state.get_or_insert(TimelineRecordState::InProgress);
    }
    details.records.insert(record.id, record.parent_id);
    let timeline = *details.timeline.get_or_insert_with(|| TimelineId(Uuid::new_v4()));
    step.job.reporter.detail(&step.record, timeline, record);
    Ok(())
}

fn detail_record(id: RecordId, command: &Command) -> Result<TimelineRecord, String> {
    let parent_id = match command.property("parentid") {
        Some(text) => Some(RecordId(
            Uuid::parse_str(text.trim())
                .map_err(|_| format!("'{text}' is not the id of a timeline record."))?,
        )),
        None => None,
    };
    Ok(TimelineRecord {
        id,
        parent_id,
        name: command.non_empty("name").map(str::to_owned),
        record_type: command.non_empty("type").map(str::to_owned),
        order: command.property("order").and_then(|text| text.trim().parse().ok()),
        percent_complete: command
            .property("progress")
            .and_then(|text| text.trim().parse::<i32>().ok())
            .map(|progress| progress.clamp(0, 100)),
        current_operation: some_text(&command.data),
        result: command
            .property("result")
            .map(|text| TaskResult::from_name(text.trim()).unwrap_or(TaskResult::Succeeded)),
        start_time: command.property("starttime").map(date_time),
        finish_time: command.property("finishtime").map(date_time),
        state: command.property("state").map(|text| {
            let exact = TimelineRecordState::ALL.iter().copied().find(|state| state.name() == text);
            exact.unwrap_or(TimelineRecordState::Pending)
        }),
        ..TimelineRecord::default()
    })
}

/// A moment as scripts write it, or now.
fn date_time(text: &str) -> DateTime {
    let text = text.trim();
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| {
            text.parse::<jiff::civil::DateTime>()
                .ok()?
                .to_zoned(jiff::tz::TimeZone::UTC)
                .ok()
                .map(|z| z.timestamp())
        })
        .map_or_else(now, DateTime)
}

fn now() -> DateTime {
    DateTime(Timestamp::now())
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
