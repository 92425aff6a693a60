//! What runs besides the interface: the dispatcher, the facts, the dead letters and the watchdog, on one store and
//! one broker.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use transship_api::ResourceId;
use transship_bus::Bus;
use transship_messages::Fact;
use transship_telemetry::Metrics;

use crate::clock::now_ms;
use crate::dead_letters::DeadLetters;
use crate::dispatch::{DispatchSettings, Dispatcher, Preflight, Wake};
use crate::facts::{Adopt, Facts};
use crate::state::{Folded, RunRecord, RunState, Store, StoreError};
use crate::watchdog::{WatchSettings, Watchdog};

/// How many ends a listener may be behind. One that is further behind is told that it missed some.
const ENDS: usize = 1024;

/// Tells whoever listens which runs ended.
#[derive(Debug, Clone)]
pub struct Ended(broadcast::Sender<ResourceId>);

impl Default for Ended {
    fn default() -> Self {
        Self(broadcast::channel(ENDS).0)
    }
}

impl Ended {
    /// The runs that end from now on. A listener that was slow gets `Lagged`, and asks the store.
    pub fn listen(&self) -> broadcast::Receiver<ResourceId> {
        self.0.subscribe()
    }

    /// These ended.
    pub fn tell(&self, runs: impl IntoIterator<Item = ResourceId>) {
        for run in runs {
            // Nobody need listen.
            let _ = self.0.send(run);
        }
    }
}

/// What every part of the control plane works on. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    /// The state.
    pub store: Store,
    /// The broker.
    pub bus: Arc<dyn Bus>,
    /// Wakes the dispatcher; to be called after whatever writes to the outbox.
    pub wake: Wake,
    /// Tells which runs ended.
    pub ended: Ended,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// Who makes runs of imports that nobody here asked for.
    pub adopter: Option<Arc<dyn Adopt>>,
    /// How many facts were about executions that are not known here, since the process began.
    pub unknown_facts: Arc<AtomicU64>,
}

impl Core {
    /// A core of its own.
    pub fn new(store: Store, bus: Arc<dyn Bus>, metrics: Metrics) -> Self {
        let (wake, ended, unknown_facts) = Default::default();
        Self { store, bus, wake, ended, metrics, adopter: None, unknown_facts }
    }

    /// The same with somebody who makes runs of imports that nobody here asked for.
    #[must_use]
    pub fn with_adopter(self, adopter: Arc<dyn Adopt>) -> Self {
        Self { adopter: Some(adopter), ..self }
    }

    /// Folds a fact, and tells which runs it ended.
    pub(crate) async fn fold(&self, fact: Fact) -> Result<(), StoreError> {
        if let Folded::Applied { ended } = self.store.fold(fact, now_ms()).await? {
            self.ended.tell(ended);
        }
        Ok(())
    }

    /// Ends a run that is not over, and tells so.
    pub(crate) async fn end(&self, run: &RunRecord, state: RunState) -> Result<(), StoreError> {
        if self.store.end_run(&run.execution, run.kind, state, now_ms()).await? {
            fail::fail_point!("control.ended");
            self.ended.tell([run.id.clone()]);
        }
        Ok(())
    }
}

/// How the runtime runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuntimeSettings {
    /// How runs are started.
    pub dispatch: DispatchSettings,
    /// When a run counts as lost sight of.
    pub watch: WatchSettings,
}

/// Everything that runs besides the interface.
pub struct Runtime {
    /// What it works on.
    pub core: Core,
    /// Opens the containers of runs.
    pub preflight: Arc<dyn Preflight>,
    /// How.
    pub settings: RuntimeSettings,
}

impl Runtime {
    /// Runs until `cancel`. Whatever it drops then is in the store or at the broker.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { core, preflight, settings } = self;
        let dispatcher = Dispatcher { core: core.clone(), preflight, settings: settings.dispatch };
        let watchdog = Watchdog::new(core.clone(), settings.watch);
        tokio::join!(
            dispatcher.run(cancel.clone()),
            Facts::new(core.clone()).run(cancel.clone()),
            DeadLetters::new(core).run(cancel.clone()),
            watchdog.run(cancel),
        );
    }
}
