//! The three files of a registered agent, in Microsoft's format: `.agent`, `.credentials` and
//! `.credentials_rsaparams`.
//!
//! They stand in the agent's root folder (`ConfigurationStore.cs`, `RSAFileKeyManager.cs`). Microsoft's agent
//! writes them with a byte-order mark and reads them with or without; here they are written without.
//! `.credentials_rsaparams` is a secret and must be readable by its owner only (mode 0600), `.credentials`
//! better so too; writing files is not this crate's business.

use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::crypto::{AgentKey, RsaParameters, SecretBytes};
use crate::json::{self, base64_bytes};
use crate::{AgentId, PoolId};

/// Name of the file with [`AgentSettings`].
pub const AGENT_FILE: &str = ".agent";
/// Name of the file with [`AgentCredentials`].
pub const CREDENTIALS_FILE: &str = ".credentials";
/// Name of the file with the agent's key.
pub const RSA_PARAMETERS_FILE: &str = ".credentials_rsaparams";

/// `Result` of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why one of the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not the JSON it should be.
    #[error("the agent's file {file} cannot be read as JSON")]
    Decode {
        /// The file's name.
        file: &'static str,
        /// Why not.
        #[source]
        source: json::Error,
    },
    /// The file lacks something an agent needs to run.
    #[error("the agent's file {file} has no valid {member}; configure the agent again")]
    Missing {
        /// The file's name.
        file: &'static str,
        /// The member.
        member: &'static str,
    },
    /// The credentials are of another kind than an agent's own.
    #[error(
        "the agent's file {CREDENTIALS_FILE} has credentials of the scheme {scheme:?}, not OAuth; configure \
            the agent again"
    )]
    Scheme {
        /// The scheme found.
        scheme: String,
    },
    /// The key is not valid.
    #[error("the agent's file {RSA_PARAMETERS_FILE} holds no usable key")]
    Key(#[source] crate::crypto::Error),
}

/// `.agent`: which agent this is and where it belongs. Members that only deployment groups or Windows need
/// are left out; unset ones are not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentSettings {
    /// The agent's number in its pool.
    pub agent_id: AgentId,
    /// The agent's name.
    pub agent_name: String,
    /// The pool's number.
    pub pool_id: PoolId,
    /// The pool's name; informative.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pool_name: String,
    /// The organization's or collection's address, as it was configured.
    pub server_url: String,
    /// The folder of jobs, absolute or relative to the agent's root.
    pub work_folder: String,
    /// Send an empty set of capabilities.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_capabilities_scan: bool,
    /// End when the session expires, instead of making a new one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_session_recover: bool,
    /// Keep logs on this machine only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_log_uploads: bool,
}

impl AgentSettings {
    /// Reads the file and checks that all members are there which an agent needs to run.
    pub fn parse(text: &[u8]) -> Result<Self> {
        const FILE: &str = AGENT_FILE;
        let settings: AgentSettings =
            json::from_slice(text).map_err(|source| Error::Decode { file: FILE, source })?;
        let missing = |member| Err(Error::Missing { file: FILE, member });
        match &settings {
            settings if settings.agent_id.0 <= 0 => missing("agentId"),
            settings if settings.pool_id.0 <= 0 => missing("poolId"),
            settings if settings.agent_name.is_empty() => missing("agentName"),
            settings if settings.work_folder.is_empty() => missing("workFolder"),
            settings if settings.server().is_none() => missing("serverUrl"),
            _ => Ok(settings),
        }
    }

    /// The address, if it is one of HTTP.
    pub fn server(&self) -> Option<Url> {
        Url::parse(&self.server_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        json::to_string(self).expect("a struct of strings and numbers is always JSON")
    }
}

/// `.credentials`: how the agent logs in with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCredentials {
    /// The subject of the agent's assertions, given by the service.
    pub client_id: Uuid,
    /// The audience of the agent's assertions, letter by letter; also where tokens come from when there is no
    /// other address.
    pub authorization_url: String,
    /// Where tokens come from. On premises its scheme, host and port are those of the configured address.
    pub oauth_endpoint_url: Url,
}

