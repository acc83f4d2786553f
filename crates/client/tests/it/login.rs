//! Tokens, challenges and clocks.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::response::Response;
use dayfly_client::{AgentCredential, Connection, Credential, ErrorKind, Operation};
use dayfly_protocol::crypto::{AgentKey, Assertion, TimeMismatch};
use jiff::Timestamp;
use uuid::Uuid;

use crate::server::{POOLS, Seen, Server, bounded, json, json_with, quick, wait_until};

/// One key for all tests, as making one takes long.
static KEY: LazyLock<Arc<AgentKey>> = LazyLock::new(|| Arc::new(AgentKey::generate().unwrap()));

const CLIENT: Uuid = Uuid::from_u128(42);

/// The audience differs from the token's address, as on premises.
const AUDIENCE: &str = "https://public.example/_apis/oauth2/token";

/// An organization that gives tokens `t1`, `t2`, … and takes the last one only.
#[derive(Clone)]
struct Organization {
    /// Tokens given out.
    tokens: Arc<AtomicUsize>,
    /// Tokens taken back: those up to this number.
    revoked: Arc<AtomicUsize>,
    /// The service's clock less the real time, in seconds.
    skew: Arc<AtomicI64>,
    expires_in: u64,
}

impl Default for Organization {
    fn default() -> Self {
        Organization {
            tokens: Arc::default(),
            revoked: Arc::default(),
            skew: Arc::default(),
            expires_in: 3600,
        }
    }
}

impl Organization {
    fn answer(&self, seen: &Seen) -> Response {
        if seen.uri.path() == "/token" {
            return self.token(seen);
        }
        let current = self.tokens.load(Ordering::SeqCst);
        let valid = current > self.revoked.load(Ordering::SeqCst)
            && seen.header("authorization") == format!("Bearer t{current}");
        match valid {
            true => json(200, POOLS),
            false => {
                json_with(401, &[("www-authenticate", "Bearer authorization_uri=https://x.example")], "")
            }
        }
    }

    fn token(&self, seen: &Seen) -> Response {
        let form: std::collections::HashMap<String, String> =
            url::form_urlencoded::parse(&seen.body).into_owned().collect();
        assert_eq!(form["grant_type"], "client_credentials");
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert_eq!(form.len(), 3, "neither client_id nor scope is sent");
        let assertion = Assertion::parse(&form["client_assertion"]).unwrap();
        assert_eq!(assertion.subject(), CLIENT.to_string());
        let claims = assertion.verify(&KEY.public_key()).unwrap();
        assert_eq!(claims.audience, AUDIENCE);
        let now =
            Timestamp::from_second(Timestamp::now().as_second() + self.skew.load(Ordering::SeqCst)).unwrap();
        if let Err(mismatch) = claims.check_times(now, Duration::from_secs(60)) {
            let what = match mismatch {
                TimeMismatch::Expired => "expired on 1/1/2026 1:00:00 AM",
                TimeMismatch::NotYetValid => "is not valid until 1/1/2030 1:00:00 AM",
            };
            let time = now.strftime("%m/%d/%Y %H:%M:%S");
            return json(
                400,
                &format!(
                    r#"{{"error":"invalid_client","error_description":"The bearer token {what}. Current server time is {time}."}}"#
                ),
            );
        }
        let number = self.tokens.fetch_add(1, Ordering::SeqCst) + 1;
        json(
            200,
            &format!(
                r#"{{"access_token":"t{number}","token_type":"bearer","expires_in":{}}}"#,
                self.expires_in
            ),
        )
    }

    async fn start(&self) -> Server {
        let organization = self.clone();
        Server::start(move |seen, _| organization.answer(seen)).await
    }
}

fn agent(server: &Server) -> Connection {
    server.connect(Credential::Agent(AgentCredential {
        client_id: CLIENT,
        authorization_url: AUDIENCE.into(),
        token_url: Arc::new(format!("http://{}/token", server.address).parse().unwrap()),
        key: KEY.clone(),
    }))
}

fn token_requests(server: &Server) -> usize {
    server.seen().iter().filter(|seen| seen.uri.path() == "/token").count()
}

