//! A job message's way through the protocol: decrypt, decode; and an agent's login.
//!
//! The message has 200 KiB, as that of a job with 150 steps.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dayfly_protocol::crypto::{AgentKey, Assertion, Claims, SessionKey, open_message};
use dayfly_protocol::job::{AgentJobRequestMessage, Step};
use dayfly_protocol::message::PIPELINE_AGENT_JOB_REQUEST;
use dayfly_protocol::timeline::{TaskReference, VariableValue};
use dayfly_protocol::{MessageId, RecordId, TaskId, json, task};
use secrecy::ExposeSecret;
use uuid::Uuid;

const MESSAGE_BYTES: usize = 200 * 1024;

/// A message of at least [`MESSAGE_BYTES`].
fn message() -> Vec<u8> {
    let script =
        "set -euo pipefail\nfor file in $(find . -name '*.rs'); do\n  rustfmt --check \"$file\"\ndone\n"
            .repeat(10);
    let step = |number: usize| Step {
        id: RecordId(Uuid::from_u128(number as u128)),
        name: Some(format!("CmdLine{number}")),
        display_name: Some(format!("Check the format of part {number}")),
        reference: Some(TaskReference {
            id: TaskId(task::CMD_LINE),
            name: "CmdLine".to_owned(),
            version: "2.250.0".to_owned(),
        }),
        condition: Some("and(succeeded(), ne(variables['Build.Reason'], 'PullRequest'))".to_owned()),
        enabled: true,
        inputs: BTreeMap::from([("script".to_owned(), script.clone())]),
        ..Step::default()
    };
    let mut message = AgentJobRequestMessage {
        message_type: PIPELINE_AGENT_JOB_REQUEST.to_owned(),
        variables: (0..150)
            .map(|number| {
                (format!("system.variable{number}"), VariableValue::public(format!("value {number}")))
            })
            .collect(),
        ..AgentJobRequestMessage::default()
    };
    loop {
        let text = json::to_vec(&message).expect("a message is JSON");
        if text.len() >= MESSAGE_BYTES {
            return text;
        }
        message.steps.push(step(message.steps.len()));
    }
}

fn messages(criterion: &mut Criterion) {
    let text = message();
    let key = SessionKey::generate().expect("the system has random numbers");
    let sealed = key.seal(MessageId(1), PIPELINE_AGENT_JOB_REQUEST, &text).expect("a message can be sealed");

    let mut group = criterion.benchmark_group("job message of 200 KiB");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("decrypt", |bencher| {
        bencher.iter(|| open_message(Some(&key), black_box(&sealed)).expect("the key fits"));
    });
    group.bench_function("decode", |bencher| {
        bencher
            .iter(|| json::from_slice::<AgentJobRequestMessage>(black_box(&text)).expect("it is a message"));
    });
    group.bench_function("decode with serde_json alone", |bencher| {
        bencher.iter(|| {
            serde_json::from_slice::<AgentJobRequestMessage>(black_box(&text)).expect("it is a message")
        });
    });
    group.finish();
}

fn logins(criterion: &mut Criterion) {
    let key = AgentKey::generate().expect("the system has random numbers");
    let public = key.public_key();
    let session = SessionKey::generate().expect("the system has random numbers");
    let wire = session.to_wire(&public).expect("a session key can be wrapped");
    let claims =
        Claims::new(Uuid::from_u128(7), "https://vstoken.example/oauth", jiff::Timestamp::UNIX_EPOCH);
    let token = claims.sign(&key).expect("the key can sign");

    let mut group = criterion.benchmark_group("agent");
    group.bench_function("sign an assertion", |bencher| {
        bencher.iter(|| black_box(&claims).sign(&key).expect("the key can sign"));
    });
    group.bench_function("verify an assertion", |bencher| {
        bencher.iter(|| {
            let assertion = Assertion::parse(black_box(token.expose_secret())).expect("it is a token");
            assertion.verify(&public).expect("the key fits")
        });
    });
    group.bench_function("unwrap a session key", |bencher| {
        bencher.iter(|| SessionKey::from_wire(black_box(&wire), &key).expect("the key fits"));
    });
    group.sample_size(10);
    group.bench_function("generate a key", |bencher| {
        bencher.iter(|| AgentKey::generate().expect("the system has random numbers"));
    });
    group.finish();
}

criterion_group!(benches, messages, logins);
criterion_main!(benches);
