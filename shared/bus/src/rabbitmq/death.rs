//! Why a message is a dead letter: as its consumer wrote it, or as the broker's `x-death` tells.

use lapin::types::{AMQPValue, FieldTable};

use super::wire::REASON;
use crate::envelope::clean_reason;
use crate::{Death, GivenUpBy, WorkQueue};

/// What the broker did with a message, newest first. Only the broker writes it: the bus forwards no such header,
/// so a message that its consumer gave up has none.
const DEATHS: &str = "x-death";

/// The first of them, on every broker.
const FIRST_REASON: &str = "x-first-death-reason";

/// The death of a message with these headers in the dead-letter queue of `queue`.
pub(super) fn of(headers: Option<&FieldTable>, queue: WorkQueue) -> Death {
    let said = headers.and_then(|table| text(table.inner().get(REASON)?));
    match headers.and_then(|table| broker_reason(table, queue)) {
        Some(cause) => {
            let cause = explain(&cause, queue);
            // A message that was held before tells why.
            let last = said.map(|said| format!("; its last attempt said: {said}")).unwrap_or_default();
            Death { by: GivenUpBy::Broker, reason: clean_reason(&format!("{cause}{last}")) }
        }
        None => {
            let reason = said.unwrap_or_else(|| "whoever put it here gave no reason".to_owned());
            Death { by: GivenUpBy::Consumer, reason: clean_reason(&reason) }
        }
    }
}

/// The reason that the broker had for taking the message out of `queue`. A message that was held has expired
/// in its hold queue before, which is another queue.
fn broker_reason(headers: &FieldTable, queue: WorkQueue) -> Option<String> {
    let deaths = headers.inner().get(DEATHS)?.as_array()?.as_slice();
    let deaths = deaths.iter().filter_map(AMQPValue::as_field_table);
    let of_queue = |table: &&FieldTable| {
        table.inner().get("queue").and_then(text).is_some_and(|name| name == queue.name())
    };
    let mut newest = deaths.clone().filter(of_queue).chain(deaths);
    let reason = newest.find_map(|table| table.inner().get("reason").and_then(text));
    reason.or_else(|| headers.inner().get(FIRST_REASON).and_then(text))
}

fn explain(reason: &str, queue: WorkQueue) -> String {
    let what = match reason {
        "delivery_limit" => "it was delivered as often as the delivery limit allows, and never settled",
        "expired" => "it expired before anybody took it",
        "rejected" => "a consumer rejected it",
        "maxlen" => "the queue was full",
        _ => "for a reason of its own",
    };
    format!("the broker gave the message up in {}: {what} ({reason})", queue.name())
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;

    const QUEUE: WorkQueue = WorkQueue::ExporterParts;

    fn long(value: &str) -> AMQPValue {
        AMQPValue::LongString(value.into())
    }

    fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (key, value) in entries {
            table.insert((*key).into(), value.clone());
        }
        table
    }

    fn deaths(entries: &[(&str, &str)]) -> AMQPValue {
        let entry = |(queue, reason): &(&str, &str)| {
            AMQPValue::FieldTable(table(&[("queue", long(queue)), ("reason", long(reason))]))
        };
        AMQPValue::FieldArray(FieldArray::from(entries.iter().map(entry).collect::<Vec<_>>()))
    }

    #[test]
    fn a_letter_says_who_gave_it_up_and_why() {
        let limit = "the broker gave the message up in exporter.parts: it was delivered as often as the delivery \
                     limit allows, and never settled (delivery_limit)";
        let expired =
            "the broker gave the message up in exporter.parts: it expired before anybody took it (expired)";
        let held = format!("{limit}; its last attempt said: throttled");
        let odd = "the broker gave the message up in exporter.parts: for a reason of its own (new)";
        let nothing = "whoever put it here gave no reason";
        for (headers, by, reason) in [
            (table(&[(REASON, long("not MessagePack"))]), GivenUpBy::Consumer, "not MessagePack"),
            (table(&[]), GivenUpBy::Consumer, nothing),
            (table(&[(DEATHS, long("many"))]), GivenUpBy::Consumer, nothing),
            (table(&[(DEATHS, deaths(&[("exporter.parts", "delivery_limit")]))]), GivenUpBy::Broker, limit),
            (
                // 3.10 lists the newest first; later brokers count a hold that came before.
                table(&[
                    (
                        DEATHS,
                        deaths(&[
                            ("exporter.parts.hold.10s", "expired"),
                            ("exporter.parts", "delivery_limit"),
                        ]),
                    ),
                    (REASON, long("throttled")),
                    (FIRST_REASON, long("expired")),
                ]),
                GivenUpBy::Broker,
                held.as_str(),
            ),
            (table(&[(DEATHS, deaths(&[])), (FIRST_REASON, long("expired"))]), GivenUpBy::Broker, expired),
            (table(&[(DEATHS, deaths(&[("exporter.parts", "new")]))]), GivenUpBy::Broker, odd),
        ] {
            assert_eq!(of(Some(&headers), QUEUE), Death { by, reason: reason.to_owned() });
        }
        assert_eq!(of(None, QUEUE).by, GivenUpBy::Consumer);
    }
}
