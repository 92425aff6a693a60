//! Key Vault, as a fake that answers like it: a challenge first, then the secret.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::response::Response;
use support::{Canary, Fake, Seen, answer};
use transship_model::{Class, Code, Failure, Identity, Secret, VaultSecret};
use transship_secrets::{
    AllowedHosts, IdentityError, KeyVault, SecretError, Tokens, VAULT_SUFFIXES, VaultSettings, Vaults as _,
};

const BUNDLE: &str = r#"{"value":"?sv=1&sig=CANARY","id":"x","attributes":{"enabled":true}}"#;

/// Tokens `CANARY-0`, `CANARY-1` and so on; a new one each time one is refused.
#[derive(Default)]
struct Given {
    asked: Mutex<Vec<String>>,
    refused: AtomicUsize,
}

#[async_trait]
impl Tokens for Given {
    async fn token(&self, identity: &Identity, audience: &str) -> Result<Secret, IdentityError> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(format!("{identity} {audience}"));
        Ok(Secret::new(&format!("CANARY-{}", self.refused.load(Ordering::SeqCst))))
    }

    async fn forget(&self, _identity: &Identity, _audience: &str, _token: &Secret) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}

fn challenge() -> Response {
    let mut challenge = answer(401, "");
    let text = r#"Bearer authorization="https://login.microsoftonline.com/t", resource="https://127.0.0.1""#;
    challenge.headers_mut().insert("www-authenticate", text.parse().unwrap());
    challenge
}

/// Answers a request without a token by the challenge, one with a token by `answer`.
fn guarded(
    answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static,
) -> impl Fn(usize, &Seen) -> Response + Clone + Send + Sync + 'static {
    move |_, seen| if seen.header("authorization").is_empty() { challenge() } else { answer(seen) }
}

fn vault(hosts: &[&str], tokens: &Arc<Given>) -> KeyVault {
    let settings = VaultSettings {
        hosts: AllowedHosts::new(hosts).unwrap(),
        identity: Identity::System,
        audience: None,
        plain_http_to_loopback: true,
    };
    let tokens: Arc<dyn Tokens> = Arc::clone(tokens) as Arc<dyn Tokens>;
    KeyVault::new(settings, tokens).unwrap()
}

fn secret(fake: &Fake) -> VaultSecret {
    format!("https://{}/secrets/sas", fake.host).parse().unwrap()
}

async fn read(fake: &Fake) -> Result<Secret, SecretError> {
    vault(&[&fake.host], &Arc::default()).vault_secret(&secret(fake)).await
}

async fn failure(fake: &Fake) -> Failure {
    read(fake).await.map(drop).unwrap_err().into()
}

#[tokio::test]
async fn a_secret_is_read_after_the_vault_said_which_token_it_wants() {
    let fake = Fake::start(guarded(|_| answer(200, BUNDLE))).await;
    let tokens = Arc::default();
    let vault = vault(&[&fake.host], &tokens);
    assert_eq!(vault.vault_secret(&secret(&fake)).await.unwrap().expose(), "?sv=1&sig=CANARY");
    let version = format!("{}/0123abc", secret(&fake)).parse().unwrap();
    vault.vault_secret(&version).await.unwrap();
    let asked = tokens.asked.lock().unwrap().clone();
    assert_eq!(asked, ["identity:system https://127.0.0.1"; 2]);
    let (newest, version) = ("GET /secrets/sas?api-version=7.4", "GET /secrets/sas/0123abc?api-version=7.4");
    assert_eq!(fake.lines(), [newest, newest, version, version], "it is read each time");
    let shown: Vec<_> = fake.seen().iter().map(|seen| seen.header("authorization").to_owned()).collect();
    assert_eq!(shown, ["", "Bearer CANARY-0", "", "Bearer CANARY-0"]);
}

