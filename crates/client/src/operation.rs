//! The calls there are, and how each may be repeated.

use std::fmt;
use std::time::Duration;

/// When a call that failed may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// After any failure that may pass: sending it twice does no harm.
    Always,
    /// Only when the service surely did nothing: the connection was not made, or it said "later" (429, 503).
    IfUntouched,
    /// Not here: the caller has a loop of its own around it.
    Never,
}

/// A call of the service, without its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is told by its text in `verb`")]
pub enum Operation {
    GetToken,
    GetConnectionData,
    FindPool,
    FindAgent,
    GetAgent,
    CreateAgent,
    ReplaceAgent,
    DeleteAgent,
    CreateSession,
    DeleteSession,
    NextMessage,
    DeleteMessage,
    GetJobRequest,
    RenewJobRequest,
    FinishJobRequest,
    GetTimeline,
    CreateTimeline,
    UpdateRecords,
    ListLogs,
    CreateLog,
    AppendLog,
    PostLines,
    Attach,
    PostEvent,
    ListTasks,
    DownloadTask,
    UploadItem,
    ListItems,
    DownloadItem,
    /// A secure file of the library.
    DownloadSecureFile,
    CreateArtifact,
    ListArtifacts,
    UpdateBuild,
    AddBuildTag,
    ListPipelines,
    StartRun,
    GetBuild,
    ListBuilds,
    ListDefinitions,
    GetProject,
    ReadLog,
    CreateTestRun,
    AddTestResults,
    UpdateTestRun,
    AttachToTestRun,
    AddCodeCoverage,
}

