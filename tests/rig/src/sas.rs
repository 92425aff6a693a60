//! Shared access signatures, computed from the account's key as
//! <https://learn.microsoft.com/rest/api/storageservices/create-service-sas> and `…/create-account-sas` say.

use std::time::SystemTime;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::endpoints::AzuriteEndpoint;

/// The version of the service whose rules for signing are followed.
const VERSION: &str = "2021-12-02";

/// The order that the service demands of the letters in `sp`.
const PERMISSIONS: &str = "racwdxyltmeopif";

/// A service SAS for one container (`sr=c`), without the question mark.
pub(crate) fn container(
    account: &AzuriteEndpoint,
    name: &str,
    permissions: &str,
    expires: SystemTime,
) -> String {
    let permissions = in_order(permissions);
    let expiry = utc(expires);
    let resource = format!("/blob/{}/{name}", account.account);
    // Permissions, start, expiry, resource, identifier, IP, protocol, version, kind, snapshot, scope, and five
    // response headers.
    let fields = [
        &permissions,
        "",
        &expiry,
        &resource,
        "",
        "",
        "https,http",
        VERSION,
        "c",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
    ];
    let signature = sign(account, &fields.join("\n"));
    query(&[
        ("sv", VERSION),
        ("sr", "c"),
        ("sp", &permissions),
        ("se", &expiry),
        ("spr", "https,http"),
        ("sig", &signature),
    ])
}

/// An account SAS for everything that the blob service has, without the question mark.
pub(crate) fn account(account: &AzuriteEndpoint, expires: SystemTime) -> String {
    let expiry = utc(expires);
    let permissions = "racwdl";
    // Account, permissions, services, resource types, start, expiry, IP, protocol, version, encryption scope.
    let fields = [&account.account, permissions, "b", "sco", "", &expiry, "", "https,http", VERSION, "", ""];
    let signature = sign(account, &fields.join("\n"));
    query(&[
        ("sv", VERSION),
        ("ss", "b"),
        ("srt", "sco"),
        ("sp", permissions),
        ("se", &expiry),
        ("spr", "https,http"),
        ("sig", &signature),
    ])
}

/// Checks that the key is base64, so that signing cannot fail later.
pub(crate) fn check_key(key: &str) -> Result<()> {
    STANDARD.decode(key).context("the account's key is not base64")?;
    Ok(())
}

fn sign(account: &AzuriteEndpoint, text: &str) -> String {
    let key = STANDARD.decode(&account.key).expect("checked where the endpoint came in");
    STANDARD.encode(hmac_sha256(&key, text.as_bytes()))
}

/// RFC 2104 with SHA-256.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

fn in_order(permissions: &str) -> String {
    PERMISSIONS.chars().filter(|letter| permissions.contains(*letter)).collect()
}

/// `2026-11-22T10:00:00Z`: the service takes whole seconds.
fn utc(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).expect("a time of this era");
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn query(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_agrees_with_rfc_4231() {
        let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(hmac_sha256(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn letters_are_put_into_the_order_of_the_service() {
        assert_eq!(in_order("ldwcar"), "racwdl");
    }
}
