//! Answers: what they say, and whether they are an error.

use bytes::Bytes;
use dayfly_protocol::error::WrappedException;
use dayfly_protocol::json;
use http::header::{CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Call, Error, Result, ServiceAnswer};
use crate::throttle::retry_after;

/// The most bytes of a service's message that we repeat.
const MAX_MESSAGE_BYTES: usize = 2000;

/// The most bytes of a page's title that we repeat.
const MAX_TITLE_BYTES: usize = 100;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The body of an error of OAuth (RFC 6749, 5.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct OAuthError {
    error: Option<String>,
    error_description: Option<String>,
}

impl Answer {
    fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the service asks for (another) token: 401, or a redirection to a sign-in page that names the
    /// scheme (`VssOAuthCredential.cs`). `X-VSS-AuthenticateError` says that another token will not help
    /// (`VssHttpMessageHandler.cs`).
    pub(crate) fn is_challenge(&self) -> bool {
        let names_bearer = || {
            let mut schemes =
                self.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
            schemes.any(|scheme| scheme.to_ascii_lowercase().contains("bearer"))
        };
        let hopeless = self.header("x-vss-authenticateerror").is_some_and(|text| !text.trim().is_empty());
        !hopeless
            && (self.status == StatusCode::UNAUTHORIZED
                || (self.status == StatusCode::FOUND && names_bearer()))
    }

    fn is_html(&self) -> bool {
        let declared = self.header(CONTENT_TYPE).is_some_and(|media_type| {
            let media_type = media_type.to_ascii_lowercase();
            media_type.starts_with("text/html") || media_type.starts_with("application/xhtml")
        });
        declared || {
            let start = self.body.trim_ascii_start();
            let start = &start[..start.len().min(14)];
            start.eq_ignore_ascii_case(b"<!doctype html")
                || start.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case(b"<html"))
        }
    }

    /// Whether a redirection or page is Azure DevOps' sign-in: it is sent with 302 or, to programs, with 203.
    pub(crate) fn is_sign_in(&self) -> bool {
        let location = self.header(LOCATION).unwrap_or_default().to_ascii_lowercase();
        let to_sign_in = ["_signin", "login.microsoftonline", "login.live", "/login", "oauth2/authorize"];
        self.status == StatusCode::NON_AUTHORITATIVE_INFORMATION
            || self.headers.contains_key("x-tfs-fedauthrealm")
            || to_sign_in.iter().any(|mark| location.contains(mark))
    }

    /// The answer, if it is a success that can be decoded.
    pub(crate) fn check(self, call: &Call) -> Result<Answer> {
        let boxed = || Box::new(call.clone());
        if self.status.is_redirection() {
            return Err(match self.is_sign_in() {
                true => Error::SignIn { call: boxed(), status: self.status },
                false => Error::Redirect { call: boxed(), status: self.status },
            });
        }
        if self.is_html() && (self.is_sign_in() || self.status != StatusCode::UNAUTHORIZED) {
            return Err(match self.is_sign_in() {
                true => Error::SignIn { call: boxed(), status: self.status },
                false => Error::Html { call: boxed(), status: self.status, title: title(&self.body) },
            });
        }
        if self.status.is_success() {
            return Ok(self);
        }
        Err(Error::Service { call: boxed(), answer: Box::new(self.into_service_answer()) })
    }

    /// The service's own words on an error.
    pub(crate) fn into_service_answer(self) -> ServiceAnswer {
        let (type_key, message) = self.words();
        ServiceAnswer {
            status: self.status,
            type_key,
            message: tidy(&message, MAX_MESSAGE_BYTES),
            activity_id: self.header("activityid").or(self.header("x-vss-e2eid")).map(str::to_owned),
            retry_after: retry_after(&self.headers),
            host_offline: self.headers.contains_key("x-vss-hostofflineerror"),
        }
    }

    /// Type and message: of the body if it is one of the two forms, else of the header for errors, else the
    /// status' own name.
    fn words(&self) -> (Option<String>, String) {
        if let Ok(error) = json::from_slice::<WrappedException>(&self.body)
            && (error.type_key.is_some() || !error.message.is_empty())
        {
            return (error.type_key, error.message);
        }
        if let Ok(OAuthError { error: Some(error), error_description }) = json::from_slice(&self.body) {
            let message = error_description.unwrap_or_else(|| error.clone());
            return (Some(error), message);
        }
        if let Some(text) = self.header("x-tfs-serviceerror") {
            // URL-encoded by the service (`VssHttpClientBase.cs`).
            let decoded =
                url::form_urlencoded::parse(text.as_bytes()).map(|(text, _)| text.into_owned()).next();
            return (None, decoded.unwrap_or_default());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            return (None, "the credential is not valid, or has expired".to_owned());
        }
        (None, self.status.canonical_reason().unwrap_or("no reason given").to_owned())
    }

    /// The decoded body; `None` when it is empty, as with 202 and 204.
    pub(crate) fn decode<T: DeserializeOwned>(&self, call: &Call) -> Result<Option<T>> {
        if self.body.is_empty() {
            return Ok(None);
        }
        json::from_slice(&self.body)
            .map(Some)
            .map_err(|source| Error::Body { call: Box::new(call.clone()), source })
    }
}

