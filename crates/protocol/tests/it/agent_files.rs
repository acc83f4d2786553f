//! `.credentials_rsaparams`, the one file of an agent that cryptography depends on.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_protocol::agent_files::{agent_key_to_json, parse_agent_key};
use dayfly_protocol::crypto::AgentKey;

use crate::openssl::{Numbers, OpenSsl, SHORT_KEYS, hex, padded};

/// The file of a key as .NET writes it: each number at its fixed length, a byte-order mark in front.
fn file_of(numbers: &Numbers) -> String {
    let base64 = |hex: &str, length| STANDARD.encode(padded(hex, length));
    let file = serde_json::json!({
        "ContainerName": "",
        "UseCng": false,
        "d": base64(&numbers.d, 256),
        "dp": base64(&numbers.dp, 128),
        "dq": base64(&numbers.dq, 128),
        "exponent": base64(&numbers.exponent, 3),
        "inverseQ": base64(&numbers.inverse_q, 128),
        "modulus": base64(&numbers.modulus, 256),
        "p": base64(&numbers.p, 128),
        "q": base64(&numbers.q, 128),
    });
    format!("\u{feff}{}", serde_json::to_string_pretty(&file).expect("text is always JSON"))
}

#[test]
fn a_file_of_openssls_numbers_gives_the_key() {
    let openssl = OpenSsl::new();
    for (short, pem) in SHORT_KEYS {
        let numbers = openssl.numbers(pem);
        let key = parse_agent_key(file_of(&numbers).as_bytes()).unwrap();
        let same = AgentKey::from_pkcs8(&openssl.pkcs8(pem)).unwrap();
        assert_eq!(key.public_key(), same.public_key());
        assert_eq!(
            key.to_parameters().unwrap(),
            same.to_parameters().unwrap(),
            "the key with a short {short}"
        );
    }
}

#[test]
fn what_we_write_is_the_file_of_openssls_numbers() {
    let openssl = OpenSsl::new();
    for (short, pem) in SHORT_KEYS {
        let key = AgentKey::from_pkcs8(&openssl.pkcs8(pem)).unwrap();
        let written = agent_key_to_json(&key).unwrap();
        let written: serde_json::Value = serde_json::from_slice(written.expose()).unwrap();
        let expected = file_of(&openssl.numbers(pem));
        let expected: serde_json::Value =
            serde_json::from_str(expected.trim_start_matches('\u{feff}')).unwrap();
        assert_eq!(written, expected, "the key with a short {short}");
    }
}

#[test]
fn openssl_finds_the_key_of_a_written_file_sound() {
    let openssl = OpenSsl::new();
    let written = agent_key_to_json(&AgentKey::generate().unwrap()).unwrap();
    let file: serde_json::Value = serde_json::from_slice(written.expose()).unwrap();
    let number = |name: &str, length| {
        let bytes = STANDARD.decode(file[name].as_str().unwrap()).unwrap();
        assert_eq!(bytes.len(), length, "{name}");
        hex(&bytes)
    };
    openssl.private_key(&Numbers {
        modulus: number("modulus", 256),
        exponent: number("exponent", 3),
        d: number("d", 256),
        p: number("p", 128),
        q: number("q", 128),
        dp: number("dp", 128),
        dq: number("dq", 128),
        inverse_q: number("inverseQ", 128),
    });
}