#[tokio::test]
async fn a_vault_that_is_not_in_the_list_gets_no_request_and_no_token_is_fetched() {
    let fake = Fake::start(guarded(|_| answer(200, BUNDLE))).await;
    let tokens = Arc::default();
    for hosts in [&VAULT_SUFFIXES[..], &["127.0.0.1:1"], &["127.0.0.1"], &[".0.0.1"], &[]] {
        let error = vault(hosts, &tokens).vault_secret(&secret(&fake)).await.map(drop).unwrap_err();
        let failure: Failure = error.into();
        assert_eq!((failure.code, failure.class), (Code::EgressDenied, Class::Parked), "{hosts:?}");
        assert!(failure.message.contains(&format!("asks no vault at {}", fake.host)), "{failure}");
        assert!(failure.hint.unwrap().contains("secrets.vault_suffixes"));
    }
    assert!(fake.seen().is_empty() && tokens.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_vault_that_wants_a_token_for_somebody_else_gets_none() {
    for resource in
        ["https://storage.azure.com", "https://127.0.0.1.evil.example", "https://1", "http://127.0.0.1"]
    {
        let text = format!(r#"Bearer authorization="https://login.example/t", resource="{resource}""#);
        let fake = Fake::start(move |_, _| {
            let mut challenge = answer(401, "");
            challenge.headers_mut().insert("www-authenticate", text.parse().unwrap());
            challenge
        })
        .await;
        let tokens = Arc::default();
        let error = vault(&[&fake.host], &tokens).vault_secret(&secret(&fake)).await.map(drop).unwrap_err();
        assert_eq!(Failure::from(error).code, Code::EgressDenied, "{resource}");
        assert!(tokens.asked.lock().unwrap().is_empty(), "{resource}");
        assert!(fake.seen().iter().all(|seen| seen.header("authorization").is_empty()));
    }
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_once() {
    let fake = Fake::start(guarded(|seen| match seen.header("authorization") {
        "Bearer CANARY-0" => challenge(),
        _ => answer(200, BUNDLE),
    }))
    .await;
    read(&fake).await.unwrap();
    assert_eq!(fake.seen().len(), 3);
    let fake = Fake::start(|_, _| challenge()).await;
    let failure = failure(&fake).await;
    assert_eq!((failure.code, failure.class), (Code::VaultForbidden, Class::Parked));
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn each_refusal_is_told_apart_and_says_what_to_do() {
    type Case = (u16, &'static str, Code, &'static str, &'static str);
    let cases: [Case; 8] = [
        (
            403,
            r#"{"error":{"code":"Forbidden","message":"CANARY","innererror":{"code":"ForbiddenByRbac"}}}"#,
            Code::VaultForbidden,
            "the vault refuses identity:system (ForbiddenByRbac)",
            "give identity:system the right secrets/get",
        ),
        (
            403,
            r#"{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByFirewall"}}}"#,
            Code::VaultForbidden,
            "firewall",
            "network into the firewall",
        ),
        (
            403,
            r#"{"error":{"code":"Forbidden","innererror":{"code":"SecretDisabled"}}}"#,
            Code::ConfigurationInvalid,
            "is disabled",
            "enable the secret",
        ),
        (
            404,
            r#"{"error":{"code":"SecretNotFound"}}"#,
            Code::ConfigurationInvalid,
            "there is no secret",
            "create",
        ),
        (
            200,
            r#"{"value":"CANARY","attributes":{"enabled":false}}"#,
            Code::ConfigurationInvalid,
            "disabled",
            "enable",
        ),
        (
            200,
            r#"{"value":"CANARY","attributes":{"exp":1}}"#,
            Code::ConfigurationInvalid,
            "expired at 1970",
            "new version",
        ),
        (
            200,
            r#"{"value":"CANARY","attributes":{"nbf":4102444800}}"#,
            Code::ConfigurationInvalid,
            "valid from 2100",
            "wait until then",
        ),
        (200, r#"{"value":""}"#, Code::ConfigurationInvalid, "is empty", "SAS token"),
    ];
    for (status, body, code, message, hint) in cases {
        let fake = Fake::start(guarded(move |_| answer(status, body))).await;
        let failure = failure(&fake).await;
        assert_eq!((failure.code, failure.class), (code, Class::Parked), "{body}");
        let advice = failure.hint.clone().unwrap_or_default();
        assert!(failure.message.contains(message) && advice.contains(hint), "{failure} / {advice}");
        assert!(failure.message.contains(&fake.host), "it names the vault: {failure}");
    }
}

#[tokio::test]
async fn a_vault_that_is_away_or_busy_is_asked_again_later() {
    let fake = Fake::start(guarded(|_| answer(503, r#"{"error":{"code":"ServiceUnavailable"}}"#))).await;
    let busy = failure(&fake).await;
    assert_eq!((busy.code, busy.class), (Code::VaultUnavailable, Class::TRANSIENT));
    assert_eq!(fake.seen().len(), 4, "once for the challenge, three times for the secret");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let address = format!("https://{nobody}/secrets/sas").parse().unwrap();
    let away = vault(&[&nobody], &Arc::default()).vault_secret(&address).await.map(drop).unwrap_err();
    let away: Failure = away.into();
    assert_eq!((away.code, away.class), (Code::VaultUnavailable, Class::TRANSIENT));
    assert!(away.message.contains("not available"), "{away}");
}

#[tokio::test]
async fn an_answer_without_end_and_a_redirect_give_no_secret() {
    let endless = Fake::start(guarded(|_| answer(200, vec![b' '; 1 << 20]))).await;
    assert!(failure(&endless).await.message.contains("larger than any"));
    let elsewhere = Fake::start(|_, _| answer(200, BUNDLE)).await;
    let target = format!("http://{}/secrets/sas", elsewhere.host);
    let fake = Fake::start(guarded(move |_| {
        let mut redirect = answer(307, "");
        redirect.headers_mut().insert("location", target.parse().unwrap());
        redirect
    }))
    .await;
    assert!(failure(&fake).await.message.contains("HTTP 307"));
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_service_that_was_set_is_not_asked_for() {
    let fake = Fake::start(|_, _| answer(200, BUNDLE)).await;
    let tokens: Arc<Given> = Arc::default();
    let settings = VaultSettings {
        hosts: AllowedHosts::new([&fake.host]).unwrap(),
        identity: Identity::Client("c".into()),
        audience: Some("https://vault.stack.example".into()),
        plain_http_to_loopback: true,
    };
    KeyVault::new(settings, Arc::clone(&tokens) as Arc<dyn Tokens>)
        .unwrap()
        .vault_secret(&secret(&fake))
        .await
        .unwrap();
    assert_eq!(*tokens.asked.lock().unwrap(), ["identity:client:c https://vault.stack.example"]);
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn plain_http_is_spoken_only_where_a_test_says_so() {
    let fake = Fake::start(guarded(|_| answer(200, BUNDLE))).await;
    let settings = VaultSettings {
        hosts: AllowedHosts::new([&fake.host]).unwrap(),
        identity: Identity::System,
        audience: None,
        plain_http_to_loopback: false,
    };
    let vault = KeyVault::new(settings, Arc::<Given>::default()).unwrap();
    let read =
        tokio::time::timeout(Duration::from_secs(30), vault.vault_secret(&secret(&fake))).await.unwrap();
    assert_eq!(Failure::from(read.map(drop).unwrap_err()).code, Code::VaultUnavailable);
    assert!(fake.seen().is_empty(), "what came was TLS");
}

#[tokio::test]
async fn no_token_and_no_secret_is_in_a_log_an_error_or_debug_output() {
    let mut canary = Canary::watch();
    let fake = Fake::start(guarded(|_| answer(200, BUNDLE))).await;
    let given = read(&fake).await;
    assert!(given.as_ref().unwrap().expose().contains("CANARY"));
    canary.look_at(&given);
    for (status, body) in [
        (403, r#"{"error":{"code":"CANARY x","message":"CANARY","innererror":{"code":"CANARY CANARY"}}}"#),
        (401, "CANARY"),
        (200, "CANARY"),
        (200, r#"{"value":["CANARY"]}"#),
        (418, r#"{"error":{"message":"CANARY"}}"#),
    ] {
        let fake = Fake::start(guarded(move |_| answer(status, body))).await;
        canary.look_at_error(read(&fake).await.map(drop).unwrap_err());
    }
    let shown = canary.finish();
    assert!(shown.contains("a secret is read from its vault"), "our own log was looked at");
}
