//! Answers that are not of Azure DevOps.

use axum::response::{IntoResponse, Response};
use dayfly_client::{Error, ErrorKind};

use crate::server::Server;

fn page(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    let mut response = (status, [("content-type", "text/html")], body.to_owned()).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

async fn error_of(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (Error, usize) {
    let server = Server::start(move |_, _| answer()).await;
    let error = server.with_pat().find_pool("Default").await.unwrap_err();
    (error, server.seen().len())
}

#[tokio::test]
async fn a_web_page_is_explained_by_its_title() {
    let (error, requests) = error_of(|| page(200, &[], "<html><title>Guest Wi-Fi</title></html>")).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(
        error.to_string(),
        "cannot find the agent pool \"Default\": the answer 200 is a web page titled \"Guest Wi-Fi\", not of Azure DevOps; check the address and the proxy"
    );
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn a_sign_in_page_means_that_the_credential_is_not_valid() {
    for (status, headers) in [
        (302, &[("location", "https://spsprodweu1.vssps.visualstudio.com/_signin?realm=dev.azure.com")][..]),
        (203, &[]),
    ] {
        let (error, requests) = error_of(move || page(status, headers, "<html>Sign in</html>")).await;
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{status}");
        assert!(error.to_string().contains("sign-in page"), "{error}");
        assert_eq!(requests, 1);
    }
}

#[tokio::test]
async fn a_redirection_is_not_followed_with_the_credential() {
    let (error, requests) = error_of(|| page(301, &[("location", "https://elsewhere.example/")], "")).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("points to another address"), "{error}");
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn a_proxys_error_page_is_asked_again() {
    let (error, requests) = error_of(|| page(504, &[], "<html><title>Gateway timeout</title></html>")).await;
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert_eq!(requests, 4);
}
