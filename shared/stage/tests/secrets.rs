//! The section `[secrets]` at work: from its text to a secret out of a vault, with fakes of the metadata service
//! and of Key Vault on one loopback port.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use transship_model::{Code, Failure, VaultSecret};
use transship_secrets::Keyring;
use transship_stage::SecretsConfig;

/// Answers each request by what it begins with, and keeps the requests.
async fn start() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let byte = stream.read_u8().await.unwrap();
                request.push(byte);
            }
            let request = String::from_utf8(request).unwrap();
            let (status, header, body) = respond(&request);
            record.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (host, seen)
}

fn respond(request: &str) -> (u16, &'static str, &'static str) {
    if request.starts_with("GET /metadata/identity/oauth2/token?") {
        return (200, "", r#"{"access_token":"TOKEN","expires_in":"3600"}"#);
    }
    match request.contains("Bearer TOKEN") {
        true => (200, "", r#"{"value":"?sv=1&sig=x","attributes":{"enabled":true}}"#),
        false => (401, "www-authenticate: Bearer resource=\"https://127.0.0.1\"\r\n", ""),
    }
}

fn keyring(host: &str, settings: serde_json::Value) -> Keyring {
    let config: SecretsConfig = serde_json::from_value(settings).unwrap();
    let metadata = format!("http://{host}");
    config
        .keyring_in(&|name| (name == "AZURE_POD_IDENTITY_AUTHORITY_HOST").then(|| metadata.clone()))
        .unwrap()
}

fn secret(host: &str) -> VaultSecret {
    format!("https://{host}/secrets/sas").parse().unwrap()
}

#[tokio::test]
async fn a_vault_that_the_settings_list_is_read_with_the_identity_that_they_name() {
    let (host, seen) = start().await;
    let keyring = keyring(
        &host,
        serde_json::json!({
            "vault_suffixes": [host],
            "vault_identity": "identity:client:c-1",
            "plain_http_to_loopback": true,
        }),
    );
    assert_eq!(keyring.vaults.vault_secret(&secret(&host)).await.unwrap().expose(), "?sv=1&sig=x");
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let lines: Vec<_> = seen.iter().filter_map(|request| request.lines().next()).collect();
    let vault = "GET /secrets/sas?api-version=7.4 HTTP/1.1";
    let token = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2F127.0.0.1\
                 &client_id=c-1 HTTP/1.1";
    assert_eq!(lines, [vault, token, vault]);
}

#[tokio::test]
async fn a_vault_that_the_settings_do_not_list_gets_nothing_and_a_mapped_one_is_a_directory() {
    let (host, seen) = start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sas"), "local\n").unwrap();
    let settings = serde_json::json!({
        "vaults": { "team.vault.azure.net": folder.path() },
        "plain_http_to_loopback": true,
    });
    let keyring = keyring(&host, settings);
    let failure: Failure = keyring.vaults.vault_secret(&secret(&host)).await.map(drop).unwrap_err().into();
    assert_eq!(failure.code, Code::EgressDenied);
    let local = keyring.vaults.vault_secret(&secret("team.vault.azure.net")).await.unwrap();
    assert_eq!(local.expose(), "local");
    assert!(seen.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
}
