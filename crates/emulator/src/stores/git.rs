//! Serves a repository on this disk by git's smart HTTP, read only: `git upload-pack` does the work, we carry
//! bytes.
//!
//! Both protocol v0 and v2 work (git's own `http-backend` is the model). A request's body may be compressed;
//! both directions are streamed, so the size of a repository does not matter. When the client goes away, the
//! response body is dropped and with it the git process.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Semaphore, mpsc},
    task::JoinError,
};
use tokio_util::{io::ReaderStream, task::AbortOnDropHandle};

/// Git processes at work at the same time; further requests wait for their turn.
const MAX_PROCESSES: usize = 32;
/// A request lists what the client has and wants: megabytes for the largest repositories. More is refused.
const MAX_REQUEST_BYTES: u64 = 256 << 20;
/// Compressed bytes are inflated in slices of this size, so that a small body cannot become gigabytes at
/// once.
const INFLATE_SLICE_BYTES: usize = 4 << 10;
/// A client which sends or takes nothing for this long has gone.
const CLIENT_IDLE: Duration = Duration::from_secs(60);
/// How much of git's own error text is kept for the log.
const MAX_STDERR_BYTES: usize = 8 << 10;
/// The longest `Git-Protocol` header that git's own server understands fits easily.
const MAX_PROTOCOL_HEADER: usize = 256;

/// What went wrong while serving a repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder given for the repository is none.
    #[error("`{}` is not a git repository", path.display())]
    NoRepository {
        /// The folder.
        path: PathBuf,
    },
    /// Git could not be started.
    #[error("could not start git; is it installed and on the PATH?")]
    Start(#[source] std::io::Error),
    /// The request ended early, stalled, was too long or was not what its headers said, or nobody takes the
    /// answer.
    #[error("could not answer the git request: {reason}")]
    Request {
        /// What was wrong with it.
        reason: &'static str,
    },
    /// A git command failed.
    #[error("git failed for the repository `{}`: {message}", path.display())]
    Failed {
        /// The repository.
        path: PathBuf,
        /// The end of git's error text.
        message: String,
    },
    /// Reading from the git process failed.
    #[error("could not read the output of git")]
    Output(#[source] std::io::Error),
}

/// The repositories' server. Cheap to clone; the bound on processes is shared.
#[derive(Clone, Debug)]
pub struct GitServer {
    permits: Arc<Semaphore>,
    /// For how long a client may take nothing of its answer.
    patience: Duration,
}

/// What a client asks of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `GET info/refs?service=git-upload-pack`.
    Advertise,
    /// `POST git-upload-pack`.
    UploadPack,
}

impl Service {
    /// The content type of the answer.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Advertise => "application/x-git-upload-pack-advertisement",
            Self::UploadPack => "application/x-git-upload-pack-result",
        }
    }
}

/// How the request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Compressed by gzip, which git does for long requests.
    Gzip,
}

impl Default for GitServer {
    fn default() -> Self {
        Self::new()
    }
}

impl GitServer {
    /// A server with its own bound on processes.
    #[must_use]
    pub fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_PROCESSES)), patience: CLIENT_IDLE }
    }

    /// Answers one request for the repository in `path` (bare, or a work tree with `.git`).
    ///
    /// `protocol` is the request's `Git-Protocol` header. The body is read only for [`Service::UploadPack`].
    ///
    /// # Errors
    /// If the repository does not exist, or git cannot be started or refuses it. Later failures end the
    /// returned stream with an error, which the client sees as a broken transfer.
    pub async fn serve<B, E>(
        &self,
        path: &Path,
        service: Service,
        protocol: Option<&str>,
        encoding: Encoding,
        body: B,
    ) -> Result<Output, Error>
    where
        B: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let mut command = upload_pack(path).await?;
        command.arg(match service {
            Service::Advertise => "--http-backend-info-refs",
            Service::UploadPack => "--stateless-rpc",
        });
        command.arg(path);
        let protocol = protocol.filter(|text| is_protocol(text));
        if let Some(protocol) = protocol {
            command.env("GIT_PROTOCOL", protocol);
        }
        command.stdin(if service == Service::UploadPack { Stdio::piped() } else { Stdio::null() });
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(Error::Start)?;
        let input = child
            .stdin
            .take()
            .map(|stdin| AbortOnDropHandle::new(tokio::spawn(copy_request(body, encoding, stdin))));
        let process = Process {
            stdout: ReaderStream::with_capacity(child.stdout.take().expect("stdout is piped"), 64 << 10),
            // Read all the while: git stops when a pipe is full.
            said: AbortOnDropHandle::new(tokio::spawn(read_end(
                child.stderr.take().expect("stderr is piped"),
            ))),
            child,
            input,
            path: path.to_path_buf(),
        };
        let (sender, mut chunks) = mpsc::channel(1);
        let patience = self.patience;
        let mut pump = AbortOnDropHandle::new(tokio::spawn(async move {
            let _permit = permit;
            process.pump(sender, patience).await
        }));
        // The first bytes are waited for, so that a repository that cannot be served is an error and not half
        // an answer.
        let first = chunks.recv().await;
        if first.is_none() {
            ended((&mut pump).await)?;
        }
        let wants_header = first.is_some() && service == Service::Advertise && protocol != Some("version=2");
        let header = wants_header.then(|| Bytes::from_static(b"001e# service=git-upload-pack\n0000"));
        let pump = first.is_some().then_some(pump);
        Ok(Output { header, first, chunks, pump })
    }
}

