//! The metrics of one stage service. Methods are typed: there is no way to put free text into a label.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use transship_model::{Code, Stage};

use crate::inventory::{self, Family, Kind};
use crate::label::{
    BlobResult, BusCondition, CopyMode, Direction, LabelValue, MessageOutcome, Outcome, PartOutcome, Share,
    SlotState,
};

/// The metrics of a process. Clones share the same values.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
}

struct Families {
    stage: Stage,
    registry: Registry,
    artifacts: Counters<Outcome>,
    bytes: Counters<Direction>,
    blobs: Counters<BlobResult>,
    parts: Counters<PartOutcome>,
    stage_duration: Histogram,
    parts_in_flight: IntGauge,
    worker_slots: Gauges<SlotState>,
    retries: Counters<Code>,
    errors: Counters<Code>,
    messages: Counters<MessageOutcome>,
    publish_duration: Histogram,
    byte_budget: Gauges<Share>,
    bus_state: Gauges<BusCondition>,
    last_success: Gauge,
    copy_mode: Counters<CopyMode>,
    peak_memory: Gauge,
}

impl Metrics {
    /// The content type of [`Metrics::render`]: the Prometheus text exposition format, version 0.0.4.
    pub const CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;

    /// The metrics of a service of this stage. Every series exists from here on, at 0.
    pub fn new(stage: Stage) -> Self {
        let build = Build { stage, registry: Registry::new() };
        build.gauge(&inventory::BUILD_INFO).set(1.0);
        let families = Families {
            stage,
            artifacts: build.counters(&inventory::ARTIFACTS),
            bytes: build.counters(&inventory::BYTES),
            blobs: build.counters(&inventory::BLOBS),
            parts: build.counters(&inventory::PARTS),
            stage_duration: build.histogram(&inventory::STAGE_DURATION),
            parts_in_flight: build.int_gauge(&inventory::PARTS_IN_FLIGHT),
            worker_slots: build.gauges(&inventory::WORKER_SLOTS),
            retries: build.counters(&inventory::RETRIES),
            errors: build.counters(&inventory::ERRORS),
            messages: build.counters(&inventory::MESSAGES),
            publish_duration: build.histogram(&inventory::PUBLISH_DURATION),
            byte_budget: build.gauges(&inventory::BYTE_BUDGET),
            bus_state: build.gauges(&inventory::BUS_STATE),
            last_success: build.gauge(&inventory::LAST_SUCCESS),
            copy_mode: build.counters(&inventory::COPY_MODE),
            peak_memory: build.gauge(&inventory::PEAK_MEMORY),
            registry: build.registry,
        };
        #[cfg(target_os = "linux")]
        families
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("no family of the inventory begins with process_");
        Self { families: Arc::new(families) }
    }

    /// The stage that these metrics are of.
    pub fn stage(&self) -> Stage {
        self.families.stage
    }

    /// The work queue that these metrics are of: the value of `queue`.
    pub fn queue(&self) -> &'static str {
        inventory::queue_of(self.families.stage)
    }

    /// `count` artifacts were finished.
    pub fn artifacts(&self, outcome: Outcome, count: u64) {
        self.families.artifacts.add(outcome, count);
    }

    /// `count` bytes of content were read or written.
    pub fn bytes(&self, direction: Direction, count: u64) {
        self.families.bytes.add(direction, count);
    }

    /// `count` blobs or manifests were finished.
    pub fn blobs(&self, result: BlobResult, count: u64) {
        self.families.blobs.add(result, count);
    }

    /// A part ended in this stage. One that succeeded also sets the time of the last success.
    pub fn part(&self, outcome: PartOutcome) {
        self.families.parts.add(outcome, 1);
        if outcome == PartOutcome::Succeeded {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.families.last_success.set(now.as_secs_f64());
        }
    }

    /// A part is being worked on, until the value is dropped.
    pub fn part_in_flight(&self) -> PartInFlight {
        self.families.parts_in_flight.inc();
        PartInFlight(self.families.parts_in_flight.clone())
    }

    /// How long one delivery took, from taking it to settling it.
    pub fn stage_duration(&self, took: Duration) {
        self.families.stage_duration.observe(took.as_secs_f64());
    }

    /// How many worker slots are used, and how many are free.
    pub fn worker_slots(&self, used: usize, free: usize) {
        self.families.worker_slots.set(SlotState::Used, used as f64);
        self.families.worker_slots.set(SlotState::Free, free as f64);
    }

    /// A call or a delivery is repeated because of a failure with this code.
    pub fn retry(&self, reason: Code) {
        self.families.retries.add(reason, 1);
    }

    /// A failure ended a delivery or an artifact.
    pub fn error(&self, code: Code) {
        self.families.errors.add(code, 1);
    }

    /// A delivery was settled.
    pub fn message(&self, outcome: MessageOutcome) {
        self.families.messages.add(outcome, 1);
    }

    /// How long the broker took to confirm a batch of messages.
    pub fn publish_duration(&self, took: Duration) {
        self.families.publish_duration.observe(took.as_secs_f64());
    }

    /// The byte budget, in bytes.
    pub fn byte_budget(&self, used: u64, limit: u64) {
        self.families.byte_budget.set(Share::Used, used as f64);
        self.families.byte_budget.set(Share::Limit, limit as f64);
    }

    /// The state of the connection to the broker.
    pub fn bus_state(&self, condition: BusCondition) {
        for state in BusCondition::all() {
            self.families.bus_state.set(*state, if *state == condition { 1.0 } else { 0.0 });
        }
    }

    /// A bundle was copied.
    pub fn copy_mode(&self, mode: CopyMode) {
        self.families.copy_mode.add(mode, 1);
    }

    /// The text exposition of all of it, families in the order of their names.
    pub fn render(&self) -> String {
        self.families.peak_memory.set(peak_memory_bytes().unwrap_or(0) as f64);
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.families.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and every family has a series");
        String::from_utf8(text).expect("names, help and label values are all UTF-8")
    }
}

