//! Reports over real HTTP: order, completeness, masking, faults.

use std::time::Duration;

use dayfly_mask::Masker;
use dayfly_protocol::timeline::{Issue, IssueType, TimelineRecord, TimelineRecordState};
use dayfly_protocol::{RecordId, TaskResult, TimelineId};
use dayfly_worker::report::{Flushed, NewRecord, Record, Reporter};
use uuid::Uuid;

use crate::plan_service::{Fault, PlanService};

/// Far longer than anything here takes, of which the console gets the half; a bound, not a measure.
const DEADLINE: Duration = Duration::from_secs(240);

fn step(reporter: &Reporter, name: &str) -> Record {
    reporter.record(NewRecord {
        id: RecordId(Uuid::new_v4()),
        parent: None,
        kind: "Task".to_owned(),
        name: name.to_owned(),
        ref_name: None,
        order: Some(1),
        task: None,
    })
}

fn issue(issue_type: IssueType, message: &str) -> Issue {
    Issue {
        issue_type,
        category: Some("General".to_owned()),
        message: message.to_owned(),
        data: Default::default(),
    }
}

#[tokio::test]
async fn a_step_is_reported_with_its_log_console_and_result() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let job = reporter.job();
    job.start();
    let step = step(&reporter, "Build");
    step.start();
    step.line("one").await;
    step.line("two\nthree").await;
    step.progress(Some(50), Some("half".to_owned()));
    step.variable("version", "1.2", false);
    step.finish(TaskResult::Succeeded, None).await;
    job.line("the end").await;
    job.finish(TaskResult::Succeeded, None).await;
    assert_eq!(reporter.finish(DEADLINE).await, Flushed::default());

    let seen = service.seen();
    let record = &seen.records[&step.id()];
    assert_eq!(record.name.as_deref(), Some("Build"));
    assert_eq!(record.parent_id, Some(job.id()));
    assert_eq!(record.worker_name.as_deref(), Some("worker-1"));
    assert_eq!(record.state, Some(TimelineRecordState::Completed));
    assert_eq!(record.result, Some(TaskResult::Succeeded));
    assert_eq!(record.percent_complete, Some(100));
    assert_eq!(record.variables["version"].value.as_deref(), Some("1.2"));
    assert!(record.start_time.unwrap() <= record.finish_time.unwrap());
    assert_eq!(seen.log(step.id()), ["one", "two", "three"]);
    assert_eq!(seen.log(job.id()), ["one", "two", "three", "the end"]);
    assert_eq!(seen.console(step.id()).into_values().collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(seen.console(job.id()).into_values().collect::<Vec<_>>(), ["the end"]);
    assert_eq!(seen.records[&job.id()].state, Some(TimelineRecordState::Completed));
}

#[tokio::test]
async fn the_first_record_and_the_first_line_are_sent_at_once() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    step.line("first").await;
    service.wait_for("the record", |seen| seen.records.contains_key(&step.id())).await;
    service.wait_for("the line", |seen| seen.console(step.id()).len() == 1).await;
    reporter.finish(DEADLINE).await;
}

#[tokio::test]
async fn secrets_are_hidden_everywhere() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let masker = Masker::new();
    masker.add_values(["hunter2hunter2", "first half\nsecond half"]);
    let mut settings = service.settings(folder.path());
    settings.masker = masker.clone();
    let reporter = Reporter::start(settings);
    let step = step(&reporter, "Show hunter2hunter2");
    step.line("it is hunter2hunter2").await;
    step.line("<first half").await;
    step.line("second half>").await;
    step.part("in two pie").await;
    step.part("ces: hunter2").await;
    step.line("hunter2").await;
    step.progress(None, Some("with hunter2hunter2".to_owned()));
    step.issue(issue(IssueType::Error, "bad hunter2hunter2"));
    masker.add_value("late-secret");
    step.line("late-secret").await;
    step.finish(TaskResult::Failed, Some("hunter2hunter2".to_owned())).await;
    reporter.finish(DEADLINE).await;

    let seen = service.seen();
    let expected = ["it is ***", "<***>", "in two pieces: ***", "***"];
    assert_eq!(seen.log(step.id()), expected);
    assert_eq!(seen.console(step.id()).into_values().collect::<Vec<_>>(), expected);
    let everything = format!("{:?} {:?}", seen.updates, seen.feed);
    for secret in ["hunter2", "first half", "second half", "late-secret"] {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
    assert!(everything.contains("bad ***") && everything.contains("Show ***"));
}

