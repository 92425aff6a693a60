//! A private RabbitMQ that is stopped, killed, starved and provoked: the bus supervises itself back, loses
//! nothing that was confirmed, and says meanwhile what is wrong.

#[path = "support/flow.rs"]
mod flow;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/state.rs"]
mod state;
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use transship_bus::{Bus, BusError, BusSettings, BusState, HoldDelay, RabbitMq, Settled};

use self::flow::{drain, fact};
use self::state::{connecting, connecting_for, ready};
use self::support::{QUEUE, take, within, work};

fn settings(url: &str) -> BusSettings {
    BusSettings { publish_timeout: Duration::from_secs(3), ..settings::settings(url) }
}

/// Publishes until the broker has it, as a stage does.
async fn insist(bus: &RabbitMq, id: &str) {
    within("a publish", async {
        while bus.publish(vec![work(id)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_loses_nothing_and_everybody_comes_back() {
    let broker = transship_rig::RabbitMq::start().await.unwrap();
    let bus = RabbitMq::connect(settings(&broker.vhost().await.unwrap()));
    bus.publish((0..50).map(|n| work(&format!("{n:02}"))).collect()).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 2).await.unwrap();
    let mut taken = drain(&mut deliveries, 10).await;
    let in_hand = take(&mut deliveries).await;
    let subscription = bus.subscribe("#").await.unwrap();

    let (stopped, _) = tokio::join!(broker.stop(), connecting_for(&bus, "amqp://127.0.0.1:"));
    stopped.unwrap();
    assert!(matches!(bus.publish(vec![work("late")]).await, Err(BusError::Unavailable(_))));
    within("the loss of the delivery", in_hand.lost.cancelled()).await;
    assert_eq!(in_hand.settle.ack().await.unwrap(), Settled::Lost);
    broker.start_again().await.unwrap();

    ready(&bus).await;
    taken.extend(drain(&mut deliveries, 40).await);
    taken.sort();
    assert_eq!(taken, (0..50).map(|n| format!("{n:02}")).collect::<Vec<_>>(), "each once");
    assert_eq!(*subscription.rebound.borrow(), 2);
    let mut subscription = subscription;
    bus.publish(vec![fact("e1", "after", true)]).await.unwrap();
    assert_eq!(within("a fact", subscription.facts.recv()).await.unwrap().message_id, "after");
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_in_the_middle_of_publishing_keeps_what_it_confirmed() {
    let broker = transship_rig::RabbitMq::start().await.unwrap();
    let bus = RabbitMq::connect(settings(&broker.vhost().await.unwrap()));
    ready(&bus).await;
    let stop = AtomicBool::new(false);
    let publisher = |lane: usize| {
        let (bus, stop) = (&bus, &stop);
        async move {
            let mut ids = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let id = format!("{lane}-{:05}", ids.len());
                insist(bus, &id).await;
                ids.push(id);
            }
            ids
        }
    };
    let nemesis = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        broker.kill().await.unwrap();
        broker.start_again().await.unwrap();
        ready(&bus).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (a, b, c, ()) = tokio::join!(publisher(0), publisher(1), publisher(2), nemesis);
    let confirmed: BTreeSet<String> = [a, b, c].concat().into_iter().collect();
    assert!(confirmed.len() > 100, "{}", confirmed.len());

    let mut deliveries = bus.consume(QUEUE.into(), 100).await.unwrap();
    let mut missing = confirmed;
    while !missing.is_empty() {
        let delivery = take(&mut deliveries).await;
        missing.remove(&delivery.message.message_id);
        delivery.settle.ack().await.unwrap();
    }
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_short_of_memory_blocks_publishing_but_not_acknowledging() {
    let broker = transship_rig::RabbitMq::start().await.unwrap();
    let bus = RabbitMq::connect(settings(&broker.vhost().await.unwrap()));
    bus.publish(vec![work("a"), work("b"), work("c")]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 2).await.unwrap();
    let (first, second) = (take(&mut deliveries).await, take(&mut deliveries).await);
    let unheld = second.message.message_id.clone();

    broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await.unwrap();
    // The broker tells a connection when it publishes.
    let late = within("a publish that is not confirmed", async {
        loop {
            match bus.publish(vec![work("late")]).await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(matches!(late, BusError::TimedOut(_)), "{late}");
    match &*bus.state().borrow() {
        BusState::Blocked { reason } => assert!(reason.contains("memory"), "{reason}"),
        other => panic!("{other:?}"),
    }
    // Acknowledgements go on, and with them deliveries; what would have to be published first does not.
    assert_eq!(first.settle.ack().await.unwrap(), Settled::Done);
    let third = take(&mut deliveries).await;
    let held = second.settle.retry(HoldDelay::TwoHours, "throttled").await;
    assert!(matches!(held, Err(BusError::TimedOut(_))), "{held:?}");
    assert_eq!(third.settle.ack().await.unwrap(), Settled::Done);

    broker.ctl(&["set_vm_memory_high_watermark", "0.6"]).await.unwrap();
    ready(&bus).await;
    bus.publish(vec![work("end")]).await.unwrap();
    // What could not be held comes again, since it was never acknowledged; what timed out may have arrived.
    let mut wanted = BTreeSet::from([unheld, "end".to_owned()]);
    while !wanted.is_empty() {
        let delivery = take(&mut deliveries).await;
        wanted.remove(&delivery.message.message_id);
        delivery.settle.ack().await.unwrap();
    }
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_closed_while_it_is_blocked_leaves_no_connection() {
    let broker = transship_rig::RabbitMq::start().await.unwrap();
    let bus = RabbitMq::connect(settings(&broker.vhost().await.unwrap()));
    ready(&bus).await;
    broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await.unwrap();
    within("a block", async { while bus.publish(vec![work("a")]).await.is_ok() {} }).await;
    within("closing", bus.close()).await;
    // A broker that does not read from a blocked connection does not see its end either.
    broker.ctl(&["set_vm_memory_high_watermark", "0.6"]).await.unwrap();
    within("the end of the connections", async {
        while !broker.ctl(&["-q", "list_connections", "name"]).await.unwrap().trim().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_the_broker_closes_is_built_anew_and_delivers_again() {
    let broker = transship_rig::RabbitMq::start().await.unwrap();
    // The broker closes a channel whose delivery is not settled in time; it looks once a minute, unless told.
    broker.ctl(&["eval", "application:set_env(rabbit, channel_tick_interval, 500)."]).await.unwrap();
    broker.ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 1500)."]).await.unwrap();
    let bus = RabbitMq::connect(settings(&broker.vhost().await.unwrap()));
    bus.publish(vec![work("slow")]).await.unwrap();
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    let slow = take(&mut deliveries).await;
    let reason = connecting(&bus).await;
    assert!(reason.contains(QUEUE.name()) && reason.contains("PRECONDITION_FAILED"), "{reason}");
    let again = take(&mut deliveries).await;
    assert_eq!((again.message.message_id.as_str(), again.message.attempt), ("slow", 1));
    assert_eq!(slow.settle.ack().await.unwrap(), Settled::Lost, "this is not the channel that it came by");
    assert_eq!(again.settle.ack().await.unwrap(), Settled::Done);
    ready(&bus).await;
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_broker_closes_are_built_anew() {
    let broker = transship_rig::RabbitMq::start().await.unwrap();
    let bus = RabbitMq::connect(settings(&broker.vhost().await.unwrap()));
    let mut deliveries = bus.consume(QUEUE.into(), 1).await.unwrap();
    for round in 0..3 {
        ready(&bus).await;
        let (closed, reason) =
            tokio::join!(broker.ctl(&["close_all_connections", "--global", "maintenance"]), connecting(&bus));
        closed.unwrap();
        assert!(reason.contains("CONNECTION_FORCED"), "{reason}");
        insist(&bus, &round.to_string()).await;
        assert_eq!(drain(&mut deliveries, 1).await, [round.to_string()]);
    }
    bus.close().await;
}
