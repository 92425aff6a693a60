//! What others say when something changed: Event Grid about blobs, registries about pushes. A notification is a
//! hint and never the truth: what it names is looked at before anything starts, so a forged one costs one look.

mod azure;
mod registry;

pub use azure::{BlobHint, EventGrid, cloud_events_handshake, event_grid};
pub use registry::{PushHint, registry_push};

/// The largest body that is read, in bytes: Event Grid sends at most 1 MB, registries far less.
pub const MAX_BODY: usize = 1 << 20;

/// The most events of one body.
const MAX_EVENTS: usize = 5_000;

/// Why a notification cannot be understood. Event Grid drops what is answered with 400 and does not try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// More bytes than are read.
    #[error("the notification has {0} bytes, more than {MAX_BODY}")]
    TooLarge(usize),
    /// Not JSON of the form that was expected.
    #[error("the notification is not {0}")]
    Form(&'static str),
    /// More events than are read.
    #[error("the notification has {0} events, more than {MAX_EVENTS}")]
    TooMany(usize),
}

/// The body as JSON, within the bounds.
fn json(body: &[u8], form: &'static str) -> Result<serde_json::Value, NotifyError> {
    if body.len() > MAX_BODY {
        return Err(NotifyError::TooLarge(body.len()));
    }
    serde_json::from_slice(body).map_err(|_| NotifyError::Form(form))
}

/// The events of a body that holds several.
fn events(value: &serde_json::Value) -> Result<Option<&[serde_json::Value]>, NotifyError> {
    match value.as_array() {
        Some(events) if events.len() > MAX_EVENTS => Err(NotifyError::TooMany(events.len())),
        events => Ok(events.map(Vec::as_slice)),
    }
}
