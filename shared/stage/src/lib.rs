//! **Owns** the worker harness: take → decode → handle → publish → confirm → settle; the verdict on a delivery,
//! the retry policy, the byte budget, progress, drain.
//! **May know** work items, facts and the bus.
//! **Never knows** which stage it runs, or what the stage moves.

mod budget;
mod config;
mod context;
#[cfg(feature = "failpoints")]
mod failpoints;
mod progress;
mod publish;
mod reporter;
mod serve;
mod verb;
mod verdict;
mod worker;

pub use budget::{ByteBudget, BytePermit};
pub use config::{BrokerConfig, SecretsConfig, WorkerConfig};
pub use context::Context;
#[cfg(feature = "failpoints")]
pub use failpoints::failpoints;
pub use progress::Progress;
pub use publish::{fact_message, work_message};
pub use serve::{Brokers, serve};
pub use verb::{FollowUp, Outcome, Verb};
pub use verdict::{RetryPolicy, Verdict, verdict};
pub use worker::{Worker, WorkerSettings};