#[tokio::test]
async fn the_beginning_of_a_secret_that_does_not_go_on_is_shown() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = service.settings(folder.path());
    settings.masker = Masker::new();
    settings.masker.add_value("ab\ncd");
    let reporter = Reporter::start(settings);
    let step = step(&reporter, "Build");
    step.line("ab").await;
    service.wait_for("the held line", |seen| seen.console(step.id()).len() == 1).await;
    step.line("other").await;
    step.finish(TaskResult::Succeeded, None).await;
    reporter.finish(DEADLINE).await;
    assert_eq!(service.seen().log(step.id()), ["ab", "other"]);
}

#[tokio::test]
async fn ten_issues_of_each_kind_are_kept_and_all_are_counted() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    for number in 0..15 {
        step.line(&format!("##[error]{number}")).await;
        step.issue(issue(IssueType::Error, &number.to_string()));
    }
    step.issue(issue(IssueType::Warning, "careful"));
    reporter.finish(DEADLINE).await;
    let seen = service.seen();
    let record = &seen.records[&step.id()];
    assert_eq!((record.error_count, record.warning_count), (Some(15), Some(1)));
    assert_eq!(record.issues.len(), 11);
    assert_eq!(record.issues[9].data["logFileLineNumber"], "10");
}

#[tokio::test]
async fn details_get_a_timeline_of_their_own() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    let timeline = TimelineId(Uuid::new_v4());
    let detail = TimelineRecord {
        id: RecordId(Uuid::new_v4()),
        name: Some("detail".to_owned()),
        ..TimelineRecord::default()
    };
    reporter.detail(&step, timeline, detail.clone());
    reporter.detail(&step, timeline, TimelineRecord { percent_complete: Some(3), ..detail.clone() });
    reporter.finish(DEADLINE).await;
    let seen = service.seen();
    assert_eq!(seen.timelines, [timeline.to_string()]);
    assert_eq!(seen.records[&detail.id].percent_complete, Some(3));
    assert_eq!(seen.records[&step.id()].details.as_ref().unwrap().id, timeline);
}

#[tokio::test]
async fn attachments_and_extra_logs_are_uploaded() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    let file = folder.path().join("summary.md");
    std::fs::write(&file, "# Summary\n").unwrap();
    step.attach("DistributedTask.Core.Summary", "summary.md", file.clone()).await.unwrap();
    step.upload_log(file.clone()).await.unwrap();
    let missing = step.attach("x", "y", folder.path().join("missing")).await.unwrap_err();
    assert!(missing.to_string().starts_with("cannot read '"));
    reporter.finish(DEADLINE).await;
    let seen = service.seen();
    assert_eq!(
        seen.attachments,
        [("DistributedTask.Core.Summary/summary.md".to_owned(), b"# Summary\n".to_vec())]
    );
    assert_eq!(seen.logs, [(format!(r"logs\{}", step.id()), b"# Summary\n".to_vec())]);
}

#[tokio::test]
async fn the_name_of_an_attachment_is_masked() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = service.settings(folder.path());
    settings.masker.add_value("sesame-open");
    let reporter = Reporter::start(settings);
    let step = step(&reporter, "Build");
    let file = folder.path().join("sesame-open.txt");
    std::fs::write(&file, "content").unwrap();
    step.attach("DistributedTask.Core.FileAttachment", "sesame-open.txt", file).await.unwrap();
    reporter.finish(DEADLINE).await;
    let names: Vec<String> = service.seen().attachments.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["DistributedTask.Core.FileAttachment/***.txt"]);
}

#[tokio::test]
async fn a_long_extra_log_goes_in_pieces_of_whole_lines() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    let file = folder.path().join("tool.log");
    let text: String = (0..120_000).map(|number| format!("line {number} {}\n", "x".repeat(60))).collect();
    let text = format!("{text}no line end");
    std::fs::write(&file, &text).unwrap();
    step.upload_log(file).await.unwrap();
    let flushed = reporter.finish(DEADLINE).await;
    assert_eq!(flushed.lost, Vec::<String>::new());
    let seen = service.seen();
    assert_eq!(seen.logs.len(), 1);
    assert!(seen.logs[0].1 == text.as_bytes(), "the log is not the file");
    assert!(seen.largest_block <= 4 * 1024 * 1024, "{}", seen.largest_block);
}