#[tokio::test]
async fn an_agent_gets_a_token_and_keeps_it() {
    let server = Organization::default().start().await;
    let connection = agent(&server);
    for _ in 0..3 {
        assert_eq!(connection.find_pool("default").await.unwrap().id.0, 3);
    }
    assert_eq!(token_requests(&server), 1);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_all_callers() {
    let organization = Organization::default();
    let server = organization.start().await;
    let connection = agent(&server);
    connection.find_pool("Default").await.unwrap();
    organization.revoked.store(1, Ordering::SeqCst);
    let calls = (0..20).map(|_| {
        let connection = connection.clone();
        tokio::spawn(async move { connection.find_pool("Default").await.map(|pool| pool.id) })
    });
    for call in calls.collect::<Vec<_>>() {
        bounded(call).await.unwrap().unwrap();
    }
    assert_eq!(token_requests(&server), 2);
    let again = server.seen().into_iter().rfind(|seen| seen.uri.path() != "/token").unwrap();
    assert!(again.headers.contains_key("x-tfs-session"));
}

#[tokio::test]
async fn a_retried_call_says_so_with_an_empty_header() {
    let organization = Organization::default();
    let server = organization.start().await;
    let connection = agent(&server);
    connection.find_pool("Default").await.unwrap();
    organization.revoked.store(1, Ordering::SeqCst);
    connection.find_pool("Default").await.unwrap();
    let marks: Vec<bool> = server
        .seen()
        .iter()
        .filter(|seen| seen.uri.path() != "/token")
        .map(|seen| seen.headers.contains_key("x-vss-userdata"))
        .collect();
    assert_eq!(marks, [false, false, true]);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let organization = Organization { expires_in: 1, ..Organization::default() };
    let server = organization.start().await;
    let connection = agent(&server);
    bounded(async {
        while token_requests(&server) < 2 {
            connection.find_pool("Default").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let refused = server.seen().iter().filter(|seen| seen.headers.contains_key("x-vss-userdata")).count();
    assert_eq!(refused, 0, "no call was refused for its token");
}

#[tokio::test]
async fn a_token_that_is_never_taken_ends_the_call() {
    let organization = Organization::default();
    organization.revoked.store(usize::MAX, Ordering::SeqCst);
    let server = organization.start().await;
    let error = agent(&server).find_pool("Default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(token_requests(&server), 3);
}

#[tokio::test]
async fn clocks_that_differ_are_corrected_by_the_services_words() {
    for hours in [-3, 5] {
        let organization = Organization::default();
        organization.skew.store(hours * 3600, Ordering::SeqCst);
        let server = organization.start().await;
        let connection = agent(&server);
        connection.find_pool("Default").await.unwrap();
        assert_eq!(token_requests(&server), 2, "{hours}");
        // Another agent on the same clients profits from it.
        let other = connection.with_credential(Credential::Agent(AgentCredential {
            client_id: CLIENT,
            authorization_url: AUDIENCE.into(),
            token_url: Arc::new(format!("http://{}/token", server.address).parse().unwrap()),
            key: KEY.clone(),
        }));
        other.find_pool("Default").await.unwrap();
        assert_eq!(token_requests(&server), 3, "{hours}");
    }
}

#[tokio::test]
async fn clocks_that_cannot_be_corrected_are_told_as_such() {
    let server = Server::start(|_, _| {
        json(400, r#"{"error":"invalid_client","error_description":"The bearer token expired. Current server time is unknown."}"#)
    })
    .await;
    let error = agent(&server).find_pool("Default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClockSkew);
    assert!(error.is_retryable(), "for half an hour");
    assert!(error.to_string().contains("clock"), "{error}");
}

#[tokio::test]
async fn a_deleted_client_is_unauthorized_at_once() {
    let server = Server::start(|_, _| {
        json(400, r#"{"error":"invalid_client","error_description":"VS30063: You are not authorized"}"#)
    })
    .await;
    let error = agent(&server).find_pool("Default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(error.call().unwrap().operation, Operation::GetToken);
    assert!(error.to_string().contains("VS30063"), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn the_token_endpoint_may_fail_for_a_while() {
    let organization = Organization::default();
    let handler = organization.clone();
    let server = Server::start(move |seen, number| match number {
        0 => json(503, ""),
        1 => json(500, ""),
        _ => handler.answer(seen),
    })
    .await;
    agent(&server).find_pool("Default").await.unwrap();
    assert_eq!(token_requests(&server), 3);
}

#[tokio::test]
async fn a_token_endpoint_that_stays_away_is_not_asked_for_ever() {
    let server = Server::start(|_, _| json(503, "")).await;
    let error = agent(&server).find_pool("Default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.left_untouched(), "the call itself was not made");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_clock_that_jumps_at_every_attempt_ends_the_call() {
    let server = Server::start(|_, number| {
        let time = Timestamp::from_second(Timestamp::now().as_second() + 3600 * (number as i64 + 1)).unwrap();
        json(
            400,
            &format!(r#"{{"error":"invalid_client","error_description":"Current server time is {time}."}}"#),
        )
    })
    .await;
    let error = agent(&server).find_pool("Default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClockSkew);
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_wrong_personal_access_token_is_tried_once() {
    let server = Server::start(|_, _| json(401, "")).await;
    let error = server.with_pat().find_pool("Default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(!format!("{error} {error:?}").contains("secret"));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), "Basic VnN0c0FnZW50OnNlY3JldA==");
}

#[tokio::test]
async fn a_refusal_that_another_token_does_not_help_is_final() {
    let organization = Organization::default();
    let handler = organization.clone();
    let server = Server::start(move |seen, _| match seen.uri.path() {
        "/token" => handler.answer(seen),
        _ => json_with(401, &[("x-vss-authenticateerror", "account disabled")], ""),
    })
    .await;
    let error = agent(&server).find_pool("Default").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(token_requests(&server), 1);
}

#[tokio::test]
async fn many_agents_share_one_connection_pool_but_not_their_tokens() {
    let server = Server::start(|seen, _| match seen.header("authorization") {
        "" => json(401, ""),
        _ => json(200, POOLS),
    })
    .await;
    let first = Connection::new(&server.url(), Credential::Bearer("a".into()), quick()).unwrap();
    let second = first.with_credential(Credential::Bearer("b".into()));
    first.find_pool("Default").await.unwrap();
    second.find_pool("Default").await.unwrap();
    wait_until(|| server.seen().len() == 2).await;
    let seen = server.seen();
    assert_eq!(seen[0].header("authorization"), "Bearer a");
    assert_eq!(seen[1].header("authorization"), "Bearer b");
    assert_eq!(seen[0].header("x-tfs-session"), seen[1].header("x-tfs-session"));
}
