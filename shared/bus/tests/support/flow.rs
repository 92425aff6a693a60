//! Facts, and deliveries by the dozen.

use transship_bus::{Deliveries, Destination, Outgoing};

use super::support::{take, work};

pub(crate) fn fact(key: &str, id: &str, mandatory: bool) -> Outgoing {
    Outgoing { destination: Destination::Facts { key: key.to_owned(), mandatory }, ..work(id) }
}

/// Takes `count` deliveries, acknowledges them, and returns their sorted identifiers.
pub(crate) async fn drain(deliveries: &mut Box<dyn Deliveries>, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let delivery = take(deliveries).await;
        ids.push(delivery.message.message_id);
        delivery.settle.ack().await.unwrap();
    }
    ids.sort();
    ids
}
