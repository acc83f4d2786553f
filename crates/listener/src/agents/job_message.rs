//! Reads a job message, and as much as can be of one that cannot be read: enough to tell the service why its
//! job will not run.

use dayfly_protocol::{
    JobId, PlanId, RequestId,
    channel::SecretJson,
    job::{AgentJobRequestMessage, JobResources, SYSTEM_CONNECTION, ServiceEndpoint},
    json,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a body was.
pub(crate) enum JobMessage {
    /// A job.
    Whole {
        /// What our types know of it.
        message: Box<AgentJobRequestMessage>,
        /// All of it.
        body: SecretJson,
    },
    /// Not a job we can run, but we know whose it is.
    Broken {
        /// Ids, plan and system connection only.
        remains: Box<AgentJobRequestMessage>,
        /// All of it.
        body: SecretJson,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing of use.
    Unreadable(String),
}

impl JobMessage {
    pub(crate) fn read(text: &[u8]) -> Self {
        // What is no JSON cannot be passed on, and has no parts.
        let Some(body) = SecretJson::new(text) else {
            return Self::Unreadable("its message is not JSON".to_owned());
        };
        let reason = match json::from_slice::<AgentJobRequestMessage>(text) {
            Ok(message) => match missing(&message) {
                None => return Self::Whole { message: Box::new(message), body },
                Some(part) => format!("its message has no {part}"),
            },
            Err(error) => format!("its message is not a job message: {error}"),
        };
        match json::from_slice::<Value>(text).ok().and_then(|value| remains(&value)) {
            Some(remains) => Self::Broken { remains: Box::new(remains), body, reason },
            None => Self::Unreadable(reason),
        }
    }
}

/// The first thing a job cannot do without that is missing (`Worker.cs`, `ValidateSettings`).
fn missing(message: &AgentJobRequestMessage) -> Option<&'static str> {
    let has_connection = message
        .resources
        .system_connection()
        .is_some_and(|endpoint| endpoint.url.is_some() && endpoint.access_token().is_some());
    [
        (message.job_id == JobId::default(), "job id"),
        (message.request_id == RequestId::default(), "request id"),
        (message.plan.plan_id == PlanId::default(), "plan id"),
        (!has_connection, "system connection with a URL and a token"),
    ]
    .into_iter()
    .find_map(|(is_missing, part)| is_missing.then_some(part))
}

/// Ids, plan, timeline and system connection, each by itself, so that the one broken part does not take the
/// others along.
fn remains(value: &Value) -> Option<AgentJobRequestMessage> {
    let endpoints = member(member(value, "resources")?, "endpoints")?.as_array()?;
    let connection = endpoints.iter().filter_map(decode::<ServiceEndpoint>).find(|endpoint| {
        endpoint.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(SYSTEM_CONNECTION))
    })?;
    let message = AgentJobRequestMessage {
        plan: decode(member(value, "plan")?)?,
        timeline: member(value, "timeline").and_then(decode).unwrap_or_default(),
        job_id: decode(member(value, "jobId")?)?,
        job_display_name: member(value, "jobDisplayName").and_then(decode).unwrap_or_default(),
        request_id: decode(member(value, "requestId")?)?,
        variables: member(value, "variables").and_then(decode).unwrap_or_default(),
        resources: JobResources { endpoints: vec![connection], ..JobResources::default() },
        ..AgentJobRequestMessage::default()
    };
    missing(&message).is_none().then_some(message)
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Through text, since only the text decoder knows .NET's habits.
fn decode<T: DeserializeOwned>(value: &Value) -> Option<T> {
    json::from_str(&value.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTION: &str = r#"{"name":"systemvssconnection","url":"http://localhost/o","authorization":{"scheme":"OAuth","parameters":{"AccessToken":"t"}}}"#;
    const IDS: &str = r#""jobId":"11111111-1111-1111-1111-111111111111","requestId":7,"plan":{"planId":"22222222-2222-2222-2222-222222222222","version":9,"planType":"Build"}"#;

    #[test]
    fn a_job_is_read_whole() {
        let text = format!(r#"{{{IDS},"resources":{{"endpoints":[{CONNECTION}]}},"steps":[]}}"#);
        assert!(
            matches!(JobMessage::read(text.as_bytes()), JobMessage::Whole { message, .. } if message.request_id == RequestId(7))
        );
    }

    #[test]
    fn a_broken_job_is_known_by_what_is_left_of_it() {
        let text = format!(r#"{{{IDS},"resources":{{"endpoints":[{CONNECTION}]}},"steps":"none"}}"#);
        let JobMessage::Broken { remains, reason, .. } = JobMessage::read(text.as_bytes()) else {
            panic!("it is broken")
        };
        assert_eq!((remains.request_id, remains.plan.version), (RequestId(7), 9));
        assert!(reason.contains("is not a job message"), "{reason}");
    }

    #[test]
    fn what_cannot_be_answered_is_unreadable() {
        for text in
            ["", "{", "[]", r#"{"steps":[]}"#, &format!(r#"{{{IDS},"resources":{{"endpoints":[]}}}}"#)]
        {
            assert!(matches!(JobMessage::read(text.as_bytes()), JobMessage::Unreadable(_)), "{text}");
        }
    }
}
