//! Masks the secrets of a job in text that the listener itself puts into the job's log.
//!
//! The worker has a masker of its own for its output. This one is for the few last lines of a worker that
//! died, such as a panic's message, in which a value may be quoted. So it is small: one line at a time, and
//! mask hints as they are written, not as patterns.

use dayfly_protocol::{job::AgentJobRequestMessage, secrets};

/// What stands in a secret's place.
const MASK: &str = "***";

/// The secrets of one job.
pub(crate) struct Redactor {
    /// Longest first, so that a secret within a secret leaves nothing over.
    secrets: Vec<String>,
}

impl Redactor {
    /// Collects the secrets of `message`.
    pub(crate) fn new(message: &AgentJobRequestMessage) -> Self {
        let hints = message.mask.iter().filter(|hint| hint.hint_type.eq_ignore_ascii_case("regex"));
        let values = secrets::of(message).chain(hints.map(|hint| hint.value.as_str()));
        let mut secrets: Vec<_> = values.flat_map(secrets::written_forms).collect();
        // A secret of one or two characters would turn every text into stars and hide nothing.
        secrets.retain(|secret| secret.chars().count() > 2);
        secrets.sort_unstable_by(|left, right| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
        secrets.dedup();
        Self { secrets }
    }

    /// `text` without the secrets.
    pub(crate) fn apply(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret) { text.replace(secret, MASK) } else { text }
        })
    }
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::json;

    use super::*;

    #[test]
    fn all_secrets_of_a_message_are_masked() {
        let message = json::from_str::<AgentJobRequestMessage>(
            r#"{"variables":{"a":{"value":"hunter2","isSecret":true},"b":{"value":"visible"},"c":{"value":"first-line\nsecond-line","isSecret":true},"d":{"value":"hunter2-and-more","isSecret":true},"e":{"value":"x","isSecret":true},"f":{"value":"say \"please\"","isSecret":true}},
                "mask":[{"type":"regex","value":"hint-secret"},{"type":"variable","value":"not-a-secret"}],
                "resources":{"endpoints":[{"name":"SystemVssConnection","authorization":{"scheme":"OAuth","parameters":{"AccessToken":"the-token","Role":"reader"}}}],"secureFiles":[{"name":"f","ticket":"the-ticket"}]}}"#,
        )
        .expect("a message");
        let redactor = Redactor::new(&message);
        let text = "hunter2 visible second-line hunter2-and-more hint-secret not-a-secret the-token reader the-ticket x say \\\"please\\\" aHVudGVyMg==";
        assert_eq!(redactor.apply(text), "*** visible *** *** *** not-a-secret *** reader *** x *** ***");
    }
}
