//! Follows a run that services do, through a broker: its facts while they come, and the storage where some may have
//! been missed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use transship_bundle::execution_of;
use transship_bus::{Bus, BusError, BusState, Outgoing, RabbitMq, Subscription};
use transship_model::{BlobName, Code, Execution, Failure};
use transship_storage::ReadContainer;

use crate::exit::{Exit, Problem};
use crate::ledger::Ledger;
use crate::process::{hear, hear_the_rest, show};
use crate::screen::Screen;
use crate::split::PlannedPart;
use crate::view::View;

/// How often the view is drawn.
const FRAME: Duration = Duration::from_millis(250);

/// How long nobody says anything before a run whose facts may have been missed is asked for once more. A stage
/// that works speaks every second.
const QUIET: Duration = Duration::from_secs(10);

/// How long nobody says anything before the person is told that nobody does.
const LONELY: Duration = Duration::from_secs(30);

/// How long publishing is tried while the broker is away.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run that services do.
pub(crate) struct Watch<'a> {
    pub(crate) bus: &'a RabbitMq,
    pub(crate) execution: &'a Execution,
    pub(crate) parts: &'a [PlannedPart],
    /// The work of each part, by its number.
    pub(crate) work: &'a BTreeMap<u32, Outgoing>,
    /// The source container, then the target container.
    pub(crate) containers: [&'a dyn ReadContainer; 2],
    pub(crate) screen: &'a Screen,
    pub(crate) interrupted: &'a CancellationToken,
    pub(crate) keep_going: bool,
}

/// What the storage says of the parts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The parts whose bundle is in the source container.
    source: BTreeSet<u32>,
    /// The parts whose bundle is in the target container.
    target: BTreeSet<u32>,
    /// A blob that a newer execution has taken.
    taken: Option<BlobName>,
}

/// When what was heard.
struct Times {
    heard: Instant,
    missed: bool,
    told: bool,
}

/// Publishes `messages` until the broker confirms them all, again with the same ids after a failure.
///
/// # Errors
/// After a minute, or at once where trying again cannot help.
pub(crate) async fn publish(bus: &dyn Bus, messages: Vec<Outgoing>) -> Result<(), Problem> {
    let started = Instant::now();
    loop {
        let error = match bus.publish(messages.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let is_final = matches!(error, BusError::TooLarge { .. });
        if is_final || started.elapsed() > PATIENCE {
            return Err(unavailable(&error));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The broker does not do what was asked.
pub(crate) fn unavailable(error: &BusError) -> Problem {
    let problem = Problem {
        code: Some(Code::BrokerUnavailable),
        ..Problem::new(Exit::Failed, "the run cannot be sent")
    };
    problem.caused_by(error).hint("check that the stack is up (`make up`), then repeat the command")
}

impl Watch<'_> {
    /// Follows the run to its end: every part imported on every route, or a failure.
    ///
    /// # Errors
    /// Where the command is interrupted, and where a newer execution took the run's place. A failure of a stage
    /// is in the ledger.
    pub(crate) async fn follow(&self, mut facts: Subscription, ledger: &mut Ledger) -> Result<(), Problem> {
        let mut view = View::new(self.screen);
        let mut frame = interval(FRAME);
        let mut state = self.bus.state();
        let mut times = Times { heard: Instant::now(), missed: false, told: false };
        facts.rebound.mark_unchanged();
        while !ledger.is_over() && (self.keep_going || ledger.failure().is_none()) {
            tokio::select! {
                () = self.interrupted.cancelled() => {
                    return Err(Problem::interrupted(format!(
                        "the services go on without this command: the run is execution {}",
                        self.execution.id
                    )));
                }
                fact = facts.facts.recv() => {
                    let fact = fact.ok_or_else(|| Problem::new(Exit::Failed, "the connection to the broker was closed"))?;
                    hear(&fact.body, ledger, self.screen);
                    times = Times { heard: Instant::now(), told: false, ..times };
                }
                Ok(()) = facts.rebound.changed() => {
                    times = Times { heard: Instant::now(), missed: true, told: false };
                    self.look_after_a_loss(ledger).await;
                }
                Ok(()) = state.changed() => self.tell_state(&state.borrow_and_update()),
                _ = frame.tick() => {
                    show(&mut view, ledger, &[]);
                    self.silence(&mut times, ledger).await?;
                }
            }
        }
        hear_the_rest(&mut facts, ledger, self.screen).await;
        show(&mut view, ledger, &[]);
        Ok(())
    }

    fn tell_state(&self, state: &BusState) {
        match state {
            BusState::Ready => {}
            BusState::Connecting { reason } => {
                self.screen.warn(&format!("not connected to the broker: {reason}; trying again"));
            }
            BusState::Blocked { reason } => {
                self.screen.warn(&format!("the broker takes no messages: {reason}"));
            }
        }
    }

    /// The connection was lost and is back. What the storage holds says how far the run came meanwhile.
    async fn look_after_a_loss(&self, ledger: &Ledger) {
        match self.look(ledger).await {
            Ok(seen) => self.screen.note(&format!(
                "connected to the broker again; of {} open parts {} are in the source container, {} in the target container",
                ledger.open_parts().len(),
                seen.source.len(),
                seen.target.len()
            )),
            Err(failure) => self.screen.warn(&format!("the storage cannot be asked how far the run is: {failure}")),
        }
    }

    /// Nobody said anything for a while. Where facts may have been missed, the open parts are asked for once
    /// more: a stage that finds its work done says so again, and every effect may run twice.
    async fn silence(&self, times: &mut Times, ledger: &Ledger) -> Result<(), Problem> {
        let silent = times.heard.elapsed();
        if times.missed && silent >= QUIET {
            times.missed = false;
            self.refuse_taken(ledger).await?;
            let open = ledger.open_parts();
            let work: Vec<Outgoing> =
                open.iter().filter_map(|number| self.work.get(number).cloned()).collect();
            tracing::info!(parts = work.len(), "asking once more for what may be done");
            publish(self.bus, work).await?;
        }
        if !times.told && silent >= LONELY {
            times.told = true;
            self.refuse_taken(ledger).await?;
            self.screen
                .note("no service has said anything for 30 s; the work waits in its queue until one is free");
        }
        Ok(())
    }

    /// A newer execution that took a name has no fact for this run: its stages drop the work in silence.
    async fn refuse_taken(&self, ledger: &Ledger) -> Result<(), Problem> {
        let Ok(Seen { taken: Some(blob), .. }) = self.look(ledger).await else { return Ok(()) };
        let message = format!("a newer execution has taken the name {blob}, so this run is dropped");
        Err(Problem { code: Some(Code::Superseded), ..Problem::new(Exit::Failed, message) }
            .hint("give each run a name of its own"))
    }

    async fn look(&self, ledger: &Ledger) -> Result<Seen, Failure> {
        let open: BTreeSet<u32> = ledger.open_parts().into_iter().collect();
        let mut seen = Seen::default();
        let [source, target] = self.containers;
        for part in self.parts.iter().filter(|part| open.contains(&part.part.number)) {
            for (container, found) in [(source, &mut seen.source), (target, &mut seen.target)] {
                let properties = container.properties(&part.blob).await?;
                match properties.and_then(|found| execution_of(&found.metadata)) {
                    Some(owner) if owner == *self.execution => drop(found.insert(part.part.number)),
                    Some(owner) if owner.generation > self.execution.generation => {
                        seen.taken = Some(part.blob.clone());
                    }
                    _ => {}
                }
            }
        }
        Ok(seen)
    }
}
