//! Whether the process can take work, and if not, why.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use transship_telemetry::redact;

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Collects what readiness depends on. Clones share the same sources.
#[derive(Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    sources: Vec<(&'static str, Check)>,
}

/// Where the process is in its life. Only the host moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    #[default]
    Starting,
    Running,
    Draining,
}

impl Readiness {
    /// Adds a source: ready where `check` returns `Ok`, else the reason, without secrets. It is called for each
    /// question, so it must be quick and must not wait.
    pub fn source(&self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.with(|state| state.sources.push((name, Arc::new(check))));
    }

    /// Adds a source that looks at the newest value of a channel. Where the sender is gone, it is not ready.
    pub fn watch<T: Send + Sync + 'static>(
        &self,
        name: &'static str,
        values: watch::Receiver<T>,
        judge: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.source(name, move || {
            values.has_changed().map_err(|_| "ended".to_owned())?;
            judge(&values.borrow())
        });
    }

    /// Why the process is not ready: `source: reason`, each. Empty where it is ready.
    pub fn reasons(&self) -> Vec<String> {
        // A check may itself use this, so none is called with the state locked.
        let (phase, sources) = self.with(|state| (state.phase, state.sources.clone()));
        let phase = match phase {
            Phase::Starting => Some("process: starting".to_owned()),
            Phase::Running => None,
            Phase::Draining => Some("process: draining".to_owned()),
        };
        let checked = sources.iter().filter_map(|(name, check)| {
            check().err().map(|reason| redact(&format!("{name}: {reason}")).into_owned())
        });
        phase.into_iter().chain(checked).collect()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.with(|state| state.phase = phase);
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        // Nothing that runs under the lock leaves the state half changed.
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_that_is_not_ready_gives_its_reason() {
        let readiness = Readiness::default();
        assert_eq!(readiness.reasons(), ["process: starting"]);
        readiness.enter(Phase::Running);
        assert_eq!(readiness.reasons(), [""; 0]);

        let (broker, state) = watch::channel(Err("connecting to amqp://u:CANARY@broker".to_owned()));
        readiness.watch("broker", state, |state: &Result<(), String>| state.clone());
        readiness.source("secrets", || Err("secret sas is missing".to_owned()));
        let broken = ["broker: connecting to amqp://u:[hidden]@broker", "secrets: secret sas is missing"];
        assert_eq!(readiness.reasons(), broken);

        broker.send(Ok(())).unwrap();
        assert_eq!(readiness.clone().reasons(), ["secrets: secret sas is missing"]);
        drop(broker);
        readiness.enter(Phase::Draining);
        assert_eq!(readiness.reasons().len(), 3);
    }
}
