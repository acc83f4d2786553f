//! Pages for people: what the `web` addresses of runs and pipelines show. Plain HTML, without scripts.
//!
//! A browser asks for a user and a password; the password is the token.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State as Shared;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use dayfly_pipelines::identifiers::{DEFAULT_NAME, shown};
use dayfly_protocol::timeline::{IssueType, TimelineRecord, TimelineRecordState};
use dayfly_protocol::{BuildId, RecordId, TaskResult};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue};
use jiff::Timestamp;

use super::build_wire::Wire;
use crate::app::App;
use crate::http::caller::Caller;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::http::query::Query;
use crate::settings::Scope;
use crate::state::State;
use crate::state::runs::{Run, container_of};

/// Rows of one page; a run may have far more records.
const MAX_ROWS: usize = 2_000;
/// Runs of a pipeline on its page.
const MAX_RUNS: usize = 100;
/// Letters of one text on a page.
const MAX_TEXT: usize = 2_000;
/// How deep records are nested: stage, phase, job, task, and a step of a task.
const MAX_DEPTH: usize = 8;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;\
color:#222}h1{font-size:1.4rem}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .8rem \
.2rem 0;vertical-align:top;border-bottom:1px solid #e4e4e4}td.n{white-space:nowrap;text-align:right}.stage{font-weight:\
600}.job td{font-weight:500}.d1{padding-left:1.5rem}.d2{padding-left:3rem}.d3{padding-left:4.5rem}pre{margin:.2rem 0 \
.2rem 1.5rem;white-space:pre-wrap;font-size:.85rem}.good{color:#16794a}.bad{color:#b3261e}.warn{color:#8a5a00}.faint\
{color:#777}a{color:#0b5cad}";

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/{project}/_build", get(pipeline)).route("/{project}/_build/{page}", get(page))
}

async fn page(
    Shared(app): Shared<App>,
    caller: Caller,
    Path((project, page)): Path<(String, String)>,
    query: Query,
) -> Result<Response, ApiError> {
    match page.to_ascii_lowercase().as_str() {
        "results" => {
            let build: BuildId = query.required("buildId")?;
            let state = app.state();
            let run = state.run_for(&caller, &project, build)?;
            Ok(answer(run_page(&app, &state, run)?))
        }
        "definition" => show_pipeline(&app, &caller, &project, &query),
        _ => Err(ApiError::no_route(&format!("/{project}/_build/{page}"))),
    }
}

async fn pipeline(
    Shared(app): Shared<App>,
    caller: Caller,
    Path(project): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    show_pipeline(&app, &caller, &project, &query)
}

/// The runs of a pipeline, or of the whole project, the latest first.
fn show_pipeline(app: &App, caller: &Caller, project: &str, query: &Query) -> Result<Response, ApiError> {
    caller.require(Scope::BuildRead)?;
    let wanted = query.value::<i32>("definitionId")?;
    let state = app.state();
    let project = state.projects.find(project)?;
    let title = match wanted {
        Some(id) => state.definitions.get(project.id, id)?.name.clone(),
        None => project.name.clone(),
    };
    let wire = Wire::new(app, &state, project.id);
    let mut page = Page::new(&title, false);
    page.open(
        "<table><tr><th></th><th>run</th><th>pipeline</th><th>branch</th><th>queued</th><th></th></tr>",
    );
    let is_wanted = |run: &&Run| wanted.is_none_or(|id| run.definition == id);
    for run in state.runs.of(project.id).filter(is_wanted).take(MAX_RUNS) {
        let (class, mark, word) = verdict(run.result, !run.is_completed());
        page.open(&format!("<tr><td class=\"{class}\">{mark} {word}</td><td><a href=\""));
        page.text(&wire.web(run)).open("\">").text(&run.number).open("</a></td><td>");
        page.text(&pipeline_of(&state, run)).open("</td><td>").text(&run.repository.reference);
        page.open("</td><td>").text(&time(run.queue_time)).open("</td><td class=\"n\">");
        page.text(&took(run.start_time, run.finish_time)).open("</td></tr>");
    }
    page.open("</table>");
    Ok(answer(page))
}

fn run_page(app: &App, state: &State, run: &Run) -> Result<Page, ApiError> {
    let wire = Wire::new(app, state, run.project);
    let (class, mark, word) = verdict(run.result, !run.is_completed());
    let pipeline = pipeline_of(state, run);
    let mut page = Page::new(&format!("{pipeline} {}", run.number), !run.is_completed());
    page.open(&format!("<p class=\"{class}\">{mark} {word}"));
    page.text(&format!(" {}", took(run.start_time, run.finish_time))).open("</p><p class=\"faint\">");
    let repository = &run.repository;
    let commit: String = repository.commit.chars().take(8).collect();
    page.text(&format!("{} at {commit}, queued {}", repository.reference, time(run.queue_time)));
    page.open("</p><table>");
    let records: Vec<&TimelineRecord> =
        state.plans.get(run.plan_id)?.timeline(run.timeline)?.records().collect();
    Rows::new(&records, &wire, run).write(&mut page);
    page.open("</table>");
    if !run.artifacts.is_empty() {
        page.open("<h2>Artifacts</h2><ul>");
        for artifact in run.artifacts.iter().take(MAX_ROWS) {
            page.open("<li>");
            match container_of(artifact) {
                Some(_) => {
                    let shown = wire.artifact(run, artifact);
                    let address = shown["resource"]["downloadUrl"].as_str().unwrap_or_default();
                    page.link(address, &artifact.name);
                }
                None => _ = page.text(&artifact.name),
            }
            page.open("</li>");
        }
        page.open("</ul>");
    }
    Ok(page)
}

fn pipeline_of(state: &State, run: &Run) -> String {
    let definition = state.definitions.get(run.project, run.definition);
    definition.map(|definition| definition.name.clone()).unwrap_or_default()
}

/// The records of a run as rows: stages with their jobs, jobs with their steps.
struct Rows<'a> {
    children: BTreeMap<Option<RecordId>, Vec<&'a TimelineRecord>>,
    wire: &'a Wire<'a>,
    run: &'a Run,
    left: usize,
}

