//! **Owns** the worker harness: take → decode → handle → publish → confirm → settle; the verdict on a delivery,
//! the retry policy, the byte budget, progress, drain.
//! **May know** work items, facts, the bus, and where a process's secrets are.
//! **Never knows** which stage it runs, or what the stage moves.

mod attempts;
mod budget;
mod config;
mod context;
#[cfg(feature = "failpoints")]
mod failpoints;
mod progress;
mod publish;
mod reporter;
mod secrets;
mod serve;
mod verb;
mod verdict;
mod worker;

pub use attempts::attempt_at_part;
pub use budget::{ByteBudget, BytePermit};
pub use config::{BrokerConfig, WorkerConfig};
pub use context::Context;
#[cfg(feature = "failpoints")]
pub use failpoints::failpoints;
pub use progress::Progress;
pub use publish::{fact_message, work_message};
pub use secrets::SecretsConfig;
pub use serve::{Brokers, connect, judge, serve, show};
pub use verb::{FollowUp, Outcome, Verb};
pub use verdict::{RetryPolicy, Verdict, verdict};
pub use worker::{Worker, WorkerSettings};
