//! Challenges, token endpoints and credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use transship_model::Secret;
use transship_registry::{
    CredentialError, CredentialSource, Credentials, RegistryClient, RegistryError, Source as _,
    StaticCredentials, Target as _,
};

use crate::server::{Reply, Request, Server};
use crate::{MANIFEST, Memory, client, digest, error, repository, settings, tag, with_password};

/// A registry whose tokens are good for `uses` requests each. Its token endpoint counts from 1.
async fn with_tokens(
    uses: usize,
    endpoint: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
) -> Server {
    let (given, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Server::start(|base| {
        let challenge =
            format!(r#"Bearer realm="{base}/token",service="the registry",scope="repository:x:pull""#);
        move |request: &Request| {
            if request.target.starts_with("/token") {
                used.store(0, Ordering::SeqCst);
                return endpoint(request, given.fetch_add(1, Ordering::SeqCst) + 1);
            }
            let newest = format!("Bearer CANARY-{}", given.load(Ordering::SeqCst));
            let good = request.header("authorization") == Some(&newest)
                && used.fetch_add(1, Ordering::SeqCst) < uses;
            if good {
                Reply::new(200).body(MANIFEST)
            } else {
                Reply::new(401).header("www-authenticate", &challenge).code("UNAUTHORIZED")
            }
        }
    })
    .await
}

fn token(_: &Request, number: usize) -> Reply {
    Reply::new(200).body(format!(r#"{{"token":"CANARY-{number}","expires_in":300}}"#))
}

#[tokio::test]
async fn a_token_is_fetched_with_the_password_and_used_until_it_is_refused() {
    let server = with_tokens(3, token).await;
    let client = RegistryClient::new(with_password(settings(&server.url()))).unwrap();
    for _ in 0..6 {
        client.manifest(&repository(), &tag()).await.unwrap();
    }
    let log = server.log();
    let tokens: Vec<&Request> = log.iter().filter(|request| request.target.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 2, "one at the start, and one when the first was refused");
    assert_eq!(tokens[0].target, "/token?service=the+registry&scope=repository%3Ateam%2Fapp%3Apull");
    assert!(tokens.iter().all(|request| request.header("authorization").unwrap().starts_with("Basic ")));
    let to_registry = log.iter().filter(|request| request.target.starts_with("/v2/"));
    assert!(to_registry.filter_map(|r| r.header("authorization")).all(|value| value.starts_with("Bearer ")));
}

#[tokio::test]
async fn a_registry_that_refuses_every_token_is_asked_twice_and_no_more() {
    let server = with_tokens(0, token).await;
    let error = error(
        RegistryClient::new(with_password(settings(&server.url())))
            .unwrap()
            .manifest(&repository(), &tag())
            .await,
    );
    assert!(
        matches!(&error, RegistryError::Forbidden { reason, .. } if reason.contains("UNAUTHORIZED")),
        "{error}"
    );
    assert!(server.count("GET", "/token") <= 2 && server.count("GET", "/v2/") <= 3, "{:?}", server.log());
}

#[tokio::test]
async fn sixteen_requests_at_once_fetch_one_token() {
    let server = with_tokens(usize::MAX, token).await;
    let client = client(&server.url());
    let repository = repository();
    let tag = tag();
    let requests = (0..16).map(|_| client.manifest(&repository, &tag));
    assert!(futures::future::join_all(requests).await.iter().all(Result::is_ok));
    assert_eq!(server.count("GET", "/token"), 1);
    assert!(
        server
            .log()
            .iter()
            .filter(|r| r.target.starts_with("/token"))
            .all(|r| r.header("authorization").is_none())
    );
}

#[tokio::test]
async fn a_token_endpoint_that_fails_is_an_error_and_never_an_anonymous_request() {
    let server = with_tokens(9, |_, _| Reply::new(503).body("CANARY")).await;
    let error = error(
        RegistryClient::new(with_password(settings(&server.url())))
            .unwrap()
            .manifest(&repository(), &tag())
            .await,
    );
    let RegistryError::Unavailable { operation, .. } = &error else { panic!("{error}") };
    assert_eq!(operation, "token endpoint");
    assert_eq!(server.count("GET", "/token"), 5);
    assert_eq!(server.count("GET", "/v2/"), 1, "only the request that asked for the challenge");
}

#[tokio::test]
async fn a_token_endpoint_that_refuses_or_answers_nonsense_is_an_error() {
    for (endpoint, forbidden) in [(401, true), (403, true), (200, false), (307, false)] {
        let server = with_tokens(9, move |_, _| {
            Reply::new(endpoint)
                .header("location", "http://127.0.0.1:1/CANARY")
                .body(r#"{"token":["CANARY"]}"#)
        })
        .await;
        let error = error(
            RegistryClient::new(with_password(settings(&server.url())))
                .unwrap()
                .manifest(&repository(), &tag())
                .await,
        );
        assert_eq!(matches!(error, RegistryError::Forbidden { .. }), forbidden, "{endpoint}: {error}");
        assert!(error.to_string().contains("token endpoint"), "{error}");
        assert_eq!(server.count("GET", "/v2/"), 1);
    }
}

#[tokio::test]
async fn a_realm_elsewhere_is_refused_and_gets_no_password() {
    let evil = Server::start(|_| |_: &_| Reply::new(200).body(r#"{"token":"t"}"#)).await;
    let realm = format!("{}/token?CANARY=1", evil.url());
    let server = Server::start(|_| {
        let challenge = format!(r#"Bearer realm="{realm}""#);
        move |_: &_| Reply::new(401).header("www-authenticate", &challenge)
    })
    .await;
    let mut settings = with_password(settings(&server.url()));
    let error = error(RegistryClient::new(settings.clone()).unwrap().manifest(&repository(), &tag()).await);
    assert!(matches!(error, RegistryError::EgressDenied { .. }), "{error}");
    assert!(evil.log().is_empty());
    // The operator knows better.
    settings.allowed_hosts = vec![evil.host.clone()];
    let _ = RegistryClient::new(settings).unwrap().manifest(&repository(), &tag()).await;
    assert!(evil.log()[0].header("authorization").unwrap().starts_with("Basic "));
}

#[tokio::test]
async fn a_challenge_that_cannot_be_met_is_forbidden() {
    for (challenge, reason) in
        [("Negotiate", "401"), (r#"Bearer realm="/token""#, "401"), ("Basic realm=x", "401")]
    {
        let server =
            Server::start(|_| move |_: &_| Reply::new(401).header("www-authenticate", challenge)).await;
        let error = error(client(&server.url()).manifest(&repository(), &tag()).await);
        assert!(
            matches!(&error, RegistryError::Forbidden { reason: said, .. } if said.starts_with(reason)),
            "{error}"
        );
        assert!(
            server.log().len() <= 2
                && server.log().iter().all(|request| request.header("authorization").is_none())
        );
    }
}

/// Gives a new password each time it is asked.
struct Rotating(AtomicUsize);

#[async_trait]
impl CredentialSource for Rotating {
    async fn credentials(&self, _host: &str) -> Result<Credentials, CredentialError> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Credentials::basic("user", &Secret::new(&format!("CANARY-{number}"))))
    }
}

#[tokio::test]
async fn a_password_that_was_rotated_is_asked_for_again() {
    use base64::Engine as _;
    let second = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("user:CANARY-1"));
    let server = Server::start(|_| {
        move |request: &Request| match request.header("authorization") == Some(&second) {
            true => Reply::new(200).body(MANIFEST),
            false => Reply::new(401).header("www-authenticate", "Basic realm=\"r\""),
        }
    })
    .await;
    let source = Arc::new(Rotating(AtomicUsize::new(0)));
    let client = RegistryClient::new(settings(&server.url()).with_credentials(source.clone())).unwrap();
    client.manifest(&repository(), &tag()).await.unwrap();
    client.manifest(&repository(), &tag()).await.unwrap();
    assert_eq!((source.0.load(Ordering::SeqCst), server.log().len()), (2, 4));
}

#[tokio::test]
async fn credentials_that_cannot_be_had_are_an_error_and_never_anonymous() {
    struct Broken;
    #[async_trait]
    impl CredentialSource for Broken {
        async fn credentials(&self, host: &str) -> Result<Credentials, CredentialError> {
            Err(CredentialError::Unreadable(host.to_owned(), "gone".to_owned()))
        }
    }
    let server = with_tokens(9, token).await;
    let client = RegistryClient::new(settings(&server.url()).with_credentials(Arc::new(Broken))).unwrap();
    let error = error(client.manifest(&repository(), &tag()).await);
    assert!(matches!(error, RegistryError::Forbidden { .. }), "{error}");
    assert_eq!(server.log().len(), 1);
}

#[tokio::test]
async fn refresh_tokens_and_entra_tokens_are_exchanged_by_post() {
    let endpoint = |request: &Request, number: usize| match request.target.as_str() {
        "/token" if request.method == "POST" => {
            Reply::new(200).body(format!(r#"{{"access_token":"CANARY-{number}"}}"#))
        }
        _ => Reply::new(400),
    };
    let server = with_tokens(9, endpoint).await;
    let secret = Secret::new("CANARY-refresh");
    let source = Arc::new(StaticCredentials(Credentials::refresh_token(secret.clone())));
    let client = RegistryClient::new(settings(&server.url()).with_credentials(source)).unwrap();
    client.manifest(&repository(), &tag()).await.unwrap();
    let posted = |server: &Server, part: &str| {
        let log = server.log();
        let found = log.iter().find(|request| request.is("POST", part)).unwrap();
        String::from_utf8(found.body.clone()).unwrap()
    };
    let body = posted(&server, "/token");
    for part in [
        "grant_type=refresh_token",
        "service=the+registry",
        "scope=repository%3Ateam%2Fapp%3Apull",
        "refresh_token=CANARY-refresh",
    ] {
        assert!(body.contains(part), "{body}");
    }

    let azure = Server::start(|base| {
        let challenge = format!(r#"Bearer realm="{base}/oauth2/token",service="myregistry.azurecr.io""#);
        move |request: &Request| match (request.target.as_str(), request.header("authorization")) {
            ("/oauth2/exchange", None) => Reply::new(200).body(r#"{"refresh_token":"CANARY-refresh"}"#),
            ("/oauth2/token", None) => Reply::new(200).body(r#"{"access_token":"CANARY-access"}"#),
            (_, Some("Bearer CANARY-access")) => Reply::new(200).body(MANIFEST),
            _ => Reply::new(401).header("www-authenticate", &challenge),
        }
    })
    .await;
    let source = Arc::new(StaticCredentials(Credentials::entra_access_token(Secret::new("CANARY-aad"))));
    let client = RegistryClient::new(settings(&azure.url()).with_credentials(source)).unwrap();
    client.manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(
        posted(&azure, "/oauth2/exchange"),
        "grant_type=access_token&service=myregistry.azurecr.io&access_token=CANARY-aad"
    );
    assert!(posted(&azure, "/oauth2/token").contains("refresh_token=CANARY-refresh"));
}

#[tokio::test]
async fn a_mount_asks_for_both_repositories_and_a_push_token_also_reads() {
    let server = with_tokens(usize::MAX, token).await;
    let client = RegistryClient::new(with_password(settings(&server.url()))).unwrap();
    let from = "base".parse().unwrap();
    let _ = client.mount(&repository(), &digest("x"), &from).await;
    let _ = client.upload(&repository(), &digest("x"), &Memory::new("x")).await;
    let _ = client.manifest(&repository(), &tag()).await;
    let log = server.log();
    let scopes: Vec<&str> =
        log.iter().filter(|r| r.target.starts_with("/token")).map(|r| r.target.as_str()).collect();
    assert_eq!(scopes.len(), 2, "the read needs no token of its own: {scopes:?}");
    assert!(
        scopes[0].contains("repository%3Abase%3Apull&") && scopes[0].contains("team%2Fapp%3Apull%2Cpush"),
        "{scopes:?}"
    );
}
