//! Secure files of the library.

use dayfly_protocol::ProjectId;
use http::Method;
use tokio::io::AsyncWrite;
use uuid::Uuid;

use crate::connection::Connection;
use crate::download::Sink;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

/// Largest secure file that is downloaded, in bytes. The service takes 10 MB.
const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;

impl Connection {
    /// Downloads a secure file into a writer, by the ticket that the job got for it; gives its size in bytes
    /// (`TaskAgentApiBase.ts`, `downloadSecureFile`).
    pub async fn download_secure_file(
        &self,
        project: ProjectId,
        file: Uuid,
        ticket: &str,
        sink: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<u64> {
        let path =
            segments![project.to_string(), "_apis", "distributedtask", "securefiles", file.to_string()];
        let request =
            Request::new(Operation::DownloadSecureFile, file.to_string(), Method::GET, self.url(), path)
                .query("ticket", ticket)
                .query("download", false)
                .accept("application/octet-stream");
        self.download(request, Sink::new(sink, MAX_FILE_BYTES)).await
    }
}
