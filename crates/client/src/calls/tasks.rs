//! Task definitions.

use dayfly_protocol::task::TaskDefinition;
use dayfly_protocol::{ListOf, TaskId};
use http::Method;
use tokio::io::AsyncWrite;

use crate::connection::Connection;
use crate::download::Sink;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

/// Largest task that is downloaded, in bytes. The largest of Microsoft's is below 200 MiB.
const MAX_TASK_BYTES: u64 = 1024 * 1024 * 1024;

impl Connection {
    /// The tasks of the organization, in all their versions.
    pub async fn list_tasks(&self) -> Result<Vec<TaskDefinition>> {
        let path = segments!["_apis", "distributedtask", "tasks"];
        let request = Request::new(Operation::ListTasks, "", Method::GET, self.url(), path);
        let tasks: ListOf<TaskDefinition> = self.call(request).await?;
        Ok(tasks.into_iter().collect())
    }

    /// Downloads a task's zip into a writer; gives its size in bytes. The version is exact.
    pub async fn download_task(
        &self,
        task: TaskId,
        version: &str,
        sink: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<u64> {
        let path = segments!["_apis", "distributedtask", "tasks", task.to_string(), version];
        let object = format!("{task} {version}");
        let request = Request::new(Operation::DownloadTask, object, Method::GET, self.url(), path)
            .accept("application/zip");
        self.download(request, Sink::new(sink, MAX_TASK_BYTES)).await
    }
}
