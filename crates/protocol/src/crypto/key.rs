//! An agent's private key.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeyPair, KeyPairComponents, KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey,
    PublicKeyComponents,
};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};

use super::der::{rsa_integers, without_leading_zeros};
use super::{AgentPublicKey, Error, Result, SecretBytes};

/// Longest modulus accepted, in bytes: 4096 bit. Longer keys make each login slow and no agent has one.
pub(super) const MAX_MODULUS_BYTES: usize = 512;

/// The numbers of an RSA private key as .NET's `RSAParameters` hold them: big-endian, each of its fixed
/// length (the modulus' length, or half of it rounded up), with zeros in front. .NET refuses files in which a
/// number is shorter.
#[derive(Clone, PartialEq, Eq)]
pub struct RsaParameters {
    /// Public exponent, without leading zeros.
    pub exponent: Vec<u8>,
    /// Modulus.
    pub modulus: Vec<u8>,
    /// Private exponent, as long as the modulus.
    pub d: SecretBytes,
    /// First prime, half as long.
    pub p: SecretBytes,
    /// Second prime, half as long.
    pub q: SecretBytes,
    /// `d mod (p - 1)`, half as long.
    pub dp: SecretBytes,
    /// `d mod (q - 1)`, half as long.
    pub dq: SecretBytes,
    /// `q⁻¹ mod p`, half as long.
    pub inverse_q: SecretBytes,
}

impl fmt::Debug for RsaParameters {
    /// The private numbers are left out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RsaParameters")
            .field("modulus_bytes", &self.modulus.len())
            .finish_non_exhaustive()
    }
}

/// An agent's RSA key: proves who the agent is, and opens what is meant for it. Making one takes about 100 ms
/// of a core, so sets of agents share one; the service keeps the public half per agent and does not ask that
/// they differ.
pub struct AgentKey {
    signer: KeyPair,
    decryptor: OaepPrivateDecryptingKey,
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AgentKey([redacted])")
    }
}

impl AgentKey {
    /// Makes a new key of 2048 bits, as `config.sh` does. Takes about 100 ms of a core.
    pub fn generate() -> Result<Self> {
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| Error::Generate)?;
        Self::from_signer(key)
    }

    /// Reads an unencrypted PKCS#8 document.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self> {
        Self::from_signer(KeyPair::from_pkcs8(document).map_err(|_| Error::PrivateKey)?)
    }

    /// Builds the key of an agent's `.credentials_rsaparams`. The numbers are checked against each other;
    /// zeros in front do not matter.
    pub fn from_parameters(parameters: &RsaParameters) -> Result<Self> {
        let components = KeyPairComponents {
            public_key: PublicKeyComponents {
                n: without_leading_zeros(&parameters.modulus),
                e: without_leading_zeros(&parameters.exponent),
            },
            d: parameters.d.expose(),
            p: parameters.p.expose(),
            q: parameters.q.expose(),
            dP: parameters.dp.expose(),
            dQ: parameters.dq.expose(),
            qInv: parameters.inverse_q.expose(),
        };
        Self::from_signer(KeyPair::from_components(&components).map_err(|_| Error::PrivateKey)?)
    }

    fn from_signer(signer: KeyPair) -> Result<Self> {
        if signer.public_modulus_len() > MAX_MODULUS_BYTES {
            return Err(Error::PrivateKey);
        }
        let document: Pkcs8V1Der<'_> = signer.as_der().map_err(|_| Error::PrivateKey)?;
        let private = PrivateDecryptingKey::from_pkcs8(document.as_ref()).map_err(|_| Error::PrivateKey)?;
        let decryptor = OaepPrivateDecryptingKey::new(private).map_err(|_| Error::PrivateKey)?;
        Ok(AgentKey { signer, decryptor })
    }

    /// The numbers of the key, for `.credentials_rsaparams`.
    pub fn to_parameters(&self) -> Result<RsaParameters> {
        let document: Pkcs8V1Der<'_> = self.signer.as_der().map_err(|_| Error::PrivateKey)?;
        let [n, e, d, p, q, dp, dq, inverse_q] = rsa_integers(document.as_ref()).ok_or(Error::PrivateKey)?;
        let whole = n.expose().len();
        let half = whole.div_ceil(2);
        Ok(RsaParameters {
            exponent: e.expose().to_vec(),
            modulus: n.expose().to_vec(),
            d: left_padded(&d, whole)?,
            p: left_padded(&p, half)?,
            q: left_padded(&q, half)?,
            dp: left_padded(&dp, half)?,
            dq: left_padded(&dq, half)?,
            inverse_q: left_padded(&inverse_q, half)?,
        })
    }

    /// The public half, for registration.
    pub fn public_key(&self) -> AgentPublicKey {
        let public = self.signer.public_key();
        AgentPublicKey::from_trusted(
            public.modulus().big_endian_without_leading_zero().to_vec(),
            public.exponent().big_endian_without_leading_zero().to_vec(),
        )
    }

    /// Opens what was wrapped by [`AgentPublicKey::wrap`] (RSA-OAEP with SHA-1).
    pub fn unwrap_key(&self, wrapped: &[u8]) -> Result<SecretBytes> {
        let mut buffer = secrecy::zeroize::Zeroizing::new(vec![0; self.decryptor.min_output_size()]);
        let opened = self
            .decryptor
            .decrypt(&OAEP_SHA1_MGF1SHA1, wrapped, &mut buffer, None)
            .map_err(|_| Error::Unwrap)?;
        Ok(SecretBytes::new(opened.to_vec()))
    }

    /// Signs with RSASSA-PKCS1-v1_5 and SHA-256.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.signer.public_modulus_len()];
        self.signer
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| Error::Sign)?;
        Ok(signature)
    }
}

