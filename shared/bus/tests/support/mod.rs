//! What all tests share: messages and deadlines.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use transship_bus::{Deliveries, Delivery, Destination, Outgoing, WorkQueue};

/// Nothing in these tests takes longer, unless something is wrong.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The queue of most tests.
pub(crate) const QUEUE: WorkQueue = WorkQueue::BlobCopierCopies;

pub(crate) async fn within<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, waiting).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

pub(crate) fn work(id: &str) -> Outgoing {
    Outgoing {
        destination: Destination::Work(QUEUE),
        message_id: id.to_owned(),
        kind: "copy.requested".to_owned(),
        correlation_id: "execution-1".to_owned(),
        headers: BTreeMap::new(),
        body: Bytes::copy_from_slice(id.as_bytes()),
    }
}

/// The next delivery.
pub(crate) async fn take(deliveries: &mut Box<dyn Deliveries>) -> Delivery {
    within("a delivery", deliveries.next()).await.expect("the bus is open")
}
