//! Does what is to be done: starts runs, and publishes their work. What is to be done stands in the outbox, which
//! is written with what it follows from; so a process that dies at any moment goes on where it was, and the message
//! ids make what it does twice harmless.

mod arrival;
mod copies;
mod on_its_way;
mod plan;
mod preflight;
mod publish;
mod start;
mod verdict;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use self::arrival::Arrival;
pub use self::copies::plan_copies;
pub use self::on_its_way::decide_on_its_way;
pub use self::plan::{Bundle, bundles_of, plan_export, plan_import, plan_parts, publish_item};
pub use self::preflight::Preflight;
pub use self::verdict::{Obstacle, StartVerdict, decide_start};
use crate::clock::now_ms;
use crate::runtime::Core;
use crate::state::{OutboxItem, OutboxRow, StoreError};

/// How often the outbox is looked at where nobody says that there is something in it.
const LOOK: Duration = Duration::from_secs(1);

/// How many rows are taken at once; at most three times as many are under way. A message has at most 256 KiB.
const BATCH: usize = 64;

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
    /// Starts that were taken and have no room yet.
    waiting: VecDeque<OutboxRow>,
}

impl UnderWay {
    fn is_free(&self, row: &OutboxRow) -> bool {
        let mut others = self.rows.values().flatten().chain(self.waiting.iter().map(|row| &row.id));
        !others.any(|id| *id == row.id)
    }

    /// How many rows it has.
    fn count(&self) -> usize {
        self.rows.values().map(Vec::len).sum::<usize>() + self.waiting.len()
    }

    fn spawn(&mut self, rows: Vec<i64>, task: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        let task = self.tasks.spawn(task);
        self.rows.insert(task.id(), rows);
    }

    /// Forgets the rows of a task that ended; false where it failed. What it did not do is still in the outbox.
    fn ended(&mut self, ended: Result<(Id, Result<(), StoreError>), JoinError>) -> bool {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        for row in self.rows.remove(&id).unwrap_or_default() {
            self.starts.remove(&row);
        }
        match ended {
            Ok((_, Ok(()))) => return true,
            Ok((_, Err(error))) => {
                tracing::error!(%error, hint = error.hint(), "the outbox cannot be worked on");
            }
            Err(error) => {
                tracing::error!(%error, "a task of the dispatcher ended unexpectedly; it is done again");
            }
        }
        false
    }
}

impl Dispatcher {
    /// Works until `cancel`. What is under way then is dropped: it is still in the outbox.
    pub async fn run(self, cancel: CancellationToken) {
        let this = Arc::new(self);
        let mut under_way = UnderWay::default();
        loop {
            let looked = this.look(&mut under_way).await;
            if let Err(error) = &looked {
                tracing::error!(%error, hint = error.hint(), "the outbox cannot be read");
            }
            let may_go_on = looked.is_ok()
                && tokio::select! {
                    () = cancel.cancelled() => return,
                    Some(ended) = under_way.tasks.join_next_with_id(), if !under_way.tasks.is_empty() => {
                        under_way.ended(ended)
                    }
                    () = this.core.wake.0.notified() => true,
                    () = tokio::time::sleep(LOOK) => true,
                };
            // What failed is due at once, and would fail again.
            if !may_go_on && timeout(LOOK, cancel.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// Begins whatever is due, as far as there is room.
    async fn look(self: &Arc<Self>, under_way: &mut UnderWay) -> Result<(), StoreError> {
        let most = self.settings.starts.max(1);
        if under_way.count() < 2 * BATCH + most {
            // What is under way is due as well.
            let limit = u32::try_from(under_way.count() + BATCH).unwrap_or(u32::MAX);
            let due = self.core.store.outbox_due(now_ms(), limit).await?;
            let due = due.into_iter().filter(|row| under_way.is_free(row));
            let (starts, publishes): (Vec<_>, Vec<_>) =
                due.partition(|row| matches!(row.item, OutboxItem::Start));
            under_way.waiting.extend(starts);
            if !publishes.is_empty() {
                let (this, ids) = (Arc::clone(self), publishes.iter().map(|row| row.id).collect());
                under_way.spawn(ids, async move { this.publish(publishes).await });
            }
        }
        while under_way.starts.len() < most
            && let Some(row) = under_way.waiting.pop_front()
        {
            let (this, id) = (Arc::clone(self), row.id);
            under_way.starts.insert(id);
            under_way.spawn(vec![id], async move { this.start(row).await });
        }
        Ok(())
    }
}