/// The file as it stands on disk.
#[derive(Serialize, Deserialize)]
struct CredentialFile {
    scheme: String,
    data: CredentialData,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CredentialData {
    client_id: String,
    authorization_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    oauth_endpoint_url: String,
}

impl AgentCredentials {
    /// Reads the file (`OAuthCredential.cs`). Other schemes than the agent's own OAuth are refused.
    pub fn parse(text: &[u8]) -> Result<Self> {
        const FILE: &str = CREDENTIALS_FILE;
        let file: CredentialFile =
            json::from_slice(text).map_err(|source| Error::Decode { file: FILE, source })?;
        if !file.scheme.eq_ignore_ascii_case("OAuth") {
            return Err(Error::Scheme { scheme: file.scheme });
        }
        let missing = |member| Error::Missing { file: FILE, member };
        let data = file.data;
        let client_id = Uuid::parse_str(&data.client_id).map_err(|_| missing("data.clientId"))?;
        Url::parse(&data.authorization_url).map_err(|_| missing("data.authorizationUrl"))?;
        let endpoint = if data.oauth_endpoint_url.is_empty() {
            &data.authorization_url
        } else {
            &data.oauth_endpoint_url
        };
        let oauth_endpoint_url = Url::parse(endpoint).map_err(|_| missing("data.oauthEndpointUrl"))?;
        Ok(AgentCredentials { client_id, authorization_url: data.authorization_url, oauth_endpoint_url })
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        let file = CredentialFile {
            scheme: "OAuth".to_owned(),
            data: CredentialData {
                client_id: self.client_id.to_string(),
                authorization_url: self.authorization_url.clone(),
                oauth_endpoint_url: self.oauth_endpoint_url.to_string(),
            },
        };
        json::to_string(&file).expect("a struct of strings is always JSON")
    }
}

/// The key's file as it stands on disk. Microsoft's reader matches these names with their case
/// (`RSAParametersSerializable`): the two of the key's container in Pascal case, the numbers in lower camel
/// case.
#[derive(Serialize, Deserialize)]
struct RsaParametersFile {
    #[serde(rename = "ContainerName", default)]
    container_name: String,
    #[serde(rename = "UseCng", default)]
    use_cng: bool,
    #[serde(with = "secret_base64")]
    d: SecretBytes,
    #[serde(with = "secret_base64")]
    dp: SecretBytes,
    #[serde(with = "secret_base64")]
    dq: SecretBytes,
    #[serde(with = "base64_bytes")]
    exponent: Vec<u8>,
    #[serde(rename = "inverseQ", with = "secret_base64")]
    inverse_q: SecretBytes,
    #[serde(with = "base64_bytes")]
    modulus: Vec<u8>,
    #[serde(with = "secret_base64")]
    p: SecretBytes,
    #[serde(with = "secret_base64")]
    q: SecretBytes,
}

/// Private numbers as base64.
mod secret_base64 {
    use secrecy::zeroize::Zeroizing;
    use serde::{Deserializer, Serializer};

    use crate::crypto::SecretBytes;
    use crate::json::base64_bytes;