/// How the work of a task ended.
fn ended(joined: Result<Result<(), Error>, JoinError>) -> Result<(), Error> {
    joined.map_err(|error| Error::Output(std::io::Error::other(error)))?
}

/// The bytes of an answer. Dropping it kills the git process behind it.
#[derive(Debug)]
pub struct Output {
    header: Option<Bytes>,
    first: Option<Bytes>,
    chunks: mpsc::Receiver<Bytes>,
    /// What brings the chunks; then it says whether they were all.
    pump: Option<AbortOnDropHandle<Result<(), Error>>>,
}

impl Stream for Output {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(bytes) = self.header.take().or_else(|| self.first.take()) {
            return Poll::Ready(Some(Ok(bytes)));
        }
        if let Some(bytes) = ready!(self.chunks.poll_recv(context)) {
            return Poll::Ready(Some(Ok(bytes)));
        }
        let Some(pump) = self.pump.as_mut() else { return Poll::Ready(None) };
        let joined = ready!(Pin::new(pump).poll(context));
        self.pump = None;
        Poll::Ready(ended(joined).err().map(Err))
    }
}

/// A git process at work.
struct Process {
    child: Child,
    stdout: ReaderStream<ChildStdout>,
    /// The end of what it says.
    said: AbortOnDropHandle<Vec<u8>>,
    input: Option<AbortOnDropHandle<Result<(), Error>>>,
    path: PathBuf,
}

impl Process {
    /// Carries the output to the client, for as long as it takes it. Then the exit code decides whether the
    /// answer was whole.
    async fn pump(mut self, client: mpsc::Sender<Bytes>, patience: Duration) -> Result<(), Error> {
        while let Some(chunk) = self.stdout.next().await {
            let chunk = chunk.map_err(Error::Output)?;
            match tokio::time::timeout(patience, client.send(chunk)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Error::Request { reason: "the client stopped taking the answer" }),
            }
        }
        self.finish().await
    }

    async fn finish(mut self) -> Result<(), Error> {
        // Only a hint for the log: what cannot be read is left out.
        let said = self.said.await.unwrap_or_default();
        let status = self.child.wait().await.map_err(Error::Output)?;
        if let Some(input) = self.input
            && let Ok(Err(error)) = input.await
        {
            return Err(error);
        }
        if status.success() {
            return Ok(());
        }
        let (path, message) = (self.path, String::from_utf8_lossy(&said).trim().to_owned());
        tracing::warn!(repository = %path.display(), %status, %message, "git upload-pack failed");
        Err(Error::Failed { path, message })
    }
}

/// Reads a pipe to its end and keeps the last [`MAX_STDERR_BYTES`].
async fn read_end(mut pipe: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut end, mut block) = (Vec::new(), vec![0; MAX_STDERR_BYTES]);
    // A pipe that breaks has ended.
    while let Ok(read) = pipe.read(&mut block).await
        && read > 0
    {
        end.extend_from_slice(&block[..read]);
        end.drain(..end.len().saturating_sub(MAX_STDERR_BYTES));
    }
    end
}

