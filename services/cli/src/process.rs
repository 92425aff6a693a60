//! The stages in one process, over the in-process bus: no broker and no server. Facts are heard like anywhere else.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use transship_bus::{Bus, BusError, InProcess, Outgoing, Subscription};
use transship_messages::decode_fact;
use transship_model::Stage;
use transship_stage::{ByteBudget, RetryPolicy, Verb, Worker, WorkerSettings};
use transship_telemetry::Metrics;

use crate::exit::{Exit, Problem};
use crate::ledger::{Ledger, News};
use crate::outspoken::Outspoken;
use crate::screen::Screen;
use crate::view::{Row, View};

/// How many parts each stage works on at once. More would only share the same budget.
const SLOTS: u16 = 2;

/// How often the view is drawn.
const FRAME: Duration = Duration::from_millis(250);

/// How long what is in flight may take to let go.
const DRAIN: Duration = Duration::from_secs(15);

/// How long facts are waited for that the end of a run has overtaken.
const OVERTAKEN: Duration = Duration::from_secs(3);

/// A process of stages.
pub(crate) struct Process {
    bus: Arc<InProcess>,
    budget: ByteBudget,
    workers: JoinSet<Result<(), BusError>>,
    stop: CancellationToken,
    interrupted: CancellationToken,
    screen: Screen,
    hidden: Vec<Stage>,
}

impl Process {
    /// A process without stages, which stops when `interrupted` is cancelled. Its queues hold `messages` at least.
    pub(crate) fn new(interrupted: CancellationToken, screen: &Screen, messages: usize) -> Self {
        Self {
            bus: Arc::new(InProcess::with_depth(messages.max(1024))),
            budget: ByteBudget::new(ByteBudget::DEFAULT_BYTES),
            workers: JoinSet::new(),
            stop: CancellationToken::new(),
            interrupted,
            screen: screen.clone(),
            hidden: Vec::new(),
        }
    }

    /// Adds a stage.
    pub(crate) fn add<V: Verb>(&mut self, verb: V) {
        let settings = WorkerSettings {
            slots: SLOTS,
            slice: WorkerSettings::SLICE,
            retry: RetryPolicy::ONE_PROCESS,
            facts_mandatory: false,
        };
        let bus: Arc<dyn Bus> = Arc::<InProcess>::clone(&self.bus);
        let metrics = Metrics::new(V::STAGE);
        let worker = Worker::new(bus, Outspoken(verb), settings, self.budget.clone(), metrics);
        self.workers.spawn(worker.run(self.stop.clone()));
    }

    /// Adds a stage that has nothing to show.
    pub(crate) fn add_hidden<V: Verb>(&mut self, verb: V) {
        self.hidden.push(V::STAGE);
        self.add(verb);
    }

    /// Does `work`, and writes what happens into `ledger`, until everything came to its end. The first failure
    /// ends the rest too, unless `keep_going`.
    ///
    /// # Errors
    /// Where the process is interrupted, or cannot work at all. A failure of a stage is in the ledger.
    pub(crate) async fn run(
        mut self,
        work: Vec<Outgoing>,
        pattern: &str,
        ledger: &mut Ledger,
        keep_going: bool,
    ) -> Result<(), Problem> {
        // Bound before anything is published, so that no fact is missed.
        let facts = self.bus.subscribe(pattern).await.map_err(|error| broken(&error))?;
        self.bus.publish(work).await.map_err(|error| broken(&error))?;
        let mut view = View::new(&self.screen);
        let result = self.follow(facts, ledger, keep_going, &mut view).await;
        drop(view);
        self.drain().await;
        result
    }

    async fn follow(
        &mut self,
        mut facts: Subscription,
        ledger: &mut Ledger,
        keep_going: bool,
        view: &mut View,
    ) -> Result<(), Problem> {
        let mut frame = interval(FRAME);
        while !ledger.is_over() && (keep_going || ledger.failure().is_none()) {
            tokio::select! {
                () = self.interrupted.cancelled() => {
                    return Err(Problem::interrupted("repeat the same command: it resumes where it was"));
                }
                fact = facts.facts.recv() => {
                    let fact = fact.ok_or_else(|| Problem::new(Exit::Failed, "the stages ended unexpectedly"))?;
                    hear(&fact.body, ledger, &self.screen);
                }
                Some(ended) = self.workers.join_next() => {
                    let problem = Problem::new(Exit::Failed, "a stage ended unexpectedly");
                    return Err(match ended {
                        Ok(Ok(())) => problem,
                        Ok(Err(error)) => problem.caused_by(&error),
                        Err(error) => problem.caused_by(&error),
                    });
                }
                _ = frame.tick() => show(view, ledger, &self.hidden),
            }
        }
        hear_the_rest(&mut facts, ledger, &self.screen).await;
        show(view, ledger, &self.hidden);
        Ok(())
    }

    /// Has the stages give back what they hold.
    async fn drain(mut self) {
        self.stop.cancel();
        let deadline = Instant::now() + DRAIN;
        while let Ok(Some(_)) = timeout_at(deadline, self.workers.join_next()).await {}
        let _ = timeout_at(deadline, self.bus.close()).await;
    }
}

/// Takes one fact into the ledger, and tells the person what is news.
pub(crate) fn hear(body: &[u8], ledger: &mut Ledger, screen: &Screen) {
    match decode_fact(body) {
        Ok(fact) => {
            if let Some(News::Retrying(text)) = ledger.apply(fact) {
                screen.warn(&text);
            }
        }
        // A service that is newer may say things that this command does not know.
        Err(error) => tracing::debug!(%error, "a fact cannot be understood"),
    }
}

/// Hears what was overtaken by the end of a run: it is on its way, or was missed for good.
pub(crate) async fn hear_the_rest(facts: &mut Subscription, ledger: &mut Ledger, screen: &Screen) {
    let deadline = Instant::now() + OVERTAKEN;
    while !ledger.is_told() {
        let Ok(Some(fact)) = timeout_at(deadline, facts.facts.recv()).await else { return };
        hear(&fact.body, ledger, screen);
    }
}

/// Shows how far every stage is, except those that are `hidden`.
pub(crate) fn show(view: &mut View, ledger: &Ledger, hidden: &[Stage]) {
    let rows = ledger.rows();
    let rows = rows.iter().filter(|row| !hidden.contains(&row.stage));
    view.show(&rows.map(Row::from).collect::<Vec<_>>());
}

/// The exporter's name for the command's only source registry.
pub(crate) const SOURCE: &str = "source";

/// The importer's name for the command's only target registry, and for its only pipeline.
pub(crate) const TARGET: &str = "target";

fn broken(error: &BusError) -> Problem {
    Problem::new(Exit::Failed, "the stages cannot be given their work").caused_by(error)
}
