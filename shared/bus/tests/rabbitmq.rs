//! What only RabbitMQ can do to the bus, on a virtual host of its own: queues and exchanges that vanish, logins that fail, and a network that falls silent.

#[path = "support/flow.rs"]
mod flow;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/shared.rs"]
mod shared;
#[path = "support/state.rs"]
mod state;
mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lapin::Channel;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use transship_bus::{Bus, BusError, BusSettings, FACTS_EXCHANGE, RabbitMq};

use self::flow::{drain, fact};
use self::proxy::{Passes, Proxy};
use self::raw::raw;
use self::settings::settings;
use self::shared::vhost;
use self::state::{connecting, ready};
use self::support::{QUEUE, take, within, work};

async fn delete_queue(channel: &Channel, name: &str) {
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_under_its_consumer_is_declared_and_consumed_again() {
    let url = vhost().await;
    let bus = RabbitMq::connect(settings(&url));
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    ready(&bus).await;
    bus.publish(vec![work("before")]).await.unwrap();
    let in_hand = take(&mut deliveries).await;
    let (_connection, channel) = raw(&url).await;
    let ((), reason) = tokio::join!(delete_queue(&channel, QUEUE.name()), connecting(&bus));
    assert!(reason.contains(QUEUE.name()) && reason.contains("cancelled"), "{reason}");
    ready(&bus).await;
    bus.publish(vec![work("after")]).await.unwrap();
    assert_eq!(drain(&mut deliveries, 1).await, ["after"]);
    assert!(!in_hand.lost.is_cancelled(), "its channel is still there");
    bus.close().await;
    within("the channel's end", in_hand.lost.cancelled()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_under_a_publisher_is_declared_again_by_who_may_and_an_error_for_who_may_not() {
    let url = vhost().await;
    let bus = RabbitMq::connect(settings(&url));
    ready(&bus).await;
    let guest = RabbitMq::connect(BusSettings { declare: false, ..settings(&url) });
    ready(&guest).await;
    let (_connection, channel) = raw(&url).await;
    delete_queue(&channel, QUEUE.name()).await;
    channel.exchange_delete(FACTS_EXCHANGE.into(), ExchangeDeleteOptions::default()).await.unwrap();

    match guest.publish(vec![work("a")]).await {
        Err(BusError::Unroutable { message_id, destination }) => {
            assert_eq!((message_id.as_str(), destination.as_str()), ("a", QUEUE.name()));
        }
        other => panic!("{other:?}"),
    }
    // The broker answers a publish to an exchange that is not there by closing the channel.
    match guest.publish(vec![fact("e", "b", false)]).await {
        Err(BusError::Unavailable(reason)) => assert!(reason.contains(FACTS_EXCHANGE), "{reason}"),
        other => panic!("{other:?}"),
    }
    bus.publish(vec![work("a")]).await.unwrap();
    guest.publish(vec![work("a")]).await.unwrap();
    channel.exchange_delete(FACTS_EXCHANGE.into(), ExchangeDeleteOptions::default()).await.unwrap();
    bus.publish(vec![fact("e", "b", false)]).await.unwrap();
    guest.publish(vec![fact("e", "b", false)]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 2).await.unwrap();
    assert_eq!(drain(&mut deliveries, 2).await, ["a", "a"]);
    guest.close().await;
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_declare_waits_for_the_queue_and_says_so() {
    let url = vhost().await;
    let bus = RabbitMq::connect(BusSettings { declare: false, ..settings(&url) });
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let reason = connecting(&bus).await;
    assert!(reason.contains("NOT_FOUND") && reason.contains(QUEUE.name()), "{reason}");
    let operator = RabbitMq::connect(settings(&url));
    operator.publish(vec![work("a")]).await.unwrap();
    assert_eq!(drain(&mut deliveries, 1).await, ["a"]);
    ready(&bus).await;
    operator.close().await;
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_fails_says_why_and_never_with_what() {
    let logs = Logs::default();
    let filter = EnvFilter::new("trace,lapin=info,mio=info");
    let writer = logs.clone();
    // One process may run other tests besides; what they log must not have the password either.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).init();
    let good = vhost().await;
    let password = good.split_once("://").unwrap().1.split_once('@').unwrap().0.split_once(':').unwrap().1;
    let cases = [
        (good.replace(password, "CANARY"), "ACCESS_REFUSED"),
        (format!("{}-missing", good.replace("rig-", "CANARY-")), "NOT_ALLOWED"),
        (format!("amqp://u:CANARY@127.0.0.1:{}/v", transship_rig::free_port()), "refused"),
        ("amqp://u:CANARY@host.invalid/v".to_owned(), "host.invalid"),
        ("CANARY".to_owned(), "not amqp://"),
    ];
    for (url, expected) in cases {
        let limit = Duration::from_millis(200);
        let bus = RabbitMq::connect(BusSettings { publish_timeout: limit, ..settings(&url) });
        let reason = connecting(&bus).await;
        assert!(reason.contains(expected), "{reason}");
        // The name of a virtual host is no secret; the password and what it stands in are.
        let secrets = [":CANARY@", "CANARY@", password];
        let error = bus.publish(vec![work("a")]).await.unwrap_err();
        let shown = format!("{reason} {error} {error:?} {:?}", settings(&url));
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
        bus.close().await;
    }
    let logs = String::from_utf8(logs.0.lock().unwrap().clone()).unwrap();
    assert!(logs.contains("ACCESS_REFUSED"), "{logs}");
    assert!(["CANARY@", ":CANARY", password].iter().all(|secret| !logs.contains(secret)), "{logs}");
}

/// Everything that was logged.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_accepts_and_never_speaks_is_given_up_and_costs_no_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("amqp://u:p@127.0.0.1:{port}/v");
    let bus =
        RabbitMq::connect(BusSettings { connect_timeout: Duration::from_millis(200), ..settings(&url) });
    let mut peers = Vec::new();
    for _ in 0..6 {
        peers.push(within("an attempt", listener.accept()).await.unwrap().0);
    }
    let reason = connecting(&bus).await;
    assert!(reason.contains("no answer within"), "{reason}");
    // Each of the first attempts has ended on this side, though the peer holds on to it.
    for peer in &mut peers[..4] {
        let mut rest = Vec::new();
        within("the end of an attempt", tokio::io::AsyncReadExt::read_to_end(peer, &mut rest)).await.unwrap();
    }
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_falls_silent_is_noticed_by_the_heartbeat() {
    let url = vhost().await;
    let (proxy, proxied) = proxied(&url).await;
    let bus = RabbitMq::connect(BusSettings { heartbeat: Duration::from_secs(2), ..settings(&proxied) });
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    ready(&bus).await;
    proxy.let_through(Passes::Nothing);
    let since = Instant::now();
    connecting(&bus).await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    proxy.let_through(Passes::Everything);
    ready(&bus).await;
    bus.publish(vec![work("after")]).await.unwrap();
    assert_eq!(drain(&mut deliveries, 1).await, ["after"]);
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_that_is_lost_is_a_time_out_and_never_counts_for_the_next_message() {
    let url = vhost().await;
    let (proxy, proxied) = proxied(&url).await;
    let limit = Duration::from_millis(500);
    let bus =
        RabbitMq::connect(BusSettings { publish_timeout: limit, publish_channels: 1, ..settings(&proxied) });
    ready(&bus).await;
    bus.publish(vec![work("a")]).await.unwrap();
    proxy.let_through(Passes::Requests);
    assert!(matches!(bus.publish(vec![work("b")]).await, Err(BusError::TimedOut(_))));
    proxy.let_through(Passes::Everything);
    // The confirm of "b" comes now. An unroutable message must not take it for its own.
    match within("an answer", bus.publish(vec![fact("nobody", "c", true)])).await {
        Err(BusError::Unroutable { message_id, .. }) => assert_eq!(message_id, "c"),
        other => panic!("{other:?}"),
    }
    let direct = RabbitMq::connect(settings(&url));
    let mut deliveries = direct.consume(QUEUE.into(), 2).await.unwrap();
    assert_eq!(drain(&mut deliveries, 2).await, ["a", "b"], "what timed out had arrived");
    direct.close().await;
    bus.close().await;
}

async fn proxied(url: &str) -> (Proxy, String) {
    let (user, rest) = url.split_once('@').unwrap();
    let (upstream, vhost) = rest.split_once('/').unwrap();
    let proxy = Proxy::start(upstream.to_owned()).await;
    let proxied = format!("{user}@{}/{vhost}", proxy.address);
    (proxy, proxied)
}
