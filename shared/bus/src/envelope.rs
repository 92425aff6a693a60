//! What is about to be published, the same for both adapters: checked, and with transship's own counters.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::topology::Family;
use crate::{BusError, Destination, HoldDelay, Incoming, MAX_BODY_BYTES, Outgoing};

/// All text headers of a message together, in bytes. The headers of a message are one frame of AMQP, and a
/// frame that is too large costs the whole connection, with everything else that it carries.
pub(crate) const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The header that marks a message whose sender had been given its cause before: what the message says may have been
/// done already. It outlives holds, and whoever publishes work sets it, since only the broker's own deliveries carry
/// the broker's own flag.
pub const DELIVERED_BEFORE: &str = "transship-delivered-before";

/// Identifiers, kinds and routing keys are short strings (AMQP 0-9-1, section 4.2.5.3).
const MAX_SHORT_STRING_BYTES: usize = 255;

/// What a dead letter says about its cause, at most.
const MAX_REASON_BYTES: usize = 1024;

/// Where an envelope goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through the default exchange to a queue of the family of `family`.
    Queue { name: String, family: Family },
    /// To the exchange of facts.
    Facts { key: String },
}

impl Route {
    /// The routing key.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Queue { name, .. } => name,
            Self::Facts { key } => key,
        }
    }
}

/// A message that keeps the bounds of the bus, and its route.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) route: Route,
    pub(crate) mandatory: bool,
    pub(crate) message_id: String,
    pub(crate) kind: String,
    pub(crate) correlation_id: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) attempt: u32,
    pub(crate) reason: Option<String>,
    pub(crate) body: Bytes,
}

impl Envelope {
    /// The envelope of a new message, its first attempt.
    pub(crate) fn first(message: Outgoing) -> Result<Self, BusError> {
        check(&message)?;
        let (route, mandatory) = match message.destination {
            Destination::Work(queue) => {
                (Route::Queue { name: queue.name().to_owned(), family: Family::Work(queue) }, true)
            }
            Destination::Facts { key, mandatory } => (Route::Facts { key }, mandatory),
        };
        Ok(Self {
            route,
            mandatory,
            message_id: message.message_id,
            kind: message.kind,
            correlation_id: message.correlation_id,
            headers: own_headers(message.headers),
            attempt: 1,
            reason: None,
            body: message.body,
        })
    }

    /// The next attempt of a message that was taken from a queue of `family`, to be held for `delay`.
    pub(crate) fn retry(message: &Incoming, family: Family, delay: HoldDelay, reason: &str) -> Self {
        let attempt = message.attempt.saturating_add(1);
        Self::again(message, family, family.hold_queue(delay), attempt, reason)
    }

    /// A message that was taken from a queue of `family`, for its dead-letter queue.
    pub(crate) fn dead_letter(message: &Incoming, family: Family, reason: &str) -> Self {
        Self::again(message, family, family.dead_letter_queue(), message.attempt, reason)
    }

    fn again(message: &Incoming, family: Family, name: String, attempt: u32, reason: &str) -> Self {
        let mut headers = own_headers(message.headers.clone());
        if message.redelivered {
            headers.insert(DELIVERED_BEFORE.to_owned(), "true".to_owned());
        }
        Self {
            route: Route::Queue { name, family },
            mandatory: true,
            message_id: message.message_id.clone(),
            kind: message.kind.clone(),
            correlation_id: message.correlation_id.clone(),
            headers,
            attempt,
            reason: Some(clean_reason(reason)),
            body: message.body.clone(),
        }
    }
}

/// Whether a header belongs to the bus or the broker: `x-…` (`x-death` among them, which brokers interpret),
/// and the two that copy a message to further queues.
pub(crate) fn is_reserved(key: &str) -> bool {
    let starts_with_x = key.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"));
    starts_with_x || key.eq_ignore_ascii_case("cc") || key.eq_ignore_ascii_case("bcc")
}

/// The sender's headers without reserved ones, and no more than fit. A message of another sender may have
/// any number: what does not fit is dropped, so that it can still be held or become a dead letter.
fn own_headers(headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut room = MAX_HEADER_BYTES;
    headers
        .into_iter()
        .filter(|(key, value)| {
            let fits = key.len() <= MAX_SHORT_STRING_BYTES && key.len() + value.len() <= room;
            let keep = fits && !is_reserved(key);
            if keep {
                room -= key.len() + value.len();
            }
            keep
        })
        .collect()
}

fn check(message: &Outgoing) -> Result<(), BusError> {
    let key = match &message.destination {
        Destination::Work(_) => "",
        Destination::Facts { key, .. } => key,
    };
    let short = [message.message_id.as_str(), &message.kind, &message.correlation_id, key];
    let longest = short.into_iter().chain(message.headers.keys().map(String::as_str)).map(str::len).max();
    let headers = message.headers.iter().map(|(key, value)| key.len() + value.len()).sum();
    for (size, limit) in [
        (longest.unwrap_or_default(), MAX_SHORT_STRING_BYTES),
        (headers, MAX_HEADER_BYTES),
        (message.body.len(), MAX_BODY_BYTES),
    ] {
        if size > limit {
            let message_id = message.message_id.chars().take(MAX_SHORT_STRING_BYTES).collect();
            return Err(BusError::TooLarge { message_id, size, limit });
        }
    }
    Ok(())
}

