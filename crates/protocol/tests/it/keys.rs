//! The numbers of RSA keys, with .NET's fixed lengths.

use dayfly_protocol::crypto::{AgentKey, Error, RsaParameters, SecretBytes};

use crate::openssl::{Numbers, OpenSsl, SHORT_KEYS, hex, padded, path};

/// What OpenSSL printed, in the form of .NET.
pub(crate) fn parameters(numbers: &Numbers) -> RsaParameters {
    let secret = |hex: &str, length| SecretBytes::new(padded(hex, length));
    RsaParameters {
        exponent: padded(&numbers.exponent, 3),
        modulus: padded(&numbers.modulus, 256),
        d: secret(&numbers.d, 256),
        p: secret(&numbers.p, 128),
        q: secret(&numbers.q, 128),
        dp: secret(&numbers.dp, 128),
        dq: secret(&numbers.dq, 128),
        inverse_q: secret(&numbers.inverse_q, 128),
    }
}

/// Our numbers in the form of OpenSSL.
pub(crate) fn numbers(parameters: &RsaParameters) -> Numbers {
    Numbers {
        modulus: hex(&parameters.modulus),
        exponent: hex(&parameters.exponent),
        d: hex(parameters.d.expose()),
        p: hex(parameters.p.expose()),
        q: hex(parameters.q.expose()),
        dp: hex(parameters.dp.expose()),
        dq: hex(parameters.dq.expose()),
        inverse_q: hex(parameters.inverse_q.expose()),
    }
}

#[test]
fn openssl_finds_our_keys_sound() {
    let openssl = OpenSsl::new();
    let key = AgentKey::generate().unwrap();
    let parameters = key.to_parameters().unwrap();
    let file = openssl.private_key(&numbers(&parameters));
    // Once more from OpenSSL's own file: nothing was lost on the way.
    let pem = std::fs::read_to_string(file).unwrap();
    assert_eq!(openssl.numbers(&pem), numbers(&parameters));
}

#[test]
fn openssl_notices_a_wrong_number() {
    let openssl = OpenSsl::new();
    let mut wrong = openssl.numbers(SHORT_KEYS[0].1);
    wrong.d.replace_range(..2, "7F");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| openssl.private_key(&wrong)));
    assert!(result.is_err(), "the check on our own keys would not notice a wrong number");
}

#[test]
fn numbers_of_openssls_keys_get_the_fixed_lengths() {
    let openssl = OpenSsl::new();
    let fresh = openssl.generate();
    for (short, pem) in SHORT_KEYS.into_iter().chain([("nothing", fresh.as_str())]) {
        let theirs = openssl.numbers(pem);
        let key = AgentKey::from_pkcs8(&openssl.pkcs8(pem)).unwrap();
        let ours = key.to_parameters().unwrap();
        assert_eq!(ours, parameters(&theirs), "the key with a short {short}");
        let first_byte = match short {
            "d" => ours.d.expose()[0],
            "dp" => ours.dp.expose()[0],
            "dq" => ours.dq.expose()[0],
            "inverse q" => ours.inverse_q.expose()[0],
            _ => 0,
        };
        assert_eq!(first_byte, 0, "the key with a short {short} has a zero in front of it");

        // And back: from numbers with zeros in front, and from numbers without.
        for numbers in [ours.clone(), without_zeros(&ours)] {
            let copy = AgentKey::from_parameters(&numbers).unwrap();
            assert_eq!(copy.public_key(), key.public_key());
            assert_eq!(copy.to_parameters().unwrap(), ours, "the key with a short {short}");
        }
    }
}

#[test]
fn numbers_of_two_keys_make_none() {
    let openssl = OpenSsl::new();
    let [one, other] = [SHORT_KEYS[0].1, SHORT_KEYS[1].1].map(|pem| parameters(&openssl.numbers(pem)));
    let mixed = RsaParameters { d: other.d, ..one.clone() };
    assert_eq!(AgentKey::from_parameters(&mixed).unwrap_err(), Error::PrivateKey);
    let mixed = RsaParameters { p: other.p, ..one };
    assert_eq!(AgentKey::from_parameters(&mixed).unwrap_err(), Error::PrivateKey);
}

#[test]
fn keys_of_other_sizes_are_refused_or_kept() {
    let openssl = OpenSsl::new();
    for (bits, accepted) in [(1024, false), (3072, true), (4096, true)] {
        let size = format!("rsa_keygen_bits:{bits}");
        let pem = openssl.run(&["genpkey", "-algorithm", "RSA", "-pkeyopt", &size], b"");
        let document = openssl.pkcs8(std::str::from_utf8(&pem).unwrap());
        match AgentKey::from_pkcs8(&document) {
            Ok(key) => {
                assert!(accepted, "{bits} bits");
                let parameters = key.to_parameters().unwrap();
                assert_eq!((parameters.d.expose().len(), parameters.p.expose().len()), (bits / 8, bits / 16));
                openssl.private_key(&numbers(&parameters));
            }
            Err(error) => assert!(!accepted && error == Error::PrivateKey, "{bits} bits: {error}"),
        }
    }
}

#[test]
fn another_kind_of_key_is_refused() {
    let openssl = OpenSsl::new();
    let pem = openssl.run(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], b"");
    let file = openssl.file("ec.pem", pem);
    let document = openssl.run(&["pkcs8", "-topk8", "-nocrypt", "-in", path(&file), "-outform", "DER"], b"");
    assert_eq!(AgentKey::from_pkcs8(&document).unwrap_err(), Error::PrivateKey);
}

fn without_zeros(parameters: &RsaParameters) -> RsaParameters {
    let short = |number: &SecretBytes| {
        let bytes = number.expose();
        let start = bytes.iter().position(|byte| *byte != 0).expect("no number of a key is zero");
        SecretBytes::new(bytes[start..].to_vec())
    };
    RsaParameters {
        exponent: parameters.exponent.clone(),
        modulus: parameters.modulus.clone(),
        d: short(&parameters.d),
        p: short(&parameters.p),
        q: short(&parameters.q),
        dp: short(&parameters.dp),
        dq: short(&parameters.dq),
        inverse_q: short(&parameters.inverse_q),
    }
}
