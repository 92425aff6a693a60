//! Export pipelines with a schedule.

use transship_api::{ExportPipeline, Schedule};
use transship_model::{Repository, Tag};

use super::Selector;
use crate::registries::{Registries, Resolved};
use crate::state::ResourceRecord;

/// A pipeline with a schedule.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub(super) record: ResourceRecord,
    pub(super) key: String,
    pub(super) schedule: Schedule,
    /// `None` where the schedule cannot be used.
    pub(super) selector: Option<Selector>,
    /// The registry, where the configuration has it.
    pub(super) registry: Option<Resolved>,
}

impl Scheduled {
    /// The schedule of the pipeline `record`; `None` where it has none.
    pub(super) fn new(record: ResourceRecord, registries: &Registries) -> Option<Self> {
        let pipeline: ExportPipeline = serde_json::from_str(&record.body).ok()?;
        let schedule = pipeline.properties.schedule?;
        let registry = registries.resolve(&record.id.registry);
        let (key, selector) = (record.id.key(), Selector::new(&schedule));
        Some(Self { key, selector, registry, schedule, record })
    }

    /// Whether its registry is called `host` by clients, or reached there.
    pub(super) fn is_at(&self, host: &str) -> bool {
        self.registry.as_ref().is_some_and(|registry| {
            let reached = registry.url.split_once("://").map_or("", |(_, host)| host);
            registry.login_server.eq_ignore_ascii_case(host) || reached.eq_ignore_ascii_case(host)
        })
    }

    /// Whether a push of this tag concerns it.
    pub(super) fn hears_of(&self, repository: &Repository, tag: &Tag) -> bool {
        self.schedule.notifications
            && self
                .selector
                .as_ref()
                .is_some_and(|selector| selector.selects_repository(repository) && selector.selects_tag(tag))
    }
}
