//! The public half of an agent's key.

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents};
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::der::without_leading_zeros;
use super::key::MAX_MODULUS_BYTES;
use super::{Error, Result};
use crate::agent::TaskAgentPublicKey;

/// The public half of an agent's key, as the service keeps it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AgentPublicKey {
    /// Big-endian, without leading zeros.
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl std::fmt::Debug for AgentPublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AgentPublicKey")
            .field("modulus_bytes", &self.modulus.len())
            .finish_non_exhaustive()
    }
}

impl AgentPublicKey {
    /// From big-endian numbers; zeros in front do not matter. Checks that they make an RSA key of 2048 to
    /// 4096 bits.
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self> {
        let key = Self::from_trusted(
            without_leading_zeros(modulus).to_vec(),
            without_leading_zeros(exponent).to_vec(),
        );
        if key.modulus.len() > MAX_MODULUS_BYTES {
            return Err(Error::PublicKey);
        }
        key.encrypting()?;
        Ok(key)
    }

    /// From the numbers of a key that was checked already.
    pub(super) fn from_trusted(modulus: Vec<u8>, exponent: Vec<u8>) -> Self {
        AgentPublicKey { modulus, exponent }
    }

    /// From what an agent sends when it registers.
    pub fn from_wire(wire: &TaskAgentPublicKey) -> Result<Self> {
        let decode =
            |field, text: &str| STANDARD.decode(text.trim_ascii()).map_err(|_| Error::Base64 { field });
        Self::new(&decode("the modulus", &wire.modulus)?, &decode("the exponent", &wire.exponent)?)
    }

    /// As an agent sends it when it registers.
    pub fn to_wire(&self) -> TaskAgentPublicKey {
        TaskAgentPublicKey {
            exponent: STANDARD.encode(&self.exponent),
            modulus: STANDARD.encode(&self.modulus),
        }
    }

    fn components(&self) -> PublicKeyComponents<&[u8]> {
        PublicKeyComponents { n: &self.modulus, e: &self.exponent }
    }

    fn encrypting(&self) -> Result<OaepPublicEncryptingKey> {
        let key: PublicEncryptingKey = self.components().try_into().map_err(|_| Error::PublicKey)?;
        OaepPublicEncryptingKey::new(key).map_err(|_| Error::PublicKey)
    }

    /// Encrypts a session's key for the agent (RSA-OAEP with SHA-1). At most the modulus' length less 42
    /// bytes.
    pub fn wrap(&self, key: &[u8]) -> Result<Vec<u8>> {
        let encrypting = self.encrypting()?;
        let mut wrapped = vec![0; encrypting.ciphertext_size()];
        let length =
            encrypting.encrypt(&OAEP_SHA1_MGF1SHA1, key, &mut wrapped, None).map_err(|_| Error::Wrap)?.len();
        wrapped.truncate(length);
        Ok(wrapped)
    }

    /// Checks a signature by RSASSA-PKCS1-v1_5 and SHA-256.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        self.components()
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .map_err(|_| Error::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::AgentKey;

    #[test]
    fn wire_form_round_trips() {
        let key = AgentKey::generate().unwrap().public_key();
        let wire = key.to_wire();
        assert_eq!(wire.exponent, "AQAB");
        assert_eq!(AgentPublicKey::from_wire(&wire).unwrap(), key);
        let padded = AgentPublicKey::new(&[&[0, 0], &key.modulus[..]].concat(), &[0, 1, 0, 1]).unwrap();
        assert_eq!(padded, key);
    }

    #[test]
    fn bad_keys_are_refused() {
        let wire = |modulus: &str, exponent: &str| {
            AgentPublicKey::from_wire(&TaskAgentPublicKey {
                modulus: modulus.into(),
                exponent: exponent.into(),
            })
        };
        assert_eq!(wire("§", "AQAB"), Err(Error::Base64 { field: "the modulus" }));
        assert_eq!(wire("", ""), Err(Error::PublicKey));
        assert_eq!(wire(&STANDARD.encode([0xff; 128]), "AQAB"), Err(Error::PublicKey));
        assert_eq!(wire(&STANDARD.encode([0xff; 1024]), "AQAB"), Err(Error::PublicKey));
    }
}