    pub(super) fn serialize<S: Serializer>(bytes: &SecretBytes, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine;
        let text = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(bytes.expose()));
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretBytes, D::Error> {
        base64_bytes::deserialize(deserializer).map(SecretBytes::new)
    }
}

/// Reads `.credentials_rsaparams`. The members of the key's container are optional, as old agents leave them
/// away; all numbers are needed.
pub fn parse_agent_key(text: &[u8]) -> Result<AgentKey> {
    let file: RsaParametersFile =
        json::from_slice(text).map_err(|source| Error::Decode { file: RSA_PARAMETERS_FILE, source })?;
    let parameters = RsaParameters {
        exponent: file.exponent,
        modulus: file.modulus,
        d: file.d,
        p: file.p,
        q: file.q,
        dp: file.dp,
        dq: file.dq,
        inverse_q: file.inverse_q,
    };
    AgentKey::from_parameters(&parameters).map_err(Error::Key)
}

/// The text of `.credentials_rsaparams`: a secret.
pub fn agent_key_to_json(key: &AgentKey) -> Result<SecretBytes> {
    let parameters = key.to_parameters().map_err(Error::Key)?;
    let file = RsaParametersFile {
        container_name: String::new(),
        use_cng: false,
        d: parameters.d,
        dp: parameters.dp,
        dq: parameters.dq,
        exponent: parameters.exponent,
        inverse_q: parameters.inverse_q,
        modulus: parameters.modulus,
        p: parameters.p,
        q: parameters.q,
    };
    // Large enough for a 4096-bit key, so that no smaller, unwiped buffer is left behind while it grows.
    let mut text = Vec::with_capacity(8 * 1024);
    serde_json::to_writer(&mut text, &file).expect("a struct of strings is always JSON");
    Ok(SecretBytes::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_settings_are_read_as_microsoft_writes_them() {
        let text = "\u{feff}{\r\n  \"acceptTeeEula\": true,\r\n  \"agentId\": 12,\r\n  \"agentName\": \"vm-1\",\r\n  \
                    \"poolId\": 3,\r\n  \"poolName\": \"Default\",\r\n  \"serverUrl\": \"https://dev.azure.com/fabrikam/\",\r\n  \
                    \"workFolder\": \"_work\"\r\n}";
        let settings = AgentSettings::parse(text.as_bytes()).unwrap();
        assert_eq!((settings.agent_id, settings.pool_id), (AgentId(12), PoolId(3)));
        assert_eq!(settings.server().unwrap().host_str(), Some("dev.azure.com"));
        assert_eq!(
            settings.to_json(),
            r#"{"agentId":12,"agentName":"vm-1","poolId":3,"poolName":"Default","serverUrl":"https://dev.azure.com/fabrikam/","workFolder":"_work"}"#
        );
        assert_eq!(AgentSettings::parse(settings.to_json().as_bytes()).unwrap(), settings);
    }

    #[test]
    fn settings_that_cannot_run_name_what_is_missing() {
        for (text, expected) in [
            ("{}", "the agent's file .agent has no valid agentId; configure the agent again"),
            (
                r#"{"agentId":1,"poolId":1,"agentName":"a","workFolder":"w","serverUrl":"ftp://x"}"#,
                "the agent's file .agent has no valid serverUrl; configure the agent again",
            ),
            (
                r#"{"agentId":1,"poolId":1,"agentName":"a","serverUrl":"https://x"}"#,
                "the agent's file .agent has no valid workFolder; configure the agent again",
            ),
            ("<html>", "the agent's file .agent cannot be read as JSON"),
        ] {
            assert_eq!(AgentSettings::parse(text.as_bytes()).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn credentials_round_trip_and_fall_back_to_the_authorization_url() {
        let text = r#"{"scheme":"OAuth","data":{"clientId":"4e9e7f5c-8f5f-4b6c-9e8b-7c7a4c9b2f10","authorizationUrl":"https://a.example/x","oauthEndpointUrl":"https://b.example/token"}}"#;
        let credentials = AgentCredentials::parse(text.as_bytes()).unwrap();
        assert_eq!(credentials.oauth_endpoint_url.as_str(), "https://b.example/token");
        assert_eq!(credentials.to_json(), text);
        let short = r#"{"Scheme":"OAuth","Data":{"ClientId":"4e9e7f5c-8f5f-4b6c-9e8b-7c7a4c9b2f10","AuthorizationUrl":"https://a.example/x"}}"#;
        let credentials = AgentCredentials::parse(short.as_bytes()).unwrap();
        assert_eq!(credentials.oauth_endpoint_url.as_str(), "https://a.example/x");
    }

    #[test]
    fn credentials_of_another_scheme_are_refused() {
        let error = AgentCredentials::parse(br#"{"scheme":"PAT","data":{"token":"hunter2"}}"#).unwrap_err();
        assert!(matches!(&error, Error::Scheme { scheme } if scheme == "PAT"));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let error = AgentCredentials::parse(br#"{"scheme":"OAuth","data":{}}"#).unwrap_err();
        assert!(matches!(error, Error::Missing { member: "data.clientId", .. }));
    }

    #[test]
    fn key_file_has_the_exact_member_names_and_round_trips() {
        let key = AgentKey::generate().unwrap();
        let text = agent_key_to_json(&key).unwrap();
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(text.expose()).unwrap();
        let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["ContainerName", "UseCng", "d", "dp", "dq", "exponent", "inverseQ", "modulus", "p", "q"]
        );
        assert_eq!(members["exponent"], "AQAB");
        let with_mark = [b"\xef\xbb\xbf", text.expose()].concat();
        assert_eq!(parse_agent_key(&with_mark).unwrap().public_key(), key.public_key());
        assert_eq!(format!("{text:?}"), "SecretBytes([redacted])");
    }

    #[test]
    fn key_file_without_a_number_is_refused() {
        let text = agent_key_to_json(&AgentKey::generate().unwrap()).unwrap();
        let mut members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(text.expose()).unwrap();
        members.remove("inverseQ");
        let error = parse_agent_key(&serde_json::to_vec(&members).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Decode { file: RSA_PARAMETERS_FILE, .. }));
        members.insert("inverseQ".into(), "AQAB".into());
        let error = parse_agent_key(&serde_json::to_vec(&members).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Key(crate::crypto::Error::PrivateKey)));
    }
}