async fn write_lines(step: &Record, from: usize, to: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for number in from..to {
        let line =
            format!("line {number} of a log that is long enough to make several pages {}", "x".repeat(100));
        step.line(&line).await;
        lines.push(line);
    }
    lines
}

#[tokio::test]
async fn a_log_of_several_pages_is_one_log_in_order() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    let lines = write_lines(&step, 0, 100_000).await;
    step.finish(TaskResult::Succeeded, None).await;
    assert_eq!(reporter.finish(DEADLINE).await, Flushed::default());
    let seen = service.seen();
    assert!(seen.log(step.id()) == lines, "the step's log differs");
    assert!(seen.log(reporter.job().id()) == lines, "the job's log differs");
    assert!(seen.largest_block <= 8 * 1024 * 1024);
    assert_eq!(seen.logs.len(), 2);
    assert_eq!(std::fs::read_dir(folder.path().join("pages")).unwrap().count(), 0, "pages are left behind");
}

#[tokio::test]
async fn nothing_is_lost_when_the_service_is_away_for_a_while() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    let mut lines = write_lines(&step, 0, 10).await;
    service.fault(Fault::Away, "", usize::MAX);
    lines.extend(write_lines(&step, 10, 60_000).await);
    step.variable("out", "value", false);
    step.finish(TaskResult::SucceededWithIssues, None).await;
    service.wait_for("some tries", |seen| usize::MAX - seen.faulty_calls > 6).await;
    service.fault(Fault::None, "", 0);
    assert_eq!(reporter.finish(DEADLINE).await, Flushed::default());
    let seen = service.seen();
    assert!(seen.log(step.id()) == lines, "the log differs");
    assert_eq!(seen.records[&step.id()].result, Some(TaskResult::SucceededWithIssues));
    assert_eq!(seen.records[&step.id()].variables["out"].value.as_deref(), Some("value"));
    let console: Vec<String> = seen.console(step.id()).into_values().collect();
    assert!(console == lines, "the console differs");
    assert_eq!(seen.feed.iter().map(|feed| feed.count).sum::<usize>(), lines.len(), "lines came twice");
}

#[tokio::test]
async fn nothing_is_lost_and_nothing_comes_twice_when_nobody_listens_for_a_while() {
    let mut service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let first = step(&reporter, "First");
    first.start();
    let mut lines = write_lines(&first, 0, 10).await;
    service.wait_for("the first lines", |seen| !seen.console(first.id()).is_empty()).await;
    service.leave().await;
    lines.extend(write_lines(&first, 10, 60_000).await);
    first.variable("out", "value", false);
    first.finish(TaskResult::SucceededWithIssues, None).await;
    let later: Vec<Record> = ["Second", "Third"].map(|name| step(&reporter, name)).into();
    for step in &later {
        step.start();
        step.line("a line of its own").await;
        step.finish(TaskResult::Succeeded, None).await;
    }
    // Pages of the log lie on the disk: the uploader was refused, or it would have taken them.
    let pages = folder.path().join("pages");
    assert!(std::fs::read_dir(&pages).unwrap().count() > 0, "nothing waits");
    service.come_back();
    assert_eq!(reporter.finish(DEADLINE).await, Flushed::default());

    let seen = service.seen();
    assert!(seen.log(first.id()) == lines, "the log differs");
    let console = |record: &Record| {
        let feeds = seen.feed.iter().filter(|feed| feed.step_id == record.id());
        feeds.flat_map(|feed| feed.value.clone()).collect::<Vec<String>>()
    };
    assert!(console(&first) == lines, "the console differs");
    let mut whole = lines;
    for step in &later {
        assert_eq!(seen.log(step.id()), ["a line of its own"]);
        assert_eq!(console(step), ["a line of its own"]);
        whole.push("a line of its own".to_owned());
    }
    assert!(seen.log(reporter.job().id()) == whole, "the job's log differs");
    assert_eq!(seen.logs.len(), 4, "one for each record");
    assert_eq!(seen.records[&first.id()].variables["out"].value.as_deref(), Some("value"));
    for (record, result) in [
        (&first, TaskResult::SucceededWithIssues),
        (&later[0], TaskResult::Succeeded),
        (&later[1], TaskResult::Succeeded),
    ] {
        let changes: Vec<&TimelineRecord> =
            seen.updates.iter().flatten().filter(|change| change.id == record.id()).collect();
        let ends = changes.iter().filter(|change| change.result.is_some()).map(|change| change.result);
        assert_eq!(ends.collect::<Vec<_>>(), [Some(result)], "the end is told once");
        let states: Vec<_> = changes.iter().filter_map(|change| change.state).collect();
        assert_eq!(states.last(), Some(&TimelineRecordState::Completed), "{states:?}");
    }
    let order = |record: &Record| seen.updates.iter().flatten().position(|change| change.id == record.id());
    assert!(order(&first) < order(&later[0]) && order(&later[0]) < order(&later[1]));
    assert_eq!(std::fs::read_dir(pages).unwrap().count(), 0, "pages are left behind");
}