/// The command `git upload-pack` for the repository, without the user's git settings.
async fn upload_pack(path: &Path) -> Result<Command, Error> {
    let exists = async |name| tokio::fs::try_exists(path.join(name)).await.unwrap_or(false);
    if !exists("HEAD").await && !exists(".git").await {
        return Err(Error::NoRepository { path: path.to_path_buf() });
    }
    let mut command = plain_git();
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        // The operator named this folder: whose it is does not matter, and upload-pack runs nothing from its
        // settings.
        .args(["-c", "safe.directory=*"])
        // Agents fetch by commit and may ask for partial clones, as Azure Repos lets them.
        .args(["-c", "uploadpack.allowAnySHA1InWant=true", "-c", "uploadpack.allowFilter=true"])
        .arg("upload-pack");
    Ok(command)
}

/// A git command that no variable of our own environment redirects to another repository.
pub(crate) fn plain_git() -> Command {
    let mut command = Command::new("git");
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INDEX_VERSION",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_CEILING_DIRECTORIES",
        "GIT_CONFIG",
        "GIT_CONFIG_PARAMETERS",
        "GIT_CONFIG_COUNT",
        "GIT_TEMPLATE_DIR",
        "GIT_DEFAULT_HASH",
        "GIT_DEFAULT_REF_FORMAT",
        "GIT_SHALLOW_FILE",
        "GIT_GRAFT_FILE",
        "GIT_REPLACE_REF_BASE",
        "GIT_PROTOCOL",
        "GIT_TRACE",
        "GIT_LITERAL_PATHSPECS",
        "GIT_GLOB_PATHSPECS",
        "GIT_NOGLOB_PATHSPECS",
        "GIT_ICASE_PATHSPECS",
    ] {
        command.env_remove(name);
    }
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        // Nothing here may reach for the network, which a partial clone's missing objects would do.
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("LC_ALL", "C")
        .kill_on_drop(true);
    command
}

/// Whether the header is one git would read: `version=2`, or several `key=value` joined by colons.
fn is_protocol(text: &str) -> bool {
    text.len() <= MAX_PROTOCOL_HEADER
        && text.starts_with("version=")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=:-_.".contains(&byte))
}

/// Carries the request's body into git, inflating it on the way.
async fn copy_request<B, E>(body: B, encoding: Encoding, mut stdin: ChildStdin) -> Result<(), Error>
where
    B: Stream<Item = Result<Bytes, E>> + Send,
{
    let mut body = std::pin::pin!(body);
    let mut inflate = flate2::write::MultiGzDecoder::new(Vec::new());
    let mut total = 0_u64;
    loop {
        let chunk = match tokio::time::timeout(CLIENT_IDLE, body.next()).await {
            Err(_) => return Err(Error::Request { reason: "the client stopped sending" }),
            Ok(Some(Err(_))) => return Err(Error::Request { reason: "the client disconnected" }),
            Ok(None) => break,
            Ok(Some(Ok(chunk))) => chunk,
        };
        for slice in chunk.chunks(INFLATE_SLICE_BYTES) {
            let piece = match encoding {
                Encoding::Identity => slice,
                Encoding::Gzip => {
                    inflate.get_mut().clear();
                    inflate
                        .write_all(slice)
                        .and_then(|()| inflate.flush())
                        .map_err(|_| Error::Request { reason: "its compressed body is damaged" })?;
                    inflate.get_mut().as_slice()
                }
            };
            total += piece.len() as u64;
            if total > MAX_REQUEST_BYTES {
                return Err(Error::Request { reason: "it is longer than 256 MiB" });
            }
            // Git may have its answer before it has read everything; a closed pipe is its right.
            if stdin.write_all(piece).await.is_err() {
                return Ok(());
            }
        }
    }
    if encoding == Encoding::Gzip {
        inflate.get_mut().clear();
        let rest =
            inflate.finish().map_err(|_| Error::Request { reason: "its compressed body is cut short" })?;
        if stdin.write_all(&rest).await.is_err() {
            return Ok(());
        }
    }
    let _ = stdin.shutdown().await;
    Ok(())
}

/// The longest name of a repository, in characters.
pub(crate) const MAX_NAME: usize = 64;

/// What a name must not hold, since it becomes a segment of an address.
pub(crate) fn is_refused(letter: char) -> bool {
    letter.is_control() || "\\/:*?\"<>|#%&{}~".contains(letter)
}

