//! What each call sends.

use bytes::Bytes;
use dayfly_client::{Connection, ContainerUpload, ErrorKind, JobPlan};
use dayfly_protocol::agent::{AgentStatus, TaskAgent};
use dayfly_protocol::artifact::{ArtifactResource, BuildArtifact};
use dayfly_protocol::logs::FeedLines;
use dayfly_protocol::plan::TaskOrchestrationPlanReference;
use dayfly_protocol::session::TaskAgentSession;
use dayfly_protocol::timeline::{TimelineRecord, TimelineRecordState};
use dayfly_protocol::{
    AgentId, BuildId, ContainerId, JobId, LogId, MessageId, PlanId, PoolId, ProjectId, RecordId, RequestId,
    SessionId, TaskResult, TimelineId,
};
use uuid::Uuid;

use crate::server::{POOLS, Seen, Server, json};

const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);
const PLAN: &str = "/dayfly/00000000-0000-0000-0000-000000000001/_apis/distributedtask/hubs/Build/plans/00000000-0000-0000-0000-000000000002";

/// A server that gives the same answer to everything, and a connection to it.
async fn answering(answer: &'static str) -> (Server, Connection) {
    let server = Server::start(move |_, _| json(200, answer)).await;
    let connection = server.with_pat();
    (server, connection)
}

fn plan(connection: &Connection) -> JobPlan {
    connection.plan(&TaskOrchestrationPlanReference {
        scope_identifier: ProjectId(ONE),
        plan_type: "Build".into(),
        plan_id: PlanId(TWO),
        ..TaskOrchestrationPlanReference::default()
    })
}

/// Method and address of the only request there was.
fn only(server: &Server) -> (String, Seen) {
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    (format!("{} {}", seen[0].method, seen[0].uri), seen[0].clone())
}

#[tokio::test]
async fn headers_are_those_the_service_expects() {
    let (server, connection) = answering(POOLS).await;
    connection.find_pool("default").await.unwrap();
    let (line, seen) = only(&server);
    assert_eq!(line, "GET /dayfly/_apis/distributedtask/pools?poolName=default&poolType=automation");
    assert_eq!(seen.header("accept"), "application/json;api-version=5.1-preview.1");
    assert_eq!(seen.header("x-tfs-fedauthredirect"), "Suppress");
    assert_eq!(seen.header("accept-language"), "en-US");
    assert!(seen.header("user-agent").starts_with("dayfly/"));
    for name in ["x-tfs-session", "x-vss-e2eid"] {
        assert!(Uuid::parse_str(seen.header(name)).is_ok(), "{name}");
    }
}

#[tokio::test]
async fn a_pool_that_cannot_be_seen_is_named() {
    let (_server, connection) = answering(r#"{"count":0,"value":[]}"#).await;
    let error = connection.find_pool("Linux").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PoolNotFound);
    assert_eq!(
        error.to_string(),
        "cannot find the agent pool \"Linux\": nothing has that name; check the spelling and what the credential can see"
    );
}

