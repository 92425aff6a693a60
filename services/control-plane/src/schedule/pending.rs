//! Tags that are to be looked at soon: what was pushed is gathered, what is under way is looked at again. Pure.

use std::collections::{BTreeSet, HashMap};

use transship_model::{Repository, Tag};

/// The most tags that wait for one pipeline; beyond it the whole registry is looked at instead.
const MAX_TAGS: usize = 10_000;

/// Tags in their repositories.
pub(super) type Tags = BTreeSet<(Repository, Tag)>;

/// What waits for each pipeline, by its key.
#[derive(Debug, Default)]
pub(super) struct Pending(HashMap<String, Waiting>);

/// What waits for one pipeline.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// When it is looked at, in milliseconds since the Unix epoch.
    pub(super) due_ms: i64,
    /// The tags.
    pub(super) tags: Tags,
    /// Whether there were more than are kept.
    pub(super) everything: bool,
}

impl Pending {
    /// A tag is to be looked at, not later than `due_ms`: the first one decides when, so a stream of pushes cannot
    /// put it off for ever.
    pub(super) fn add(&mut self, pipeline: &str, repository: Repository, tag: Tag, due_ms: i64) {
        let tags = Tags::from([(repository, tag)]);
        self.put_back(pipeline, Waiting { due_ms, tags, everything: false });
    }

    /// More was pushed than anybody kept: everything is to be looked at.
    pub(super) fn add_everything(&mut self, pipeline: &str, due_ms: i64) {
        self.put_back(pipeline, Waiting { due_ms, tags: Tags::new(), everything: true });
    }

    /// What was taken, and could not be looked at yet.
    pub(super) fn put_back(&mut self, pipeline: &str, taken: Waiting) {
        let Waiting { due_ms, tags, everything } = taken;
        let waiting = self.0.entry(pipeline.to_owned()).or_insert(Waiting { due_ms, ..Waiting::default() });
        waiting.due_ms = waiting.due_ms.min(due_ms);
        waiting.everything |= everything;
        for tag in tags {
            if waiting.tags.len() == MAX_TAGS {
                waiting.everything = true;
                break;
            }
            waiting.tags.insert(tag);
        }
    }

    /// Takes what is due.
    pub(super) fn due(&mut self, now_ms: i64) -> Vec<(String, Waiting)> {
        let due: Vec<String> =
            self.0.iter().filter(|(_, w)| w.due_ms <= now_ms).map(|(key, _)| key.clone()).collect();
        due.into_iter().filter_map(|key| self.0.remove_entry(&key)).collect()
    }

    /// When the next is due.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.0.values().map(|waiting| waiting.due_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(pending: &mut Pending, pipeline: &str, tag: &str, due_ms: i64) {
        pending.add(pipeline, "team/app".parse().unwrap(), tag.parse().unwrap(), due_ms);
    }

    #[test]
    fn what_comes_together_is_taken_together_at_the_time_of_the_first() {
        let mut pending = Pending::default();
        assert_eq!(pending.next_ms(), None);
        for (pipeline, tag, due_ms) in [("p", "v1", 20), ("p", "v2", 30), ("p", "v1", 40), ("q", "v1", 25)] {
            add(&mut pending, pipeline, tag, due_ms);
        }
        assert_eq!(pending.next_ms(), Some(20));
        assert_eq!(pending.due(19), []);
        let due = pending.due(20);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].0.as_str(), due[0].1.tags.len(), due[0].1.everything), ("p", 2, false));
        assert_eq!(pending.next_ms(), Some(25));
        add(&mut pending, "q", "v2", 10);
        assert_eq!(pending.next_ms(), Some(10), "the sooner one decides");
    }

    #[test]
    fn what_is_too_much_to_keep_becomes_a_look_at_everything() {
        let mut pending = Pending::default();
        for number in 0..=MAX_TAGS {
            add(&mut pending, "p", &format!("v{number}"), 0);
        }
        let (_, waiting) = pending.due(0).pop().unwrap();
        assert!(waiting.everything && waiting.tags.len() == MAX_TAGS);
    }

    #[test]
    fn what_is_put_back_stays_with_what_came_meanwhile() {
        let mut pending = Pending::default();
        add(&mut pending, "p", "v1", 10);
        pending.add_everything("p", 20);
        let (key, taken) = pending.due(10).pop().unwrap();
        assert!(taken.everything && taken.tags.len() == 1);
        add(&mut pending, "p", "v2", 30);
        pending.put_back(&key, taken);
        let (_, again) = pending.due(10).pop().unwrap();
        assert!(again.everything && again.tags.len() == 2, "{again:?}");
    }
}
