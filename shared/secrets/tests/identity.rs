//! Tokens of identities, from fakes of the metadata service, App Service and Microsoft Entra.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Canary, Fake, answer, token};
use transship_model::{Class, Code, Failure, Identity};
use transship_secrets::{IdentityError, Platform, PlatformTokens, Tokens as _};

const VAULT: &str = "https://vault.azure.net";
const STORAGE: &str = "https://storage.azure.com";

fn tokens(variables: &[(&'static str, String)]) -> PlatformTokens {
    let variables: HashMap<_, _> = variables.iter().cloned().collect();
    let platform = Platform::read(None, true, |name| variables.get(name).cloned()).unwrap();
    PlatformTokens::new(platform).unwrap()
}

fn on_a_machine(fake: &Fake) -> PlatformTokens {
    tokens(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", format!("http://{}", fake.host))])
}

fn in_a_pod(fake: &Fake, token_file: &str) -> PlatformTokens {
    tokens(&[
        ("AZURE_AUTHORITY_HOST", format!("http://{}", fake.host)),
        ("AZURE_TENANT_ID", "tenant-1".into()),
        ("AZURE_CLIENT_ID", "client-1".into()),
        ("AZURE_FEDERATED_TOKEN_FILE", token_file.into()),
    ])
}

fn client(id: &str) -> Identity {
    Identity::Client(id.into())
}

async fn refused(tokens: &PlatformTokens, identity: Identity) -> IdentityError {
    tokens.token(&identity, VAULT).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn the_metadata_service_gives_tokens_of_the_system_and_of_users_identities() {
    let fake = Fake::start(|number, _| token(&format!("CANARY-{number}"), 86_000)).await;
    let tokens = on_a_machine(&fake);
    let mut given = Vec::new();
    for identity in [Identity::System, client("c-1"), Identity::Resource("/s/1/i".into())] {
        given.push(tokens.token(&identity, VAULT).await.unwrap().expose().to_owned());
    }
    assert_eq!(given, ["CANARY-0", "CANARY-1", "CANARY-2"]);
    let start =
        "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
    let expected = ["", "&client_id=c-1", "&msi_res_id=%2Fs%2F1%2Fi"].map(|rest| format!("{start}{rest}"));
    assert_eq!(fake.lines(), expected);
    assert!(fake.seen().iter().all(|seen| seen.header("metadata") == "true"));
}

#[tokio::test]
async fn app_service_is_asked_at_its_own_endpoint_with_its_own_header() {
    let fake = Fake::start(|_, _| answer(200, r#"{"access_token":"t","expires_on":"4102444800"}"#)).await;
    let tokens = tokens(&[
        ("IDENTITY_ENDPOINT", format!("http://{}/msi/token", fake.host)),
        ("IDENTITY_HEADER", "h-1".into()),
    ]);
    tokens.token(&client("c-1"), STORAGE).await.unwrap();
    tokens.token(&client("c-1"), STORAGE).await.unwrap();
    let line = "GET /msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fstorage.azure.com&client_id=c-1";
    assert_eq!(fake.lines(), [line]);
    assert_eq!(fake.seen()[0].header("x-identity-header"), "h-1");
}

#[tokio::test]
async fn a_pod_exchanges_its_own_token_which_is_read_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    // A life of one second, so that the second call asks again.
    let fake = Fake::start(|_, _| answer(200, r#"{"access_token":"t","expires_in":0}"#)).await;
    let tokens = in_a_pod(&fake, file.to_str().unwrap());
    for federated in ["one.jwt", "two.jwt"] {
        std::fs::write(&file, format!("{federated}\n")).unwrap();
        tokens.token(&Identity::System, STORAGE).await.unwrap();
    }
    let form = |federated: &str| {
        format!(
            "grant_type=client_credentials&client_id=client-1&scope=https%3A%2F%2Fstorage.azure.com%2F.default\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion={federated}"
        )
    };
    let seen = fake.seen();
    assert_eq!(fake.lines(), ["POST /tenant-1/oauth2/v2.0/token"; 2]);
    assert_eq!([&seen[0].body, &seen[1].body], [&form("one.jwt"), &form("two.jwt")]);
    assert_eq!(seen[0].header("content-type"), "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn a_token_is_asked_for_once_however_many_want_it_and_kept_until_shortly_before_its_end() {
    let fake = Fake::start(|number, _| token(&format!("t{number}"), 3600)).await;
    let tokens = Arc::new(on_a_machine(&fake));
    let wanting: Vec<_> = (0..32)
        .map(|_| {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(
                async move { tokens.token(&Identity::System, VAULT).await.unwrap().expose().to_owned() },
            )
        })
        .collect();
    for one in wanting {
        assert_eq!(one.await.unwrap(), "t0");
    }
    assert_eq!(fake.seen().len(), 1);
    // Another service and another identity have tokens of their own.
    tokens.token(&Identity::System, STORAGE).await.unwrap();
    tokens.token(&client("c"), VAULT).await.unwrap();
    assert_eq!(fake.seen().len(), 3);
    let old = tokens.token(&Identity::System, VAULT).await.unwrap();
    tokens.forget(&Identity::System, VAULT, &old).await;
    let new = tokens.token(&Identity::System, VAULT).await.unwrap();
    assert_eq!((old.expose(), new.expose()), ("t0", "t3"));
    tokens.forget(&Identity::System, VAULT, &old).await;
    assert_eq!(tokens.token(&Identity::System, VAULT).await.unwrap().expose(), "t3");
}

#[tokio::test]
async fn who_waits_for_a_request_shares_its_failure() {
    let fake = Fake::start(|_, _| answer(400, r#"{"error":"invalid_request"}"#)).await;
    let tokens = Arc::new(on_a_machine(&fake));
    let wanting: Vec<_> = (0..16)
        .map(|_| {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(async move { refused(&tokens, Identity::System).await })
        })
        .collect();
    for one in wanting {
        assert_eq!(one.await.unwrap(), IdentityError::NotAssigned { identity: Identity::System });
    }
    assert_eq!(fake.seen().len(), 1);
    refused(&tokens, Identity::System).await;
    assert_eq!(fake.seen().len(), 2, "a failure is not kept");
}

#[tokio::test]
async fn an_old_token_that_still_holds_bridges_an_outage() {
    // A life of 600 s is renewed after 300 s; the clock of the test is moved instead of waited for.
    let fake = Fake::start(|number, _| if number == 0 { token("t", 600) } else { answer(401, "") }).await;
    let tokens = on_a_machine(&fake);
    tokens.token(&Identity::System, VAULT).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    tokio::time::resume();
    assert_eq!(tokens.token(&Identity::System, VAULT).await.unwrap().expose(), "t");
    assert_eq!(fake.seen().len(), 2, "the new one was asked for");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(300)).await;
    tokio::time::resume();
    assert!(tokens.token(&Identity::System, VAULT).await.is_err());
}

#[tokio::test]
async fn a_busy_endpoint_is_asked_again_and_a_long_wait_is_passed_on() {
    let fake = Fake::start(|number, _| if number == 0 { answer(410, "") } else { token("t", 3600) }).await;
    on_a_machine(&fake).token(&Identity::System, VAULT).await.unwrap();
    assert_eq!(fake.seen().len(), 2);
    let fake = Fake::start(|_, _| {
        let mut busy = answer(429, "");
        busy.headers_mut().insert("retry-after", "600".parse().unwrap());
        busy
    })
    .await;
    let began = Instant::now();
    let failure: Failure = refused(&on_a_machine(&fake), Identity::System).await.into();
    assert_eq!(failure.class, Class::Transient { retry_after: Some(Duration::from_secs(600)) });
    assert!(began.elapsed() < Duration::from_secs(5) && fake.seen().len() == 1);
}

#[tokio::test]
async fn each_reason_for_no_token_says_what_to_do() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let machine = |host: &str| tokens(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", format!("http://{host}"))]);
    let fake = Fake::start(|_, seen| match seen.line.contains("client_id") {
        true => answer(400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#),
        false => answer(200, "<html>"),
    })
    .await;
    let entra = r#"{"error":"invalid_client","error_description":"CANARY","error_codes":[700213]}"#;
    let entra = Fake::start(move |_, _| answer(401, entra)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let pod = in_a_pod(&entra, file.to_str().unwrap());
    let mut found = Vec::new();
    found.push(refused(&machine(&nobody.to_string()), Identity::System).await);
    found.push(refused(&on_a_machine(&fake), client("c-9")).await);
    found.push(refused(&on_a_machine(&fake), Identity::System).await);
    found.push(refused(&pod, Identity::System).await);
    std::fs::write(&file, "a.b.c").unwrap();
    found.push(refused(&pod, Identity::System).await);
    let entra_host = &entra.host;
    let expected = [
        (
            "this machine has no identity:system: its identity endpoint",
            "workload identity), or name a secret",
        ),
        ("identity:client:c-9 is not assigned to this machine", "assign identity:client:c-9"),
        ("gives no tokens now: its answer holds no token", ""),
        ("the federated token in ", "projected service account token"),
        (
            &format!("{entra_host} refuses identity:system a token for {VAULT}: invalid_client AADSTS700213"),
            "federated credential",
        ),
    ];
    for (error, (message, hint)) in found.into_iter().zip(expected) {
        let failure: Failure = error.into();
        let advice = failure.hint.unwrap_or_default();
        assert!(failure.message.contains(message) && advice.contains(hint), "{} / {advice}", failure.message);
        assert_eq!(failure.code, Code::IdentityUnavailable);
        assert_eq!(failure.class == Class::Parked, !hint.is_empty(), "{}", failure.message);
    }
}

#[tokio::test]
async fn no_token_is_in_a_log_an_error_or_debug_output() {
    let mut canary = Canary::watch();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "CANARY.federated").unwrap();
    let fake = Fake::start(|number, seen| match number {
        // What was sent comes back, as a careless server would write it.
        0 | 1 => answer(401, format!("{{\"error\":\"{}\"}}", seen.body)),
        2 => answer(302, seen.body.clone()),
        3 => answer(200, r#"{"access_token":"CANARY x","expires_in":5}"#),
        _ => token("CANARY", 3600),
    })
    .await;
    let pod = in_a_pod(&fake, file.to_str().unwrap());
    let app = tokens(&[
        ("IDENTITY_ENDPOINT", format!("http://{}/msi/token", fake.host)),
        ("IDENTITY_HEADER", "CANARY".into()),
    ]);
    for tokens in [&pod, &app, &pod, &app] {
        canary.look_at_error(refused(tokens, Identity::System).await);
    }
    for tokens in [&pod, &app] {
        canary.look_at(&tokens.token(&Identity::System, VAULT).await);
    }
    let shown = canary.finish();
    assert!(shown.contains("a token is asked for"), "our own log was looked at");
}
