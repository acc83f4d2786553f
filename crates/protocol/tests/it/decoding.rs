//! Anything may come over the network. The fuzz targets check the same.

use std::sync::LazyLock;

use dayfly_protocol::crypto::AgentKey;
use proptest::prelude::*;
use serde_json::Value;

use crate::checks;

static AGENT: LazyLock<AgentKey> = LazyLock::new(|| AgentKey::generate().expect("a key can be generated"));

/// Names that occur in the documents, so that values land in fields.
const NAMES: [&str; 60] = [
    "id",
    "name",
    "value",
    "count",
    "type",
    "Type",
    "messageId",
    "messageType",
    "iv",
    "body",
    "sessionId",
    "ownerName",
    "agent",
    "encryptionKey",
    "encrypted",
    "plan",
    "planId",
    "timeline",
    "jobId",
    "jobDisplayName",
    "steps",
    "resources",
    "endpoints",
    "authorization",
    "parameters",
    "scheme",
    "data",
    "url",
    "variables",
    "isSecret",
    "mask",
    "environmentVariables",
    "properties",
    "repositories",
    "containers",
    "workspace",
    "inputs",
    "reference",
    "condition",
    "enabled",
    "timeoutInMinutes",
    "timeout",
    "records",
    "result",
    "state",
    "issues",
    "startTime",
    "log",
    "$type",
    "clientId",
    "authorizationUrl",
    "publicKey",
    "modulus",
    "exponent",
    "systemCapabilities",
    "lockedUntil",
    "job",
    "message",
    "timeoutSeconds",
    "reason",
];

/// Values in the forms .NET writes.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9+/=:. -]{0,20}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "00:01:00",
            "-1.02:03:04.5",
            "2024-02-09T08:05:01.123Z",
            "0001-01-01T00:00:00",
            "9999-12-31T23:59:59.9999999Z",
            "00000000-0000-0000-0000-000000000000",
            "task",
            "job",
            "cancel",
            "Succeeded",
            "OAuth",
            "https://a.example/",
            "AQAB",
            "2147483648",
        ])
        .prop_map(Value::from),
    ]
}

fn document() -> impl Strategy<Value = Vec<u8>> {
    let value = scalar().prop_recursive(5, 60, 8, |inner| {
        let name = prop::sample::select(NAMES.to_vec());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..8).prop_map(|entries| entries
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    });
    value.prop_map(|value| value.to_string().into_bytes())
}

proptest! {
    #[test]
    fn any_document_decodes_to_something_stable(kind: u8, document in document()) {
        checks::document(&[&[kind], &document[..]].concat());
        checks::frames_to_worker(&document);
        checks::frames_from_worker(&document);
        checks::agent_files(&document);
    }

    #[test]
    fn any_bytes_are_taken_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        checks::document(&bytes);
        checks::frames_to_worker(&bytes);
        checks::frames_from_worker(&bytes);
        checks::agent_files(&bytes);
        checks::message_body(&bytes);
        checks::keys(&bytes, &AGENT);
    }

    #[test]
    fn any_document_cut_short_is_an_error_and_says_so(document in document(), cut in 1usize..20) {
        let cut = document.len().saturating_sub(cut);
        checks::document(&[b"0", &document[..cut]].concat());
        checks::frames_to_worker(&document[..cut]);
    }
}
