//! Between messages and AMQP: properties, headers, deliveries.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::death;
use crate::envelope::{DELIVERED_BEFORE, Envelope, clean_reason, is_reserved, oversized};
use crate::{Incoming, WorkQueue};

/// Which attempt a message is. Brokers from 3.10 to 4.x disagree about what `x-death` counts, so transship counts.
const ATTEMPT: &str = "x-transship-attempt";

/// Why a message is held, or is a dead letter.
pub(super) const REASON: &str = "x-transship-reason";

const CONTENT_TYPE: &str = "application/vnd.msgpack";

/// Dead-lettered copies keep the delivery mode of the original.
const PERSISTENT: u8 = 2;

/// The properties to publish an envelope with.
pub(super) fn properties(envelope: &Envelope) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (key, value) in &envelope.headers {
        headers.insert(short(key), text(value));
    }
    headers.insert(ATTEMPT.into(), AMQPValue::LongLongInt(envelope.attempt.into()));
    if let Some(reason) = &envelope.reason {
        headers.insert(REASON.into(), text(reason));
    }
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(CONTENT_TYPE.into())
        .with_message_id(short(&envelope.message_id))
        .with_type(short(&envelope.kind))
        .with_correlation_id(short(&envelope.correlation_id))
        .with_headers(headers)
}

/// A short string. An envelope keeps their bound; lapin's own conversion would panic beyond it.
pub(super) fn short(value: &str) -> ShortString {
    ShortString::try_new(value).unwrap_or_default()
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The message of a delivery. What the sender did not set, or set in another type, is empty.
pub(super) fn incoming(delivery: &mut Delivery) -> Incoming {
    let properties = &delivery.properties;
    let field = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    let table = properties.headers().as_ref();
    let headers = table.map(text_headers).unwrap_or_default();
    Incoming {
        message_id: field(properties.message_id()),
        kind: field(properties.kind()),
        correlation_id: field(properties.correlation_id()),
        attempt: table.map_or(1, attempt),
        redelivered: delivery.redelivered || headers.contains_key(DELIVERED_BEFORE),
        headers,
        routing_key: delivery.routing_key.to_string(),
        body: std::mem::take(&mut delivery.data).into(),
        death: None,
    }
}

/// The message of a delivery from the dead-letter queue of `queue`. One that is larger than the bus carries comes
/// without its body, and says so: made a dead letter again, it would come for ever.
pub(super) fn dead_letter(delivery: &mut Delivery, queue: WorkQueue) -> Incoming {
    let mut death = death::of(delivery.properties.headers().as_ref(), queue);
    let mut message = incoming(delivery);
    if let Some(reason) = oversized(&message) {
        death.reason = clean_reason(&format!("{}; {reason}, so its body is not kept", death.reason));
        message.body = Bytes::new();
    }
    Incoming { death: Some(death), ..message }
}

fn text_headers(table: &FieldTable) -> BTreeMap<String, String> {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    };
    table
        .inner()
        .iter()
        .filter(|(key, _)| !is_reserved(key.as_str()))
        .filter_map(|(key, value)| Some((key.to_string(), text(value)?)))
        .collect()
}

/// The attempt of a message; 1 where it has none, or one that is no count.
fn attempt(table: &FieldTable) -> u32 {
    let count = match table.inner().get(ATTEMPT) {
        Some(AMQPValue::LongLongInt(count)) => *count,
        Some(AMQPValue::LongInt(count)) => i64::from(*count),
        Some(AMQPValue::LongUInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortUInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortShortInt(count)) => i64::from(*count),
        Some(AMQPValue::ShortShortUInt(count)) => i64::from(*count),
        _ => 1,
    };
    u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(headers: FieldTable) -> Delivery {
        let mut delivery = Delivery::mock(1, "".into(), "exporter.parts".into(), true, b"body".to_vec());
        delivery.properties = BasicProperties::default().with_headers(headers);
        delivery
    }

    #[test]
    fn only_text_headers_of_the_sender_are_handed_over() {
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), text("00-1"));
        headers.insert("short".into(), AMQPValue::ShortString("s".into()));
        headers.insert("bytes".into(), AMQPValue::LongString(vec![0xff, 0xfe].into()));
        headers.insert("number".into(), AMQPValue::LongInt(1));
        headers.insert("x-death".into(), text("many"));
        headers.insert("x-first-death-queue".into(), text("q"));
        let message = incoming(&mut delivery(headers));
        let expected = [("short", "s"), ("traceparent", "00-1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(message.headers, expected.into());
        assert_eq!(
            (message.attempt, message.redelivered, message.routing_key.as_str()),
            (1, true, "exporter.parts")
        );
        assert_eq!(message.body, b"body".as_slice());
    }

    #[test]
    fn a_message_is_delivered_again_where_the_broker_or_its_sender_says_so() {
        let marked = || {
            let mut headers = FieldTable::default();
            headers.insert(DELIVERED_BEFORE.into(), text("true"));
            headers
        };
        for (headers, by_broker, expected) in [
            (FieldTable::default(), false, false),
            (FieldTable::default(), true, true),
            (marked(), false, true),
            (marked(), true, true),
        ] {
            let mut delivery = delivery(headers);
            delivery.redelivered = by_broker;
            assert_eq!(incoming(&mut delivery).redelivered, expected);
        }
    }

    #[test]
    fn a_hostile_attempt_is_a_count() {
        for (value, expected) in [
            (AMQPValue::LongLongInt(7), 7),
            (AMQPValue::LongUInt(u32::MAX), u32::MAX),
            (AMQPValue::LongLongInt(i64::MAX), u32::MAX),
            (AMQPValue::LongLongInt(i64::MIN), 1),
            (AMQPValue::LongInt(0), 1),
            (text("7"), 1),
        ] {
            let mut headers = FieldTable::default();
            headers.insert(ATTEMPT.into(), value.clone());
            assert_eq!(incoming(&mut delivery(headers)).attempt, expected, "{value:?}");
        }
    }
}
