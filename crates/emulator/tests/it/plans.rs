//! What a worker reports: timelines, logs, console lines, attachments, events.

use std::time::Duration;

use dayfly_emulator::Event;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::{QueuedJob, Service, assert_error, success};

/// A service with a job that runs.
async fn running() -> (Service, QueuedJob) {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    (service, job)
}

async fn patch(service: &Service, job: &QueuedJob, records: Value) -> Value {
    let path = format!("timelines/{}/records", job.timeline);
    let count = records.as_array().unwrap().len();
    success(job.call(service, Method::PATCH, &path).json(&json!({ "count": count, "value": records }))).await
}

#[tokio::test]
async fn job_record_is_there_before_the_worker_is() {
    let (service, job) = running().await;
    let timeline =
        success(job.call(&service, Method::GET, &format!("timelines/{}?includeRecords=true", job.timeline)))
            .await;
    let record = &timeline["records"][0];
    assert_eq!(record["id"], json!(job.job));
    assert_eq!(
        (&record["type"], &record["name"], &record["state"]),
        (&json!("Job"), &json!("Build it"), &json!("pending"))
    );
    let bare = success(job.call(&service, Method::GET, &format!("timelines/{}", job.timeline))).await;
    assert!(bare.get("records").is_none());
    let plan = success(service.bearer(&job.token, Method::GET, job.path("").trim_end_matches('/'))).await;
    assert_eq!(plan["timeline"]["id"], json!(job.timeline));
}

#[tokio::test]
async fn records_merge_and_only_changes_are_listed_when_asked() {
    let (service, job) = running().await;
    let step = Uuid::new_v4();
    let first = patch(
        &service,
        &job,
        json!([{ "id": step, "parentId": job.job, "type": "Task", "name": "Step", "state": "inProgress", "order": 1,
                 "issues": [{ "type": "warning", "message": "careful" }] }]),
    )
    .await;
    assert_eq!(first["count"], 1);
    let change = first["value"][0]["changeId"].as_i64().unwrap();
    let second = patch(
        &service,
        &job,
        json!([{ "id": step, "state": 2, "RESULT": "Succeeded", "name": null, "log": { "id": 4 } }]),
    )
    .await;
    let record = &second["value"][0];
    assert_eq!(
        (&record["name"], &record["state"], &record["result"]),
        (&json!("Step"), &json!("completed"), &json!("succeeded"))
    );
    assert_eq!(record["log"]["id"], 4);
    assert_eq!(record["issues"][0]["message"], "careful");
    patch(&service, &job, json!([{ "id": job.job, "state": "inProgress" }])).await;
    let path = format!("timelines/{}/records?changeId={change}", job.timeline);
    let newer = success(job.call(&service, Method::GET, &path)).await;
    assert_eq!(newer["count"], 2);
    let path = format!("timelines/{}/records?changeId={}", job.timeline, change + 2);
    assert_eq!(success(job.call(&service, Method::GET, &path)).await["count"], 0);
}

#[tokio::test]
async fn detail_timelines_are_made_once() {
    let (service, job) = running().await;
    let id = Uuid::new_v4();
    let create = || job.call(&service, Method::POST, "timelines").json(&json!({ "id": id }));
    assert_eq!(success(create()).await["id"], json!(id));
    assert_error(create().send().await.unwrap(), StatusCode::CONFLICT, "TimelineExistsException").await;
    assert_eq!(success(job.call(&service, Method::GET, "timelines")).await["count"], 2);
    let unknown =
        job.call(&service, Method::GET, &format!("timelines/{}", Uuid::new_v4())).send().await.unwrap();
    assert_error(unknown, StatusCode::NOT_FOUND, "TimelineNotFoundException").await;
}

