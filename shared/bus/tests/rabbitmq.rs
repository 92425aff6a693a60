//! What only RabbitMQ can do to the bus, on a virtual host of its own: queues and exchanges that vanish or
//! differ, logins that fail, a network that falls silent, and messages that are not transship's.

#[path = "support/flow.rs"]
mod flow;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/state.rs"]
mod state;
mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tracing_subscriber::EnvFilter;
use transship_bus::{
    Bus, BusError, BusSettings, FACTS_EXCHANGE, GivenUpBy, HoldDelay, Inbox, MAX_BODY_BYTES, RabbitMq,
    Settled, WorkQueue,
};
use transship_model::Secret;

use self::flow::{drain, fact};
use self::proxy::{Passes, Proxy};
use self::raw::{DeadLetter, raw, raw_dead_letters};
use self::state::{connecting, ready};
use self::support::{QUEUE, take, within, work};

static BROKER: OnceCell<transship_rig::RabbitMq> = OnceCell::const_new();

async fn broker() -> &'static transship_rig::RabbitMq {
    BROKER.get_or_init(|| async { transship_rig::RabbitMq::shared().await.unwrap() }).await
}

async fn vhost() -> String {
    broker().await.vhost().await.unwrap()
}

fn settings(url: &str) -> BusSettings {
    BusSettings {
        publish_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        longest_backoff: Duration::from_secs(2),
        ..BusSettings::new(Secret::new(url), "rabbitmq")
    }
}

