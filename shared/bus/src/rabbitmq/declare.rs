//! Declaring the topology. What transship relies on is an argument: that a queue is a quorum queue, and where
//! the broker puts what it gives up. Everything that may be tuned (delivery limit, lengths) is a policy in
//! `deploy/rabbitmq/definitions.json`, which repeats the arguments for queues that others declare. They must agree:
//! a broker takes some of them (the overflow of a quorum queue) from the policy first. A queue that
//! exists with other arguments is refused.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use crate::topology::Family;
use crate::{FACTS_EXCHANGE, HoldDelay, WorkQueue};

/// The binding of the queue of facts.
const EVERY_FACT: &str = "#";

/// How many dead facts are kept, the newest. Nobody takes them: they are there for a person to look at, and the
/// facts that follow say more.
const DEAD_FACTS: i64 = 10_000;

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
    let dead = Plan { name: family.dead_letter_queue(), arguments: dead_arguments(family) };
    let queue = Plan { name: family.name().to_owned(), arguments: queue_arguments(family) };
    holds.chain([dead, queue]).collect()
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

/// What the broker takes out of the queue goes to the queue `to`. At-least-once, since the default loses messages
/// where that queue is not available at that moment; and at-least-once needs the overflow that refuses.
fn dead_lettering(to: &str) -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(to));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

/// What was delivered too often is a dead letter. No policy is needed for it: from 4.0 on a broker has a delivery
/// limit of twenty by itself, and drops what has nowhere to go.
fn queue_arguments(family: Family) -> FieldTable {
    dead_lettering(&family.dead_letter_queue())
}

/// A held message expires into its queue.
fn hold_arguments(family: Family, delay: HoldDelay) -> FieldTable {
    let milliseconds = i64::try_from(delay.duration().as_millis()).expect("two hours fit");
    let mut arguments = dead_lettering(family.name());
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(milliseconds));
    arguments
}

/// Dead letters of work wait for the control plane, however long; those of facts wait for nobody.
fn dead_arguments(family: Family) -> FieldTable {
    let mut arguments = quorum();
    if family == Family::Facts {
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(DEAD_FACTS));
        arguments.insert("x-overflow".into(), text("drop-head"));
    }
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

    /// The definition of the policy that a broker applies to a queue: of those that match, the first by priority.
    fn policy_of<'a>(definitions: &'a Value, name: &str) -> &'a Value {
        let matches = |policy: &&Value| {
            let pattern = policy["pattern"].as_str().unwrap();
            let suffix = pattern.trim_start_matches('^').trim_end_matches('$');
            suffix == name.replace('.', "\\.")
                || suffix == "\\.dead" && name.ends_with(".dead")
                || suffix == "\\.hold\\.[0-9]+[smh]" && name.contains(".hold.")
        };
        let policies = definitions["policies"].as_array().unwrap().iter().filter(matches);
        let mut policies: Vec<_> = policies.collect();
        policies.sort_by_key(|policy| policy["priority"].as_i64().unwrap());
        let policy = policies.last().unwrap_or_else(|| panic!("no policy for {name}"));
        assert_eq!(policy["apply-to"], "queues");
        &policy["definition"]
    }

    #[test]
    fn every_queue_has_a_policy_which_agrees_with_its_arguments_and_none_drops_what_somebody_waits_for() {
        let definitions = definitions();
        for family in families() {
            let policy = policy_of(&definitions, family.name());
            assert_eq!(policy["delivery-limit"], 50);
            assert_eq!(policy["dead-letter-exchange"], "");
            assert_eq!(policy["dead-letter-routing-key"], family.dead_letter_queue());
            for plan in plans(family) {
                let policy = policy_of(&definitions, &plan.name);
                let dead_facts = plan.name == Family::Facts.dead_letter_queue();
                let overflow = if dead_facts { "drop-head" } else { "reject-publish" };
                assert_eq!(policy["overflow"], overflow, "{}", plan.name);
                assert!(policy["max-length"].is_u64(), "{} may grow for ever", plan.name);
                for (key, value) in as_json(&plan.arguments).as_object().unwrap() {
                    let said = &policy[key.trim_start_matches("x-")];
                    assert!(said.is_null() || said == value, "{}: {key} is {value} and {said}", plan.name);
                }
            }
        }
    }
}
