//! The key of a session, and the messages it closes and opens.

use std::fmt;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{AgentKey, AgentPublicKey, Error, Result, SecretBytes};
use crate::MessageId;
use crate::message::TaskAgentMessage;
use crate::session::TaskAgentSessionKey;

/// Length of AES's blocks and so of initialization vectors, in bytes.
const BLOCK_BYTES: usize = 16;

/// The AES key of a session's messages. The length (16, 24 or 32 bytes) is the service's choice.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey {
    key: SecretBytes,
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionKey([redacted])")
    }
}

impl SessionKey {
    /// Makes a new key of 32 bytes.
    pub fn generate() -> Result<Self> {
        let mut key = vec![0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::Generate)?;
        Self::new(SecretBytes::new(key))
    }

    /// Takes a key of 16, 24 or 32 bytes.
    pub fn new(key: SecretBytes) -> Result<Self> {
        algorithm(&key)?;
        Ok(SessionKey { key })
    }

    /// The key in a session's answer: wrapped for the agent, or raw. `None` when the session's messages are
    /// plain (an empty value).
    pub fn from_wire(wire: &TaskAgentSessionKey, agent: &AgentKey) -> Result<Option<Self>> {
        if wire.value.is_empty() {
            return Ok(None);
        }
        let value = STANDARD
            .decode(wire.value.trim_ascii())
            .map(SecretBytes::new)
            .map_err(|_| Error::Base64 { field: "the session key" })?;
        let key = if wire.encrypted { agent.unwrap_key(value.expose())? } else { value };
        Self::new(key).map(Some)
    }

    /// The key wrapped for an agent.
    pub fn to_wire(&self, agent: &AgentPublicKey) -> Result<TaskAgentSessionKey> {
        let value = STANDARD.encode(agent.wrap(self.key.expose())?);
        Ok(TaskAgentSessionKey { encrypted: true, value })
    }

    /// The key as it is. Only for services that never learned the agent's public key.
    pub fn to_wire_unwrapped(&self) -> TaskAgentSessionKey {
        TaskAgentSessionKey { encrypted: false, value: STANDARD.encode(self.key.expose()) }
    }

    fn cipher_key(&self) -> Result<UnboundCipherKey> {
        let bytes = self.key.expose().len();
        UnboundCipherKey::new(algorithm(&self.key)?, self.key.expose())
            .map_err(|_| Error::SessionKeyLength { bytes })
    }

    /// AES-CBC with PKCS#7 padding and a fresh initialization vector, which is returned first.
    pub fn encrypt(&self, plain: &[u8]) -> Result<([u8; BLOCK_BYTES], Vec<u8>)> {
        let mut iv = [0; BLOCK_BYTES];
        aws_lc_rs::rand::fill(&mut iv).map_err(|_| Error::Encrypt)?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(self.cipher_key()?).map_err(|_| Error::Encrypt)?;
        let mut buffer = Vec::with_capacity(plain.len() + BLOCK_BYTES);
        buffer.extend_from_slice(plain);
        key.less_safe_encrypt(&mut buffer, EncryptionContext::Iv128(FixedLength::from(iv)))
            .map_err(|_| Error::Encrypt)?;
        Ok((iv, buffer))
    }

    /// Undoes [`SessionKey::encrypt`]. A wrong key, damage and bad padding are one error.
    pub fn decrypt(&self, iv: &[u8], encrypted: Vec<u8>) -> Result<SecretBytes> {
        let iv: [u8; BLOCK_BYTES] =
            iv.try_into().map_err(|_| Error::InitializationVector { bytes: iv.len() })?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(self.cipher_key()?).map_err(|_| Error::Decrypt)?;
        let mut buffer = encrypted;
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        let length = key.decrypt(&mut buffer, context).map_err(|_| Error::Decrypt)?.len();
        buffer.truncate(length);
        Ok(SecretBytes::new(buffer))
    }

    /// A message with this body, encrypted.
    pub fn seal(&self, id: MessageId, message_type: &str, body: &[u8]) -> Result<TaskAgentMessage> {
        let (iv, encrypted) = self.encrypt(body)?;
        Ok(TaskAgentMessage {
            message_id: id,
            message_type: message_type.to_owned(),
            iv: Some(STANDARD.encode(iv)),
            body: STANDARD.encode(encrypted),
        })
    }
}

fn algorithm(key: &SecretBytes) -> Result<&'static Algorithm> {
    match key.expose().len() {
        16 => Ok(&AES_128),
        24 => Ok(&AES_192),
        32 => Ok(&AES_256),
        bytes => Err(Error::SessionKeyLength { bytes }),
    }
}

