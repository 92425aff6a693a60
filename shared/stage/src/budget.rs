//! One budget of bytes for every buffer of a process.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget. Cloning it shares it.
///
/// Whoever holds a permit must be able to go on without another one, or only with those that were asked for before
/// it: a group of blobs asks once, for all of its bytes, and the blocks of one blob, like the questions of one walk,
/// ask in their order. So nobody waits for ever.
#[derive(Clone)]
pub struct ByteBudget {
    bytes: Arc<Semaphore>,
    limit: u32,
}

/// A share of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct BytePermit {
    permit: OwnedSemaphorePermit,
}

impl BytePermit {
    /// Gives back all but `bytes`: for what turned out to be smaller than it might have been.
    pub fn keep(&mut self, bytes: u64) {
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX);
        drop(self.permit.split(self.permit.num_permits().saturating_sub(keep)));
    }
}

impl ByteBudget {
    /// The default limit in bytes. With what the HTTP stacks and the allocator keep on top of it, the peak of a
    /// process stays below 128 MiB; 64 MiB was measured to make it 149. The excess is what glibc's allocator does
    /// not give back: with `MALLOC_MMAP_THRESHOLD_=1048576` in the environment 64 MiB make 84.
    pub const DEFAULT_BYTES: u32 = 32 << 20;

    /// A budget of `limit` bytes.
    pub fn new(limit: u32) -> Self {
        Self { bytes: Arc::new(Semaphore::new(limit as usize)), limit }
    }

    /// Waits until `bytes` are free. More than the whole budget is granted as the whole budget, alone, so that
    /// one buffer that must be larger still gets its turn.
    pub async fn acquire(&self, bytes: u64) -> BytePermit {
        let share = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.limit);
        let permit = Arc::clone(&self.bytes).acquire_many_owned(share).await;
        BytePermit { permit: permit.expect("the semaphore lives as long as the budget and is never closed") }
    }

    /// The bytes in use.
    pub fn used(&self) -> u64 {
        u64::from(self.limit).saturating_sub(self.bytes.available_permits() as u64)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u32 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn the_budget_is_never_exceeded_and_returns() {
        let budget = ByteBudget::new(100);
        let first = budget.acquire(60).await;
        assert!(budget.acquire(60).now_or_never().is_none());
        assert_eq!(budget.used(), 60);
        drop(first);
        let whole = budget.acquire(u64::MAX).await;
        assert_eq!(budget.used(), 100);
        drop(whole);
        assert_eq!(budget.used(), 0);
        let mut part = budget.acquire(50).await;
        for (keep, used) in [(80, 50), (10, 10), (20, 10), (0, 0)] {
            part.keep(keep);
            assert_eq!(budget.used(), used);
        }
    }
}