impl Operation {
    /// A stable word for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Operation::GetToken => "get_token",
            Operation::GetConnectionData => "get_connection_data",
            Operation::FindPool => "find_pool",
            Operation::FindAgent => "find_agent",
            Operation::GetAgent => "get_agent",
            Operation::CreateAgent => "create_agent",
            Operation::ReplaceAgent => "replace_agent",
            Operation::DeleteAgent => "delete_agent",
            Operation::CreateSession => "create_session",
            Operation::DeleteSession => "delete_session",
            Operation::NextMessage => "next_message",
            Operation::DeleteMessage => "delete_message",
            Operation::GetJobRequest => "get_job_request",
            Operation::RenewJobRequest => "renew_job_request",
            Operation::FinishJobRequest => "finish_job_request",
            Operation::GetTimeline => "get_timeline",
            Operation::CreateTimeline => "create_timeline",
            Operation::UpdateRecords => "update_records",
            Operation::CreateLog => "create_log",
            Operation::ListLogs => "list_logs",
            Operation::AppendLog => "append_log",
            Operation::PostLines => "post_lines",
            Operation::Attach => "attach",
            Operation::PostEvent => "post_event",
            Operation::ListTasks => "list_tasks",
            Operation::DownloadTask => "download_task",
            Operation::UploadItem => "upload_item",
            Operation::ListItems => "list_items",
            Operation::DownloadItem => "download_item",
            Operation::DownloadSecureFile => "download_secure_file",
            Operation::CreateArtifact => "create_artifact",
            Operation::ListArtifacts => "list_artifacts",
            Operation::UpdateBuild => "update_build",
            Operation::AddBuildTag => "add_build_tag",
            Operation::ListPipelines => "list_pipelines",
            Operation::StartRun => "start_run",
            Operation::GetBuild => "get_build",
            Operation::ListBuilds => "list_builds",
            Operation::ListDefinitions => "list_definitions",
            Operation::GetProject => "get_project",
            Operation::ReadLog => "read_log",
            Operation::CreateTestRun => "create_test_run",
            Operation::AddTestResults => "add_test_results",
            Operation::UpdateTestRun => "update_test_run",
            Operation::AttachToTestRun => "attach_to_test_run",
            Operation::AddCodeCoverage => "add_code_coverage",
        }
    }

    /// The call in words that follow "cannot".
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Operation::GetToken => "get a token",
            Operation::GetConnectionData => "get the connection data",
            Operation::FindPool => "find the agent pool",
            Operation::FindAgent => "find the agent",
            Operation::GetAgent => "get the agent",
            Operation::CreateAgent => "create the agent",
            Operation::ReplaceAgent => "replace the agent",
            Operation::DeleteAgent => "delete the agent",
            Operation::CreateSession => "create a session",
            Operation::DeleteSession => "delete the session",
            Operation::NextMessage => "get the next message",
            Operation::DeleteMessage => "delete the message",
            Operation::GetJobRequest => "get the job request",
            Operation::RenewJobRequest => "renew the job request",
            Operation::FinishJobRequest => "finish the job request",
            Operation::GetTimeline => "get the timeline",
            Operation::CreateTimeline => "create the timeline",
            Operation::UpdateRecords => "update records of the timeline",
            Operation::CreateLog => "create a log",
            Operation::ListLogs => "list the logs",
            Operation::AppendLog => "append to the log",
            Operation::PostLines => "post console lines",
            Operation::Attach => "attach a file",
            Operation::PostEvent => "post an event",
            Operation::ListTasks => "list the tasks",
            Operation::DownloadTask => "download the task",
            Operation::UploadItem => "upload the file",
            Operation::ListItems => "list the files",
            Operation::DownloadItem => "download the file",
            Operation::DownloadSecureFile => "download the secure file",
            Operation::CreateArtifact => "create the artifact",
            Operation::ListArtifacts => "list the artifacts",
            Operation::UpdateBuild => "update the build",
            Operation::AddBuildTag => "add a tag to the build",
            Operation::ListPipelines => "list the pipelines",
            Operation::StartRun => "queue a run of the pipeline",
            Operation::GetBuild => "get the build",
            Operation::ListBuilds => "list the builds",
            Operation::ListDefinitions => "list the definitions",
            Operation::GetProject => "get the project",
            Operation::ReadLog => "read the log",
            Operation::CreateTestRun => "create the test run",
            Operation::AddTestResults => "add results to the test run",
            Operation::UpdateTestRun => "complete the test run",
            Operation::AttachToTestRun => "attach a file to the test run",
            Operation::AddCodeCoverage => "add code coverage to the build",
        }
    }

    /// When it may be sent again: the one place where this is decided.
    pub fn repeat(self) -> Repeat {
        match self {
            // Reading changes nothing.
            Operation::GetToken
            | Operation::GetConnectionData
            | Operation::FindPool
            | Operation::FindAgent
            | Operation::GetAgent
            | Operation::GetJobRequest
            | Operation::GetTimeline
            | Operation::ListLogs
            | Operation::ListTasks
            | Operation::DownloadTask
            | Operation::ListItems
            | Operation::DownloadItem
            | Operation::DownloadSecureFile
            | Operation::ListArtifacts
            | Operation::ListPipelines
            | Operation::GetBuild
            | Operation::ListBuilds
            | Operation::ListDefinitions
            | Operation::GetProject
            | Operation::ReadLog => Repeat::Always,
            // Two runs are not what one command asked for, nor results that count twice.
            Operation::StartRun
            | Operation::CreateTestRun
            | Operation::AddTestResults
            | Operation::AttachToTestRun
            | Operation::AddCodeCoverage => Repeat::IfUntouched,
            // The second one sets what the first one set: records merge by id, files and attachments by name,
            // tags are a set.
            Operation::ReplaceAgent
            | Operation::UpdateRecords
            | Operation::Attach
            | Operation::UploadItem
            | Operation::UpdateBuild
            | Operation::UpdateTestRun
            | Operation::AddBuildTag
            | Operation::CreateTimeline
            | Operation::CreateArtifact => Repeat::Always,
            // The second one finds nothing, which is what was wanted; the callers take "not found" for
            // success.
            Operation::DeleteAgent | Operation::DeleteMessage => Repeat::Always,
            // The result of a job must arrive. The service takes a second report of the same result, or says
            // that the plan or the request has ended.
            Operation::PostEvent | Operation::FinishJobRequest => Repeat::Always,
            // A second empty log is never seen, and a line that comes twice is known by its number.
            Operation::CreateLog | Operation::PostLines => Repeat::Always,
            // The caller looks at the log's line count before it appends again.
            Operation::AppendLog => Repeat::IfUntouched,
            // An agent that was created by a lost answer blocks its name, so the caller must look first.
            Operation::CreateAgent => Repeat::IfUntouched,
            // The listener's loops: their pauses depend on what else they know (attempts so far,
            // `lockedUntil`, shutdown).
            Operation::CreateSession | Operation::NextMessage | Operation::RenewJobRequest => Repeat::Never,
            // One attempt at shutdown, errors do not matter (`MessageListener.cs`).
            Operation::DeleteSession => Repeat::IfUntouched,
        }
    }

    /// The version asked for in `Accept`. The lowest that has all we use, so that Azure DevOps Server 2019
    /// and later understand it.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Operation::UpdateBuild
            | Operation::AddBuildTag
            | Operation::CreateArtifact
            | Operation::ListArtifacts => "5.1",
            Operation::UploadItem | Operation::ListItems | Operation::DownloadItem => "5.1-preview.4",
            Operation::ListPipelines | Operation::StartRun => "6.0-preview.1",
            Operation::GetBuild
            | Operation::ListBuilds
            | Operation::ListDefinitions
            | Operation::GetProject
            | Operation::ReadLog => "5.1",
            Operation::CreateTestRun | Operation::AddTestResults | Operation::UpdateTestRun => "5.1",
            _ => "5.1-preview.1",
        }
    }

    /// How long one attempt may take, where that is not left to the call's deadline.
    pub(crate) fn attempt_timeout(self) -> Duration {
        match self {
            // `AgentServer.cs` gives 30 s to what a lock or a shutdown waits for.
            Operation::RenewJobRequest | Operation::DeleteSession | Operation::DeleteMessage => {
                Duration::from_secs(30)
            }
            Operation::GetToken | Operation::GetConnectionData => Duration::from_secs(30),
            // `TestRunPublisher.cs` gives as long to test results.
            Operation::UploadItem
            | Operation::Attach
            | Operation::AddTestResults
            | Operation::AttachToTestRun => Duration::from_secs(600),
            _ => Duration::from_secs(60),
        }
    }

    /// Whether it waits when the service asked to slow down. A lock must be renewed and a result reported in
    /// spite of it; a poll waits for us.
    pub(crate) fn yields_to_throttling(self) -> bool {
        !matches!(
            self,
            Operation::GetToken
                | Operation::RenewJobRequest
                | Operation::NextMessage
                | Operation::DeleteMessage
                | Operation::FinishJobRequest
                | Operation::PostEvent
                | Operation::DeleteSession
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.verb())
    }
}