impl<'a> Rows<'a> {
    fn new(records: &[&'a TimelineRecord], wire: &'a Wire<'a>, run: &'a Run) -> Self {
        let mut children: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for record in records {
            children.entry(record.parent_id).or_default().push(*record);
        }
        for siblings in children.values_mut() {
            siblings.sort_by_key(|record| record.order);
        }
        Self { children, wire, run, left: MAX_ROWS }
    }

    fn write(mut self, page: &mut Page) {
        self.below(None, 0, page);
        let shown = MAX_ROWS - self.left;
        let all: usize = self.children.values().map(Vec::len).sum();
        if self.left == 0 && all > shown {
            page.open("<tr><td class=\"faint\">and more, which the API lists</td></tr>");
        }
    }

    fn below(&mut self, parent: Option<RecordId>, depth: usize, page: &mut Page) {
        // Whoever writes records may nest them as they like.
        if depth > MAX_DEPTH {
            return;
        }
        for record in self.children.get(&parent).cloned().unwrap_or_default() {
            if self.left == 0 {
                return;
            }
            let level = match record.record_type.as_deref() {
                Some("Stage") if record.identifier.as_deref() != Some(DEFAULT_NAME) => Some((0, "stage")),
                Some("Job") => Some((1, "job")),
                Some("Task") => Some((2, "task")),
                _ => None,
            };
            if let Some((level, class)) = level {
                self.left -= 1;
                self.row(record, level, class, page);
            }
            self.below(Some(record.id), depth + 1, page);
        }
    }

    fn row(&self, record: &TimelineRecord, level: usize, class: &str, page: &mut Page) {
        let is_running = record.state == Some(TimelineRecordState::InProgress);
        let (colour, mark, word) = match record.state {
            None | Some(TimelineRecordState::Pending) => ("faint", "·", "waiting"),
            _ => verdict(record.result, is_running),
        };
        let name = record.name.as_deref().unwrap_or_default();
        page.open(&format!(
            "<tr class=\"{class}\"><td class=\"d{level}\"><span class=\"{colour}\" \
             title=\"{word}\">{mark}</span> "
        ));
        page.text(name);
        let identifier = record.identifier.as_deref().filter(|_| level == 1).map(shown);
        if let Some(identifier) = identifier.filter(|identifier| identifier != name) {
            page.open(" <span class=\"faint\">").text(&identifier).open("</span>");
        }
        for issue in &record.issues {
            let class = if issue.issue_type == IssueType::Error { "bad" } else { "warn" };
            page.open(&format!("<pre class=\"{class}\">")).text(&issue.message).open("</pre>");
        }
        page.open("</td><td class=\"faint\">");
        page.text(record.worker_name.as_deref().filter(|_| level == 1).unwrap_or_default());
        page.open("</td><td class=\"n\">");
        page.text(&took(record.start_time.map(|at| at.0), record.finish_time.map(|at| at.0)));
        page.open("</td><td>");
        if let Some(log) = &record.log {
            page.link(&self.wire.log_url(self.run, log.id), "log");
        }
        page.open("</td></tr>");
    }
}

/// Colour, mark and word for a result.
fn verdict(result: Option<TaskResult>, is_running: bool) -> (&'static str, &'static str, &'static str) {
    match result {
        _ if is_running => ("", "▸", "running"),
        Some(TaskResult::Succeeded) => ("good", "✓", "succeeded"),
        Some(TaskResult::SucceededWithIssues) => ("warn", "!", "succeeded with issues"),
        Some(TaskResult::Failed) => ("bad", "✗", "failed"),
        Some(TaskResult::Canceled) => ("warn", "■", "cancelled"),
        Some(TaskResult::Skipped) => ("faint", "-", "skipped"),
        Some(TaskResult::Abandoned) => ("bad", "✗", "abandoned"),
        None => ("faint", "·", "no result"),
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn took(start: Option<Timestamp>, finish: Option<Timestamp>) -> String {
    let (Some(start), Some(finish)) = (start, finish) else { return String::new() };
    let seconds = finish.duration_since(start).as_secs_f64().max(0.0);
    match seconds as u64 {
        0..=59 => format!("{seconds:.1} s"),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

/// A page while it is written.
struct Page(String);

impl Page {
    /// A page with a title; one of something that goes on is loaded again every few seconds.
    fn new(title: &str, goes_on: bool) -> Self {
        let refresh = if goes_on { "<meta http-equiv=\"refresh\" content=\"3\">" } else { "" };
        let mut page = Self(String::from("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">"));
        page.open(refresh).open("<title>").text(title).open("</title><style>").open(STYLE);
        page.open("</style><h1>").text(title).open("</h1>");
        page
    }

    /// Adds HTML.
    fn open(&mut self, html: &str) -> &mut Self {
        self.0.push_str(html);
        self
    }

    /// Adds text, cut where it is too long. It may come from anybody who may run a job.
    fn text(&mut self, text: &str) -> &mut Self {
        for letter in text.chars().take(MAX_TEXT) {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                letter if letter.is_control() && letter != '\n' && letter != '\t' => {}
                letter => self.0.push(letter),
            }
        }
        if text.chars().nth(MAX_TEXT).is_some() {
            self.0.push('…');
        }
        self
    }

    fn link(&mut self, address: &str, text: &str) {
        self.open("<a href=\"").text(address).open("\">").text(text).open("</a>");
    }
}

fn answer(page: Page) -> Response {
    let mut response = Html(page.0).into_response();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_cut() {
        let mut page = Page(String::new());
        page.text("<script>alert('a & \"b\"')</script>\u{1b}");
        assert_eq!(page.0, "&lt;script&gt;alert(&#39;a &amp; &quot;b&quot;&#39;)&lt;/script&gt;");
        let mut page = Page(String::new());
        page.text(&"x".repeat(MAX_TEXT + 1));
        assert_eq!(page.0.chars().count(), MAX_TEXT + 1);
        assert!(page.0.ends_with('…'));
    }
}
