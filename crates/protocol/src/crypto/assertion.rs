//! The signed statement with which an agent logs in: a JWT (RFC 7523) with the algorithm RS256.
//!
//! Header and claims as in `VssOAuthJwtBearerAssertion.cs`: no `kid`, and on purpose no `iat`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AgentKey, AgentPublicKey, Error, Result};
use crate::json;

/// How long an assertion is valid (`VssOAuthJwtBearerAssertion.cs`).
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Longest token that is looked at, in bytes. One with a 4096-bit key is about 1 KiB.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The header, always the same.
const HEADER: &str = r#"{"typ":"JWT","alg":"RS256"}"#;

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// What an assertion states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The agent's client id.
    #[serde(rename = "sub")]
    pub subject: String,
    /// The same again.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// The authorization URL from the agent's registration, letter by letter.
    #[serde(rename = "aud")]
    pub audience: String,
    /// Makes the assertion unique.
    #[serde(rename = "jti")]
    pub id: String,
    /// Not valid before, in seconds of the Unix epoch.
    #[serde(rename = "nbf")]
    pub not_before: i64,
    /// Not valid after, in seconds of the Unix epoch.
    #[serde(rename = "exp")]
    pub expires: i64,
}

/// An assertion is valid at another time than now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMismatch {
    /// Its time is over: the agent's clock is slow.
    Expired,
    /// Its time has not come: the agent's clock is fast.
    NotYetValid,
}

impl Claims {
    /// The claims of an agent that logs in at `now` by the service's clock; valid for five minutes.
    pub fn new(client_id: Uuid, audience: impl Into<String>, now: Timestamp) -> Self {
        let not_before = now.as_second();
        Claims {
            subject: client_id.to_string(),
            issuer: client_id.to_string(),
            audience: audience.into(),
            id: Uuid::new_v4().to_string(),
            not_before,
            expires: not_before.saturating_add(LIFETIME.as_secs() as i64),
        }
    }

    /// Signs the claims. The token is a secret for as long as it is valid.
    pub fn sign(&self, key: &AgentKey) -> Result<SecretString> {
        let claims = json::to_vec(self).map_err(|_| Error::Sign)?;
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token.into())
    }

    /// Checks the times against the service's clock, with the service's tolerance.
    pub fn check_times(&self, now: Timestamp, tolerance: Duration) -> Result<(), TimeMismatch> {
        let (now, tolerance) = (now.as_second(), i64::try_from(tolerance.as_secs()).unwrap_or(i64::MAX));
        if now >= self.expires.saturating_add(tolerance) {
            Err(TimeMismatch::Expired)
        } else if now < self.not_before.saturating_sub(tolerance) {
            Err(TimeMismatch::NotYetValid)
        } else {
            Ok(())
        }
    }
}

/// A token that was taken apart but not checked yet: [`Assertion::subject`] tells whose key to check it with.
pub struct Assertion<'t> {
    /// Header and claims as they were signed.
    signed: &'t str,
    claims: Claims,
    signature: Vec<u8>,
}

impl<'t> Assertion<'t> {
    /// Takes a token apart. Refuses any algorithm but RS256.
    pub fn parse(token: &'t str) -> Result<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Error::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Error::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Error::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed);
        let header: Header = json::from_slice(&decode(header)?).map_err(|_| Error::Malformed)?;
        if header.alg != "RS256" {
            return Err(Error::Malformed);
        }
        let claims = json::from_slice(&decode(claims)?).map_err(|_| Error::Malformed)?;
        Ok(Assertion { signed, claims, signature: decode(signature)? })
    }

    /// Who claims to have signed. Not proved before [`Assertion::verify`].
    pub fn subject(&self) -> &str {
        &self.claims.subject
    }

    /// Checks the signature and gives the claims. Times and audience are the caller's to check.
    pub fn verify(self, key: &AgentPublicKey) -> Result<Claims> {
        key.verify(self.signed.as_bytes(), &self.signature)?;
        Ok(self.claims)
    }
}

impl std::fmt::Debug for Assertion<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Assertion").field("subject", &self.claims.subject).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    const CLIENT: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0);

    fn claims() -> Claims {
        Claims::new(CLIENT, "https://vstoken.example/oauth", Timestamp::constant(1_800_000_000, 0))
    }

    #[test]
    fn signed_claims_verify_with_the_public_half_only() {
        let key = AgentKey::generate().unwrap();
        let token = claims();
        let signed = token.sign(&key).unwrap();
        let assertion = Assertion::parse(signed.expose_secret()).unwrap();
        assert_eq!(assertion.subject(), CLIENT.to_string());
        let verified = assertion.verify(&key.public_key()).unwrap();
        assert_eq!(verified, token);
        let other = AgentKey::generate().unwrap().public_key();
        let assertion = Assertion::parse(signed.expose_secret()).unwrap();
        assert_eq!(assertion.verify(&other), Err(Error::Signature));
    }

    #[test]
    fn wire_form_is_that_of_the_official_agent() {
        let key = AgentKey::generate().unwrap();
        let token = claims().sign(&key).unwrap();
        let parts: Vec<&str> = token.expose_secret().split('.').collect();
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[0]).unwrap(), br#"{"typ":"JWT","alg":"RS256"}"#);
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(claims["sub"], CLIENT.to_string());
        assert_eq!(claims["iss"], CLIENT.to_string());
        assert_eq!(claims["aud"], "https://vstoken.example/oauth");
        assert_eq!(claims["nbf"], 1_800_000_000);
        assert_eq!(claims["exp"], 1_800_000_300);
        assert!(claims["jti"].is_string());
        assert!(claims.get("iat").is_none());
    }

    #[test]
    fn changed_claims_and_other_algorithms_are_refused() {
        let key = AgentKey::generate().unwrap();
        let signed = claims().sign(&key).unwrap();
        let parts: Vec<&str> = signed.expose_secret().split('.').collect();
        let forged = Claims { subject: Uuid::nil().to_string(), ..claims() };
        let body = URL_SAFE_NO_PAD.encode(json::to_vec(&forged).unwrap());
        let token = format!("{}.{body}.{}", parts[0], parts[2]);
        assert_eq!(Assertion::parse(&token).unwrap().verify(&key.public_key()), Err(Error::Signature));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let token = format!("{none}.{}.", parts[1]);
        assert_eq!(Assertion::parse(&token).unwrap_err(), Error::Malformed);
    }

    #[test]
    fn times_are_checked_with_tolerance() {
        let claims = claims();
        let at = |offset: i64| Timestamp::from_second(1_800_000_000 + offset).unwrap();
        let tolerance = Duration::from_secs(60);
        for (offset, expected) in [
            (0, Ok(())),
            (-60, Ok(())),
            (-61, Err(TimeMismatch::NotYetValid)),
            (359, Ok(())),
            (360, Err(TimeMismatch::Expired)),
        ] {
            assert_eq!(claims.check_times(at(offset), tolerance), expected, "{offset}");
        }
    }

    proptest! {
        #[test]
        fn any_token_is_taken_apart_or_refused_without_panic(token in ".{0,200}") {
            let _ = Assertion::parse(&token);
        }
    }
}