/// A name for a repository that is as near as possible to that of its folder.
pub(crate) fn repository_name(folder: &str) -> String {
    let letters = folder.trim_start_matches('.').chars().take(MAX_NAME);
    let name: String = letters.map(|letter| if is_refused(letter) { '-' } else { letter }).collect();
    if name.is_empty() { "self".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[test]
    fn only_protocol_headers_reach_the_environment() {
        assert!(is_protocol("version=2"));
        assert!(is_protocol("version=1:agent=x-1.0_a"));
        assert!(!is_protocol("version=2\nPATH=/x"));
        assert!(!is_protocol("$(reboot)"));
        assert!(!is_protocol(&format!("version={}", "2".repeat(300))));
    }

    #[tokio::test]
    async fn dropping_an_answer_ends_its_process_and_frees_its_place() {
        let folder = repository(String::new()).await;
        let server = GitServer::new();
        // The client holds its request open: git waits for it.
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let protocol = Some("version=2");
        let serve = server.serve(folder.path(), Service::UploadPack, protocol, Encoding::Identity, never);
        let mut serve = Box::pin(serve);
        assert!(futures::poll!(serve.as_mut()).is_pending());
        assert_eq!(server.permits.available_permits(), MAX_PROCESSES - 1);
        drop(serve);
        free(&server).await;
    }

    /// Waits until no process is at work.
    async fn free(server: &GitServer) {
        let all = server.permits.acquire_many(u32::try_from(MAX_PROCESSES).unwrap());
        drop(tokio::time::timeout(Duration::from_secs(30), all).await.expect("the processes end").unwrap());
    }

    /// A bare repository with these packed refs.
    async fn repository(refs: String) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let made = plain_git().args(["init", "--quiet", "--bare"]).arg(folder.path()).status().await.unwrap();
        assert!(made.success());
        std::fs::write(folder.path().join("packed-refs"), refs).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_holds_no_process() {
        let branches = (1..=20_000).map(|number| format!("{number:040x} refs/heads/branch-{number}\n"));
        let folder = repository(branches.collect()).await;
        let server = GitServer { patience: Duration::from_millis(50), ..GitServer::new() };
        let empty = futures::stream::empty::<Result<Bytes, std::io::Error>>();
        let serve = server.serve(folder.path(), Service::Advertise, None, Encoding::Identity, empty);
        let mut answer = serve.await.unwrap();
        free(&server).await;
        let mut end = answer.next().await;
        while let Some(Ok(_)) = end {
            end = answer.next().await;
        }
        assert!(
            end.unwrap().unwrap_err().to_string().contains("stopped taking"),
            "it is not taken for whole"
        );
        assert!(answer.next().await.is_none());
    }

    #[tokio::test]
    async fn git_may_say_more_than_a_pipe_holds() {
        // Git looks for the branch's commit, and complains of each place where it cannot look, before it
        // answers.
        let folder = repository(format!("{:040x} refs/heads/main\n", 1)).await;
        let nowhere: String = (0..3_000).map(|number| format!("/nowhere/at/all/{number}\n")).collect();
        std::fs::write(folder.path().join("objects/info/alternates"), nowhere).unwrap();
        let empty = futures::stream::empty::<Result<Bytes, std::io::Error>>();
        let server = GitServer::new();
        let serve = server.serve(folder.path(), Service::Advertise, None, Encoding::Identity, empty);
        let answer = async { serve.await.unwrap().try_collect::<Vec<_>>().await.unwrap().concat() };
        let answer = tokio::time::timeout(Duration::from_secs(30), answer).await.unwrap();
        assert!(answer.ends_with(b"0000"), "the list of branches has an end");
        free(&server).await;

        let mut command = upload_pack(folder.path()).await.unwrap();
        command.arg("--http-backend-info-refs").arg(folder.path()).stdin(Stdio::null());
        let said = command.output().await.unwrap().stderr;
        assert!(said.len() > 2 * (64 << 10), "git said only {} bytes", said.len());
        let end = read_end(said.as_slice()).await;
        assert_eq!(end, said[said.len() - MAX_STDERR_BYTES..]);
    }

    #[tokio::test]
    async fn a_folder_without_repository_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = futures::stream::empty::<Result<Bytes, std::io::Error>>();
        let error = GitServer::new()
            .serve(folder.path(), Service::Advertise, None, Encoding::Identity, empty)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("is not a git repository"), "{error}");
    }
}
