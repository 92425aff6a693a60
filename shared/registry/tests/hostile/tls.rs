//! TLS: whom transship believes.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use transship_registry::{RegistryClient, RegistryError, RegistrySettings, Source as _};

use crate::server::{Reply, Request, Server};
use crate::{MANIFEST, digest, error, repository, settings, tag, with_password};

/// A certificate for this machine that nobody signed, and a file with it.
fn certificate() -> (TlsAcceptor, tempfile::TempDir, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, made.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), directory, path)
}

fn over_tls(server: &Server) -> RegistrySettings {
    let mut settings = settings(&format!("https://{}", server.host));
    settings.limits.tries = 2;
    settings
}

#[tokio::test]
async fn a_certificate_is_believed_only_where_its_authority_is_configured() {
    let (tls, _directory, path) = certificate();
    let server = Server::start_tls(|_| |_: &_| Reply::new(200).body(MANIFEST), tls).await;
    let stranger = RegistryClient::new(over_tls(&server)).unwrap();
    let failed = error(stranger.manifest(&repository(), &tag()).await);
    assert!(
        matches!(&failed, RegistryError::Unavailable { reason, .. } if reason.contains("certificate")),
        "{failed}"
    );
    assert!(server.log().is_empty());
    let mut settings = over_tls(&server);
    settings.ca_bundle = Some(path.clone());
    RegistryClient::new(settings.clone()).unwrap().manifest(&repository(), &tag()).await.unwrap();
    for bad in ["CANARY", "", "-----BEGIN CERTIFICATE-----\nCANARY\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&path, bad).unwrap();
        let failed = error(RegistryClient::new(settings.clone()));
        assert!(matches!(failed, RegistryError::Settings(_)), "{failed}");
    }
}

#[tokio::test]
async fn nothing_leads_from_tls_to_plain_http() {
    let plain = Server::start(|_| |_: &_| Reply::new(200).body(r#"{"token":"t"}"#)).await;
    let (tls, _directory, path) = certificate();
    let elsewhere = plain.url();
    let server = Server::start_tls(
        |_| {
            move |request: &Request| match request.target.contains("/blobs/") {
                true => Reply::new(307).header("location", format!("{elsewhere}/blob?CANARY")),
                false => {
                    Reply::new(401).header("www-authenticate", format!(r#"Bearer realm="{elsewhere}/token""#))
                }
            }
        },
        tls,
    )
    .await;
    let mut settings = with_password(over_tls(&server));
    settings.ca_bundle = Some(path);
    // Not even where the operator allowed the host.
    settings.allowed_hosts = vec![plain.host.clone()];
    let client = RegistryClient::new(settings).unwrap();
    for failed in [
        error(client.blob(&repository(), &digest("x"), None).await),
        error(client.manifest(&repository(), &tag()).await),
    ] {
        assert!(failed.to_string().contains("only https"), "{failed}");
    }
    assert!(plain.log().is_empty());
}
