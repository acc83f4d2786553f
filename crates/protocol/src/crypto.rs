//! The cryptography of the agent protocol, on aws-lc-rs.
//!
//! | what | how | source |
//! | --- | --- | --- |
//! | an agent's identity | RSA, 2048 bit, exponent 65537 | `RSAFileKeyManager.cs` |
//! | key of a session | AES, wrapped for the agent by RSA-OAEP with SHA-1 (also as MGF1's hash) | `MessageListener.cs` |
//! | body of a message | AES-CBC with PKCS#7 padding and an initialization vector per message | `MessageListener.cs` |
//! | login of an agent | a JWT signed with RSASSA-PKCS1-v1_5 and SHA-256 | `VssOAuthJwtBearerAssertion.cs` |
//!
//! Neither choice is ours: CBC without authentication and SHA-1 in OAEP are what the service speaks. Secrecy
//! of bodies rests on TLS as well.
//!
//! Private parts are wiped from memory when dropped and have no `Debug` output.

mod assertion;
mod der;
mod key;
mod public_key;
mod session_key;

pub use assertion::{Assertion, Claims, TimeMismatch};
pub use key::{AgentKey, RsaParameters};
pub use public_key::AgentPublicKey;
pub use session_key::{SessionKey, open_message};

use secrecy::zeroize::Zeroizing;

/// `Result` of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a key or with what it should open. Says nothing on the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The random generator or the key generation failed.
    #[error("could not generate an RSA key")]
    Generate,
    /// The parts of a private key do not make an RSA key of 2048 to 4096 bits.
    #[error("the private key is not a valid RSA key of 2048 to 4096 bits; register the agent again")]
    PrivateKey,
    /// The parts of a public key do not make an RSA key of 2048 to 4096 bits.
    #[error("the public key is not a valid RSA key of 2048 to 4096 bits")]
    PublicKey,
    /// The session's key could not be wrapped.
    #[error("could not wrap the session key with the agent's public key")]
    Wrap,
    /// The session's key was not wrapped for this agent's private key.
    #[error(
        "the session key was not encrypted for this agent's private key; register the agent again if its \
            key was replaced"
    )]
    Unwrap,
    /// A session's key has a length AES does not know.
    #[error("the session key has {bytes} bytes; AES takes 16, 24 or 32")]
    SessionKeyLength {
        /// Its length.
        bytes: usize,
    },
    /// A field is not base64.
    #[error("{field} is not base64")]
    Base64 {
        /// Which.
        field: &'static str,
    },
    /// An initialization vector has another length than 16 bytes.
    #[error("the initialization vector has {bytes} bytes, not 16")]
    InitializationVector {
        /// Its length.
        bytes: usize,
    },
    /// A message's body could not be encrypted.
    #[error("could not encrypt the message")]
    Encrypt,
    /// A message's body was encrypted with another key, or was damaged.
    #[error(
        "the message could not be decrypted with the session's key; it is damaged or belongs to another \
            session"
    )]
    Decrypt,
    /// A message is encrypted, but its session has no key.
    #[error("the message is encrypted, but the session has no key")]
    NoSessionKey,
    /// Signing failed.
    #[error("the client assertion could not be signed")]
    Sign,
    /// A token is not a JWT of the expected form.
    #[error("the client assertion is not a JWT with the algorithm RS256")]
    Malformed,
    /// A token's signature does not fit the key.
    #[error("the client assertion was signed with another key")]
    Signature,
}

/// Bytes that are wiped from memory when dropped and never printed: private keys, decrypted messages.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes; the caller's copy is this one.
    pub fn new(bytes: Vec<u8>) -> Self {
        SecretBytes(Zeroizing::new(bytes))
    }

    /// The bytes. Whoever copies them wipes the copy.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretBytes([redacted])")
    }
}