#[tokio::test]
async fn logs_grow_block_by_block_and_are_read_by_lines() {
    let (service, job) = running().await;
    let log = success(job.call(&service, Method::POST, "logs").json(&json!({ "path": "logs\\x" }))).await;
    assert_eq!((&log["id"], &log["lineCount"]), (&json!(1), &json!(0)));
    let append = async |text: &'static str| {
        let length = text.len().to_string();
        let request = job.call(&service, Method::POST, "logs/1").header("content-length", length);
        success(request.body(text)).await
    };
    assert_eq!(append("\u{feff}one\ntwo\nth").await["lineCount"], 3);
    assert_eq!(append("ree\nfour").await["lineCount"], 4);
    assert_eq!(append("").await["lineCount"], 4);
    let text = job.call(&service, Method::GET, "logs/1").send().await.unwrap();
    assert_eq!(text.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(text.text().await.unwrap(), "one\ntwo\nthree\nfour\n");
    let part = job.call(&service, Method::GET, "logs/1?startLine=1&endLine=2").send().await.unwrap();
    assert_eq!(part.text().await.unwrap(), "two\nthree\n");
    let list = job.call(&service, Method::GET, "logs/1").header("accept", "application/json");
    assert_eq!(success(list).await["value"], json!(["one", "two", "three", "four"]));
    let second = success(job.call(&service, Method::POST, "logs").json(&json!({ "path": "logs\\y" }))).await;
    assert_eq!(second["id"], 2);
    assert_eq!(success(job.call(&service, Method::GET, "logs")).await["count"], 2);
    let empty = job.call(&service, Method::GET, "logs/2").send().await.unwrap();
    assert_eq!(empty.text().await.unwrap(), "");
    let unknown = job.call(&service, Method::POST, "logs/9").body("x").send().await.unwrap();
    assert_error(unknown, StatusCode::NOT_FOUND, "TaskOrchestrationPlanLogNotFoundException").await;
}

#[tokio::test]
async fn blocks_of_concurrent_requests_do_not_mix() {
    let (service, job) = running().await;
    success(job.call(&service, Method::POST, "logs").json(&json!({ "path": "logs\\x" }))).await;
    let block = |number: usize| format!("{number}\n").repeat(20_000);
    let mut appends = tokio::task::JoinSet::new();
    for number in 0..8 {
        appends.spawn(job.call(&service, Method::POST, "logs/1").body(block(number)).send());
    }
    while let Some(done) = appends.join_next().await {
        assert!(done.unwrap().unwrap().status().is_success());
    }
    let text = job.call(&service, Method::GET, "logs/1").send().await.unwrap().text().await.unwrap();
    assert_eq!(text.lines().count(), 160_000);
    let mut changes = 0;
    let lines: Vec<_> = text.lines().collect();
    for pair in lines.windows(2) {
        changes += usize::from(pair[0] != pair[1]);
    }
    assert_eq!(changes, 7, "each block is in one piece");
}

#[tokio::test]
async fn console_lines_records_and_logs_reach_subscribers_in_order() {
    let (service, job) = running().await;
    let mut events = service.emulator.events();
    let step = Uuid::new_v4();
    let feed = format!("timelines/{}/records/{}/feed", job.timeline, job.job);
    patch(&service, &job, json!([{ "id": step, "name": "Step" }])).await;
    let lines = json!({ "count": 2, "value": ["a", "b"], "stepId": step, "startLine": 1 });
    // The second time as after a lost answer, with one line more.
    let more = json!({ "count": 3, "value": ["a", "b", "c"], "stepId": step, "startLine": 1 });
    for lines in [&lines, &lines, &more] {
        let posted = job.call(&service, Method::POST, &feed).json(lines).send().await.unwrap();
        assert!(posted.status().is_success());
    }
    success(job.call(&service, Method::POST, "logs").json(&json!({ "path": "logs\\x" }))).await;
    success(job.call(&service, Method::POST, "logs/1").body("a\nb\n")).await;
    job.complete(&service, "succeeded").await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| *last != "completed") {
        let event = tokio::time::timeout(crate::service::SOON, events.recv()).await.unwrap().unwrap();
        match event {
            Event::RecordsChanged { records, .. } if records[0].name.as_deref() == Some("Step") => {
                seen.push("record")
            }
            Event::RecordsChanged { .. } => seen.push("job record"),
            Event::Lines { job: owner, record, start_line, lines, .. } => {
                assert_eq!((owner, record.0), (job.job, step));
                if start_line == Some(1) {
                    assert_eq!(&lines[..], ["a", "b"]);
                } else {
                    assert_eq!((start_line, &lines[..]), (Some(3), &["c".to_owned()][..]));
                }
                seen.push("lines");
            }
            Event::LogAppended { lines, .. } => {
                assert_eq!(lines, 2);
                seen.push("log");
            }
            Event::JobChanged(_) => seen.push("completed"),
            other => panic!("unexpected event {other:?}"),
        }
    }
    assert_eq!(seen, ["record", "lines", "lines", "log", "job record", "completed"]);
}

