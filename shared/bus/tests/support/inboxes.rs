//! The clauses of the contract that are about dead letters, the facts that wait, and looking at a queue.

use std::time::Duration;

use tokio::time::Instant;
use transship_bus::{BusError, Death, GivenUpBy, HoldDelay, Inbox, Outgoing, QueueLook, Settled};

use super::flow::{drain, fact};
use super::support::{QUEUE, take, within, work};
use super::{Fixture, in_order};

pub(crate) async fn dead_letters_are_taken_with_their_reasons_and_once_acknowledged_never_again(
    fixture: &impl Fixture,
) {
    let bus = fixture.bus();
    let mut letters = bus.consume(Inbox::DeadLetters(QUEUE), 4).await.unwrap();
    let headers = [("traceparent".to_owned(), "00-1".to_owned())].into();
    in_order(bus, [Outgoing { headers, ..work("first") }, work("second")]).await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    for reason in ["not MessagePack", "too old"] {
        let delivery = take(&mut deliveries).await;
        assert_eq!(delivery.message.death, None);
        delivery.settle.dead_letter(reason).await.unwrap();
    }

    let first = take(&mut letters).await;
    let message = &first.message;
    assert_eq!((message.message_id.as_str(), message.kind.as_str()), ("first", "copy.requested"));
    assert_eq!((message.body.as_ref(), message.attempt), (b"first".as_slice(), 1));
    assert_eq!(message.headers["traceparent"], "00-1");
    let death = Death { by: GivenUpBy::Consumer, reason: "not MessagePack".to_owned() };
    assert_eq!(message.death, Some(death));
    // The other one is taken by whoever comes next.
    let second = take(&mut letters).await;
    assert_eq!(first.settle.ack().await.unwrap(), Settled::Done);
    assert_eq!(second.settle.release().await.unwrap(), Settled::Done);
    let second = take(&mut letters).await;
    assert_eq!((second.message.message_id.as_str(), second.message.redelivered), ("second", true));
    assert_eq!(second.settle.ack().await.unwrap(), Settled::Done);
    assert_eq!(fixture.dead_letters().await, []);
}

pub(crate) async fn a_dead_letter_that_is_retried_goes_back_to_its_work_queue(fixture: &impl Fixture) {
    let bus = fixture.bus();
    bus.publish(vec![work("again")]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    take(&mut deliveries).await.settle.dead_letter("too old").await.unwrap();
    let mut letters = bus.consume(Inbox::DeadLetters(QUEUE), 1).await.unwrap();
    let letter = take(&mut letters).await;
    letter.settle.retry(HoldDelay::TenSeconds, "a newer process is there").await.unwrap();
    let again = take(&mut deliveries).await;
    assert_eq!((again.message.message_id.as_str(), again.message.attempt), ("again", 2));
    assert_eq!(again.message.death, None);
    again.settle.ack().await.unwrap();
}

pub(crate) async fn facts_wait_for_the_control_plane_once_it_has_been_there(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let nobody = bus.publish(vec![fact("e1.planned", "early", true)]).await;
    assert!(matches!(nobody, Err(BusError::Unroutable { .. })), "{nobody:?}");

    let mut facts = bus.consume(Inbox::Facts, 200).await.unwrap();
    within("the binding", async {
        while bus.publish(vec![fact("e1.planned", "a", true)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let first = take(&mut facts).await;
    assert_eq!((first.message.message_id.as_str(), first.message.routing_key.as_str()), ("a", "e1.planned"));
    drop(first);
    drop(facts);
    // It is away: facts wait, and a subscriber beside it gets its own.
    let mut subscription = bus.subscribe("e2.#").await.unwrap();
    in_order(bus, [fact("e1.failed", "b", true), fact("e2.failed", "c", false)]).await;
    assert_eq!(within("a fact", subscription.facts.recv()).await.unwrap().message_id, "c");
    let mut facts = bus.consume(Inbox::Facts, 200).await.unwrap();
    assert_eq!(drain(&mut facts, 3).await, ["a", "b", "c"]);
    in_order(bus, [fact("e1.failed", "d", true)]).await;
    assert_eq!(drain(&mut facts, 1).await, ["d"], "what was acknowledged does not come again");
}

pub(crate) async fn a_fact_is_held_and_comes_again_as_the_next_attempt(fixture: &impl Fixture) {
    let bus = fixture.bus();
    let mut facts = bus.consume(Inbox::Facts, 2).await.unwrap();
    within("the binding", async {
        while bus.publish(vec![fact("e1.planned", "newer", true)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let since = Instant::now();
    take(&mut facts).await.settle.retry(HoldDelay::TenSeconds, "a newer version").await.unwrap();
    let again = take(&mut facts).await;
    assert!(since.elapsed() >= Duration::from_secs(10));
    assert_eq!((again.message.message_id.as_str(), again.message.attempt), ("newer", 2));
    again.settle.ack().await.unwrap();
}

pub(crate) async fn a_look_counts_what_waits_and_who_consumes(fixture: &impl Fixture) {
    let bus = fixture.bus();
    in_order(bus, [work("a"), work("b"), work("c")]).await;
    let see = async |inbox: Inbox, ready: u64, consumers: u32| {
        let wanted = QueueLook { ready, consumers };
        within("the counts", async {
            // What a quorum queue tells of itself is a little late.
            while bus.look(inbox).await.unwrap() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    };
    see(QUEUE.into(), 3, 0).await;
    let mut deliveries = bus.consume(QUEUE.into(), 2).await.unwrap();
    let (first, second) = (take(&mut deliveries).await, take(&mut deliveries).await);
    see(QUEUE.into(), 1, 1).await;
    first.settle.dead_letter("poison").await.unwrap();
    second.settle.ack().await.unwrap();
    drop(deliveries);
    see(QUEUE.into(), 1, 0).await;
    see(Inbox::DeadLetters(QUEUE), 1, 0).await;
    bus.close().await;
    assert!(matches!(bus.look(QUEUE.into()).await, Err(BusError::Unavailable(_))));
}
