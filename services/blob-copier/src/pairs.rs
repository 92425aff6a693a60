//! Which storage services cannot read from which: learnt by trying, forgotten after an hour.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use transship_model::ContainerUrl;

/// How long a pair is remembered: network rules change.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The most pairs that are remembered. Beyond it the oldest is forgotten, and tried again.
const MOST: usize = 1024;

/// Two storage services: host and port of the source, and of the target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    source: String,
    target: String,
}

impl Pair {
    /// The services of two containers.
    pub(crate) fn of(source: &ContainerUrl, target: &ContainerUrl) -> Self {
        let service = |container: &ContainerUrl| container.as_url().authority().to_owned();
        Self { source: service(source), target: service(target) }
    }
}

/// The pairs whose target answered that it cannot read the source itself.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    learnt: Mutex<HashMap<Pair, Instant>>,
}

impl Pairs {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Pair, Instant>> {
        // A panic elsewhere leaves pairs that are still true.
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the bytes between these two must go through the copier.
    pub(crate) fn must_stream(&self, pair: &Pair) -> bool {
        self.lock().get(pair).is_some_and(|learnt| learnt.elapsed() < REMEMBERED)
    }

    /// Remembers that they must.
    pub(crate) fn remember(&self, pair: Pair) {
        let mut learnt = self.lock();
        learnt.retain(|_, learnt| learnt.elapsed() < REMEMBERED);
        if learnt.len() >= MOST && !learnt.contains_key(&pair) {
            let oldest = learnt.iter().min_by_key(|(_, learnt)| **learnt).map(|(pair, _)| pair.clone());
            oldest.and_then(|pair| learnt.remove(&pair));
        }
        learnt.insert(pair, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(source: &str, target: &str) -> Pair {
        let url = |host: &str| format!("https://{host}/c").parse().unwrap();
        Pair::of(&url(source), &url(target))
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_is_remembered_for_an_hour_and_in_its_direction_only() {
        let pairs = Pairs::default();
        pairs.remember(pair("a", "b"));
        assert!(pairs.must_stream(&pair("a", "b")));
        assert!(!pairs.must_stream(&pair("b", "a")));
        assert!(!pairs.must_stream(&pair("a:444", "b")));
        tokio::time::advance(REMEMBERED).await;
        assert!(!pairs.must_stream(&pair("a", "b")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_forgets_the_oldest_first() {
        let pairs = Pairs::default();
        for number in 0..=MOST {
            pairs.remember(pair("a", &format!("b{number}")));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(pairs.lock().len(), MOST);
        assert!(!pairs.must_stream(&pair("a", "b0")));
        assert!(pairs.must_stream(&pair("a", "b1")) && pairs.must_stream(&pair("a", &format!("b{MOST}"))));
    }
}
