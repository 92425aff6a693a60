//! Declaring the topology. Only what cannot be changed later, and what only an argument can say, is an
//! argument; everything that may be tuned (delivery limit, dead-lettering of work queues, lengths) is a policy
//! in `deploy/rabbitmq/definitions.json`. A queue that is declared with other arguments is refused.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use crate::topology::Family;
use crate::{FACTS_EXCHANGE, HoldDelay, WorkQueue};

/// The binding of the queue of facts.
const EVERY_FACT: &str = "#";

/// A queue and its arguments.
struct Plan {
    name: String,
    arguments: FieldTable,
}

/// A queue, its dead-letter queue and its hold queues. The queue itself comes last: a message that can be taken
/// can also be held or become a dead letter.
fn plans(family: Family) -> Vec<Plan> {
    let holds = HoldDelay::ALL
        .into_iter()
        .map(|delay| Plan { name: family.hold_queue(delay), arguments: hold_arguments(family, delay) });
    let dead = Plan { name: family.dead_letter_queue(), arguments: quorum() };
    let queue = Plan { name: family.name().to_owned(), arguments: quorum() };
    holds.chain([dead, queue]).collect()
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

/// A held message expires into its queue. At-least-once, since the default loses messages where that queue is
/// not available at that moment; and at-least-once needs the overflow that refuses.
fn hold_arguments(family: Family, delay: HoldDelay) -> FieldTable {
    let milliseconds = i64::try_from(delay.duration().as_millis()).expect("two hours fit");
    let mut arguments = quorum();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(milliseconds));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(family.name()));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Declares a queue with all that belongs to it. That of the facts is bound to their exchange.
pub(super) async fn queues(channel: &Channel, family: Family) -> lapin::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    for plan in plans(family) {
        channel.queue_declare(plan.name.as_str().into(), options, plan.arguments).await?;
    }
    match family {
        Family::Work(_) => Ok(()),
        Family::Facts => {
            facts(channel).await?;
            let (queue, exchange) = (family.name().into(), FACTS_EXCHANGE.into());
            let options = QueueBindOptions::default();
            channel.queue_bind(queue, exchange, EVERY_FACT.into(), options, FieldTable::default()).await
        }
    }
}

/// Declares the exchange of facts.
pub(super) async fn facts(channel: &Channel) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(FACTS_EXCHANGE.into(), ExchangeKind::Topic, options, FieldTable::default()).await
}

/// Declares everything that whoever publishes may need: the queue of facts is the control plane's own.
pub(super) async fn everything(channel: &Channel) -> lapin::Result<()> {
    facts(channel).await?;
    for queue in WorkQueue::ALL {
        queues(channel, Family::Work(queue)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::FACTS_QUEUE;

    fn families() -> [Family; 4] {
        let [parts, copies, imports] = WorkQueue::ALL.map(Family::Work);
        [parts, copies, imports, Family::Facts]
    }

    fn definitions() -> Value {
        serde_json::from_str(include_str!("../../../../deploy/rabbitmq/definitions.json")).unwrap()
    }

    fn as_json(arguments: &FieldTable) -> Value {
        let value = |value: &AMQPValue| match value {
            AMQPValue::LongString(text) => json!(text.to_string()),
            AMQPValue::LongLongInt(number) => json!(number),
            other => panic!("unexpected argument {other:?}"),
        };
        arguments.inner().iter().map(|(key, argument)| (key.to_string(), value(argument))).collect()
    }

    #[test]
    fn the_shipped_definitions_have_the_queues_that_are_declared_with_the_same_arguments() {
        let declared: BTreeMap<String, Value> = families()
            .into_iter()
            .flat_map(plans)
            .map(|plan| (plan.name, as_json(&plan.arguments)))
            .collect();
        let definitions = definitions();
        let shipped: BTreeMap<String, Value> = definitions["queues"]
            .as_array()
            .unwrap()
            .iter()
            .inspect(|queue| {
                assert_eq!((&queue["durable"], &queue["auto_delete"]), (&json!(true), &json!(false)));
            })
            .map(|queue| (queue["name"].as_str().unwrap().to_owned(), queue["arguments"].clone()))
            .collect();
        assert_eq!(declared, shipped);
        assert_eq!(declared.len(), 28);
        assert_eq!(definitions["exchanges"][0]["name"], FACTS_EXCHANGE);
        assert_eq!(definitions["exchanges"][0]["type"], "topic");
        let bindings = definitions["bindings"].as_array().unwrap();
        let [binding] = &bindings[..] else { panic!("one binding") };
        for (key, expected) in [
            ("source", FACTS_EXCHANGE),
            ("destination", FACTS_QUEUE),
            ("destination_type", "queue"),
            ("routing_key", EVERY_FACT),
        ] {
            assert_eq!(binding[key], expected);
        }
    }

    #[test]
    fn every_queue_has_a_policy_and_none_drops_a_message() {
        let definitions = definitions();
        let policies = definitions["policies"].as_array().unwrap();
        let of = |name: &str| -> Vec<&Value> {
            policies
                .iter()
                .filter(|policy| {
                    let pattern = policy["pattern"].as_str().unwrap();
                    let escaped = name.replace('.', "\\.");
                    let suffix = pattern.trim_start_matches('^').trim_end_matches('$');
                    suffix == escaped
                        || suffix == "\\.dead" && name.ends_with(".dead")
                        || suffix == "\\.hold\\.[0-9]+[smh]" && name.contains(".hold.")
                })
                .collect()
        };
        for queue in families() {
            let [policy] = of(queue.name())[..] else { panic!("one policy for {}", queue.name()) };
            assert_eq!(policy["definition"]["delivery-limit"], 50);
            assert_eq!(policy["definition"]["dead-letter-exchange"], "");
            assert_eq!(policy["definition"]["dead-letter-routing-key"], queue.dead_letter_queue());
            let holds = HoldDelay::ALL.map(|delay| queue.hold_queue(delay));
            for name in holds.into_iter().chain([queue.dead_letter_queue(), queue.name().to_owned()]) {
                let [policy] = of(&name)[..] else { panic!("one policy for {name}") };
                assert_eq!(policy["apply-to"], "queues");
                assert_eq!(policy["definition"]["overflow"], "reject-publish", "{name}");
            }
        }
    }
}