#[tokio::test]
async fn lost_answers_double_no_line() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    service.fault(Fault::LosesAnswers, "", 12);
    let lines = write_lines(&step, 0, 60_000).await;
    step.finish(TaskResult::Succeeded, None).await;
    assert_eq!(reporter.finish(DEADLINE).await, Flushed::default());
    let seen = service.seen();
    assert!(seen.log(step.id()) == lines, "the step's log differs");
    assert!(seen.log(reporter.job().id()) == lines, "the job's log differs");
}

#[tokio::test]
async fn a_service_that_stays_away_ends_the_job_at_the_deadline_and_says_what_is_lost() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    service.fault(Fault::Away, "", usize::MAX);
    let step = step(&reporter, "Build");
    write_lines(&step, 0, 1000).await;
    step.variable("out", "value", false);
    step.finish(TaskResult::Succeeded, None).await;
    let flushed = reporter.finish(Duration::from_millis(500)).await;
    assert!(flushed.variables_lost);
    assert!(
        flushed.lost.iter().any(|lost| lost.contains("1000 lines of the log of 'Build' could not be sent")),
        "{:?}",
        flushed.lost
    );
}

#[tokio::test]
async fn a_console_that_is_too_slow_is_told_in_the_log() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    service.fault(Fault::Away, "/feed", usize::MAX);
    let step = step(&reporter, "Build");
    let lines = write_lines(&step, 0, 60_000).await;
    step.finish(TaskResult::Succeeded, None).await;
    // The console has the half of this, the upload of the log the rest.
    let flushed = reporter.finish(Duration::from_secs(24)).await;
    let message = "60000 lines did not reach the console in time; the log has all lines";
    assert!(!flushed.variables_lost);
    assert_eq!(flushed.lost, [message]);
    let seen = service.seen();
    let job = &seen.records[&reporter.job().id()];
    assert_eq!((job.warning_count, job.issues.len()), (Some(1), 1));
    assert!(job.issues[0].message.ends_with(message), "{:?}", job.issues);
    assert!(seen.log(step.id()) == lines, "the log differs");
    assert_eq!(seen.log(reporter.job().id()).last(), Some(&format!("##[warning]{message}")));
    assert_eq!(std::fs::read_dir(folder.path().join("pages")).unwrap().count(), 0, "pages are left behind");
}

/// The console is a courtesy: the end of a job does not wait for minutes until it fails for good.
#[tokio::test]
async fn a_console_that_fails_while_other_reports_come_through_does_not_hold_the_end() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    service.fault(Fault::Away, "/feed", usize::MAX);
    let step = step(&reporter, "Build");
    let lines = write_lines(&step, 0, 31).await;
    step.finish(TaskResult::Succeeded, None).await;
    // The console may have the half of this. A test that takes so long has failed.
    let flushed = tokio::time::timeout(DEADLINE, reporter.finish(Duration::from_secs(600))).await;
    let flushed = flushed.expect("the end does not wait for the console");
    assert_eq!(flushed.lost, ["31 lines did not reach the console in time; the log has all lines"]);
    assert!(service.seen().log(step.id()) == lines, "the log differs");
}

#[tokio::test]
async fn a_plan_that_is_gone_does_not_hold_the_job() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    service.fault(Fault::Gone, "", usize::MAX);
    let step = step(&reporter, "Build");
    write_lines(&step, 0, 10).await;
    step.finish(TaskResult::Succeeded, None).await;
    let flushed = reporter.finish(DEADLINE).await;
    assert!(!flushed.variables_lost);
    assert!(flushed.lost.iter().any(|lost| lost.contains("There is no such plan.")), "{:?}", flushed.lost);
}

