//! What RabbitMQ gives up, refuses and drops, on a virtual host of its own: delivery limits, full queues, queues
//! with other arguments, messages that are not transship's, and the definitions that an operator may import.

#[path = "support/flow.rs"]
mod flow;
#[path = "support/letters.rs"]
mod letters;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/shared.rs"]
mod shared;
#[path = "support/state.rs"]
mod state;
mod support;

use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation};
use transship_bus::{
    Bus, BusError, GivenUpBy, HoldDelay, Inbox, MAX_BODY_BYTES, RabbitMq, Settled, WorkQueue,
};

use self::flow::{drain, fact};
use self::letters::{DeadLetter, raw_dead_letters};
use self::raw::raw;
use self::settings::settings;
use self::shared::{broker, vhost};
use self::state::{connecting, ready};
use self::support::{QUEUE, take, within, work};

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_named_until_it_is_gone() {
    let url = vhost().await;
    let (_connection, channel) = raw(&url).await;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let delete = || channel.queue_delete(QUEUE.name().into(), QueueDeleteOptions::default());
    // A classic queue, and the quorum queue of a transship that left dead-lettering to a policy.
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for arguments in [FieldTable::default(), quorum] {
        channel.queue_declare(QUEUE.name().into(), options, arguments).await.unwrap();
        let bus = RabbitMq::connect(settings(&url));
        let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
        let reason = connecting(&bus).await;
        for part in ["inequivalent arg 'x-", QUEUE.name(), "hint: ", "`declare = false`"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        delete().await.unwrap();
        ready(&bus).await;
        bus.publish(vec![work("after")]).await.unwrap();
        assert_eq!(drain(&mut deliveries, 1).await, ["after"]);
        bus.close().await;
        delete().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_too_often_becomes_a_dead_letter_though_no_policy_says_where_it_goes() {
    let url = vhost().await;
    let bus = RabbitMq::connect(settings(&url));
    ready(&bus).await;
    // What a broker from 4.0 on does by itself, with a limit of twenty.
    put_policy(&url, "limit", r#"{"pattern":".*","definition":{"delivery-limit":2}}"#).await;
    for inbox in [Inbox::Work(QUEUE), Inbox::Facts] {
        let mut deliveries = bus.consume(inbox, 1).await.unwrap();
        ready(&bus).await;
        let deadly = if inbox == Inbox::Facts { fact("e1.failed", "deadly", true) } else { work("deadly") };
        bus.publish(vec![deadly]).await.unwrap();
        let dead = format!("{}.dead", inbox.queue());
        tokio::select! {
            () = within("a dead letter", filled(&url, &dead, 1)) => {}
            () = async { while take(&mut deliveries).await.settle.release().await.is_ok() {} } => panic!("a release failed"),
        }
    }
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_facts_that_nobody_takes_make_room_for_newer_ones() {
    let url = vhost().await;
    let bus = RabbitMq::connect(settings(&url));
    let _facts = bus.consume(Inbox::Facts, 1).await.unwrap();
    ready(&bus).await;
    let (_connection, channel) = raw(&url).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let (dead, options) = ("control-plane.facts.dead", BasicPublishOptions::default());
    let mut confirms = Vec::new();
    for number in 0..10_003 {
        let properties = BasicProperties::default().with_message_id(number.to_string().into());
        confirms.push(channel.basic_publish("".into(), dead.into(), options, b"", properties).await.unwrap());
    }
    for confirm in confirms {
        assert!(matches!(confirm.await.unwrap(), Confirmation::Ack(None)), "none is refused");
    }
    within("room", filled(&url, dead, 10_000)).await;
    let oldest = channel.basic_get(dead.into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    assert_eq!(oldest.delivery.properties.message_id().as_ref().unwrap().as_str(), "3");
    bus.close().await;
}

/// Waits until a queue has so many messages.
async fn filled(url: &str, queue: &str, messages: u32) {
    let (_connection, channel) = raw(url).await;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let look = || channel.queue_declare(queue.into(), options, FieldTable::default());
    while look().await.unwrap().message_count() != messages {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
    assert_eq!(policies.as_array().unwrap().len(), WorkQueue::ALL.len() + 4);
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
