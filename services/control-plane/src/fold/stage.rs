//! One stage of one part, on the way to one target.

use serde::{Deserialize, Serialize};
use transship_messages::RouteTaken;
use transship_model::{BlobName, Code, ContainerUrl, Counters, Digest, Stage};

/// What is known of one stage of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageState {
    /// Which stage.
    pub stage: Stage,
    /// The container at the end of its way, where it is one of several.
    pub target: Option<ContainerUrl>,
    /// The highest attempt that was heard of; 0 where none was.
    pub attempt: u32,
    /// What that attempt did so far.
    pub counters: Counters,
    /// What it was moving when it last said so.
    pub in_flight: InFlight,
    /// How that attempt failed.
    pub trouble: Option<Trouble>,
    /// The success. Nothing that comes later undoes it.
    pub end: Option<End>,
    /// When the last failure was said that was forgotten, in milliseconds since the Unix epoch by the clock of the
    /// stage; 0 where none was.
    #[serde(default, skip_serializing_if = "is_never")]
    pub reopened_ms: u64,
}

fn is_never(at_ms: &u64) -> bool {
    *at_ms == 0
}

/// What was being moved at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct InFlight {
    /// When, in milliseconds since the Unix epoch by the clock of the stage.
    pub at_ms: u64,
    /// Names, at most 16.
    pub names: Vec<String>,
}

/// How an attempt failed. Of two failures of one attempt the greater stands: first of all the terminal one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Whether nobody will try again.
    pub terminal: bool,
    /// When, in milliseconds since the Unix epoch by the clock of the stage.
    pub at_ms: u64,
    /// The stable code.
    pub code: Code,
    /// Operation and subject.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Trouble {
    fn rank(&self) -> (bool, u64, &str, &str, Option<&str>) {
        (self.terminal, self.at_ms, self.code.as_str(), &self.message, self.hint.as_deref())
    }
}

/// A success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Which of several successes stands.
    pub rank: EndRank,
    /// What was done, of all attempts and slices.
    pub counters: Counters,
    /// The bundle's blob.
    pub blob: BlobName,
    /// Its entity tag, where the stage wrote the blob.
    pub etag: Option<String>,
    /// Its length in bytes, where the stage wrote the blob.
    pub length: Option<u64>,
    /// The SHA-256 of its `index.json`, where the stage looked into it.
    pub catalog_digest: Option<Digest>,
    /// What a person should know.
    pub message: Option<String>,
    /// Where the bundle goes next.
    pub routes: Vec<RouteTaken>,
}

/// The order of successes. A stage whose acknowledgement was lost succeeds again, and says then that everything
/// was there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EndRank {
    /// Whether the stage saw the bundle: it may be deleted when an import is repeated.
    pub saw_bundle: bool,
    /// The attempt.
    pub attempt: u32,
    /// Bytes that it moved.
    pub bytes_moved: u64,
    /// Artifacts that it moved.
    pub artifacts_moved: u64,
    /// Tells different facts with the same counters apart.
    pub fingerprint: String,
}

impl StageState {
    /// A stage that nothing was heard of.
    pub fn new(stage: Stage, target: Option<ContainerUrl>) -> Self {
        let (counters, in_flight) = (Counters::default(), InFlight::default());
        Self { stage, target, attempt: 0, counters, in_flight, trouble: None, end: None, reopened_ms: 0 }
    }

    /// The order in which a part keeps its stages.
    pub(super) fn key(&self) -> (Stage, Option<&ContainerUrl>) {
        (self.stage, self.target.as_ref())
    }

    /// Turns to `attempt`, where that is not an older one. What an older one said goes.
    pub(super) fn turn_to(&mut self, attempt: u32) -> bool {
        if attempt > self.attempt {
            (self.attempt, self.counters, self.in_flight) =
                (attempt, Counters::default(), InFlight::default());
            self.trouble = None;
        }
        attempt == self.attempt
    }

    /// Takes counters of the attempt that it is at.
    pub(super) fn count(&mut self, counters: &Counters) {
        self.counters = maxima(&self.counters, counters);
    }

    /// Takes a failure of the attempt that it is at.
    pub(super) fn fail(&mut self, trouble: Trouble) {
        if self.trouble.as_ref().is_none_or(|known| known.rank() < trouble.rank()) {
            self.trouble = Some(trouble);
        }
    }

    /// Takes a success; true where it is the one that stands.
    pub(super) fn succeed(&mut self, end: End) -> bool {
        let stands = self.end.as_ref().is_none_or(|known| known.rank < end.rank);
        if stands {
            self.end = Some(end);
        }
        stands
    }

    /// Forgets failures and attempts: the work was given to its queue again. What was said before the failure that is
    /// forgotten may be delivered once more, and does not count any more then.
    pub(super) fn reopen(&mut self) {
        let trouble = self.trouble.take();
        self.reopened_ms = self.reopened_ms.max(trouble.map_or(0, |trouble| trouble.at_ms));
        self.attempt = 0;
    }

    /// Whether something that was said at this time is of attempts that were forgotten. A letter has no time, and
    /// counts.
    pub(super) fn is_forgotten(&self, at_ms: u64) -> bool {
        at_ms > 0 && at_ms <= self.reopened_ms
    }

    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        self.end.is_some() || self.has_failed()
    }

    /// Whether it failed, and nobody tries again.
    pub fn has_failed(&self) -> bool {
        self.end.is_none() && self.trouble.as_ref().is_some_and(|trouble| trouble.terminal)
    }
}

fn maxima(a: &Counters, b: &Counters) -> Counters {
    Counters {
        artifacts_discovered: a.artifacts_discovered.max(b.artifacts_discovered),
        artifacts_moved: a.artifacts_moved.max(b.artifacts_moved),
        artifacts_skipped: a.artifacts_skipped.max(b.artifacts_skipped),
        artifacts_failed: a.artifacts_failed.max(b.artifacts_failed),
        blobs_discovered: a.blobs_discovered.max(b.blobs_discovered),
        blobs_moved: a.blobs_moved.max(b.blobs_moved),
        blobs_mounted: a.blobs_mounted.max(b.blobs_mounted),
        blobs_skipped: a.blobs_skipped.max(b.blobs_skipped),
        bytes_discovered: a.bytes_discovered.max(b.bytes_discovered),
        bytes_moved: a.bytes_moved.max(b.bytes_moved),
        bytes_skipped: a.bytes_skipped.max(b.bytes_skipped),
        bytes_failed: a.bytes_failed.max(b.bytes_failed),
    }
}
