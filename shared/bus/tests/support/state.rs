//! The state of a bus.

use transship_bus::{Bus, BusState};

use super::support::within;

/// Waits until all is well.
pub(crate) async fn ready(bus: &dyn Bus) {
    within("ready", bus.state().wait_for(|state| *state == BusState::Ready)).await.expect("the bus lives");
}

/// Waits until something is wrong, and returns what.
pub(crate) async fn connecting(bus: &dyn Bus) -> String {
    let mut states = bus.state();
    let wrong = |state: &BusState| matches!(state, BusState::Connecting { reason } if !reason.is_empty());
    match &*within("connecting", states.wait_for(wrong)).await.expect("the bus lives") {
        BusState::Connecting { reason } => reason.clone(),
        other => panic!("{other:?}"),
    }
}
