//! The secrets that come with a job.

use dayfly_protocol::job::AgentJobRequestMessage;
use dayfly_protocol::secrets;

use crate::Masker;

impl Masker {
    /// A masker that knows every secret of the message (`Worker.cs`, `InitializeSecretMasker`).
    pub fn of_job(message: &AgentJobRequestMessage) -> Masker {
        let minimum = message.variable("AZP_IGNORE_SECRETS_SHORTER_THAN");
        let minimum = minimum.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let masker = Masker::with_minimum_length(minimum);
        masker.add_values(secrets::of(message));
        for hint in message.mask.iter().filter(|hint| hint.hint_type.eq_ignore_ascii_case("regex")) {
            masker.add_regex(&hint.value);
        }
        masker
    }
}

#[cfg(test)]
mod tests {
    use dayfly_protocol::json;

    use super::*;

    const MESSAGE: &str = r#"{
        "variables": {
            "a": {"value": "hunter2", "isSecret": true},
            "b": {"value": "visible"},
            "c": {"value": "first-line\nsecond-line", "isSecret": true},
            "d": {"value": "hunter2-and-more", "isSecret": true},
            "e": {"value": "x", "isSecret": true},
            "f": {"value": "say \"please\"", "isSecret": true},
            "azp_ignore_secrets_shorter_than": {"value": " 2 "}
        },
        "mask": [{"type": "regex", "value": "hint-[0-9]+"}, {"type": "variable", "value": "not-a-secret"}],
        "resources": {
            "endpoints": [{
                "name": "SystemVssConnection",
                "authorization": {"scheme": "OAuth", "parameters": {"AccessToken": "the-token", "Role": "reader"}}
            }],
            "secureFiles": [{"name": "f", "ticket": "the-ticket"}]
        }
    }"#;

    #[test]
    fn every_secret_of_a_message_is_masked() {
        let message = json::from_str::<AgentJobRequestMessage>(MESSAGE).expect("a message");
        let masker = Masker::of_job(&message);
        for (text, expected) in [
            ("hunter2 visible second-line hunter2-and-more", "*** visible *** ***"),
            ("hint-42 not-a-secret the-token reader the-ticket x", "*** not-a-secret *** reader *** x"),
            (r#"say \"please\" aHVudGVyMg=="#, "*** ***"),
        ] {
            assert_eq!(masker.mask(text), expected);
        }
    }
}