#[tokio::test]
async fn agents_are_found_created_replaced_switched_and_deleted() {
    const AGENT: &str = r#"{"Id":7,"Name":"a","Status":"online","unknown":{}}"#;
    let (server, connection) = answering(r#"{"count":1,"value":[{"id":7,"name":"VM-1"}]}"#).await;
    assert_eq!(connection.find_agent(PoolId(3), "vm-1").await.unwrap().unwrap().id, AgentId(7));
    let (line, _) = only(&server);
    assert_eq!(
        line,
        "GET /dayfly/_apis/distributedtask/pools/3/agents?agentName=vm-1&includeCapabilities=true"
    );

    let (server, connection) = answering(AGENT).await;
    let agent = TaskAgent { id: AgentId(7), name: "a".into(), ..TaskAgent::default() };
    let created = connection.create_agent(PoolId(3), &agent).await.unwrap();
    assert_eq!(created.status, Some(AgentStatus::Online));
    connection.replace_agent(PoolId(3), &agent).await.unwrap();
    connection.get_agent(PoolId(3), AgentId(7)).await.unwrap();
    connection.delete_agent(PoolId(3), AgentId(7)).await.unwrap();
    let seen = server.seen();
    let lines: Vec<String> = seen.iter().map(|seen| format!("{} {}", seen.method, seen.uri)).collect();
    assert_eq!(
        lines,
        [
            "POST /dayfly/_apis/distributedtask/pools/3/agents",
            "PUT /dayfly/_apis/distributedtask/pools/3/agents/7",
            "GET /dayfly/_apis/distributedtask/pools/3/agents/7?includeCapabilities=true&includeAssignedRequest=true",
            "DELETE /dayfly/_apis/distributedtask/pools/3/agents/7",
        ]
    );
    assert_eq!(seen[0].header("content-type"), "application/json; charset=utf-8; api-version=5.1-preview.1");
}

#[tokio::test]
async fn deleting_what_is_gone_is_done() {
    let gone = r#"{"message":"No agent 7.","typeKey":"TaskAgentNotFoundException"}"#;
    let server = Server::start(move |_, _| json(404, gone)).await;
    server.with_pat().delete_agent(PoolId(3), AgentId(7)).await.unwrap();
    let busy = r#"{"message":"A job runs.","typeKey":"TaskAgentJobStillRunningException"}"#;
    let server = Server::start(move |_, _| json(400, busy)).await;
    let error = server.with_pat().delete_agent(PoolId(3), AgentId(7)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobStillRunning);
}

#[tokio::test]
async fn sessions_and_messages() {
    let answer = r#"{"sessionId":"00000000-0000-0000-0000-000000000001","ownerName":"vm","encryptionKey":{"encrypted":true,"value":"AQAB"}}"#;
    let (server, connection) = answering(answer).await;
    let session = connection.create_session(PoolId(3), &TaskAgentSession::default()).await.unwrap();
    assert!(session.encryption_key.unwrap().encrypted);
    connection.delete_session(PoolId(3), SessionId(ONE)).await.unwrap();
    connection.delete_message(PoolId(3), SessionId(ONE), MessageId(5)).await.unwrap();
    let lines: Vec<String> =
        server.seen().iter().map(|seen| format!("{} {}", seen.method, seen.uri)).collect();
    assert_eq!(
        lines,
        [
            "POST /dayfly/_apis/distributedtask/pools/3/sessions",
            "DELETE /dayfly/_apis/distributedtask/pools/3/sessions/00000000-0000-0000-0000-000000000001",
            "DELETE /dayfly/_apis/distributedtask/pools/3/messages/5?sessionId=00000000-0000-0000-0000-000000000001",
        ]
    );
}

#[tokio::test]
async fn job_requests_are_renewed_and_finished_with_the_zero_token() {
    let (server, connection) = answering(r#"{"requestId":12,"lockedUntil":"2026-11-24T21:00:00.5Z"}"#).await;
    let renewed = connection.renew_job_request(PoolId(3), RequestId(12)).await.unwrap();
    assert_eq!(renewed.locked_until.unwrap().to_string(), "2026-11-24T21:00:00.5000000Z");
    let finish_time = renewed.locked_until.unwrap();
    connection.finish_job_request(PoolId(3), RequestId(12), TaskResult::Failed, finish_time).await.unwrap();
    let seen = server.seen();
    for seen in &seen {
        assert_eq!(
            format!("{} {}", seen.method, seen.uri),
            "PATCH /dayfly/_apis/distributedtask/pools/3/jobrequests/12?lockToken=00000000-0000-0000-0000-000000000000"
        );
    }
    assert_eq!(seen[0].json(), serde_json::json!({"requestId":12}));
    assert_eq!(
        seen[1].json(),
        serde_json::json!({"requestId":12,"finishTime":"2026-11-24T21:00:00.5000000Z","result":"failed"})
    );
}

#[tokio::test]
async fn records_are_patched_in_a_wrapped_list() {
    let (server, connection) = answering(r#"{"count":0,"value":[]}"#).await;
    let record = TimelineRecord {
        id: RecordId(ONE),
        state: Some(TimelineRecordState::InProgress),
        ..TimelineRecord::default()
    };
    plan(&connection).update_records(TimelineId(TWO), vec![record]).await.unwrap();
    let (line, seen) = only(&server);
    assert_eq!(line, format!("PATCH {PLAN}/timelines/{TWO}/records"));
    assert_eq!(
        seen.json(),
        serde_json::json!({"count":1,"value":[{"id":ONE.to_string(),"state":"inProgress"}]})
    );
}

#[tokio::test]
async fn logs_are_created_and_appended_as_bytes() {
    let (server, connection) = answering(r#"{"id":4,"path":"logs\\x"}"#).await;
    let plan = plan(&connection);
    assert_eq!(plan.create_log("logs\\x").await.unwrap().id, LogId(4));
    plan.append_log(LogId(4), Bytes::from_static(b"\xef\xbb\xbfline\n")).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].uri.path(), format!("{PLAN}/logs"));
    assert_eq!(seen[0].json(), serde_json::json!({"path":"logs\\x"}));
    assert_eq!(seen[1].uri.path(), format!("{PLAN}/logs/4"));
    assert_eq!(seen[1].header("content-type"), "application/octet-stream");
    assert_eq!(seen[1].body, "\u{feff}line\n".as_bytes());
}

#[tokio::test]
async fn appends_are_not_repeated_when_they_may_have_arrived() {
    let server = Server::start(|_, _| json(500, "")).await;
    let plan = plan(&server.with_pat());
    let error = plan.append_log(LogId(4), Bytes::from_static(b"line\n")).await.unwrap_err();
    assert!(error.is_retryable() && !error.left_untouched());
    assert_eq!(server.seen().len(), 1);
    let server = Server::start(|_, _| json(200, r#"{"count":1,"value":[{"id":4,"lineCount":17}]}"#)).await;
    let logs = self::plan(&server.with_pat()).logs().await.unwrap();
    assert_eq!((logs[0].id, logs[0].line_count), (LogId(4), 17));
    assert_eq!(only(&server).0, format!("GET {PLAN}/logs"));
}

#[tokio::test]
async fn a_file_is_attached_while_it_is_read_and_again_after_a_failure() {
    let server = Server::start(|_, number| match number {
        0 => json(503, ""),
        _ => json(200, "{}"),
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![7; 200_000]).unwrap();
    let plan = plan(&server.with_pat());
    plan.attach(TimelineId(ONE), RecordId(TWO), "t", "n", file.path().to_owned().into()).await.unwrap();
    for seen in server.seen() {
        assert_eq!((seen.body.len(), seen.header("content-length")), (200_000, "200000"));
        assert!(!seen.headers.contains_key("transfer-encoding"));
    }
    let missing = std::path::PathBuf::from("/nowhere/file");
    let error = plan.attach(TimelineId(ONE), RecordId(TWO), "t", "n", missing.into()).await.unwrap_err();
    assert!(error.to_string().ends_with("the file cannot be read"), "{error}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn lines_attachments_and_events() {
    let (server, connection) = answering("{}").await;
    let plan = plan(&connection);
    let lines =
        FeedLines { count: 1, value: vec!["hello".into()], step_id: RecordId(ONE), start_line: Some(1) };
    plan.post_lines(TimelineId(ONE), RecordId(TWO), &lines).await.unwrap();
    plan.attach(
        TimelineId(ONE),
        RecordId(TWO),
        "DistributedTask.Core.Summary",
        "a b/ü.md",
        Bytes::from_static(b"# x").into(),
    )
    .await
    .unwrap();
    plan.complete_job(JobId(TWO), RequestId(12), TaskResult::SucceededWithIssues, true).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].uri.path(), format!("{PLAN}/timelines/{ONE}/records/{TWO}/feed"));
    assert_eq!(seen[0].json()["stepId"], ONE.to_string());
    assert_eq!(
        format!("{} {}", seen[1].method, seen[1].uri),
        format!(
            "PUT {PLAN}/timelines/{ONE}/records/{TWO}/attachments/DistributedTask.Core.Summary/a%20b%2F%C3%BC.md"
        )
    );
    assert_eq!(seen[2].uri.path(), format!("{PLAN}/events"));
    assert_eq!(
        seen[2].json(),
        serde_json::json!({
            "name":"JobCompleted","jobId":TWO.to_string(),"requestId":12,"result":"succeededWithIssues","agentShuttingDown":true
        })
    );
}

#[tokio::test]
async fn a_rejected_plan_and_an_existing_timeline_are_recognised() {
    let rejected = r#"{"message":"No plan.","typeKey":"TaskOrchestrationPlanNotFoundException"}"#;
    let server = Server::start(move |_, _| json(404, rejected)).await;
    let error =
        plan(&server.with_pat()).complete_job(JobId(ONE), RequestId(1), TaskResult::Failed, false).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::PlanRejected);
    let exists = r#"{"message":"Exists.","typeKey":"TimelineExistsException"}"#;
    let server = Server::start(move |_, _| json(409, exists)).await;
    plan(&server.with_pat()).create_timeline(TimelineId(ONE)).await.unwrap();
}

#[tokio::test]
async fn files_and_artifacts() {
    let (server, connection) =
        answering(r#"{"containerId":9,"path":"drop/a.txt","count":0,"value":[]}"#).await;
    let upload = |content: &'static [u8], offset| ContainerUpload {
        container: ContainerId(9),
        project: ProjectId(ONE),
        path: "drop/a.txt",
        content: Bytes::from_static(content),
        offset,
        total_bytes: offset + content.len() as u64,
    };
    connection.upload_item(upload(b"cd", 2)).await.unwrap();
    connection.upload_item(upload(b"", 0)).await.unwrap();
    let artifact = BuildArtifact {
        name: "drop".into(),
        resource: ArtifactResource {
            resource_type: "Container".into(),
            data: "#/9/drop".into(),
            ..ArtifactResource::default()
        },
        ..BuildArtifact::default()
    };
    connection.create_artifact(ProjectId(ONE), BuildId(5), &artifact).await.unwrap();
    assert_eq!(connection.list_artifacts(ProjectId(ONE), BuildId(5)).await.unwrap(), []);
    assert_eq!(connection.list_items(ProjectId(ONE), ContainerId(9), "drop").await.unwrap(), []);
    let seen = server.seen();
    assert_eq!(
        format!("{} {}", seen[0].method, seen[0].uri),
        format!("PUT /dayfly/_apis/resources/Containers/9?itemPath=drop%2Fa.txt&scope={ONE}")
    );
    assert_eq!(seen[0].header("content-range"), "bytes 2-3/4");
    assert_eq!(seen[0].header("x-tfs-filelength"), "4");
    assert!(!seen[1].headers.contains_key("content-range"), "an empty file has no range");
    assert_eq!((seen[1].header("content-length"), seen[1].header("x-tfs-filelength")), ("0", "0"));
    assert_eq!(
        format!("{} {}", seen[2].method, seen[2].uri),
        format!("POST /dayfly/{ONE}/_apis/build/builds/5/artifacts")
    );
    assert_eq!(seen[2].json()["resource"]["type"], "Container");
    assert_eq!(seen[3].header("accept"), "application/json;api-version=5.1");
}

#[tokio::test]
async fn builds_and_connection_data() {
    let (server, connection) = answering(r#"{"count":1,"value":["x"],"deploymentType":"hosted"}"#).await;
    connection.update_build_number(ProjectId(ONE), BuildId(5), "1.2").await.unwrap();
    assert_eq!(connection.add_build_tag(ProjectId(ONE), BuildId(5), "x y").await.unwrap(), ["x"]);
    assert_eq!(connection.connection_data().await.unwrap().deployment_type, "hosted");
    let seen = server.seen();
    assert_eq!(
        format!("{} {}", seen[0].method, seen[0].uri),
        format!("PATCH /dayfly/{ONE}/_apis/build/builds/5")
    );
    assert_eq!(seen[0].json(), serde_json::json!({"id":5,"buildNumber":"1.2"}));
    assert_eq!(seen[1].uri.to_string(), format!("/dayfly/{ONE}/_apis/build/builds/5/tags/x%20y"));
    assert_eq!(seen[1].header("content-length"), "0");
    assert_eq!(
        seen[2].uri.to_string(),
        "/dayfly/_apis/connectionData?connectOptions=1&lastChangeId=-1&lastChangeId64=-1"
    );
}
