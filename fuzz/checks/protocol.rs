//! What holds for any bytes that come from the network or from an agent's files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_protocol::agent::{TaskAgent, TaskAgentPublicKey};
use dayfly_protocol::agent_files::{self, AgentCredentials, AgentSettings};
use dayfly_protocol::artifact::{BuildArtifact, FileContainerItem};
use dayfly_protocol::build::BuildUpdate;
use dayfly_protocol::channel::{self, Decoder, FromWorker, MAX_FRAME_BYTES, SecretJson, ToWorker};
use dayfly_protocol::connection::{ApiResourceLocation, ConnectionData};
use dayfly_protocol::crypto::{AgentKey, AgentPublicKey, Assertion, SecretBytes, SessionKey, open_message};
use dayfly_protocol::error::WrappedException;
use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::job_request::TaskAgentJobRequest;
use dayfly_protocol::json::{self, ListOf};
use dayfly_protocol::logs::{FeedLines, TaskAttachment, TaskLog};
use dayfly_protocol::message::{
    AgentRefreshMessage, JOB_CANCELLATION, JobCancelMessage, JobMetadataMessage, TaskAgentMessage,
};
use dayfly_protocol::plan::{JobEvent, TaskOrchestrationPlanReference};
use dayfly_protocol::pool::{TaskAgentPool, TaskAgentQueue};
use dayfly_protocol::session::{TaskAgentSession, TaskAgentSessionKey};
use dayfly_protocol::timeline::{Timeline, TimelineRecord};
use dayfly_protocol::{DateTime, MessageId, TimeSpan};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Everything that is decoded from an answer or a request, chosen by the first byte: `0` is the first.
const DOCUMENTS: &[fn(&[u8])] = &[
    stable::<AgentJobRequestMessage>,
    stable::<TaskAgentMessage>,
    stable::<TaskAgentSession>,
    stable::<TaskAgent>,
    stable::<ListOf<TaskAgentPool>>,
    stable::<TaskAgentJobRequest>,
    stable::<ListOf<TimelineRecord>>,
    stable::<ConnectionData>,
    stable::<JobCancelMessage>,
    stable::<JobMetadataMessage>,
    stable::<AgentRefreshMessage>,
    stable::<Timeline>,
    stable::<TaskLog>,
    stable::<FeedLines>,
    stable::<TaskAttachment>,
    stable::<WrappedException>,
    stable::<BuildArtifact>,
    stable::<FileContainerItem>,
    stable::<BuildUpdate>,
    stable::<ListOf<ApiResourceLocation>>,
    stable::<TaskOrchestrationPlanReference>,
    stable::<JobEvent>,
    stable::<TaskAgentQueue>,
    stable::<DateTime>,
    stable::<TimeSpan>,
];

/// Decodes the bytes behind the first one as the kind of document which the first one names.
pub(crate) fn document(bytes: &[u8]) {
    if let Some((kind, document)) = bytes.split_first() {
        DOCUMENTS[usize::from(kind.wrapping_sub(b'0')) % DOCUMENTS.len()](document);
    }
}

