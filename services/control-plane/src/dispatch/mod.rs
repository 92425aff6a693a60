//! Does what is to be done: starts runs, and publishes their work. What is to be done stands in the outbox, which
//! is written with what it follows from; so a process that dies at any moment goes on where it was, and the message
//! ids make what it does twice harmless.

mod arrival;
mod on_its_way;
mod plan;
mod preflight;
mod publish;
mod start;
mod verdict;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::arrival::{Arrival, decide_parts};
pub use self::on_its_way::decide_on_its_way;
pub use self::plan::{Bundle, bundles_of, plan_export, plan_import, publish_item};
pub use self::preflight::Preflight;
pub use self::verdict::{Obstacle, StartVerdict, decide_start};
use crate::clock::now_ms;
use crate::runtime::Core;
use crate::state::{OutboxItem, OutboxRow, StoreError};

/// How often the outbox is looked at where nobody says that there is something in it.
const LOOK: Duration = Duration::from_secs(1);

/// How many messages are published together.
const BATCH: usize = 256;

/// How runs are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DispatchSettings {
    /// How many runs are started at once. Default 16, at least 1.
    pub starts: usize,
    /// The most references of a part. Default 250, which is also the most.
    pub part_size: usize,
    /// How long a run waits for a vault or a storage service that is away. Default 10 min.
    pub patience: Duration,
    /// How long an import waits for a blob that nothing is known to bring. Default 30 s.
    pub blob_wait: Duration,
}

impl Default for DispatchSettings {
    fn default() -> Self {
        let (patience, blob_wait) = (Duration::from_secs(600), Duration::from_secs(30));
        Self { starts: 16, part_size: transship_model::Part::MAX_ARTIFACTS, patience, blob_wait }
    }
}

/// Says that there is something in the outbox.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There is something to be done: at once, and not at the next look.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Takes what is due out of the outbox, and does it.
pub struct Dispatcher {
    /// What it works on.
    pub core: Core,
    /// Opens the containers of runs.
    pub preflight: Arc<dyn Preflight>,
    /// How.
    pub settings: DispatchSettings,
}

/// What is being done. The rows stay in the outbox meanwhile.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<Result<(), StoreError>>,
    rows: HashMap<Id, Vec<i64>>,
    starts: BTreeSet<i64>,
}

impl UnderWay {
    fn is_free(&self, row: &OutboxRow) -> bool {
        !self.rows.values().flatten().any(|id| *id == row.id)
    }

    fn count(&self) -> usize {
        self.rows.values().map(Vec::len).sum()
    }

    /// Forgets the rows of a task that ended. What it did not do is still in the outbox.
    fn ended(&mut self, ended: Result<(Id, Result<(), StoreError>), tokio::task::JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        for row in self.rows.remove(&id).unwrap_or_default() {
            self.starts.remove(&row);
        }
        match ended {
            Ok((_, Ok(()))) => {}
            Ok((_, Err(error))) => {
                tracing::error!(%error, hint = error.hint(), "the outbox cannot be worked on");
            }
            Err(error) => {
                tracing::error!(%error, "a task of the dispatcher ended unexpectedly; it is done again");
            }
        }
    }
}

impl Dispatcher {
    /// Works until `cancel`. What is under way then is dropped: it is still in the outbox.
    pub async fn run(self, cancel: CancellationToken) {
        let this = Arc::new(self);
        let mut under_way = UnderWay::default();
        loop {
            // A look that fails is repeated like one that finds nothing.
            if let Err(error) = this.look(&mut under_way).await {
                tracing::error!(%error, hint = error.hint(), "the outbox cannot be read");
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(ended) = under_way.tasks.join_next_with_id(), if !under_way.tasks.is_empty() => {
                    under_way.ended(ended);
                }
                () = this.core.wake.0.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Begins whatever is due, as far as there is room.
    async fn look(self: &Arc<Self>, under_way: &mut UnderWay) -> Result<(), StoreError> {
        while let Some(ended) = under_way.tasks.try_join_next_with_id() {
            under_way.ended(ended);
        }
        // What is under way is due as well; beyond it there is to be room for more of either kind.
        let limit = u32::try_from(under_way.count() + BATCH).unwrap_or(u32::MAX);
        let due = self.core.store.outbox_due(now_ms(), limit).await?;
        let due: Vec<OutboxRow> = due.into_iter().filter(|row| under_way.is_free(row)).collect();
        let (starts, publishes): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|row| matches!(row.item, OutboxItem::Start));
        let room = self.settings.starts.max(1).saturating_sub(under_way.starts.len());
        for row in starts.into_iter().take(room) {
            let (this, id) = (Arc::clone(self), row.id);
            let task = under_way.tasks.spawn(async move { this.start(row).await });
            under_way.starts.insert(id);
            under_way.rows.insert(task.id(), vec![id]);
        }
        if !publishes.is_empty() && under_way.count() < 2 * BATCH {
            let (this, ids) = (Arc::clone(self), publishes.iter().map(|row| row.id).collect());
            let task = under_way.tasks.spawn(async move { this.publish(publishes).await });
            under_way.rows.insert(task.id(), ids);
        }
        Ok(())
    }
}
