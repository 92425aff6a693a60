//! The contract of the port: one suite, run on the in-process twin and on a real RabbitMQ.

#[path = "support/flow.rs"]
mod flow;
#[path = "support/inboxes.rs"]
mod inboxes;
#[path = "support/letters.rs"]
mod letters;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/state.rs"]
mod state;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use transship_bus::{
    Bus, BusError, BusSettings, HoldDelay, InProcess, MAX_BODY_BYTES, Outgoing, RabbitMq, Settled,
};
use transship_model::Secret;

use self::flow::{drain, fact};
use self::inboxes::*;
use self::letters::{DeadLetter, raw_dead_letters};
use self::state::{connecting, ready};
use self::support::{QUEUE, take, within, work};

/// A bus of one kind, with nothing in it.
#[async_trait]
trait Fixture: Sized + Sync {
    async fn start() -> Self;

    fn bus(&self) -> &dyn Bus;

    /// The dead letters of the queue of the tests.
    async fn dead_letters(&self) -> Vec<DeadLetter>;
}

struct Twin(InProcess);

#[async_trait]
impl Fixture for Twin {
    async fn start() -> Self {
        Self(InProcess::new())
    }

    fn bus(&self) -> &dyn Bus {
        &self.0
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        let letter = |(message, reason): (transship_bus::Incoming, String)| DeadLetter {
            message_id: message.message_id,
            body: message.body,
            attempt: message.attempt,
            reason,
            headers: message.headers,
        };
        self.0.dead_letters(QUEUE).into_iter().map(letter).collect()
    }
}

/// A virtual host of its own on a broker that the tests of this process share.
struct Broker {
    url: String,
    bus: RabbitMq,
}

static BROKER: OnceCell<transship_rig::RabbitMq> = OnceCell::const_new();

#[async_trait]
impl Fixture for Broker {
    async fn start() -> Self {
        let start = || async { transship_rig::RabbitMq::shared().await.unwrap() };
        let url = BROKER.get_or_init(start).await.vhost().await.unwrap();
        let bus = RabbitMq::connect(BusSettings::new(Secret::new(&url), "contract"));
        Self { url, bus }
    }

    fn bus(&self) -> &dyn Bus {
        &self.bus
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        raw_dead_letters(&self.url, QUEUE).await
    }
}

/// A batch is published side by side; what is to arrive in order is published in order.
async fn in_order(bus: &dyn Bus, messages: impl IntoIterator<Item = Outgoing>) {
    for message in messages {
        bus.publish(vec![message]).await.unwrap();
    }
}

macro_rules! contract {
    ($($clause:ident)*) => {
        mod in_process {
            use super::{Fixture, Twin};
            $(
                #[tokio::test(start_paused = true)]
                async fn $clause() {
                    let twin = Twin::start().await;
                    super::$clause(&twin).await;
                    twin.bus().close().await;
                }
            )*
        }

        mod rabbitmq {
            use super::{Broker, Fixture};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $clause() {
                    let broker = Broker::start().await;
                    super::$clause(&broker).await;
                    broker.bus().close().await;
                }
            )*
        }
    };
}

contract! {
    a_message_arrives_as_it_was_sent_and_once_acknowledged_never_again
    no_more_deliveries_are_outstanding_than_there_are_slots
    a_released_delivery_comes_again_as_the_same_attempt
    a_retry_comes_back_after_its_delay_as_the_next_attempt
    a_dead_letter_keeps_the_message_and_says_why
    a_delivery_that_is_dropped_comes_again
    consumers_share_a_queue_and_each_message_goes_to_one_of_them
    a_consumer_that_is_dropped_gives_back_what_it_has_not_settled
    facts_reach_those_whose_pattern_matches_and_nobody_else
    a_subscription_that_is_dropped_gets_nothing_more
    a_fact_that_reaches_nobody_is_an_error_only_where_it_is_mandatory
    among_many_publishes_exactly_the_unroutable_ones_are_blamed
    headers_travel_except_those_of_the_bus
    a_body_that_is_too_large_is_refused_and_the_largest_travels
    a_closed_bus_delivers_nothing_and_takes_nothing
    dead_letters_are_taken_with_their_reasons_and_once_acknowledged_never_again
    a_dead_letter_that_is_retried_goes_back_to_its_work_queue
    facts_wait_for_the_control_plane_once_it_has_been_there
    a_fact_is_held_and_comes_again_as_the_next_attempt
    a_look_counts_what_waits_and_who_consumes
}