#[tokio::test]
async fn subscriber_that_does_not_read_holds_reports_back_but_not_jobs() {
    let service = Service::start_with(|settings| settings.limits.events = 2).await;
    let agent = service.online("agent-1").await;
    let mut events = service.emulator.events();
    let job = service.queue(&[]);
    agent.take_job(&service).await;
    let feed = job.path(&format!("timelines/{}/records/{}/feed", job.timeline, job.job));
    let mut posts = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let lines = json!({ "count": 1, "value": ["x"], "stepId": job.job });
        posts.spawn(service.bearer(&job.token, Method::POST, &feed).json(&lines).send());
    }
    // The result of the job passes though no console line does.
    assert!(job.complete(&service, "succeeded").await.status().is_success());
    let mut lines = 0;
    while lines < 20 {
        let event = tokio::time::timeout(crate::service::SOON, events.recv()).await.unwrap().unwrap();
        lines += usize::from(matches!(event, Event::Lines { .. }));
    }
    while let Some(done) = posts.join_next().await {
        assert!(done.unwrap().unwrap().status().is_success());
    }
}

#[tokio::test]
async fn attachments_are_kept_listed_and_replaced() {
    let (service, job) = running().await;
    let kind = "DistributedTask.Core.Summary";
    let path = format!("timelines/{}/records/{}/attachments/{kind}/Read me.md", job.timeline, job.job);
    let put = |text: &'static str| job.call(&service, Method::PUT, &path).body(text);
    let answer = success(put("# one")).await;
    assert_eq!((&answer["type"], &answer["name"]), (&json!(kind), &json!("Read me.md")));
    success(put("# two")).await;
    let content = job.call(&service, Method::GET, &path).send().await.unwrap();
    assert_eq!(content.text().await.unwrap(), "# two");
    assert_eq!(success(job.call(&service, Method::GET, &format!("attachments/{kind}"))).await["count"], 1);
    let other = path.replace("Read", "Other");
    let unknown = job.call(&service, Method::GET, &other).send().await.unwrap();
    assert_error(unknown, StatusCode::NOT_FOUND, "DataNotFoundException").await;
}

#[tokio::test]
async fn events_have_to_make_sense() {
    let (service, job) = running().await;
    let raise =
        async |event: Value| job.call(&service, Method::POST, "events").json(&event).send().await.unwrap();
    let unknown = raise(json!({ "name": "Other", "jobId": job.job })).await;
    assert_error(unknown, StatusCode::BAD_REQUEST, "VssPropertyValidationException").await;
    let wrong =
        raise(json!({ "name": "JobCompleted", "jobId": job.job, "requestId": 99, "result": 0 })).await;
    assert_error(wrong, StatusCode::BAD_REQUEST, "VssPropertyValidationException").await;
    assert!(raise(json!({ "name": "JobStarted", "jobId": job.job })).await.status().is_success());
    let done = raise(json!({ "Name": "jobcompleted", "JOBID": job.job, "result": 2 })).await;
    assert!(done.status().is_success());
    assert_eq!(service.request(job.request).await["result"], "failed");
}

#[tokio::test]
async fn plan_of_another_project_or_hub_is_not_at_this_address() {
    let service = Service::start_with(|settings| settings.projects.push("second".to_owned())).await;
    service.online("agent-1").await;
    let job = service.queue(&[]);
    for (from, to) in [("dayfly/", "second/"), ("/Build/", "/Release/")] {
        let path = job.path("timelines").replacen(from, to, 1);
        let response = service.bearer(&job.token, Method::GET, &path).send().await.unwrap();
        assert_error(response, StatusCode::FORBIDDEN, "TaskOrchestrationPlanSecurityException").await;
    }
    let by_id = job.path("timelines").replacen("dayfly", &service.project().to_string(), 1);
    assert!(service.bearer(&job.token, Method::GET, &by_id).send().await.unwrap().status().is_success());
    let unknown = job.path("timelines").replace(&job.plan.to_string(), &Uuid::new_v4().to_string());
    let response = service.admin(Method::GET, &unknown).send().await.unwrap();
    assert_error(response, StatusCode::NOT_FOUND, "TaskOrchestrationPlanNotFoundException").await;
}