/// The text on one line and within the bound, without control characters.
fn tidy(text: &str, limit: usize) -> String {
    let mut tidy = String::new();
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        let separator = if tidy.is_empty() { None } else { Some(' ') };
        for letter in separator.into_iter().chain(word.chars()) {
            if tidy.len() + letter.len_utf8() > limit {
                tidy.truncate(tidy.trim_end().len());
                tidy.push('…');
                return tidy;
            }
            tidy.push(letter);
        }
    }
    tidy
}

/// The title of a web page.
fn title(page: &[u8]) -> Option<String> {
    let start = String::from_utf8_lossy(&page[..page.len().min(16 * 1024)]);
    let lower = start.to_ascii_lowercase();
    let from = lower.find("<title")?;
    let from = from + lower[from..].find('>')? + 1;
    let to = from + lower[from..].find("</title")?;
    let title = tidy(&start[from..to], MAX_TITLE_BYTES);
    (!title.is_empty()).then_some(title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::operation::Operation;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
                .collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn check(answer: Answer) -> Result<Answer> {
        answer.check(&Call { operation: Operation::FindPool, object: "\"Default\"".into() })
    }

    #[test]
    fn words_come_from_the_body_the_header_or_the_status() {
        let body = r#"{"$id":"1","message":"No pool.\r\nSorry.","typeKey":"TaskAgentPoolNotFoundException"}"#;
        let error = check(answer(404, &[("activityid", "abc")], body)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PoolNotFound);
        assert_eq!(error.answer().unwrap().activity_id.as_deref(), Some("abc"));
        assert_eq!(
            error.to_string(),
            "cannot find the agent pool \"Default\": the service answered 404 (TaskAgentPoolNotFoundException): No pool. Sorry."
        );
        let error =
            check(answer(500, &[("x-tfs-serviceerror", "TF400898%3a+An+internal+error")], "")).unwrap_err();
        assert_eq!(error.answer().unwrap().message, "TF400898: An internal error");
        let error = check(answer(500, &[], "")).unwrap_err();
        assert_eq!(error.answer().unwrap().message, "Internal Server Error");
        let error =
            check(answer(400, &[], r#"{"error":"invalid_client","error_description":"gone"}"#)).unwrap_err();
        let answer = error.answer().unwrap();
        assert_eq!((answer.type_key.as_deref(), answer.message.as_str()), (Some("invalid_client"), "gone"));
    }

    #[test]
    fn web_pages_are_recognised_and_explained() {
        let page = "<!DOCTYPE html><html><head><TITLE>\n Corporate\n proxy </TITLE>";
        let error = check(answer(200, &[], page)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains("is a web page titled \"Corporate proxy\""), "{error}");
        assert_eq!(
            check(answer(502, &[("content-type", "text/html")], "")).unwrap_err().kind(),
            ErrorKind::Transient
        );
        assert_eq!(check(answer(203, &[], page)).unwrap_err().kind(), ErrorKind::Unauthorized);
        let location = ("location", "https://spsprodweu.vssps.visualstudio.com/_signin?realm=dev.azure.com");
        assert_eq!(check(answer(302, &[location], page)).unwrap_err().kind(), ErrorKind::Unauthorized);
        assert_eq!(
            check(answer(302, &[("location", "https://elsewhere.example/")], "")).unwrap_err().kind(),
            ErrorKind::Protocol
        );
        assert_eq!(
            check(answer(401, &[("content-type", "text/html")], page)).unwrap_err().kind(),
            ErrorKind::Unauthorized
        );
    }

    #[test]
    fn challenges_are_told_from_hopeless_refusals() {
        assert!(answer(401, &[], "").is_challenge());
        assert!(
            answer(302, &[("www-authenticate", "Bearer authorization_uri=https://x")], "").is_challenge()
        );
        assert!(!answer(302, &[("www-authenticate", "Basic")], "").is_challenge());
        assert!(!answer(401, &[("x-vss-authenticateerror", "revoked")], "").is_challenge());
        assert!(!answer(403, &[], "").is_challenge());
    }

    #[test]
    fn long_words_of_the_service_are_cut() {
        assert_eq!(tidy(&"a b\u{7}c ".repeat(3), 8), "a b c a…");
        assert_eq!(tidy(&"x".repeat(9), 8), "xxxxxxxx…");
        assert_eq!(title(b"<title>x"), None);
    }
}