async fn a_message_arrives_as_it_was_sent_and_once_acknowledged_never_again(fixture: &impl Fixture) {
    let bus = fixture.bus();
    in_order(bus, [work("first"), work("second")]).await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();

    let delivery = take(&mut deliveries).await;
    let message = &delivery.message;
    assert_eq!((message.message_id.as_str(), message.kind.as_str()), ("first", "copy.requested"));
    assert_eq!(
        (message.correlation_id.as_str(), message.body.as_ref()),
        ("execution-1", b"first".as_slice())
    );
    assert_eq!(
        (message.attempt, message.redelivered, message.routing_key.as_str()),
        (1, false, QUEUE.name())
    );
    assert_eq!(delivery.settle.ack().await.unwrap(), Settled::Done);

    drop(deliveries);
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    assert_eq!(drain(&mut deliveries, 1).await, ["second"]);
    bus.publish(vec![work("third")]).await.unwrap();
    assert_eq!(drain(&mut deliveries, 1).await, ["third"]);
}

async fn no_more_deliveries_are_outstanding_than_there_are_slots(fixture: &impl Fixture) {
    let bus = fixture.bus();
    bus.publish((0..5).map(|n| work(&n.to_string())).collect()).await.unwrap();
    let mut narrow = bus.consume(QUEUE.into(), 2).await.unwrap();
    let (first, second) = (take(&mut narrow).await, take(&mut narrow).await);

    // What the narrow consumer may not have is left for another one.
    let mut wide = bus.consume(QUEUE.into(), 8).await.unwrap();
    let others = drain(&mut wide, 3).await;
    let taken = BTreeSet::from([first.message.message_id, second.message.message_id]);
    assert_eq!(others.iter().filter(|id| !taken.contains(*id)).count(), 3);

    drop(wide);
    bus.publish(vec![work("late")]).await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(500), narrow.next()).await;
    assert!(nothing.is_err(), "both slots are taken");
    first.settle.ack().await.unwrap();
    assert_eq!(take(&mut narrow).await.message.message_id, "late");
    second.settle.ack().await.unwrap();
}

/// Where in the queue it comes again is the broker's: RabbitMQ puts it last where no delivery limit is set.
async fn a_released_delivery_comes_again_as_the_same_attempt(fixture: &impl Fixture) {
    let bus = fixture.bus();
    in_order(bus, [work("released"), work("other")]).await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let released = take(&mut deliveries).await;
    assert_eq!(released.message.message_id, "released");
    assert_eq!(released.settle.release().await.unwrap(), Settled::Done);

    let mut seen = Vec::new();
    while seen.len() < 2 {
        let delivery = take(&mut deliveries).await;
        let message = &delivery.message;
        seen.push((message.message_id.clone(), message.attempt, message.redelivered));
        delivery.settle.ack().await.unwrap();
    }
    seen.sort();
    assert_eq!(seen, [("other".to_owned(), 1, false), ("released".to_owned(), 1, true)]);
}

async fn a_retry_comes_back_after_its_delay_as_the_next_attempt(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let headers = [("traceparent".to_owned(), "00-1".to_owned())].into();
    in_order(bus, [Outgoing { headers, ..work("held") }, work("other")]).await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let held = take(&mut deliveries).await;
    let since = Instant::now();
    assert_eq!(held.settle.retry(HoldDelay::TenSeconds, "throttled").await.unwrap(), Settled::Done);

    assert_eq!(drain(&mut deliveries, 1).await, ["other"], "a hold does not hold up the queue");
    let again = take(&mut deliveries).await;
    let waited = since.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(50)).contains(&waited), "{waited:?}");
    let message = &again.message;
    assert_eq!((message.message_id.as_str(), message.body.as_ref()), ("held", b"held".as_slice()));
    assert_eq!(
        (message.attempt, message.redelivered, message.routing_key.as_str()),
        (2, false, QUEUE.name())
    );
    assert_eq!(message.headers["traceparent"], "00-1");
    assert_eq!(message.headers.len(), 1, "neither the broker's headers nor the bus's: {:?}", message.headers);

    // The attempt that a dead letter names is the one that failed.
    again.settle.dead_letter("gave up").await.unwrap();
    let [letter] = &fixture.dead_letters().await[..] else { panic!("one dead letter") };
    assert_eq!((letter.attempt, letter.reason.as_str()), (2, "gave up"));
}