#[tokio::test]
async fn reports_are_bounded() {
    let service = Service::start_with(|settings| {
        settings.limits.records_per_timeline = 2;
        settings.limits.timelines_per_plan = 2;
        settings.limits.record_bytes_per_plan = 10_000;
        settings.limits.logs_per_plan = 1;
        settings.limits.data_bytes = 100;
        settings.limits.upload_bytes = 80;
        settings.limits.json_bytes = 2_000;
    })
    .await;
    service.online("agent-1").await;
    let job = service.queue(&[]);
    let path = format!("timelines/{}/records", job.timeline);
    let records: Vec<_> = (0..3).map(|_| json!({ "id": Uuid::new_v4() })).collect();
    let response =
        job.call(&service, Method::PATCH, &path).json(&json!({ "value": records })).send().await.unwrap();
    assert_error(response, StatusCode::INSUFFICIENT_STORAGE, "LimitReachedException").await;
    let huge = json!({ "value": [{ "id": Uuid::new_v4(), "name": "x".repeat(3_000) }] });
    let response = job.call(&service, Method::PATCH, &path).json(&huge).send().await.unwrap();
    assert_error(response, StatusCode::PAYLOAD_TOO_LARGE, "RequestContentTooLargeException").await;

    let detail = Uuid::new_v4();
    let create = |id: Uuid| job.call(&service, Method::POST, "timelines").json(&json!({ "id": id }));
    success(create(detail)).await;
    let third = create(Uuid::new_v4()).send().await.unwrap();
    assert_error(third, StatusCode::INSUFFICIENT_STORAGE, "LimitReachedException").await;
    // The details count with the plan's other records: variables add up over small changes.
    let id = Uuid::new_v4();
    let grow = |number: usize| {
        let variables = json!({ format!("v{number}"): { "value": "x".repeat(1_500) } });
        job.call(&service, Method::PATCH, &format!("timelines/{detail}/records"))
            .json(&json!({ "value": [{ "id": id, "variables": variables }] }))
    };
    for number in 0..4 {
        success(grow(number)).await;
    }
    let mut last = grow(4).send().await.unwrap();
    for number in 5..8 {
        last = grow(number).send().await.unwrap();
    }
    assert_error(last, StatusCode::INSUFFICIENT_STORAGE, "LimitReachedException").await;

    let create = || job.call(&service, Method::POST, "logs").json(&json!({ "path": "logs\\x" }));
    success(create()).await;
    assert_error(create().send().await.unwrap(), StatusCode::INSUFFICIENT_STORAGE, "LimitReachedException")
        .await;
    let append = |bytes: usize| job.call(&service, Method::POST, "logs/1").body("x".repeat(bytes));
    let large = append(81).send().await.unwrap();
    assert_error(large, StatusCode::PAYLOAD_TOO_LARGE, "RequestContentTooLargeException").await;
    success(append(60)).await;
    assert_error(append(60).send().await.unwrap(), StatusCode::INSUFFICIENT_STORAGE, "LimitReachedException")
        .await;
    success(append(40)).await;
}

#[tokio::test]
async fn files_go_with_their_plan_and_all_with_the_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let service = Service::start_with(|settings| {
        settings.data_folder = Some(data);
        settings.limits.finished_plans = 1;
    })
    .await;
    let agent = service.online("agent-1").await;
    for _ in 0..3 {
        let job = service.queue(&[]);
        agent.take_job(&service).await;
        success(job.call(&service, Method::POST, "logs").json(&json!({ "path": "logs\\x" }))).await;
        success(job.call(&service, Method::POST, "logs/1").body("text\n")).await;
        job.complete(&service, "succeeded").await;
    }
    let count = |folder: &std::path::Path| std::fs::read_dir(folder).unwrap().count();
    let own = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let plans = || {
        let is_guid = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().parse::<Uuid>().is_ok();
        std::fs::read_dir(&own).unwrap().filter(|entry| is_guid(entry.as_ref().unwrap())).count()
    };
    crate::service::eventually("the files of forgotten plans to be deleted", async || plans() == 1).await;
    tokio::time::timeout(Duration::from_secs(30), service.emulator.stop()).await.unwrap();
    assert_eq!(count(folder.path()), 0);
}

#[tokio::test]
async fn names_are_bounded() {
    let (service, job) = running().await;
    let long = "x".repeat(2_049);
    let log = job.call(&service, Method::POST, "logs").json(&json!({ "path": long }));
    assert_error(log.send().await.unwrap(), StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    let records = format!("timelines/{}/records/{}", job.timeline, job.job);
    for path in [format!("kind/{long}"), format!("{long}/name")] {
        let path = format!("{records}/attachments/{path}");
        let put = job.call(&service, Method::PUT, &path).body("x").send().await.unwrap();
        assert_error(put, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
    }
}
