//! A raw look at the dead letters in the broker, beside the bus.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::options::BasicGetOptions;
use lapin::types::AMQPValue;
use transship_bus::WorkQueue;

use super::raw::raw;

/// A dead letter as it lies in its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) message_id: String,
    pub(crate) body: Bytes,
    pub(crate) attempt: u32,
    pub(crate) reason: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// Takes every dead letter out of a queue.
pub(crate) async fn raw_dead_letters(url: &str, queue: WorkQueue) -> Vec<DeadLetter> {
    let (_connection, channel) = raw(url).await;
    let mut letters = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(got) = channel.basic_get(queue.dead_letter_queue().into(), options).await.unwrap() {
        let properties = &got.delivery.properties;
        let table = properties.headers().clone().unwrap_or_default();
        let text =
            |key: &str| table.inner().get(key).and_then(AMQPValue::as_long_string).map(ToString::to_string);
        let attempt = table.inner().get("x-transship-attempt").and_then(AMQPValue::as_long_long_int);
        letters.push(DeadLetter {
            message_id: properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default(),
            attempt: attempt.unwrap_or_default().try_into().unwrap(),
            reason: text("x-transship-reason").unwrap_or_default(),
            headers: table
                .inner()
                .keys()
                .filter(|key| !key.as_str().starts_with("x-"))
                .filter_map(|key| Some((key.to_string(), text(key.as_str())?)))
                .collect(),
            body: got.delivery.data.into(),
        });
    }
    letters
}
