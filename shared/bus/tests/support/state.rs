//! The state of a bus.

use transship_bus::{Bus, BusState};

use super::support::within;

/// Waits until all is well.
pub(crate) async fn ready(bus: &dyn Bus) {
    within("ready", bus.state().wait_for(|state| *state == BusState::Ready)).await.expect("the bus lives");
}

/// Waits until something is wrong, and returns what.
pub(crate) async fn connecting(bus: &dyn Bus) -> String {
    connecting_for(bus, "").await
}

/// Waits until something is wrong whose reason has `part`, and returns it all. Of what one event breaks, anything may
/// be the first to say so.
pub(crate) async fn connecting_for(bus: &dyn Bus, part: &str) -> String {
    let mut states = bus.state();
    let wrong = |state: &BusState| match state {
        BusState::Connecting { reason } => !reason.is_empty() && reason.contains(part),
        _ => false,
    };
    match &*within("connecting", states.wait_for(wrong)).await.expect("the bus lives") {
        BusState::Connecting { reason } => reason.clone(),
        other => panic!("{other:?}"),
    }
}
