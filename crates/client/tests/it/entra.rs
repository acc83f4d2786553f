//! Tokens of Microsoft Entra ID.

use std::collections::HashMap;

use axum::response::Response;
use dayfly_client::{Connection, Credential, EntraApplication, EntraCredential, ErrorKind, Operation};

use crate::server::{POOLS, Seen, Server, json, quick};

const TOKEN: &str = "/contoso/oauth2/v2.0/token";

fn form(seen: &Seen) -> HashMap<String, String> {
    url::form_urlencoded::parse(&seen.body).into_owned().collect()
}

/// Gives `token`, valid for so long, and takes nothing else.
fn answer(seen: &Seen, expires_in: &str) -> Response {
    match seen.uri.path() {
        TOKEN | "/metadata/identity/oauth2/token" => json(
            200,
            &format!(r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"token"}}"#),
        ),
        _ if seen.header("authorization") == "Bearer token" => json(200, POOLS),
        _ => json(401, ""),
    }
}

fn application(server: &Server) -> EntraApplication {
    EntraApplication {
        authority: format!("http://{}", server.address).parse().unwrap(),
        tenant: "contoso".to_owned(),
        client_id: "client".to_owned(),
    }
}

fn principal(server: &Server) -> Connection {
    server.connect(Credential::Entra(EntraCredential::ClientSecret {
        application: application(server),
        secret: "hunter2".into(),
    }))
}

fn token_requests(server: &Server) -> Vec<Seen> {
    server.seen().into_iter().filter(|seen| seen.uri.path().ends_with("/token")).collect()
}

#[tokio::test]
async fn a_service_principal_gets_a_token_for_azure_devops_and_keeps_it() {
    let server = Server::start(|seen, _| answer(seen, "3599")).await;
    let connection = principal(&server);
    for _ in 0..3 {
        connection.find_pool("Default").await.unwrap();
    }
    let asked = token_requests(&server);
    assert_eq!(asked.len(), 1);
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", "client"),
        ("client_secret", "hunter2"),
        ("scope", "499b84ac-1321-427f-aa17-267ca6975798/.default"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form(&asked[0]), HashMap::from(expected));
}

#[tokio::test]
async fn a_wrong_secret_is_told_in_the_words_of_entra() {
    let server = Server::start(|_, _| {
        json(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}"#,
        )
    })
    .await;
    let error = principal(&server).find_pool("Default").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.call().unwrap().operation),
        (ErrorKind::Unauthorized, Operation::GetToken)
    );
    assert_eq!(
        error.to_string(),
        "cannot get a token for the service principal client from 127.0.0.1: the service answered 401 \
         (invalid_client): AADSTS7000215: Invalid client secret provided."
    );
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn entra_may_fail_for_a_while() {
    let server =
        Server::start(|seen, number| if number < 2 { json(503, "") } else { answer(seen, "3599") }).await;
    principal(&server).find_pool("Default").await.unwrap();
    assert_eq!(token_requests(&server).len(), 3);
}

#[tokio::test]
async fn a_workload_identity_reads_its_token_anew() {
    let server = Server::start(|seen, _| answer(seen, "0")).await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    let credential = || {
        Credential::Entra(EntraCredential::Federated {
            application: application(&server),
            token_file: token_file.clone(),
        })
    };
    let error = server.connect(credential()).find_pool("Default").await.unwrap_err();
    assert!(error.to_string().contains(token_file.to_str().unwrap()), "{error}");
    for token in ["first\n", "second"] {
        std::fs::write(&token_file, token).unwrap();
        server.connect(credential()).find_pool("Default").await.unwrap();
    }
    let asked = token_requests(&server);
    let assertions: Vec<String> = asked.iter().map(|seen| form(seen)["client_assertion"].clone()).collect();
    assert_eq!(assertions, ["first", "second"]);
    let kind = form(&asked[0])["client_assertion_type"].clone();
    assert_eq!(kind, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
}

/// The metadata service writes its numbers as strings, and no proxy reaches it.
#[tokio::test]
async fn a_managed_identity_asks_the_machine_past_the_proxy() {
    let machine = Server::start(|seen, _| answer(seen, "\"3599\"")).await;
    let proxy = Server::start(|seen, _| answer(seen, "0")).await;
    let mut settings = quick();
    settings.proxy.http = Some(format!("http://{}", proxy.address));
    let credential = Credential::Entra(EntraCredential::ManagedIdentity {
        endpoint: format!("http://{}", machine.address).parse().unwrap(),
        client_id: Some("mine".to_owned()),
    });
    let organization = "http://azure.example/contoso".parse().unwrap();
    let connection = Connection::new(&organization, credential, settings).unwrap();
    connection.find_pool("Default").await.unwrap();
    let asked = machine.seen();
    assert_eq!(asked[0].header("metadata"), "true");
    assert_eq!(
        asked[0].uri.query(),
        Some("api-version=2018-02-01&resource=499b84ac-1321-427f-aa17-267ca6975798&client_id=mine")
    );
    assert!(token_requests(&proxy).is_empty());
    assert_eq!(proxy.seen().len(), 1, "the organization is reached by the proxy");
}