/// Whether a pattern of routing keys can be one: it is a short string as well.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), BusError> {
    let (size, limit) = (pattern.len(), MAX_SHORT_STRING_BYTES);
    if size <= limit {
        return Ok(());
    }
    Err(BusError::TooLarge { message_id: "(a pattern of facts)".to_owned(), size, limit })
}

/// Why a message that was received cannot be handed over, where it is larger than the bus carries.
pub(crate) fn oversized(message: &Incoming) -> Option<String> {
    let size = message.body.len();
    (size > MAX_BODY_BYTES)
        .then(|| format!("the message has {size} bytes, more than the {MAX_BODY_BYTES} that the bus carries"))
}

/// `reason` without control characters, and at most 1 KiB of it.
pub(crate) fn clean_reason(reason: &str) -> String {
    let mut clean: String = reason.chars().filter(|c| !c.is_control()).collect();
    clean.truncate(clean.floor_char_boundary(MAX_REASON_BYTES));
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkQueue;

    fn outgoing() -> Outgoing {
        Outgoing {
            destination: Destination::Work(WorkQueue::ExporterParts),
            message_id: "m".to_owned(),
            kind: "export.part".to_owned(),
            correlation_id: "c".to_owned(),
            headers: BTreeMap::new(),
            body: Bytes::from_static(b"body"),
        }
    }

    fn incoming(headers: BTreeMap<String, String>) -> Incoming {
        Incoming {
            message_id: "m".to_owned(),
            kind: String::new(),
            correlation_id: String::new(),
            headers,
            body: Bytes::new(),
            attempt: u32::MAX,
            redelivered: false,
            routing_key: String::new(),
            death: None,
        }
    }

    #[test]
    fn what_exceeds_a_bound_is_refused_before_it_reaches_the_broker() {
        assert!(Envelope::first(outgoing()).is_ok());
        assert!(Envelope::first(Outgoing { body: vec![0; MAX_BODY_BYTES].into(), ..outgoing() }).is_ok());
        let long = "k".repeat(256);
        for bad in [
            Outgoing { body: vec![0; MAX_BODY_BYTES + 1].into(), ..outgoing() },
            Outgoing { message_id: long.clone(), ..outgoing() },
            Outgoing { kind: long.clone(), ..outgoing() },
            Outgoing { correlation_id: long.clone(), ..outgoing() },
            Outgoing {
                destination: Destination::Facts { key: long.clone(), mandatory: false },
                ..outgoing()
            },
            Outgoing { headers: [(long, String::new())].into(), ..outgoing() },
            Outgoing { headers: [("k".to_owned(), "v".repeat(MAX_HEADER_BYTES))].into(), ..outgoing() },
        ] {
            assert!(matches!(Envelope::first(bad), Err(BusError::TooLarge { .. })));
        }
    }

    #[test]
    fn headers_of_the_bus_and_of_the_broker_are_never_forwarded() {
        let headers: BTreeMap<String, String> =
            ["traceparent", "x-death", "X-First-Death-Queue", "CC", "bcc", "x"]
                .map(|key| (key.to_owned(), "v".to_owned()))
                .into();
        let retry = Envelope::retry(
            &incoming(headers.clone()),
            Family::Work(WorkQueue::ExporterParts),
            HoldDelay::OneMinute,
            "r",
        );
        let first = Envelope::first(Outgoing { headers, ..outgoing() }).unwrap();
        for envelope in [retry, first] {
            assert_eq!(envelope.headers.into_keys().collect::<Vec<_>>(), ["traceparent", "x"]);
        }
    }

    #[test]
    fn what_takes_the_place_of_a_redelivered_message_is_marked() {
        let family = Family::Work(WorkQueue::ExporterParts);
        for redelivered in [false, true] {
            let message = Incoming { redelivered, ..incoming(BTreeMap::new()) };
            let held = Envelope::retry(&message, family, HoldDelay::OneMinute, "r");
            let buried = Envelope::dead_letter(&message, family, "r");
            for envelope in [held, buried] {
                assert_eq!(envelope.headers.contains_key(DELIVERED_BEFORE), redelivered);
            }
        }
    }

    #[test]
    fn a_foreign_message_with_huge_headers_can_still_become_a_dead_letter() {
        let headers = (0..100).map(|n| (format!("h{n:03}"), "v".repeat(1000))).collect();
        let dead =
            Envelope::dead_letter(&incoming(headers), Family::Work(WorkQueue::ImporterImports), "poison");
        assert_eq!(dead.headers.len(), MAX_HEADER_BYTES / 1004);
        assert_eq!(dead.route.key(), "importer.imports.dead");
    }

    #[test]
    fn a_reason_is_one_line_of_at_most_a_kibibyte() {
        assert_eq!(clean_reason("a\r\nb\u{1b}[31m\0c"), "ab[31mc");
        let cut = clean_reason(&"ü".repeat(1024));
        assert_eq!(cut.len(), 1024);
        assert_eq!(clean_reason(&format!("a{}", "ü".repeat(1024))).len(), 1023);
    }

    #[test]
    fn attempts_do_not_overflow() {
        let retry = Envelope::retry(
            &incoming(BTreeMap::new()),
            Family::Work(WorkQueue::ExporterParts),
            HoldDelay::TwoHours,
            "",
        );
        assert_eq!(retry.attempt, u32::MAX);
        assert_eq!(retry.route.key(), "exporter.parts.hold.2h");
    }
}