/// Refused for good, as a service with a full disk does.
#[tokio::test]
async fn a_log_the_service_refuses_is_told_on_the_job_before_its_end() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = service.settings(folder.path());
    settings.masker.add_value("sesame-open");
    let reporter = Reporter::start(settings);
    let job = reporter.job();
    job.start();
    job.issue(issue(IssueType::Warning, "of before"));
    service.fault(Fault::Gone, "/logs/", usize::MAX);
    let step = step(&reporter, "Build sesame-open");
    write_lines(&step, 0, 10).await;
    step.finish(TaskResult::Succeeded, None).await;
    job.finish(TaskResult::Succeeded, None).await;
    let flushed = reporter.finish(DEADLINE).await;
    assert!(!flushed.variables_lost);
    let seen = service.seen();
    let record = &seen.records[&job.id()];
    assert_eq!((record.error_count, record.warning_count), (Some(0), Some(2)));
    assert_eq!(record.issues.len(), 2);
    assert_eq!(record.issues[1].message, flushed.issue.expect("an issue").message);
    let told = &record.issues[1].message;
    for part in [
        "10 lines of the log of 'Build ***' could not be sent: ",
        "10 lines of the log of the job",
        "There is no such plan.",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert_eq!(record.result, Some(TaskResult::Succeeded));
}

#[tokio::test]
async fn what_follows_a_lost_part_of_a_log_can_be_found() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    service.fault(Fault::Gone, "/logs/", 1);
    step.line("lost").await;
    step.finish(TaskResult::Succeeded, None).await;
    service.wait_for("the refused part", |seen| seen.faulty_calls == 0).await;
    step.line("kept").await;
    let flushed = reporter.finish(DEADLINE).await;
    assert_eq!(flushed.lost.len(), 1, "{:?}", flushed.lost);
    let seen = service.seen();
    assert_eq!(seen.log(step.id()), ["kept"]);
    assert_eq!(seen.log(reporter.job().id()), ["lost", "kept"]);
}

#[tokio::test]
async fn output_variables_the_service_refuses_are_an_error_of_the_job() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    service.wait_for("the record", |seen| seen.records.contains_key(&step.id())).await;
    service.fault(Fault::Gone, "/records", 1);
    step.variable("version", "1.2", false);
    let flushed = reporter.finish(DEADLINE).await;
    assert!(flushed.variables_lost);
    let seen = service.seen();
    let job = &seen.records[&reporter.job().id()];
    assert_eq!((job.error_count, job.warning_count), (Some(1), Some(0)));
    assert_eq!(job.issues[0].issue_type, IssueType::Error);
    assert!(
        job.issues[0].message.contains("the output variables version of 'Build' could not be sent: "),
        "{:?}",
        job.issues
    );
}

#[tokio::test]
async fn a_record_the_service_refuses_does_not_take_others_with_it() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    service.fault(Fault::Gone, "/records", 1);
    let [first, second] = [step(&reporter, "One"), step(&reporter, "Two")];
    assert_eq!(reporter.finish(DEADLINE).await, Flushed::default());
    let seen = service.seen();
    assert!(seen.records.contains_key(&first.id()) && seen.records.contains_key(&second.id()));
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_loses_no_line_and_is_told() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    // A file in the way of the folder fails as a full disk does, also for root.
    std::fs::write(folder.path().join("pages"), b"").unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    let step = step(&reporter, "Build");
    let lines = write_lines(&step, 0, 60_000).await;
    step.finish(TaskResult::Succeeded, None).await;
    assert_eq!(reporter.finish(DEADLINE).await, Flushed::default());
    let seen = service.seen();
    assert!(seen.log(step.id()) == lines, "the log differs");
    let job = &seen.records[&reporter.job().id()];
    assert_eq!(job.warning_count, Some(1));
    assert!(job.issues[0].message.starts_with("Cannot write log pages to '"), "{:?}", job.issues);
    assert!(
        seen.log(reporter.job().id())
            .iter()
            .any(|line| line.starts_with("##[warning]Cannot write log pages"))
    );
}

#[tokio::test]
async fn a_dropped_reporter_stops_its_tasks() {
    let service = PlanService::start().await;
    let folder = tempfile::tempdir().unwrap();
    let reporter = Reporter::start(service.settings(folder.path()));
    step(&reporter, "Build").line("text").await;
    drop(reporter);
    // The test's runtime waits for the page writer's thread when it ends: it hangs here if that stays.
}