/// The body of a message: JSON text in UTF-8, perhaps with a byte-order mark. A message without an
/// initialization vector is plain, whether or not the session has a key; so is every message of a session
/// without one (`MessageListener.cs`), but a message that carries a vector then is refused rather than handed
/// on as gibberish.
pub fn open_message(key: Option<&SessionKey>, message: &TaskAgentMessage) -> Result<SecretBytes> {
    let Some(iv) = message.iv.as_deref().filter(|iv| !iv.is_empty()) else {
        return Ok(SecretBytes::new(message.body.clone().into_bytes()));
    };
    let key = key.ok_or(Error::NoSessionKey)?;
    let iv =
        STANDARD.decode(iv.trim_ascii()).map_err(|_| Error::Base64 { field: "the initialization vector" })?;
    let body = STANDARD.decode(message.body.trim_ascii()).map_err(|_| Error::Base64 { field: "the body" })?;
    key.decrypt(&iv, body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(bytes: usize) -> SessionKey {
        SessionKey::new(SecretBytes::new(vec![7; bytes])).unwrap()
    }

    #[test]
    fn all_of_aes_lengths_open_what_they_sealed() {
        for bytes in [16, 24, 32] {
            let key = key(bytes);
            let message = key.seal(MessageId(5), "JobCancellation", b"{}").unwrap();
            assert_eq!(open_message(Some(&key), &message).unwrap().expose(), b"{}");
        }
        for bytes in [0, 15, 33] {
            let refused = SessionKey::new(SecretBytes::new(vec![0; bytes]));
            assert_eq!(refused, Err(Error::SessionKeyLength { bytes }));
        }
    }

    #[test]
    fn known_answer_of_nist_with_a_full_block_of_padding() {
        // SP 800-38A, F.2.5 (CBC-AES256), first block; PKCS#7 adds a second one.
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let key = SessionKey::new(SecretBytes::new(hex(
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        )))
        .unwrap();
        let iv = hex("000102030405060708090a0b0c0d0e0f");
        let block = hex("6bc1bee22e409f96e93d7e117393172a");
        let answer = hex("f58c4c04d6e5f1ba779eabfb5f7bfbd6485a5c81519cf378fa36d42b8547edc0");
        assert_eq!(key.decrypt(&iv, answer.clone()).unwrap().expose(), block);
        // Without its padding the block is refused, not taken as it is.
        assert_eq!(key.decrypt(&iv, answer[..16].to_vec()), Err(Error::Decrypt));
    }

    #[test]
    fn plain_messages_pass_with_and_without_a_key() {
        let message = TaskAgentMessage { body: "{}".into(), ..TaskAgentMessage::default() };
        assert_eq!(open_message(None, &message).unwrap().expose(), b"{}");
        assert_eq!(open_message(Some(&key(32)), &message).unwrap().expose(), b"{}");
        let empty = TaskAgentMessage { iv: Some(String::new()), ..message };
        assert_eq!(open_message(Some(&key(32)), &empty).unwrap().expose(), b"{}");
    }

    #[test]
    fn damaged_messages_are_refused() {
        let sealed = key(32).seal(MessageId(1), "x", b"0123456789abcdef0").unwrap();
        let with = |change: &dyn Fn(&mut TaskAgentMessage)| {
            let mut message = sealed.clone();
            change(&mut message);
            open_message(Some(&key(32)), &message).unwrap_err()
        };
        assert_eq!(with(&|message| message.body.clear()), Error::Decrypt);
        assert_eq!(with(&|message| message.body = "AAAA".into()), Error::Decrypt);
        assert_eq!(with(&|message| message.body = "§".into()), Error::Base64 { field: "the body" });
        assert_eq!(
            with(&|message| message.iv = Some("AAAA".into())),
            Error::InitializationVector { bytes: 3 }
        );
        assert_eq!(open_message(None, &sealed).unwrap_err(), Error::NoSessionKey);
    }

    #[test]
    fn session_answers_carry_wrapped_raw_or_no_keys() {
        let agent = AgentKey::generate().unwrap();
        let key = SessionKey::generate().unwrap();
        let wrapped = key.to_wire(&agent.public_key()).unwrap();
        assert!(wrapped.encrypted);
        assert_eq!(SessionKey::from_wire(&wrapped, &agent).unwrap(), Some(key.clone()));
        assert_eq!(SessionKey::from_wire(&key.to_wire_unwrapped(), &agent).unwrap(), Some(key.clone()));
        assert_eq!(SessionKey::from_wire(&TaskAgentSessionKey::default(), &agent).unwrap(), None);
        let claimed = TaskAgentSessionKey { encrypted: true, ..key.to_wire_unwrapped() };
        assert_eq!(SessionKey::from_wire(&claimed, &agent), Err(Error::Unwrap));
        assert_eq!(format!("{key:?}"), "SessionKey([redacted])");
    }

    proptest! {
        #[test]
        fn bodies_round_trip(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (iv, encrypted) = key(32).encrypt(&body).unwrap();
            prop_assert!(encrypted.len() > body.len());
            let opened = key(32).decrypt(&iv, encrypted).unwrap();
            prop_assert_eq!(opened.expose(), &body[..]);
        }

        #[test]
        fn any_message_opens_or_fails_without_panic(iv in ".{0,30}", body in ".{0,64}") {
            let message = TaskAgentMessage { iv: Some(iv), body, ..TaskAgentMessage::default() };
            let _ = open_message(Some(&key(16)), &message);
        }
    }
}
