//! The one table of queues and exchanges. Names are fixed: none is ever made of user input.

use std::time::Duration;

/// The topic exchange of facts.
pub const FACTS_EXCHANGE: &str = "transship.facts";

/// The queue of facts that wait for the control plane. It is bound to [`FACTS_EXCHANGE`] with `#`, and declared by
/// the control plane alone: where there is none, facts fill no queue.
pub const FACTS_QUEUE: &str = "control-plane.facts";

/// The largest body that the bus carries, in bytes: an `export.part` of 250 references, with room.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// How many facts a subscription holds that nobody has received yet.
pub(crate) const FACTS_CHANNEL: usize = 1_024;

/// How many bytes of facts wait for a subscription that is full. Beyond it the oldest make room: facts carry
/// absolute values, so the newest say most.
pub(crate) const FACTS_BACKLOG_BYTES: u32 = 16 * 1024 * 1024;

/// The work queues. Each is a durable quorum queue with a dead-letter queue and a hold queue per delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkQueue {
    /// `export.part` items.
    ExporterParts,
    /// `copy.requested` items.
    BlobCopierCopies,
    /// `import.requested` items.
    ImporterImports,
}

impl WorkQueue {
    /// Every work queue.
    pub const ALL: [Self; 3] = [Self::ExporterParts, Self::BlobCopierCopies, Self::ImporterImports];

    /// The name of the queue.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExporterParts => "exporter.parts",
            Self::BlobCopierCopies => "blob-copier.copies",
            Self::ImporterImports => "importer.imports",
        }
    }

    /// The name of its dead-letter queue.
    pub fn dead_letter_queue(self) -> String {
        Family::Work(self).dead_letter_queue()
    }

    /// The name of its hold queue for `delay`.
    pub fn hold_queue(self, delay: HoldDelay) -> String {
        Family::Work(self).hold_queue(delay)
    }
}

/// What is consumed, each delivery acknowledged by whoever took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inbox {
    /// A work queue.
    Work(WorkQueue),
    /// The dead letters of a work queue. Each says why it is one: [`Incoming::death`](crate::Incoming::death).
    DeadLetters(WorkQueue),
    /// The facts that wait for the control plane, durable: [`FACTS_QUEUE`]. Whoever consumes them binds the queue
    /// to the exchange of facts; before that nothing waits, and no mandatory fact finds a queue.
    Facts,
}

impl Inbox {
    /// The name of the queue that is consumed.
    pub fn queue(self) -> String {
        match self {
            Self::Work(_) | Self::Facts => self.family().name().to_owned(),
            Self::DeadLetters(queue) => queue.dead_letter_queue(),
        }
    }

    /// The queues that belong to it.
    pub(crate) fn family(self) -> Family {
        match self {
            Self::Work(queue) | Self::DeadLetters(queue) => Family::Work(queue),
            Self::Facts => Family::Facts,
        }
    }
}

impl From<WorkQueue> for Inbox {
    fn from(queue: WorkQueue) -> Self {
        Self::Work(queue)
    }
}

/// A queue with its dead-letter queue and a hold queue per delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    Work(WorkQueue),
    Facts,
}

impl Family {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Work(queue) => queue.name(),
            Self::Facts => FACTS_QUEUE,
        }
    }

    pub(crate) fn dead_letter_queue(self) -> String {
        format!("{}.dead", self.name())
    }

    pub(crate) fn hold_queue(self, delay: HoldDelay) -> String {
        format!("{}.hold.{}", self.name(), delay.name())
    }
}

/// The delays of a retry through the broker: one hold queue each, since only the head of a queue expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldDelay {
    /// 10 seconds.
    TenSeconds,
    /// 1 minute.
    OneMinute,
    /// 5 minutes.
    FiveMinutes,
    /// 30 minutes.
    HalfHour,
    /// 2 hours.
    TwoHours,
}

impl HoldDelay {
    /// Every delay, shortest first.
    pub const ALL: [Self; 5] =
        [Self::TenSeconds, Self::OneMinute, Self::FiveMinutes, Self::HalfHour, Self::TwoHours];

    /// How long a message is held.
    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::TenSeconds => 10,
            Self::OneMinute => 60,
            Self::FiveMinutes => 300,
            Self::HalfHour => 1_800,
            Self::TwoHours => 7_200,
        })
    }

    /// The name in the hold queue's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::TenSeconds => "10s",
            Self::OneMinute => "1m",
            Self::FiveMinutes => "5m",
            Self::HalfHour => "30m",
            Self::TwoHours => "2h",
        }
    }

    /// The shortest delay that is not shorter than `wanted`; the longest where none is.
    pub fn at_least(wanted: Duration) -> Self {
        Self::ALL.into_iter().find(|delay| delay.duration() >= wanted).unwrap_or(Self::TwoHours)
    }
}
