//! Downloads: answers that go to a file and not into memory.

use std::future::Future;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use url::Url;

use crate::answer::Answer;
use crate::error::{Call, Error, Result};
use crate::login::Login;
use crate::request::Request;
use crate::retry;
use crate::throttle::Throttle;
use crate::transport::{MAX_LOGINS, Transport, connection_error, read_whole};

/// How long nothing may come. A download as a whole has no deadline, as it may be large; its size is bounded.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How many redirections are followed.
const MAX_REDIRECTS: u32 = 5;

/// Where a download goes to.
pub(crate) struct Sink<'a> {
    pub(crate) writer: &'a mut (dyn AsyncWrite + Unpin + Send),
    /// The most that is taken.
    pub(crate) limit_bytes: u64,
    written_bytes: u64,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(writer: &'a mut (dyn AsyncWrite + Unpin + Send), limit_bytes: u64) -> Self {
        Sink { writer, limit_bytes, written_bytes: 0 }
    }
}

impl Transport {
    /// Downloads into a writer; gives the number of bytes. Repeated until the first byte is written.
    /// Redirections are followed, but not from `https` to `http`, and the credential is not shown to another
    /// host.
    pub(crate) async fn download(
        &self,
        login: &Login,
        throttle: &Throttle,
        request: &Request,
        mut sink: Sink<'_>,
    ) -> Result<u64> {
        let call = &request.call;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let outcome = match self.open(login, throttle, request).await {
                Ok(response) => copy(call, response, &mut sink).await,
                Err(error) => Err(error),
            };
            let Err(error) = outcome else { return Ok(sink.written_bytes) };
            match retry::pause(&self.settings().retry, call.operation, attempt, &error) {
                Some(pause) if sink.written_bytes == 0 => {
                    tracing::debug!(%error, attempt, ?pause, "download failed, trying again");
                    sleep(pause).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Sends the request, and follows redirections to the answer that has the content.
    async fn open(&self, login: &Login, throttle: &Throttle, request: &Request) -> Result<reqwest::Response> {
        let call = &request.call;
        let mut url = request.url.clone();
        let (mut logins, mut redirects) = (0, 0);
        loop {
            let authorization = match url.origin() == request.url.origin() {
                true => Some(login.authorization(self).await?),
                false => None,
            };
            let generation = authorization.as_ref().map(|authorization| authorization.generation);
            logins += 1;
            let mut prepared = self.prepare(request, authorization.map(|it| it.value), logins > 1).await?;
            *prepared.url_mut() = url.clone();
            let client = self.calls_client(&url)?;
            let response = in_time(call, client.execute(prepared)).await?;
            self.note_limits(throttle, response.headers());
            if response.status() == StatusCode::OK && !is_html(&response) {
                return Ok(response);
            }
            let (status, headers) = (response.status(), response.headers().clone());
            let body =
                timeout(STALL_TIMEOUT, read_whole(call, response)).await.map_err(|_| stalled(call))??;
            let answer = Answer { status, headers, body };
            if let Some(generation) = generation
                && answer.is_challenge()
                && logins < MAX_LOGINS
                && login.refused(generation).await
            {
                continue;
            }
            match redirection(&answer, &url).filter(|_| redirects < MAX_REDIRECTS) {
                Some(target) => {
                    redirects += 1;
                    url = target;
                }
                None => {
                    answer.check(call)?;
                    return Err(Error::Empty { call: call.clone() });
                }
            }
        }
    }
}

/// Where an answer points to, if that may be followed.
fn redirection(answer: &Answer, from: &Url) -> Option<Url> {
    if !answer.status.is_redirection() || answer.is_sign_in() {
        return None;
    }
    let target = from.join(answer.headers.get(LOCATION)?.to_str().ok()?).ok()?;
    let is_downgrade = from.scheme() == "https" && target.scheme() != "https";
    (matches!(target.scheme(), "http" | "https") && !is_downgrade).then_some(target)
}

/// Copies the content, piece by piece.
async fn copy(call: &Call, mut response: reqwest::Response, sink: &mut Sink<'_>) -> Result<()> {
    let write_error = |source| Error::Write { call: Box::new(call.clone()), source };
    while let Some(chunk) = in_time(call, response.chunk()).await? {
        if sink.written_bytes + chunk.len() as u64 > sink.limit_bytes {
            let limit_bytes = usize::try_from(sink.limit_bytes).unwrap_or(usize::MAX);
            return Err(Error::TooLong { call: Box::new(call.clone()), limit_bytes });
        }
        sink.written_bytes += chunk.len() as u64;
        sink.writer.write_all(&chunk).await.map_err(write_error)?;
    }
    sink.writer.flush().await.map_err(write_error)
}

/// Waits for the next thing of the network, within bounds.
async fn in_time<T>(call: &Call, next: impl Future<Output = reqwest::Result<T>>) -> Result<T> {
    let next = timeout(STALL_TIMEOUT, next).await.map_err(|_| stalled(call))?;
    next.map_err(|source| {
        let sent = !source.is_connect();
        connection_error(call, sent, source, None)
    })
}

fn stalled(call: &Call) -> Error {
    Error::Deadline { call: Box::new(call.clone()), after: STALL_TIMEOUT }
}

fn is_html(response: &reqwest::Response) -> bool {
    let media_type =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.to_ascii_lowercase().starts_with("text/html")
}