async fn a_dead_letter_keeps_the_message_and_says_why(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let headers = [("traceparent".to_owned(), "00-1".to_owned())].into();
    in_order(bus, [Outgoing { headers, ..work("poison") }, work("fine")]).await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let reason = format!("not MessagePack\r\n\u{1b}[31m{}", "x".repeat(2_000));
    assert_eq!(take(&mut deliveries).await.settle.dead_letter(&reason).await.unwrap(), Settled::Done);
    assert_eq!(drain(&mut deliveries, 1).await, ["fine"]);

    let [letter] = &fixture.dead_letters().await[..] else { panic!("one dead letter") };
    assert_eq!((letter.message_id.as_str(), letter.body.as_ref()), ("poison", b"poison".as_slice()));
    assert_eq!((letter.attempt, letter.headers["traceparent"].as_str()), (1, "00-1"));
    assert_eq!(letter.reason.len(), 1_024);
    assert!(letter.reason.starts_with("not MessagePack[31mxxx"), "{}", letter.reason);
}

async fn a_delivery_that_is_dropped_comes_again(fixture: &impl Fixture) {
    let bus = fixture.bus();
    bus.publish(vec![work("dropped")]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    drop(take(&mut deliveries).await);
    let again = take(&mut deliveries).await;
    assert_eq!((again.message.message_id.as_str(), again.message.attempt), ("dropped", 1));
    again.settle.ack().await.unwrap();
}

async fn consumers_share_a_queue_and_each_message_goes_to_one_of_them(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let ids: Vec<String> = (0..120).map(|n| format!("{n:03}")).collect();
    let consumers = join_all((0..3).map(|_| async {
        let mut deliveries = bus.consume(QUEUE.into(), 4).await.unwrap();
        drain(&mut deliveries, 40).await
    }));
    let publishing = bus.publish(ids.iter().map(|id| work(id)).collect());
    // Each takes exactly a third and then no more, so the others' thirds are theirs.
    let (published, taken) = tokio::join!(publishing, consumers);
    published.unwrap();
    let mut taken = taken.concat();
    taken.sort();
    taken.dedup();
    assert_eq!(taken, ids);
}

async fn a_consumer_that_is_dropped_gives_back_what_it_has_not_settled(fixture: &impl Fixture) {
    let bus = fixture.bus();
    bus.publish((0..4).map(|n| work(&n.to_string())).collect()).await.unwrap();
    let mut leaving = bus.consume(QUEUE.into(), 4).await.unwrap();
    let in_hand = take(&mut leaving).await;
    drop(leaving);

    let mut staying = bus.consume(QUEUE.into(), 4).await.unwrap();
    assert_eq!(drain(&mut staying, 3).await.len(), 3);
    // What was in hand is still this consumer's to settle: a worker that drains finishes its work.
    assert_eq!(in_hand.settle.ack().await.unwrap(), Settled::Done);
    bus.publish(vec![work("last")]).await.unwrap();
    assert_eq!(drain(&mut staying, 1).await, ["last"]);
}

async fn facts_reach_those_whose_pattern_matches_and_nobody_else(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let mut one = bus.subscribe("e1.#").await.unwrap();
    let mut planned = bus.subscribe("*.planned").await.unwrap();
    assert_eq!((*one.rebound.borrow(), *planned.rebound.borrow()), (1, 1));
    for (key, id) in
        [("e1.planned", "a"), ("e2.planned", "b"), ("e1.failed", "c"), ("e1", "d"), ("e2.failed", "e")]
    {
        bus.publish(vec![fact(key, id, false)]).await.unwrap();
    }
    bus.publish(vec![fact("e1.planned", "end", true)]).await.unwrap();
    for (subscription, expected) in
        [(&mut one, vec!["a", "c", "d", "end"]), (&mut planned, vec!["a", "b", "end"])]
    {
        for id in expected {
            let fact = within("a fact", subscription.facts.recv()).await.unwrap();
            assert_eq!(fact.message_id, id);
        }
    }
    let (mut rebound, bound) = (one.rebound.clone(), *one.rebound.borrow());
    let changed = tokio::time::timeout(Duration::from_millis(100), rebound.changed()).await;
    assert!(changed.is_err() && bound == 1, "nothing was lost, so nothing was bound again");
}

async fn a_subscription_that_is_dropped_gets_nothing_more(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let subscription = bus.subscribe("e1.#").await.unwrap();
    bus.publish(vec![fact("e1.planned", "a", true)]).await.unwrap();
    drop(subscription);
    within("the queue goes with its subscription", async {
        while bus.publish(vec![fact("e1.planned", "b", true)]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn a_fact_that_reaches_nobody_is_an_error_only_where_it_is_mandatory(fixture: &impl Fixture) {
    let bus = fixture.bus();
    bus.publish(vec![fact("e1.planned", "a", false)]).await.unwrap();
    match bus.publish(vec![fact("e1.planned", "a", false), fact("e1.planned", "b", true)]).await {
        Err(BusError::Unroutable { message_id, destination }) => {
            assert_eq!((message_id.as_str(), destination.as_str()), ("b", "e1.planned"));
        }
        other => panic!("{other:?}"),
    }
}

async fn among_many_publishes_exactly_the_unroutable_ones_are_blamed(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let mut subscription = bus.subscribe("bound.#").await.unwrap();
    let key = |n: usize| if n.is_multiple_of(5) { "nobody" } else { "bound.x" };
    let publishes = (0..500).map(|n| async move {
        bus.publish(vec![fact(key(n), &n.to_string(), true)]).await.map_err(|e| (n, e))
    });
    let errors: Vec<_> = join_all(publishes).await.into_iter().filter_map(Result::err).collect();
    for (n, error) in &errors {
        match error {
            BusError::Unroutable { message_id, .. } => assert_eq!(*message_id, n.to_string()),
            other => panic!("{n}: {other}"),
        }
    }
    let blamed: Vec<usize> = errors.iter().map(|(n, _)| *n).collect();
    assert_eq!(blamed, (0..500).step_by(5).collect::<Vec<_>>());

    let mut arrived = BTreeSet::new();
    while arrived.len() < 400 {
        let fact = within("a fact", subscription.facts.recv()).await.unwrap();
        assert_eq!(fact.routing_key, "bound.x");
        assert!(arrived.insert(fact.message_id), "twice");
    }

    // The same within one batch: the first that is blamed is the one that has no queue.
    let batch =
        (0..50).map(|n| fact(if n == 30 { "nobody" } else { "bound.x" }, &n.to_string(), true)).collect();
    match bus.publish(batch).await {
        Err(BusError::Unroutable { message_id, .. }) => assert_eq!(message_id, "30"),
        other => panic!("{other:?}"),
    }
}

async fn headers_travel_except_those_of_the_bus(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let pairs = [
        ("traceparent", "00-1"),
        ("tracestate", "a=ü"),
        ("x-death", "1"),
        ("x-transship-attempt", "9"),
        ("CC", "q"),
    ];
    let headers = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    bus.publish(vec![Outgoing { headers, ..work("m") }]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let delivery = take(&mut deliveries).await;
    let expected = pairs[..2].iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(delivery.message.headers, expected);
    assert_eq!(delivery.message.attempt, 1);
    delivery.settle.ack().await.unwrap();
}

async fn a_body_that_is_too_large_is_refused_and_the_largest_travels(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let body = |size: usize| Bytes::from(vec![0x5a; size]);
    let messages = vec![work("small"), Outgoing { body: body(MAX_BODY_BYTES + 1), ..work("large") }];
    match bus.publish(messages).await {
        Err(BusError::TooLarge { message_id, size, limit }) => {
            assert_eq!((message_id.as_str(), size, limit), ("large", MAX_BODY_BYTES + 1, MAX_BODY_BYTES));
        }
        other => panic!("{other:?}"),
    }
    bus.publish(vec![Outgoing { body: body(MAX_BODY_BYTES), ..work("largest") }]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let delivery = take(&mut deliveries).await;
    assert_eq!(delivery.message.message_id, "largest", "a batch that is refused is refused as a whole");
    assert_eq!(delivery.message.body, body(MAX_BODY_BYTES));
    delivery.settle.ack().await.unwrap();
}

async fn a_closed_bus_delivers_nothing_and_takes_nothing(fixture: &impl Fixture) {
    let bus = fixture.bus();
    ready(bus).await;
    in_order(bus, [work("in hand"), work("waiting")]).await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let in_hand = take(&mut deliveries).await;
    let mut subscription = bus.subscribe("#").await.unwrap();
    bus.close().await;
    assert!(within("the end of the deliveries", deliveries.next()).await.is_none());
    assert!(within("the end of the facts", subscription.facts.recv()).await.is_none());
    assert_eq!(in_hand.settle.ack().await.unwrap(), Settled::Lost);
    assert!(matches!(bus.publish(vec![work("late")]).await, Err(BusError::Unavailable(_))));
    assert!(matches!(bus.subscribe("#").await, Err(BusError::Unavailable(_))));
    assert_eq!(connecting(bus).await, "closed");
    bus.close().await;
}