async fn delete_queue(channel: &Channel, name: &str) {
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_under_its_consumer_is_declared_and_consumed_again() {
    let url = vhost().await;
    let bus = RabbitMq::connect(settings(&url));
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    ready(&bus).await;
    let (_connection, channel) = raw(&url).await;
    let ((), reason) = tokio::join!(delete_queue(&channel, QUEUE.name()), connecting(&bus));
    assert!(reason.contains(QUEUE.name()) && reason.contains("cancelled"), "{reason}");
    ready(&bus).await;
    bus.publish(vec![work("after")]).await.unwrap();
    assert_eq!(drain(&mut deliveries, 1).await, ["after"]);
    bus.close().await;
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
async fn a_queue_with_other_arguments_is_named_until_it_is_gone() {
    let url = vhost().await;
    let (_connection, channel) = raw(&url).await;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.name().into(), options, FieldTable::default()).await.unwrap();
    let bus = RabbitMq::connect(settings(&url));
    let reason = connecting(&bus).await;
    assert!(reason.contains("inequivalent arg 'x-queue-type'") && reason.contains(QUEUE.name()), "{reason}");
    delete_queue(&channel, QUEUE.name()).await;
    ready(&bus).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_full_hold_queue_refuses_and_the_delivery_is_not_lost() {
    let url = vhost().await;
    let bus = RabbitMq::connect(settings(&url));
    ready(&bus).await;
    let hold = QUEUE.hold_queue(HoldDelay::TwoHours);
    put_policy(&url, "full", &format!(r#"{{"pattern":"^{hold}$","definition":{{"max-length":1}}}}"#)).await;
    bus.publish((0..20).map(|n| work(&format!("{n:02}"))).collect()).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 20).await.unwrap();
    let mut refused = 0;
    for _ in 0..20 {
        match take(&mut deliveries).await.settle.retry(HoldDelay::TwoHours, "throttled").await {
            Ok(settled) => assert_eq!(settled, Settled::Done),
            Err(BusError::Refused { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    // The bound of a quorum queue is approximate; what was refused comes again, and nothing else does.
    assert!((10..20).contains(&refused), "{refused}");
    for _ in 0..refused {
        let again = take(&mut deliveries).await;
        assert_eq!(again.message.attempt, 1);
        again.settle.ack().await.unwrap();
    }
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_becomes_a_dead_letter_and_others_flow() {
    let url = vhost().await;
    let bus = RabbitMq::connect(settings(&url));
    ready(&bus).await;
    let (_connection, channel) = raw(&url).await;
    let body = vec![7; MAX_BODY_BYTES + 1];
    let properties = BasicProperties::default().with_message_id("huge".into());
    let options = BasicPublishOptions::default();
    let sent =
        channel.basic_publish("".into(), QUEUE.name().into(), options, &body, properties).await.unwrap();
    sent.await.unwrap();
    bus.publish(vec![work("fine")]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    assert_eq!(drain(&mut deliveries, 1).await, ["fine"]);
    let [letter] = &dead_letters(&url).await[..] else { panic!("one dead letter") };
    assert_eq!((letter.message_id.as_str(), letter.body.as_ref()), ("huge", body.as_slice()));
    assert!(letter.reason.contains("262145 bytes"), "{}", letter.reason);
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_headers_that_fill_a_frame_is_delivered_and_can_become_a_dead_letter() {
    let url = vhost().await;
    let bus = RabbitMq::connect(settings(&url));
    ready(&bus).await;
    let (_connection, channel) = raw(&url).await;
    let mut headers = FieldTable::default();
    headers.insert("huge".into(), AMQPValue::LongString(vec![b'x'; 120_000].into()));
    let properties = BasicProperties::default().with_message_id("foreign".into()).with_headers(headers);
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), QUEUE.name().into(), options, b"", properties).await.unwrap();
    sent.await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let delivery = take(&mut deliveries).await;
    assert_eq!(delivery.message.headers["huge"].len(), 120_000);
    assert_eq!(delivery.settle.dead_letter("not transship's").await.unwrap(), Settled::Done);
    assert_eq!(dead_letters(&url).await[0].message_id, "foreign");
    bus.close().await;
}

/// Dead letters, once there are some.
async fn dead_letters(url: &str) -> Vec<DeadLetter> {
    within("a dead letter", async {
        loop {
            let letters = raw_dead_letters(url, QUEUE).await;
            if !letters.is_empty() {
                return letters;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_definitions_agree_with_what_is_declared_and_stop_a_message_that_kills_its_consumers() {
    let url = vhost().await;
    let definitions = include_str!("../../../deploy/rabbitmq/definitions.json");
    api("POST", &format!("definitions/{}", vhost_of(&url)), definitions.to_owned()).await;
    let bus = RabbitMq::connect(settings(&url));
    ready(&bus).await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    bus.publish(vec![work("poison")]).await.unwrap();
    // A delivery that is only ever given back, as by a process that dies of it.
    let letters = tokio::select! {
        letters = dead_letters(&url) => letters,
        () = async { while take(&mut deliveries).await.settle.release().await.is_ok() {} } => panic!("a release failed"),
    };
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].message_id.as_str(), letters[0].attempt), ("poison", 1));
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_broker_gave_up_says_so_also_after_a_hold() {
    let url = vhost().await;
    let definitions = include_str!("../../../deploy/rabbitmq/definitions.json");
    api("POST", &format!("definitions/{}", vhost_of(&url)), definitions.to_owned()).await;
    let limit = r#"{"pattern":"^blob-copier\\.copies$","priority":20,"definition":{"delivery-limit":3,"dead-letter-exchange":"","dead-letter-routing-key":"blob-copier.copies.dead"}}"#;
    put_policy(&url, "limit", limit).await;
    let bus = RabbitMq::connect(settings(&url));
    let mut letters = bus.consume(Inbox::DeadLetters(QUEUE), 2).await.unwrap();
    ready(&bus).await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    bus.publish(vec![work("deadly")]).await.unwrap();
    take(&mut deliveries).await.settle.retry(HoldDelay::TenSeconds, "throttled").await.unwrap();
    let letter = tokio::select! {
        letter = take(&mut letters) => letter,
        () = async { while take(&mut deliveries).await.settle.release().await.is_ok() {} } => panic!("a release failed"),
    };
    assert_eq!((letter.message.message_id.as_str(), letter.message.attempt), ("deadly", 2));
    let death = letter.message.death.clone().unwrap();
    assert_eq!(death.by, GivenUpBy::Broker, "{}", death.reason);
    for part in ["blob-copier.copies", "(delivery_limit)", "throttled"] {
        assert!(death.reason.contains(part), "{}", death.reason);
    }
    letter.settle.ack().await.unwrap();
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_too_large_comes_without_its_body_and_says_so() {
    let url = vhost().await;
    let bus = RabbitMq::connect(settings(&url));
    let mut letters = bus.consume(Inbox::DeadLetters(QUEUE), 1).await.unwrap();
    ready(&bus).await;
    let (_connection, channel) = raw(&url).await;
    let (body, options) = (vec![7; MAX_BODY_BYTES + 1], BasicPublishOptions::default());
    let properties = BasicProperties::default().with_message_id("huge".into());
    let dead = QUEUE.dead_letter_queue();
    channel.basic_publish("".into(), dead.into(), options, &body, properties).await.unwrap().await.unwrap();
    let letter = take(&mut letters).await;
    assert_eq!((letter.message.message_id.as_str(), letter.message.body.len()), ("huge", 0));
    let reason = letter.message.death.clone().unwrap().reason;
    assert!(reason.contains("gave no reason") && reason.contains("262145 bytes"), "{reason}");
    letter.settle.ack().await.unwrap();
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_definitions_can_be_imported_into_a_broker_that_has_nothing() {
    let definitions = include_str!("../../../deploy/rabbitmq/definitions.json");
    api("POST", "definitions", definitions.to_owned()).await;
    let queues: serde_json::Value =
        serde_json::from_str(&api("GET", "queues/transship", String::new()).await).unwrap();
    assert_eq!(queues.as_array().unwrap().len(), (WorkQueue::ALL.len() + 1) * (2 + HoldDelay::ALL.len()));
    let policies: serde_json::Value =
        serde_json::from_str(&api("GET", "policies/transship", String::new()).await).unwrap();
    assert_eq!(policies.as_array().unwrap().len(), WorkQueue::ALL.len() + 3);
}

fn vhost_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

async fn put_policy(url: &str, name: &str, policy: &str) {
    api("PUT", &format!("policies/{}/{name}", vhost_of(url)), policy.to_owned()).await;
}

async fn api(method: &str, path: &str, body: String) -> String {
    let url = format!("{}/api/{path}", broker().await.management_url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request =
        client.request(method.parse().unwrap(), url).header("content-type", "application/json").body(body);
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{method} {path}: {status} {text}");
    text
}
