//! The version of the API that a request asks for: by `api-version` in the query or in `Accept`.
//!
//! Answers are the same for all of them, but what the service refuses is refused: whatever changes something
//! must name a version, and a version has to be one that there is (`VssVersionNotSpecifiedException` and its
//! neighbours in `VssApiResourceVersion.cs`).

use http::header::ACCEPT;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::error::ApiError;
use super::query::Query;

/// The latest version there is, in the table of locations too.
pub(crate) const LATEST: &str = "12.0";

/// Refuses a request without the version that it needs, or with one that cannot be.
pub(crate) fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    if !uri.path().split('/').any(|segment| segment == "_apis") {
        return Ok(());
    }
    let query = Query::parse(uri.query().unwrap_or_default());
    match query.text("api-version").or_else(|| accepted(headers)) {
        Some(asked) => check_version(asked),
        None if method.is_safe() => Ok(()),
        None => Err(refused(
            "VssVersionNotSpecifiedException",
            format!(
                "No api-version was supplied for the \"{method}\" request. The version must be supplied \
                 either as part of the Accept header (e.g. \"application/json; api-version=1.0\") or as a \
                 query parameter (e.g. \"?api-version=1.0\")."
            ),
        )),
    }
}

/// The version in the `Accept` header.
fn accepted(headers: &HeaderMap) -> Option<&str> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut parameters =
        accept.flat_map(|value| value.split([';', ','])).filter_map(|part| part.split_once('='));
    let found = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("api-version"));
    found.map(|(_, version)| version.trim().trim_matches('"'))
}

/// Reads `7.1`, `7.1-preview` and `7.1-preview.2`.
fn check_version(asked: &str) -> Result<(), ApiError> {
    let (numbers, preview) = match asked.split_once("-preview") {
        Some((numbers, preview)) => (numbers, preview),
        None => (asked, ""),
    };
    let is_preview =
        preview.is_empty() || preview.strip_prefix('.').is_some_and(|number| number.parse::<u32>().is_ok());
    match version(numbers).filter(|_| is_preview) {
        None => Err(refused(
            "VssInvalidApiResourceVersionException",
            format!("`{asked}` is not an API version; expected for example 7.1 or 7.1-preview.2"),
        )),
        Some(numbers) if Some(numbers) > version(LATEST) => Err(refused(
            "VssVersionOutOfRangeException",
            format!(
                "The requested REST API version of {asked} is out of range for this server. The latest REST \
                 API version this server supports is {LATEST}."
            ),
        )),
        Some(_) => Ok(()),
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn refused(type_key: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, type_key, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, uri: &str, accept: &str) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        check(&method, &uri.parse().unwrap(), &headers).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn versions_are_read_where_clients_write_them() {
        for accept in [
            "application/json;api-version=5.1-preview.1",
            "application/json; api-version=7.1-preview; excludeUrls=true, text/plain",
            "text/plain, application/json;API-Version=\"7.1\"",
        ] {
            assert_eq!(ask(Method::PATCH, "/_apis/projects", accept), Ok(()), "{accept}");
        }
        assert_eq!(ask(Method::POST, "/p/_apis/build/builds?Api-Version=7", "*/*"), Ok(()));
        assert_eq!(ask(Method::GET, "/_apis/projects", "*/*"), Ok(()));
        assert_eq!(ask(Method::POST, "/p/_git/r/git-upload-pack", "*/*"), Ok(()));
        let missing = ask(Method::DELETE, "/_apis/projects", "application/json").unwrap_err();
        assert!(missing.starts_with("No api-version was supplied for the \"DELETE\" request."), "{missing}");
    }

    #[test]
    fn versions_that_cannot_be_are_refused() {
        let refused = |version: &str| {
            ask(Method::GET, &format!("/_apis/projects?api-version={version}"), "*/*").unwrap_err()
        };
        assert!(refused("12.1").contains("out of range"));
        for version in ["latest", "7.x", "7.1-preview.x", "7.1-preview2", "-1.0", "7.1.2"] {
            assert!(refused(version).contains("is not an API version"), "{version}");
        }
    }
}