/// Counts a part as in flight for as long as it lives.
#[must_use = "the part is in flight only while this lives"]
pub struct PartInFlight(IntGauge);

impl Drop for PartInFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One counter per value of the label that varies.
struct Counters<L>(Vec<IntCounter>, PhantomData<fn(L)>);

impl<L: LabelValue> Counters<L> {
    fn add(&self, value: L, count: u64) {
        self.0[value.index()].inc_by(count);
    }
}

/// One gauge per value of the label that varies.
struct Gauges<L>(Vec<Gauge>, PhantomData<fn(L)>);

impl<L: LabelValue> Gauges<L> {
    fn set(&self, value: L, to: f64) {
        self.0[value.index()].set(to);
    }
}

const VALID: &str = "the inventory has valid and distinct names, which its tests hold";

/// Makes families of the inventory, each registered once.
struct Build {
    stage: Stage,
    registry: Registry,
}

impl Build {
    /// The labels whose value is the same for the whole process, and the name of the one that varies.
    fn options(&self, family: &Family) -> (Opts, Option<&'static str>) {
        let mut options = Opts::new(family.name, family.help);
        let mut varying = None;
        for label in family.labels {
            match label.name {
                "stage" => options = options.const_label("stage", self.stage.name()),
                "queue" => options = options.const_label("queue", inventory::queue_of(self.stage)),
                "version" => options = options.const_label("version", inventory::VERSION),
                name => varying = Some(name),
            }
        }
        (options, varying)
    }

    fn counters<L: LabelValue>(&self, family: &Family) -> Counters<L> {
        let (options, varying) = self.options(family);
        let made = IntCounterVec::new(options, &[varying.expect(VALID)]).expect(VALID);
        self.registry.register(Box::new(made.clone())).expect(VALID);
        Counters(L::all().iter().map(|value| made.with_label_values(&[value.text()])).collect(), PhantomData)
    }

    fn gauges<L: LabelValue>(&self, family: &Family) -> Gauges<L> {
        let (options, varying) = self.options(family);
        let made = GaugeVec::new(options, &[varying.expect(VALID)]).expect(VALID);
        self.registry.register(Box::new(made.clone())).expect(VALID);
        Gauges(L::all().iter().map(|value| made.with_label_values(&[value.text()])).collect(), PhantomData)
    }

    fn gauge(&self, family: &Family) -> Gauge {
        let made = Gauge::with_opts(self.options(family).0).expect(VALID);
        self.registry.register(Box::new(made.clone())).expect(VALID);
        made
    }

    fn int_gauge(&self, family: &Family) -> IntGauge {
        let made = IntGauge::with_opts(self.options(family).0).expect(VALID);
        self.registry.register(Box::new(made.clone())).expect(VALID);
        made
    }

    fn histogram(&self, family: &Family) -> Histogram {
        let Kind::Histogram { buckets } = family.kind else { unreachable!("{VALID}") };
        let options = HistogramOpts { common_opts: self.options(family).0, buckets: buckets.to_vec() };
        let made = Histogram::with_opts(options).expect(VALID);
        self.registry.register(Box::new(made.clone())).expect(VALID);
        made
    }
}

/// `VmHWM` of `/proc/self/status`, in bytes.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}
