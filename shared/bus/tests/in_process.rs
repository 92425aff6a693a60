//! What only the twin promises.

#[path = "support/flow.rs"]
mod flow;
mod support;

use std::time::Duration;

use tokio::time::Instant;
use transship_bus::{Bus, BusError, HoldDelay, InProcess};

use self::flow::{drain, fact};
use self::support::{QUEUE, take, within, work};

#[tokio::test(start_paused = true)]
async fn each_hold_lasts_as_long_as_it_says_and_each_retry_is_one_attempt_more() {
    let bus = InProcess::new();
    bus.publish(vec![work("held")]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    for (attempt, delay) in (1..).zip(HoldDelay::ALL) {
        let delivery = deliveries.next().await.unwrap();
        assert_eq!(delivery.message.attempt, attempt);
        let since = Instant::now();
        delivery.settle.retry(delay, "not yet").await.unwrap();
        let again = deliveries.next().await.unwrap();
        let waited = since.elapsed();
        assert!(
            waited >= delay.duration() && waited < delay.duration() + Duration::from_secs(1),
            "{waited:?}"
        );
        assert_eq!(again.message.attempt, attempt + 1);
        again.settle.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let bus = InProcess::with_depth(2);
    bus.publish(vec![work("a"), work("b")]).await.unwrap();
    match bus.publish(vec![work("c")]).await {
        Err(BusError::Refused { message_id }) => assert_eq!(message_id, "c"),
        other => panic!("{other:?}"),
    }
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    assert_eq!(drain(&mut deliveries, 1).await, ["a"]);
    bus.publish(vec![work("c")]).await.unwrap();
    assert_eq!(drain(&mut deliveries, 2).await, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_held_comes_again_after_a_pause_as_the_same_attempt() {
    let bus = InProcess::with_depth(1);
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    bus.publish(vec![work("held")]).await.unwrap();
    take(&mut deliveries).await.settle.retry(HoldDelay::TwoHours, "").await.unwrap();
    bus.publish(vec![work("one too many")]).await.unwrap();
    let delivery = take(&mut deliveries).await;
    let since = Instant::now();
    assert!(matches!(delivery.settle.retry(HoldDelay::TwoHours, "").await, Err(BusError::Refused { .. })));
    let again = take(&mut deliveries).await;
    assert_eq!((again.message.message_id.as_str(), again.message.attempt), ("one too many", 1));
    assert!(
        since.elapsed() >= Duration::from_secs(1),
        "a full hold queue must not become a loop without a pause"
    );
}

#[tokio::test(start_paused = true)]
async fn a_released_message_is_the_next_one() {
    let bus = InProcess::new();
    bus.publish(vec![work("a"), work("b")]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    take(&mut deliveries).await.settle.release().await.unwrap();
    assert_eq!(take(&mut deliveries).await.message.message_id, "a");
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_dead_letters_are_kept() {
    let bus = InProcess::new();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    for n in 0..1_001 {
        bus.publish(vec![work(&n.to_string())]).await.unwrap();
        take(&mut deliveries).await.settle.dead_letter("poison").await.unwrap();
    }
    let letters = bus.dead_letters(QUEUE);
    assert_eq!((letters.len(), letters[0].0.message_id.as_str()), (1_000, "1"));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_does_not_read_loses_the_oldest_facts_and_delays_nobody() {
    let bus = InProcess::new();
    let mut subscription = bus.subscribe("#").await.unwrap();
    let body = |n: usize| transship_bus::Outgoing {
        body: vec![0; 64 * 1024].into(),
        ..fact("e", &n.to_string(), true)
    };
    for n in 0..2_000 {
        within("a publish", bus.publish(vec![body(n)])).await.unwrap();
    }
    let mut ids = Vec::new();
    while ids.last() != Some(&1_999) {
        let fact = within("a fact", subscription.facts.recv()).await.unwrap();
        ids.push(fact.message_id.parse::<usize>().unwrap());
    }
    assert!(ids.is_sorted() && ids.len() < 2_000, "{}", ids.len());
}
