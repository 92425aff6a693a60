//! Moves blocks: several at a time, by the target's service itself or through this process.

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::Instrument as _;
use transship_model::{BlobName, Secret};
use transship_stage::{BytePermit, Context};
use transship_storage::{CopySource, ETag, ReadContainer, StorageError, WriteContainer};
use transship_telemetry::Direction;

use crate::error::{CopyError, Side};
use crate::tally::Tally;
use crate::{CopySettings, PlannedBlock};

/// How the bytes of a block go.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// The target's service reads from this URL.
    ServerSide(Secret),
    /// Through this process.
    Streamed,
}

/// How moving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every block is staged.
    Staged,
    /// The slice is over, and blocks are left.
    SliceOver,
    /// The target's service cannot read the source itself; blocks are left.
    Unsupported,
}

/// What each block needs.
#[derive(Clone)]
pub(crate) struct Ends {
    pub(crate) source: Arc<dyn ReadContainer>,
    pub(crate) target: Arc<dyn WriteContainer>,
    pub(crate) blob: BlobName,
    /// The version that every byte must be of.
    pub(crate) etag: ETag,
}

/// Stages `blocks` in their order, several at a time. Each block that is staged counts in `tally` and shows in
/// the progress; blocks that are in flight at the end of a slice are waited for.
///
/// # Errors
/// The first failure; blocks in flight are dropped.
pub(crate) async fn stage_blocks(
    ends: &Ends,
    blocks: Vec<PlannedBlock>,
    way: &Way,
    settings: &CopySettings,
    context: &Context,
    tally: &mut Tally,
) -> Result<Ended, CopyError> {
    let mut left = blocks.into_iter().peekable();
    let mut in_flight = JoinSet::new();
    let (mut begun, mut done, mut unsupported) = (0u64, 0u64, false);
    loop {
        let slots = match way {
            // One block tells whether the services can do it at all.
            Way::ServerSide(_) if done == 0 => 1,
            Way::ServerSide(_) => settings.parallel_server_side,
            Way::Streamed => settings.parallel_streamed,
        };
        // Each slice moves something, however short it is.
        let goes_on = !unsupported && (begun == 0 || !context.slice_is_over());
        if goes_on
            && in_flight.len() < slots.max(1)
            && let Some(block) = left.next()
        {
            begun += 1;
            // Asked for here, so that blocks get their share of the budget in the order of the blob.
            let permit = match way {
                Way::ServerSide(_) => None,
                Way::Streamed => Some(context.budget.acquire(block.length()).await),
            };
            in_flight.spawn(ends.clone().stage(block, way.clone(), permit).in_current_span());
            continue;
        }
        let Some(ended) = in_flight.join_next().await else { break };
        match ended {
            Ok(Ok(bytes)) => {
                done += 1;
                count(bytes, way, context, tally);
                fail::fail_point!("copier.block_staged");
            }
            // Only those who were asked can say that they cannot: no other way would end this.
            Ok(Err(error)) if error.is_unsupported() && matches!(way, Way::ServerSide(_)) => {
                tracing::info!(reason = %Chain(&error), "the bytes go through the copier");
                unsupported = true;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(CopyError::TaskLost { blob: ends.blob.clone() }),
        }
    }
    Ok(match (unsupported, left.peek()) {
        (true, _) => Ended::Unsupported,
        (false, Some(_)) => Ended::SliceOver,
        (false, None) => Ended::Staged,
    })
}

fn count(bytes: u64, way: &Way, context: &Context, tally: &mut Tally) {
    let streamed = matches!(way, Way::Streamed);
    tally.add(bytes, streamed);
    context.progress.count(|counters| *counters = tally.under_way());
    if streamed {
        context.metrics.bytes(Direction::Read, bytes);
    }
    context.metrics.bytes(Direction::Written, bytes);
}

impl Ends {
    /// An error of one of the two containers.
    pub(crate) fn failed(
        &self,
        side: Side,
        operation: &'static str,
    ) -> impl FnOnce(StorageError) -> CopyError {
        let blob = self.blob.clone();
        move |source| CopyError::Storage { operation, blob, side, source }
    }

    /// Stages one block, and says how many bytes it has.
    async fn stage(
        self,
        block: PlannedBlock,
        way: Way,
        permit: Option<BytePermit>,
    ) -> Result<u64, CopyError> {
        let length = block.length();
        let etag = self.etag.clone();
        match way {
            Way::ServerSide(url) => {
                let source = CopySource { url, range: block.range, etag };
                let staged = self.target.stage_from(&self.blob, &block.id, &source).await;
                staged.map_err(self.failed(Side::Target, "have the service copy a block of"))?;
            }
            Way::Streamed => {
                let read = self.source.read(&self.blob, block.range, Some(&etag)).await;
                let bytes = read.map_err(self.failed(Side::Source, "read"))?;
                let staged = self.target.stage(&self.blob, &block.id, bytes).await;
                staged.map_err(self.failed(Side::Target, "stage a block of"))?;
            }
        }
        drop(permit);
        Ok(length)
    }
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.source() {
            Some(cause) => write!(f, ": {}", Chain(cause)),
            None => Ok(()),
        }
    }
}
