//! TLS to the broker, with a certificate authority of one's own.

#[path = "support/state.rs"]
mod state;
mod support;

use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use transship_bus::{Bus, BusSettings, RabbitMq};
use transship_model::Secret;
use transship_rig::RabbitMqOptions;

use self::state::{connecting, ready};
use self::support::{QUEUE, take, work};

/// Writes the server's certificate and key into `folder`, and returns the authority that signed it.
fn certificates(folder: &Path) -> String {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, text) in
        [("ca.pem", pem.clone()), ("server.pem", server.pem()), ("server.key", key.serialize_pem())]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    pem
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_trusted_by_the_bundle_that_is_configured_and_not_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = certificates(folder.path());
    let port = transship_rig::free_port();
    let file = |key: &str, name: &str| format!("ssl_options.{key} = {}", folder.path().join(name).display());
    let settings = vec![
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        file("cacertfile", "ca.pem"),
        file("certfile", "server.pem"),
        file("keyfile", "server.key"),
        "ssl_options.verify = verify_none".to_owned(),
    ];
    let options = RabbitMqOptions { settings, ..RabbitMqOptions::default() };
    let broker = transship_rig::RabbitMq::start_with(options).await.unwrap();
    let plain = broker.vhost().await.unwrap();
    let (user, vhost) =
        (plain.split_once("://").unwrap().1.split_once('@').unwrap(), plain.rsplit('/').next().unwrap());

    for host in ["127.0.0.1", "localhost"] {
        let url = Secret::new(&format!("amqps://{}@{host}:{port}/{vhost}", user.0));
        let stranger = RabbitMq::connect(BusSettings::new(url.clone(), "tls"));
        let reason = connecting(&stranger).await;
        assert!(reason.contains("certificate"), "{reason}");
        stranger.close().await;

        let connect_timeout = Duration::from_secs(10);
        let settings = BusSettings {
            ca_bundle: Some(authority.clone()),
            connect_timeout,
            ..BusSettings::new(url, "tls")
        };
        let bus = RabbitMq::connect(settings);
        ready(&bus).await;
        bus.publish(vec![work("sealed")]).await.unwrap();
        let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
        let delivery = take(&mut deliveries).await;
        assert_eq!(delivery.message.message_id, "sealed");
        delivery.settle.ack().await.unwrap();
        bus.close().await;
    }
}