/// What was decoded can be written, and what was written is read as the same.
fn stable<T: Serialize + DeserializeOwned>(document: &[u8]) {
    match json::from_slice::<T>(document) {
        Ok(value) => {
            let written = json::to_vec(&value).expect("what was decoded can be encoded");
            let again: T = json::from_slice(&written).expect("what was encoded can be decoded");
            let again = json::to_vec(&again).expect("what was decoded can be encoded");
            assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&written));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Opens the bytes as messages of a session: a key, an initialization vector, a body.
pub(crate) fn message_body(bytes: &[u8]) {
    let Some((key, rest)) = bytes.split_at_checked(32) else { return };
    let session = SessionKey::new(SecretBytes::new(key.to_vec())).expect("32 bytes are a key of AES");
    if let Some((iv, encrypted)) = rest.split_at_checked(16) {
        let _ = session.decrypt(iv, encrypted.to_vec());
    }

    let sealed = session.seal(MessageId(1), JOB_CANCELLATION, rest).expect("any body can be encrypted");
    let opened = open_message(Some(&session), &sealed).expect("what was sealed opens");
    assert_eq!(opened.expose(), rest);

    // The same bytes as they might stand in the message: no base64, no padding, cut short.
    let text = String::from_utf8_lossy(rest).into_owned();
    let iv = Some(text.chars().take(24).collect());
    let damaged = TaskAgentMessage { iv, body: text.clone(), ..sealed.clone() };
    let _ = open_message(Some(&session), &damaged);
    let _ = open_message(None, &damaged);
    let damaged = TaskAgentMessage { body: sealed.body.chars().take(text.len()).collect(), ..sealed };
    let _ = open_message(Some(&session), &damaged);
    let _ = Assertion::parse(&text);
}

/// Reads a session's key and an agent's public key as they come from the other side.
pub(crate) fn keys(bytes: &[u8], agent: &AgentKey) {
    for value in [STANDARD.encode(bytes), String::from_utf8_lossy(bytes).into_owned()] {
        for encrypted in [true, false] {
            let _ = SessionKey::from_wire(&TaskAgentSessionKey { encrypted, value: value.clone() }, agent);
        }
        let _ =
            AgentPublicKey::from_wire(&TaskAgentPublicKey { exponent: "AQAB".to_owned(), modulus: value });
    }
}

/// Reads the bytes as each of the files of an agent.
pub(crate) fn agent_files(bytes: &[u8]) {
    if let Ok(settings) = AgentSettings::parse(bytes) {
        let again =
            AgentSettings::parse(settings.to_json().as_bytes()).expect("a written .agent can be read");
        assert_eq!(again, settings);
    }
    if let Ok(credentials) = AgentCredentials::parse(bytes) {
        let again = AgentCredentials::parse(credentials.to_json().as_bytes());
        assert_eq!(again.expect("written .credentials can be read"), credentials);
    }
    if let Ok(key) = agent_files::parse_agent_key(bytes) {
        let written = agent_files::agent_key_to_json(&key).expect("a key can be written");
        let again = agent_files::parse_agent_key(written.expose()).expect("a written key can be read");
        assert_eq!(again.public_key(), key.public_key());
    }
}

/// Reads the bytes as what a listener says to its worker.
pub(crate) fn frames_to_worker(bytes: &[u8]) {
    frames::<ToWorker>(bytes);
    if let Some(message) = SecretJson::new(bytes) {
        assert!(!message.expose().contains(['\n', '\r']), "it fits into a line");
        let again = SecretJson::new(message.expose().as_bytes()).expect("what was taken can be taken again");
        assert!(again == message);
    }
}

/// Reads the bytes as what a worker says to its listener.
pub(crate) fn frames_from_worker(bytes: &[u8]) {
    frames::<FromWorker>(bytes);
}

/// Lines are the same however the bytes come; a frame that was read can be written, and what was written is read as the same.
fn frames<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    for limit in [MAX_FRAME_BYTES, 16] {
        let mut whole = Vec::new();
        let mut decoder = Decoder::new(limit);
        decoder.push(bytes);
        while let Some(line) = decoder.next_line() {
            whole.push(line.text().into_owned());
            if let Ok(frame) = channel::decode::<T>(&line) {
                same(&frame);
            }
        }
        whole.extend(decoder.rest().map(|line| line.text().into_owned()));
        let mut parts = Vec::new();
        let mut decoder = Decoder::new(limit);
        for part in bytes.chunks(3) {
            decoder.push(part);
            while let Some(line) = decoder.next_line() {
                parts.push(line.text().into_owned());
            }
        }
        parts.extend(decoder.rest().map(|line| line.text().into_owned()));
        assert_eq!(parts, whole);
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(frame: &T) {
    let written = channel::encode(frame).expect("what was decoded can be encoded");
    assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1, "one frame is one line");
    let mut decoder = Decoder::new(MAX_FRAME_BYTES);
    decoder.push(&written);
    let again: T = decoder
        .next_line()
        .map(|line| channel::decode(&line))
        .expect("what was encoded is a line")
        .expect("what was encoded can be decoded");
    assert!(again == *frame, "{again:?} is not {frame:?}");
}
