//! Client assertions: RS256 signatures checked and made by OpenSSL.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use dayfly_protocol::crypto::{AgentKey, Assertion, Claims, Error};
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::keys::numbers;
use crate::openssl::{OpenSsl, SHORT_KEYS, hex, path};

const AUDIENCE: &str = "https://vstoken.example/oauth2/token/4e9e7f5c";

fn claims() -> Claims {
    Claims::new(Uuid::from_u128(42), AUDIENCE, "2026-01-02T03:04:05Z".parse().expect("a moment"))
}

#[test]
fn openssl_accepts_our_signature_and_no_other() {
    let openssl = OpenSsl::new();
    for (short, pem) in SHORT_KEYS {
        let key = AgentKey::from_pkcs8(&openssl.pkcs8(pem)).unwrap();
        let token = claims().sign(&key).unwrap();
        let (signed, signature) = token.expose_secret().rsplit_once('.').unwrap();
        let signature = openssl.file("signature", URL_SAFE_NO_PAD.decode(signature).unwrap());
        let wire = key.public_key().to_wire();
        let [modulus, exponent] =
            [&wire.modulus, &wire.exponent].map(|text| hex(&STANDARD.decode(text).unwrap()));
        let public = openssl.public_key(&modulus, &exponent);
        let verify = ["dgst", "-sha256", "-verify", path(&public), "-signature", path(&signature)];
        assert_eq!(openssl.run(&verify, signed.as_bytes()), b"Verified OK\n", "the key with a short {short}");
        let changed = openssl.try_run(&verify, format!("{signed}x").as_bytes());
        assert!(!changed.status.success(), "OpenSSL would notice another text");
    }
}

#[test]
fn the_token_is_the_jwt_that_the_service_reads() {
    let token = claims().sign(&AgentKey::generate().unwrap()).unwrap();
    let parts: Vec<&str> = token.expose_secret().split('.').collect();
    assert_eq!(parts.len(), 3);
    let part = |at: usize| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[at]).unwrap()).unwrap()
    };
    assert_eq!(part(0), serde_json::json!({"typ": "JWT", "alg": "RS256"}));
    let mut claims = part(1);
    let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert!(Uuid::parse_str(id.as_str().unwrap()).is_ok());
    let client = "00000000-0000-0000-0000-00000000002a";
    let begin = 1_767_323_045;
    let expected =
        serde_json::json!({"sub": client, "iss": client, "aud": AUDIENCE, "nbf": begin, "exp": begin + 300});
    assert_eq!(claims, expected);
}

/// A token made of these parts by OpenSSL alone.
fn signed_by_openssl(openssl: &OpenSsl, private: &str, header: &str, claims: &str, digest: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = openssl.run(&["dgst", digest, "-sign", private], signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn we_accept_openssls_signature_and_no_other() {
    let openssl = OpenSsl::new();
    let key = AgentKey::generate().unwrap();
    let private = openssl.private_key(&numbers(&key.to_parameters().unwrap()));
    let private = path(&private);
    let header = r#"{"alg":"RS256","typ":"JWT"}"#;
    let claims = r#"{"sub":"a","iss":"a","aud":"https://x.example","jti":"1","nbf":10,"exp":310}"#;

    let token = signed_by_openssl(&openssl, private, header, claims, "-sha256");
    let verified = Assertion::parse(&token).unwrap().verify(&key.public_key()).unwrap();
    assert_eq!((verified.subject.as_str(), verified.expires), ("a", 310));

    let other = AgentKey::generate().unwrap().public_key();
    assert_eq!(Assertion::parse(&token).unwrap().verify(&other), Err(Error::Signature));

    let weak = signed_by_openssl(&openssl, private, header, claims, "-sha1");
    assert_eq!(Assertion::parse(&weak).unwrap().verify(&key.public_key()), Err(Error::Signature));

    let (_, signature) = token.rsplit_once('.').unwrap();
    let forged = claims.replace(r#""sub":"a""#, r#""sub":"b""#);
    let forged = format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(forged));
    assert_eq!(Assertion::parse(&forged).unwrap().verify(&key.public_key()), Err(Error::Signature));

    for algorithm in ["none", "HS256", "RS384", "rs256"] {
        let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#);
        let token = signed_by_openssl(&openssl, private, &header, claims, "-sha256");
        assert_eq!(Assertion::parse(&token).unwrap_err(), Error::Malformed, "{algorithm}");
    }
}
