//! File containers, and the build artifacts that point into them.

use bytes::Bytes;
use dayfly_protocol::artifact::{BuildArtifact, FileContainerItem};
use dayfly_protocol::{BuildId, ContainerId, ListOf, ProjectId};
use http::header::CONTENT_RANGE;
use http::{HeaderName, HeaderValue, Method};
use tokio::io::AsyncWrite;

use crate::connection::Connection;
use crate::download::Sink;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

/// Total length of the file a piece belongs to (`FileContainerHttpClient`).
const X_TFS_FILE_LENGTH: HeaderName = HeaderName::from_static("x-tfs-filelength");

/// Largest file that is downloaded, in bytes.
const MAX_ITEM_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// A piece of a file on its way into a container. Pieces are sent in order; sending one again does no harm.
#[derive(Clone, Debug)]
pub struct ContainerUpload<'a> {
    /// The container.
    pub container: ContainerId,
    /// The project it belongs to.
    pub project: ProjectId,
    /// The file's path in the container, with `/`, below the artifact's name.
    pub path: &'a str,
    /// The piece.
    pub content: Bytes,
    /// Where in the file it begins.
    pub offset: u64,
    /// Length of the whole file in bytes.
    pub total_bytes: u64,
}

impl Connection {
    /// Uploads a piece of a file. A whole small file, also an empty one, is one piece. The answer is the file
    /// so far.
    pub async fn upload_item(&self, upload: ContainerUpload<'_>) -> Result<FileContainerItem> {
        let path = segments!["_apis", "resources", "Containers", upload.container.to_string()];
        let object = format!("{:?} into container {}", upload.path, upload.container);
        let mut request = Request::new(Operation::UploadItem, object, Method::PUT, self.url(), path)
            .query("itemPath", upload.path)
            .query("scope", upload.project)
            .header(X_TFS_FILE_LENGTH, HeaderValue::from(upload.total_bytes));
        if !upload.content.is_empty() {
            let last = upload.offset + upload.content.len() as u64 - 1;
            let range = format!("bytes {}-{last}/{}", upload.offset, upload.total_bytes);
            let range = HeaderValue::try_from(range).expect("a range is digits and marks");
            request = request.header(CONTENT_RANGE, range);
        }
        self.call(request.octets(upload.content)).await
    }

    /// The files and folders of a container below a path.
    pub async fn list_items(
        &self,
        project: ProjectId,
        container: ContainerId,
        item_path: &str,
    ) -> Result<Vec<FileContainerItem>> {
        let path = segments!["_apis", "resources", "Containers", container.to_string()];
        let object = format!("{item_path:?} of container {container}");
        let request = Request::new(Operation::ListItems, object, Method::GET, self.url(), path)
            .query("itemPath", item_path)
            .query("scope", project)
            .query("isShallow", false);
        let items: ListOf<FileContainerItem> = self.call(request).await?;
        Ok(items.value)
    }

    /// Downloads a file of a container into a writer; gives its size in bytes.
    pub async fn download_item(
        &self,
        project: ProjectId,
        container: ContainerId,
        item_path: &str,
        sink: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<u64> {
        let path = segments!["_apis", "resources", "Containers", container.to_string()];
        let object = format!("{item_path:?} of container {container}");
        let request = Request::new(Operation::DownloadItem, object, Method::GET, self.url(), path)
            .query("itemPath", item_path)
            .query("scope", project)
            .accept("application/octet-stream");
        self.download(request, Sink::new(sink, MAX_ITEM_BYTES)).await
    }

    /// Names files of a container as an artifact of a build.
    pub async fn create_artifact(
        &self,
        project: ProjectId,
        build: BuildId,
        artifact: &BuildArtifact,
    ) -> Result<BuildArtifact> {
        let path = segments![project.to_string(), "_apis", "build", "builds", build.to_string(), "artifacts"];
        let object = format!("{:?} of build {build}", artifact.name);
        let request =
            Request::new(Operation::CreateArtifact, object, Method::POST, self.url(), path).json(artifact)?;
        self.call(request).await
    }

    /// The artifacts of a build.
    pub async fn list_artifacts(&self, project: ProjectId, build: BuildId) -> Result<Vec<BuildArtifact>> {
        let path = segments![project.to_string(), "_apis", "build", "builds", build.to_string(), "artifacts"];
        let object = format!("of build {build}");
        let request = Request::new(Operation::ListArtifacts, object, Method::GET, self.url(), path);
        let artifacts: ListOf<BuildArtifact> = self.call(request).await?;
        Ok(artifacts.value)
    }
}
