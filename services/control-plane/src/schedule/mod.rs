//! Schedules: export pipelines that export by themselves what appears and moves in their registry.
//!
//! Asking the registry at an interval is the truth; its push notifications only make it sooner. What a pipeline
//! carried is remembered by tag and digest, so a tag is carried once, again when it moves, and again when its run
//! failed, with growing pauses; then in a run of its own kind, which leaves out what cannot be carried, so that one tag
//! does not hold up the others. A tag whose run is under way is not put into a second one: bundles of two runs may
//! overtake each other. Indexes travel whole; platforms are never filtered.

mod carry;
mod catalogs;
mod decide;
mod find;
mod glob;
mod lease;
mod pending;
mod scheduled;
mod selector;
mod standing;
mod template;
mod watch;

pub use catalogs::{Catalogs, RegistryCatalogs};
pub use selector::{Selector, check, travels_with_its_subject};
pub use watch::{ScheduleSettings, Schedules};
