//! The key of a session under RSA-OAEP, and bodies under AES-CBC.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_protocol::MessageId;
use dayfly_protocol::crypto::{AgentKey, Error, SecretBytes, SessionKey, open_message};
use dayfly_protocol::message::{JOB_CANCELLATION, TaskAgentMessage};
use dayfly_protocol::session::TaskAgentSessionKey;

use crate::keys::numbers;
use crate::openssl::{OpenSsl, SHORT_KEYS, full_hex, hex, path};

const OAEP_SHA1: [&str; 6] =
    ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1", "-pkeyopt", "rsa_mgf1_md:sha1"];
const OAEP_SHA256: [&str; 6] =
    ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256"];
const PKCS1: [&str; 2] = ["-pkeyopt", "rsa_padding_mode:pkcs1"];

/// OpenSSL wraps for the agent's key as it is registered: modulus and exponent in base64.
fn wrap(openssl: &OpenSsl, key: &AgentKey, secret: &[u8], padding: &[&str]) -> TaskAgentSessionKey {
    let wire = key.public_key().to_wire();
    let number = |text: &str| hex(&STANDARD.decode(text).expect("numbers on the wire are base64"));
    let public = openssl.public_key(&number(&wire.modulus), &number(&wire.exponent));
    let arguments = [&["pkeyutl", "-encrypt", "-pubin", "-inkey", path(&public)][..], padding].concat();
    TaskAgentSessionKey { encrypted: true, value: STANDARD.encode(openssl.run(&arguments, secret)) }
}

#[test]
fn what_openssl_wraps_we_unwrap() {
    let openssl = OpenSsl::new();
    for (short, pem) in SHORT_KEYS {
        let key = AgentKey::from_pkcs8(&openssl.pkcs8(pem)).unwrap();
        // From the numbers as well, which is how a stored key comes back.
        let stored = AgentKey::from_parameters(&key.to_parameters().unwrap()).unwrap();
        for secret in [vec![0u8; 32], (0..32).collect(), vec![255; 16]] {
            let expected = SessionKey::new(SecretBytes::new(secret.clone())).unwrap();
            let wire = wrap(&openssl, &key, &secret, &OAEP_SHA1);
            assert_eq!(
                SessionKey::from_wire(&wire, &key),
                Ok(Some(expected.clone())),
                "the key with a short {short}"
            );
            assert_eq!(
                SessionKey::from_wire(&wire, &stored),
                Ok(Some(expected)),
                "the key with a short {short}"
            );
        }
    }
}

#[test]
fn other_paddings_are_refused() {
    let openssl = OpenSsl::new();
    let key = AgentKey::from_pkcs8(&openssl.pkcs8(SHORT_KEYS[0].1)).unwrap();
    for padding in [&OAEP_SHA256[..], &PKCS1] {
        let wire = wrap(&openssl, &key, &[7; 32], padding);
        assert_eq!(SessionKey::from_wire(&wire, &key), Err(Error::Unwrap), "{padding:?}");
    }
}

#[test]
fn what_we_wrap_openssl_unwraps() {
    let openssl = OpenSsl::new();
    let key = AgentKey::generate().unwrap();
    let private = openssl.private_key(&numbers(&key.to_parameters().unwrap()));
    let session = SessionKey::generate().unwrap();
    let raw = STANDARD.decode(session.to_wire_unwrapped().value).unwrap();
    assert_eq!(raw.len(), 32);
    let wire = session.to_wire(&key.public_key()).unwrap();
    assert!(wire.encrypted);
    let wrapped = STANDARD.decode(&wire.value).unwrap();
    let decrypt = [&["pkeyutl", "-decrypt", "-inkey", path(&private)][..], &OAEP_SHA1].concat();
    assert_eq!(openssl.run(&decrypt, &wrapped), raw);
    let decrypt = [&["pkeyutl", "-decrypt", "-inkey", path(&private)][..], &OAEP_SHA256].concat();
    assert!(!openssl.try_run(&decrypt, &wrapped).status.success(), "OpenSSL would notice another padding");
}

/// Bodies around the borders of AES's blocks, and one of a large job.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [0, 1, 15, 16, 17, 31, 32].map(|length| vec![b'x'; length]).to_vec();
    bodies.push("\u{feff}{\"jobDisplayName\": \"Größe 📏\"}".as_bytes().to_vec());
    bodies.push((0..1_000_003u32).map(|number| (number.wrapping_mul(7919) >> 3) as u8).collect());
    bodies
}

fn cipher(raw_key: &[u8], iv: &[u8], direction: &'static str) -> [String; 7] {
    let algorithm = format!("-aes-{}-cbc", raw_key.len() * 8);
    ["enc".into(), algorithm, direction.into(), "-K".into(), full_hex(raw_key), "-iv".into(), full_hex(iv)]
}

#[test]
fn bodies_open_on_the_other_side() {
    let openssl = OpenSsl::new();
    let run = |arguments: [String; 7], input: &[u8]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        openssl.run(&arguments, input)
    };
    for key_bytes in [16u8, 24, 32] {
        let raw_key: Vec<u8> = (0..key_bytes).map(|at| at.wrapping_mul(37)).collect();
        let key = SessionKey::new(SecretBytes::new(raw_key.clone())).unwrap();
        for body in bodies() {
            // Theirs, with an initialization vector that begins with zeros.
            let iv: Vec<u8> = (0..16).collect();
            let message = TaskAgentMessage {
                message_id: MessageId(1),
                message_type: JOB_CANCELLATION.to_owned(),
                iv: Some(STANDARD.encode(&iv)),
                body: STANDARD.encode(run(cipher(&raw_key, &iv, "-e"), &body)),
            };
            assert_eq!(open_message(Some(&key), &message).unwrap().expose(), body);

            // Ours.
            let message = key.seal(MessageId(2), JOB_CANCELLATION, &body).unwrap();
            let iv = STANDARD.decode(message.iv.as_deref().unwrap()).unwrap();
            let encrypted = STANDARD.decode(&message.body).unwrap();
            assert_eq!(run(cipher(&raw_key, &iv, "-d"), &encrypted), body);
        }
    }
}

#[test]
fn bodies_under_another_key_do_not_open() {
    let openssl = OpenSsl::new();
    let arguments = cipher(&[1; 32], &[2; 16], "-e");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let body = br#"{"jobId":"00000000-0000-0000-0000-000000000000"}"#;
    let encrypted = openssl.run(&arguments, body);
    let other = SessionKey::new(SecretBytes::new(vec![3; 32])).unwrap();
    // One wrong key in 256 leaves something that ends like padding; this one does not.
    assert_eq!(other.decrypt(&[2; 16], encrypted), Err(Error::Decrypt));
}
