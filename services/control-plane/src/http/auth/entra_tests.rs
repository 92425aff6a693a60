use std::path::Path;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://login.example/tenant/v2.0";

/// A key, made once: making one takes a while.
fn signing_key() -> &'static EncodingKey {
    static KEY: std::sync::LazyLock<EncodingKey> = std::sync::LazyLock::new(|| {
        let pair =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        EncodingKey::from_rsa_der(&pkcs1_of(pair.serialized_der()))
    });
    &KEY
}

/// The PKCS #1 key in a PKCS #8 key: the content of its only OCTET STRING, which comes last.
fn pkcs1_of(pkcs8: &[u8]) -> Vec<u8> {
    let at = pkcs8.windows(2).position(|two| two == [0x04, 0x82]).unwrap();
    pkcs8[at + 4..].to_vec()
}

fn issuers(folder: &Path) -> Issuers {
    let mut key = Jwk::from_encoding_key(signing_key(), Algorithm::RS256).unwrap();
    key.common.key_id = Some("k1".into());
    let path = folder.join("jwks.json");
    std::fs::write(&path, serde_json::to_vec(&JwkSet { keys: vec![key] }).unwrap()).unwrap();
    Issuers::new(&[IssuerConfig {
        issuer: ISSUER.into(),
        audiences: vec!["api://transship".into()],
        jwks_url: None,
        jwks_file: Some(path),
        readers: vec!["Transship.Read".into()],
        notifiers: vec!["Transship.Notify".into()],
        contributors: vec!["Transship.Write".into()],
    }])
    .unwrap()
}

fn claims(more: &Value) -> Value {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": ISSUER, "aud": "api://transship", "exp": now + 600, "nbf": now - 10, "oid": "someone",
        "roles": ["Transship.Write"],
    });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

fn token(claims: &Value, algorithm: Algorithm, kid: &str) -> String {
    let mut header = Header::new(algorithm);
    header.kid = Some(kid.into());
    let secret = EncodingKey::from_secret(b"secret");
    let key = if algorithm == Algorithm::HS256 { &secret } else { signing_key() };
    encode(&header, claims, key).unwrap()
}

#[tokio::test]
async fn a_token_of_the_issuer_has_the_role_that_its_claims_give() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers(folder.path());
    for (more, expected) in [
        (json!({}), Some(Role::Contributor)),
        (json!({ "roles": ["Transship.Read"] }), Some(Role::Reader)),
        (json!({ "roles": ["Transship.Notify"] }), Some(Role::Notifier)),
        (json!({ "roles": ["Transship.Notify", "Transship.Read"] }), Some(Role::Reader)),
        (json!({ "roles": [], "scp": "x Transship.Write" }), Some(Role::Contributor)),
        (json!({ "roles": ["Other"] }), None),
    ] {
        let found = issuers.caller(&token(&claims(&more), Algorithm::RS256, "k1")).await;
        match expected {
            Some(role) => assert_eq!(found.unwrap(), Caller { name: "someone".into(), role }, "{more}"),
            None => assert_eq!(found.unwrap_err().status, 403, "{more}"),
        }
    }
}

#[tokio::test]
async fn every_token_that_is_not_right_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers(folder.path());
    let good = token(&claims(&json!({})), Algorithm::RS256, "k1");
    let (head, tail) = good.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", tail.chars().rev().collect::<String>());
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());
    for (token, hint) in [
        (token(&claims(&json!({ "exp": 1 })), Algorithm::RS256, "k1"), "expired"),
        (token(&claims(&json!({ "nbf": 4_000_000_000_u64 })), Algorithm::RS256, "k1"), "not valid yet"),
        (token(&claims(&json!({ "aud": "other" })), Algorithm::RS256, "k1"), "audience"),
        (token(&claims(&json!({ "iss": "https://evil.example" })), Algorithm::RS256, "k1"), "issuer"),
        (token(&claims(&json!({})), Algorithm::RS256, "k2"), "no such key"),
        (token(&claims(&json!({})), Algorithm::RS384, "k1"), "RS256"),
        (token(&claims(&json!({})), Algorithm::HS256, "k1"), "RS256"),
        (forged, "signature"),
        (unsigned, "not known"),
        ("x".repeat(MAX_TOKEN + 1), "not known"),
        ("nonsense".to_owned(), "not known"),
    ] {
        let refusal = issuers.caller(&token).await.unwrap_err();
        assert_eq!(refusal.status, 401);
        assert!(refusal.error.message.contains(hint), "{}", refusal.error.message);
        assert!(!refusal.error.message.contains(&token));
    }
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_not_the_callers_fault() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers(folder.path());
    std::fs::remove_file(folder.path().join("jwks.json")).unwrap();
    let refusal = issuers.caller(&token(&claims(&json!({})), Algorithm::RS256, "k1")).await.unwrap_err();
    assert_eq!((refusal.status, refusal.error.code.as_str()), (503, "IssuerUnavailable"));
}

#[test]
fn an_issuer_that_grants_nothing_or_has_no_keys_is_a_fault() {
    let good = IssuerConfig {
        issuer: ISSUER.into(),
        audiences: vec!["a".into()],
        jwks_url: Some("https://login.example/keys".into()),
        jwks_file: None,
        readers: vec!["r".into()],
        notifiers: vec![],
        contributors: vec![],
    };
    assert!(Issuers::new(std::slice::from_ref(&good)).is_ok());
    for (bad, hint) in [
        (IssuerConfig { audiences: vec![], ..good.clone() }, "audiences"),
        (IssuerConfig { readers: vec![], ..good.clone() }, "readers"),
        (IssuerConfig { jwks_url: None, ..good.clone() }, "jwks_url"),
        (IssuerConfig { jwks_url: Some("http://login.example/keys".into()), ..good.clone() }, "https"),
        (IssuerConfig { jwks_file: Some("f".into()), ..good }, "jwks_url"),
    ] {
        assert!(Issuers::new(&[bad]).err().unwrap().contains(hint));
    }
}
