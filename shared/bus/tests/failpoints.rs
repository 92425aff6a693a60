//! A crash between the two effects of a settlement makes a duplicate, never a loss.

#[path = "support/letters.rs"]
mod letters;
#[path = "support/raw.rs"]
mod raw;
mod support;

use std::collections::BTreeMap;

use fail::FailScenario;
use transship_bus::{Bus, BusSettings, HoldDelay, InProcess, RabbitMq};
use transship_model::Secret;

use self::letters::raw_dead_letters;
use self::support::{QUEUE, take, work};

/// Takes the next delivery in a task of its own, which dies while it settles it.
async fn die_settling(bus: &dyn Bus, failpoint: &str, settle: impl AsyncFnOnce(transship_bus::Delivery)) {
    fail::cfg(failpoint, "1*panic").unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let delivery = take(&mut deliveries).await;
    let died = std::panic::AssertUnwindSafe(settle(delivery));
    assert!(futures::FutureExt::catch_unwind(died).await.is_err(), "the failpoint was not reached");
}

async fn both_copies_of_a_retry_arrive(bus: &dyn Bus) {
    bus.publish(vec![work("held")]).await.unwrap();
    die_settling(bus, "bus.retry.published", async |delivery| {
        drop(delivery.settle.retry(HoldDelay::TenSeconds, "throttled").await);
    })
    .await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let mut attempts = BTreeMap::new();
    for _ in 0..2 {
        let delivery = take(&mut deliveries).await;
        attempts.insert(delivery.message.attempt, delivery.message.message_id);
        delivery.settle.ack().await.unwrap();
    }
    assert_eq!(attempts, [(1, "held".to_owned()), (2, "held".to_owned())].into());
}

async fn a_dead_letter_is_also_delivered_again(bus: &dyn Bus) {
    bus.publish(vec![work("poison")]).await.unwrap();
    die_settling(bus, "bus.dead_letter.published", async |delivery| {
        drop(delivery.settle.dead_letter("poison").await);
    })
    .await;
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let again = take(&mut deliveries).await;
    assert_eq!(again.message.message_id, "poison");
    again.settle.dead_letter("poison").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_twin_between_publishing_and_acknowledging_makes_a_duplicate() {
    let scenario = FailScenario::setup();
    let bus = InProcess::new();
    both_copies_of_a_retry_arrive(&bus).await;
    a_dead_letter_is_also_delivered_again(&bus).await;
    assert_eq!(bus.dead_letters(QUEUE).len(), 2);
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_publishing_and_acknowledging_makes_a_duplicate() {
    let scenario = FailScenario::setup();
    let url = transship_rig::RabbitMq::shared().await.unwrap();
    let vhost = url.vhost().await.unwrap();
    let bus = RabbitMq::connect(BusSettings::new(Secret::new(&vhost), "failpoints"));
    both_copies_of_a_retry_arrive(&bus).await;
    a_dead_letter_is_also_delivered_again(&bus).await;
    assert_eq!(raw_dead_letters(&vhost, QUEUE).await.len(), 2);
    bus.close().await;
    scenario.teardown();
}
