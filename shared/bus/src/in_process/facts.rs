//! Facts and who follows them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};

use super::{Shared, received};
use crate::envelope::{Envelope, check_pattern};
use crate::topology::{FACTS_BACKLOG_BYTES, FACTS_CHANNEL};
use crate::{BusError, Incoming, Subscription};

/// What a fact takes beside its body, roughly: properties and bookkeeping.
const FACT_OVERHEAD_BYTES: usize = 256;

/// The exchange of facts.
#[derive(Default)]
pub(super) struct Facts(Mutex<Vec<Arc<Follower>>>);

/// One subscription: a bounded backlog behind its channel.
struct Follower {
    pattern: String,
    sender: mpsc::Sender<Incoming>,
    backlog: Mutex<Backlog>,
    arrived: Notify,
}

#[derive(Default)]
struct Backlog {
    facts: VecDeque<Incoming>,
    bytes: usize,
}

impl Facts {
    fn followers(&self) -> MutexGuard<'_, Vec<Arc<Follower>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, envelope: Envelope) -> Result<(), BusError> {
        let key = envelope.route.key().to_owned();
        let mut followers = self.followers();
        followers.retain(|follower| !follower.sender.is_closed());
        let reached: Vec<_> =
            followers.iter().filter(|follower| matches(&follower.pattern, &key)).cloned().collect();
        drop(followers);
        if reached.is_empty() && envelope.mandatory {
            return Err(BusError::Unroutable { message_id: envelope.message_id, destination: key });
        }
        let fact = received(envelope);
        for follower in reached {
            follower.push(fact.clone());
        }
        Ok(())
    }
}

impl Follower {
    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, fact: Incoming) {
        let mut backlog = self.backlog();
        backlog.bytes += size(&fact);
        backlog.facts.push_back(fact);
        while backlog.bytes > FACTS_BACKLOG_BYTES as usize {
            if backlog.take().is_none() {
                break;
            }
        }
        self.arrived.notify_one();
    }

    /// Forwards until nobody receives any more.
    async fn forward(&self) {
        loop {
            let fact = self.backlog().take();
            match fact {
                Some(fact) => {
                    if self.sender.send(fact).await.is_err() {
                        return;
                    }
                }
                None => tokio::select! {
                    () = self.arrived.notified() => {}
                    () = self.sender.closed() => return,
                },
            }
        }
    }
}

impl Backlog {
    fn take(&mut self) -> Option<Incoming> {
        let fact = self.facts.pop_front()?;
        self.bytes -= size(&fact);
        Some(fact)
    }
}

fn size(fact: &Incoming) -> usize {
    fact.body.len() + FACT_OVERHEAD_BYTES
}

pub(super) fn subscribe(shared: &Arc<Shared>, pattern: &str) -> Result<Subscription, BusError> {
    check_pattern(pattern)?;
    let (sender, facts) = mpsc::channel(FACTS_CHANNEL);
    // Bound once, and never again: there is no connection to lose. The sender stays, so that waiting for a
    // change waits.
    let (bound, rebound) = watch::channel(1);
    let follower = Arc::new(Follower {
        pattern: pattern.to_owned(),
        sender,
        backlog: Mutex::default(),
        arrived: Notify::new(),
    });
    shared.facts.followers().push(Arc::clone(&follower));
    let shared_by_task = Arc::clone(shared);
    shared.tasks.spawn(async move {
        shared_by_task.stop.run_until_cancelled(follower.forward()).await;
        shared_by_task.facts.followers().retain(|other| !Arc::ptr_eq(other, &follower));
        drop(bound);
    });
    Ok(Subscription { facts, rebound })
}

/// Whether a routing key fits a pattern of words: `*` is one word, `#` any number of them. As in matching
/// file names, it is enough to remember the last `#`, so the time is bounded by the product of the lengths.
fn matches(pattern: &str, key: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let key: Vec<&str> = key.split('.').collect();
    let (mut p, mut k) = (0, 0);
    let mut last_hash = None;
    while k < key.len() {
        match pattern.get(p) {
            Some(&"#") => {
                last_hash = Some((p, k));
                p += 1;
            }
            Some(word) if *word == "*" || *word == key[k] => {
                p += 1;
                k += 1;
            }
            _ => match last_hash {
                Some((hash, taken)) => {
                    last_hash = Some((hash, taken + 1));
                    p = hash + 1;
                    k = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|word| *word == "#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_topic_exchange_does() {
        for (pattern, key, expected) in [
            ("#", "a.b", true),
            ("#", "", true),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("a.#", "b.a", false),
            ("#.c", "a.b.c", true),
            ("#.c", "c", true),
            ("#.b.#.d", "a.b.c.b.d", true),
            ("#.b.#.d", "a.b.c.e", false),
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_matched_in_bounded_time() {
        let pattern = "#.a.".repeat(60) + "b";
        assert!(!matches(&pattern, &"a.".repeat(120)));
    }
}