/// The number with zeros in front up to `length` bytes.
fn left_padded(number: &SecretBytes, length: usize) -> Result<SecretBytes> {
    let digits = number.expose();
    let zeros = length.checked_sub(digits.len()).ok_or(Error::PrivateKey)?;
    let mut padded = Vec::with_capacity(length);
    padded.resize(zeros, 0);
    padded.extend_from_slice(digits);
    Ok(SecretBytes::new(padded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_fixed_lengths_and_make_the_same_key() {
        let key = AgentKey::generate().unwrap();
        let parameters = key.to_parameters().unwrap();
        assert_eq!(parameters.exponent, [1, 0, 1]);
        assert_eq!(parameters.modulus.len(), 256);
        assert_eq!(parameters.d.expose().len(), 256);
        for half in [&parameters.p, &parameters.q, &parameters.dp, &parameters.dq, &parameters.inverse_q] {
            assert_eq!(half.expose().len(), 128);
        }
        let copy = AgentKey::from_parameters(&parameters).unwrap();
        assert_eq!(copy.public_key(), key.public_key());
        assert_eq!(copy.to_parameters().unwrap(), parameters);
        let wrapped = key.public_key().wrap(b"secret").unwrap();
        assert_eq!(copy.unwrap_key(&wrapped).unwrap().expose(), b"secret");
    }

    #[test]
    fn short_numbers_are_padded_to_their_length() {
        let padded = left_padded(&SecretBytes::new(vec![7, 8]), 4).unwrap();
        assert_eq!(padded.expose(), [0, 0, 7, 8]);
        assert_eq!(left_padded(&SecretBytes::new(vec![1; 5]), 4), Err(Error::PrivateKey));
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let key = AgentKey::generate().unwrap();
        let good = key.to_parameters().unwrap();
        let swapped = RsaParameters { p: good.q.clone(), q: good.p.clone(), ..good.clone() };
        assert_eq!(AgentKey::from_parameters(&swapped).unwrap_err(), Error::PrivateKey);
        let empty = RsaParameters { modulus: Vec::new(), ..good };
        assert_eq!(AgentKey::from_parameters(&empty).unwrap_err(), Error::PrivateKey);
        assert_eq!(AgentKey::from_pkcs8(b"no").unwrap_err(), Error::PrivateKey);
    }

    #[test]
    fn nothing_private_is_printed() {
        let key = AgentKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "AgentKey([redacted])");
        assert_eq!(format!("{:?}", key.to_parameters().unwrap()), "RsaParameters { modulus_bytes: 256, .. }");
    }

    #[test]
    fn another_key_opens_nothing() {
        let wrapped = AgentKey::generate().unwrap().public_key().wrap(&[7; 32]).unwrap();
        let other = AgentKey::generate().unwrap();
        assert_eq!(other.unwrap_key(&wrapped), Err(Error::Unwrap));
        assert_eq!(other.unwrap_key(&wrapped[1..]), Err(Error::Unwrap));
        assert_eq!(other.unwrap_key(&[]), Err(Error::Unwrap));
    }
}
