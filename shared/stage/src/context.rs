//! What a verb gets beside its work.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transship_model::Failure;
use transship_telemetry::Metrics;

use crate::{ByteBudget, Progress};

/// The surroundings of one piece of work.
#[derive(Clone)]
pub struct Context {
    /// Cancelled when the process shuts down, and when the delivery is lost and another worker gets it.
    pub cancel: CancellationToken,
    /// When the slice ends. A verb looks at blob boundaries.
    pub slice_ends: Instant,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whether the same work was delivered before, by the same message or, as far as is known, by another one that said
    /// the same: an earlier delivery may have done all of it already. A hint only: it may have done none of it.
    pub redelivered: bool,
    /// The process's byte budget.
    pub budget: ByteBudget,
    /// Where the verb says how far it is.
    pub progress: Arc<Progress>,
    /// The process's metrics.
    pub metrics: Metrics,
    /// The W3C trace context of the work, for what outlives the process.
    pub traceparent: Option<String>,
}

impl Context {
    /// A context that lasts as long as its slice, for composing verbs outside of a worker.
    pub fn new(budget: ByteBudget, metrics: Metrics, slice: Duration) -> Self {
        Self {
            cancel: CancellationToken::new(),
            slice_ends: Instant::now() + slice,
            attempt: 1,
            redelivered: false,
            budget,
            progress: Arc::new(Progress::default()),
            metrics,
            traceparent: None,
        }
    }

    /// Whether the slice is over.
    pub fn slice_is_over(&self) -> bool {
        Instant::now() >= self.slice_ends
    }

    /// Runs `work` until it ends or is cancelled.
    ///
    /// # Errors
    /// [`Failure::interrupted`] where it is cancelled; else what `work` says.
    pub async fn unless_cancelled<T, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Failure::interrupted()),
            result = work => result.map_err(Into::into),
        }
    }
}
