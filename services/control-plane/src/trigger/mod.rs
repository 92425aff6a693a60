//! The source trigger: import pipelines import each bundle that arrives in their container, and say of each blob that
//! they do not import why not.
//!
//! Listing at an interval is the truth; Event Grid and hints only make it sooner. A bundle is known by its first
//! bytes, since tools that copy blobs drop metadata and Content-MD5. Each blob is a run of its own, the parts of a
//! large export (`NAME-0002-of-0040`) too: the first is imported while the last is still copied. However many
//! replicas, hints and people ask for it, a version of a blob is claimed once ([`crate::state::Store::claim_import`], [`crate::state::Store::put_claimed_run`]).

mod adopt;
mod decide;
mod inspect;
mod memory;
pub(crate) mod run;
mod scan;
mod status;
mod watch;

pub use run::{claim_for_run, claimed_etag};
pub use status::WatchStatus;
pub use watch::{SourceTrigger, TriggerSettings};

pub(crate) use status::Board;
pub(crate) use watch::jittered;
