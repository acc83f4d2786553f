//! The text of a log: a range of its lines, as text or as a JSON list.

use std::path::PathBuf;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use futures::Stream;
use http::{HeaderMap, StatusCode, header};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::error::ApiError;
use super::query::Query;

/// How much of a log is sent at a time.
const BLOCK_BYTES: usize = 64 << 10;
/// A longer line counts as several, so that memory is bounded.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// What `startLine` and `endLine` call the first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstLine {
    /// As plans count.
    Zero,
    /// As builds count; an end of 0 is none.
    One,
}

/// Sends a log's lines from `startLine` to `endLine`, both included; an absent bound is the log's own.
pub(crate) async fn respond(
    file: PathBuf,
    count_from: FirstLine,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let first = query.value::<u64>("startLine")?.unwrap_or(0);
    let last = query.value::<u64>("endLine")?;
    let (first, last) = match count_from {
        FirstLine::Zero => (first.saturating_add(1), last.map(|last| last.saturating_add(1))),
        FirstLine::One => (first.max(1), last.filter(|last| *last > 0)),
    };
    let last = last.unwrap_or(u64::MAX);
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = if accept.to_ascii_lowercase().contains("json") { Form::List } else { Form::Text };
    let source = match tokio::fs::File::open(&file).await {
        Ok(file) => Some(BufReader::with_capacity(BLOCK_BYTES, file)),
        // A log which was made and not written to yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(ApiError::internal("could not read the log", &error)),
    };
    let body =
        Body::from_stream(blocks(Lines { source, number: 0, first, last, form, sent: 0, is_done: false }));
    let kind = match form {
        Form::Text => "text/plain; charset=utf-8",
        Form::List => "application/json; charset=utf-8; api-version=7.1",
    };
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, kind)], body).into_response())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    List,
}

struct Lines {
    source: Option<BufReader<tokio::fs::File>>,
    number: u64,
    first: u64,
    last: u64,
    form: Form,
    sent: u64,
    is_done: bool,
}

fn blocks(lines: Lines) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    futures::stream::try_unfold(lines, |mut lines| async move {
        Ok(lines.next_block().await?.map(|block| (Bytes::from(block), lines)))
    })
}

impl Lines {
    async fn next_block(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        if self.is_done {
            return Ok(None);
        }
        let mut block = Vec::new();
        if self.sent == 0 && self.form == Form::List {
            block.extend_from_slice(b"{\"value\":[");
        }
        while block.len() < BLOCK_BYTES {
            let Some(line) = self.next_line().await? else {
                self.is_done = true;
                break;
            };
            match self.form {
                Form::Text => {
                    block.extend_from_slice(&line);
                    block.push(b'\n');
                }
                Form::List => {
                    if self.sent > 0 {
                        block.push(b',');
                    }
                    let text = String::from_utf8_lossy(&line);
                    serde_json::to_writer(&mut block, &text).map_err(std::io::Error::other)?;
                }
            }
            self.sent += 1;
        }
        if self.is_done && self.form == Form::List {
            block.extend_from_slice(format!("],\"count\":{}}}", self.sent).as_bytes());
        }
        Ok(Some(block).filter(|block| !block.is_empty()))
    }

    /// The next wanted line without its end and without the byte order mark that blocks begin with.
    async fn next_line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let Some(source) = self.source.as_mut() else { return Ok(None) };
        loop {
            if self.number >= self.last {
                return Ok(None);
            }
            let mut line = Vec::new();
            if (&mut *source).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.number >= self.first {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                let start = if line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
                return Ok(Some(line.split_off(start)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    async fn read(text: &str, first: u64, last: u64, form: Form) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, text).unwrap();
        let source = Some(BufReader::new(tokio::fs::File::open(&path).await.unwrap()));
        let lines = Lines { source, number: 0, first, last, form, sent: 0, is_done: false };
        let blocks: Vec<_> = blocks(lines).try_collect().await.unwrap();
        String::from_utf8(blocks.concat()).unwrap()
    }

    #[tokio::test]
    async fn ranges_of_lines_are_cut_out() {
        let text = "\u{feff}one\r\ntwo\nthree";
        assert_eq!(read(text, 1, u64::MAX, Form::Text).await, "one\ntwo\nthree\n");
        assert_eq!(read(text, 2, 2, Form::Text).await, "two\n");
        assert_eq!(read(text, 9, u64::MAX, Form::Text).await, "");
        assert_eq!(read(text, 2, u64::MAX, Form::List).await, r#"{"value":["two","three"],"count":2}"#);
        assert_eq!(read("", 1, u64::MAX, Form::List).await, r#"{"value":[],"count":0}"#);
    }

    #[tokio::test]
    async fn long_logs_come_in_blocks() {
        let line = "x".repeat(1_000);
        let text = vec![line.as_str(); 500].join("\n");
        let list: serde_json::Value =
            serde_json::from_str(&read(&text, 1, u64::MAX, Form::List).await).unwrap();
        assert_eq!(list["count"], 500);
        assert_eq!(list["value"].as_array().unwrap().len(), 500);
        assert_eq!(list["value"][499], line.as_str());
    }
}
