//! What Azure Container Registry does not have: health, dead letters, what a trigger sees, where an artifact is.

use axum::http::StatusCode;
use axum::response::Response;
use transship_api::{
    ArtifactSighting, DeadLetterView, Health, Kind, Page, ResourceId, SeenBlobView, WatchView,
};
use transship_model::ArtifactReference;

use super::answer::json;
use super::query::Query;
use super::{Asked, Server};
use crate::api::{Order, run_view, unavailable};
use crate::check::shown as shown_text;
use crate::clock::shown;
use crate::dead_letters::{Requeued, requeue};
use crate::refusal::Refusal;
use crate::state::{DeadLetterLine, RunState, SeenBlob, SeenVerdict};
use crate::trigger::WatchStatus;

/// How many runs are named that carried an artifact.
const SIGHTINGS: u32 = 20;

impl Server {
    pub(super) fn health(&self) -> Response {
        let reasons = self.readiness.reasons();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let unattended = self.unattended.borrow().clone();
        json(StatusCode::OK, &Health { version, ready: reasons.is_empty(), reasons, unattended })
    }

    pub(super) async fn dead_letters(&self, asked: &Asked, query: &Query) -> Result<Response, Refusal> {
        let paging = query.paging(self.api.limits.page_size, Order::OldestFirst)?;
        let store = &self.api.store;
        let mut letters = store.dead_letter_lines(paging.after, paging.top + 1).await.map_err(unavailable)?;
        let more = letters.len() > paging.top as usize;
        letters.truncate(paging.top as usize);
        let next_link = letters
            .last()
            .filter(|_| more)
            .map(|last| paging.next_link(&asked.base, &asked.path, None, last.id));
        let value = letters.into_iter().map(dead_letter).collect();
        Ok(json(StatusCode::OK, &Page::<DeadLetterView> { value, next_link }))
    }

    /// Puts a dead letter back into its queue; the dispatcher publishes it.
    pub(super) async fn requeue(&self, id: i64) -> Result<Response, Refusal> {
        let store = &self.api.store;
        match requeue(store, &self.api.wake, id).await.map_err(unavailable)? {
            Requeued::Done => {}
            Requeued::Unknown => return Err(Refusal::not_found(format!("The dead letter {id}"))),
            Requeued::Already => {
                let message = format!(
                    "The dead letter {id} was put back already. Where it fails again, it comes back anew."
                );
                return Err(Refusal::new(409, "AlreadyRequeued", message));
            }
            Requeued::Refused(why) => {
                let message = format!("The dead letter {id} cannot be put back: {why}.");
                return Err(Refusal::new(409, "CannotRequeue", message));
            }
        }
        let letters = store.dead_letter_lines(id - 1, 1).await.map_err(unavailable)?;
        let letter = letters.into_iter().find(|letter| letter.id == id);
        let letter = letter.ok_or_else(|| Refusal::not_found(format!("The dead letter {id}")))?;
        Ok(json(StatusCode::OK, &dead_letter(letter)))
    }

    /// What the trigger of an import pipeline sees in its container, and why it imports it or not.
    pub(super) async fn seen_blobs(
        &self,
        asked: &Asked,
        id: &ResourceId,
        query: &Query,
    ) -> Result<Response, Refusal> {
        let store = &self.api.store;
        let record = store.resource(id).await.map_err(unavailable)?;
        if record.is_none_or(|record| record.kind != Kind::ImportPipeline) {
            return Err(Refusal::not_found(format!("The import pipeline '{}'", shown_text(id.name()))));
        }
        let paging = query.paging(self.api.limits.page_size, Order::OldestFirst)?;
        let after = query.get("after");
        let mut blobs = store.seen_blobs(&id.key(), after, paging.top + 1).await.map_err(unavailable)?;
        let more = blobs.len() > paging.top as usize;
        blobs.truncate(paging.top as usize);
        let next_link = blobs.last().filter(|_| more).map(|last| {
            let mut link = url::form_urlencoded::Serializer::new(String::new());
            link.append_pair("$top", &paging.top.to_string()).append_pair("after", last.blob.as_str());
            format!("{}{}?{}", asked.base, asked.path, link.finish())
        });
        let mut value = Vec::with_capacity(blobs.len());
        for blob in blobs {
            value.push(self.seen(blob).await?);
        }
        Ok(json(StatusCode::OK, &Page::<SeenBlobView> { value, next_link }))
    }

    /// What the trigger or schedule of a pipeline is doing.
    pub(super) async fn watch(&self, id: &ResourceId) -> Result<Response, Refusal> {
        if self.api.store.resource(id).await.map_err(unavailable)?.is_none() {
            return Err(Refusal::not_found(format!("The pipeline '{}'", shown_text(id.name()))));
        }
        let status = self.hints.watching(id);
        let watching = status.is_some();
        let WatchStatus { elsewhere, checked_ms, seen, problem } = status.unwrap_or_default();
        let view = WatchView { watching, elsewhere, checked: checked_ms.map(shown), seen, problem };
        Ok(json(StatusCode::OK, &view))
    }

    /// The newest runs that carried an artifact, of the newest 10,000 runs.
    pub(super) async fn artifacts(&self, query: &Query) -> Result<Response, Refusal> {
        let text = query.get("reference").ok_or_else(|| {
            let message = "The query parameter reference is missing: add ?reference=repository:tag.";
            Refusal::new(400, "MissingReference", message).at("reference")
        })?;
        let full = if text.contains([':', '@']) { text.to_owned() } else { format!("{text}:latest") };
        let reference: ArtifactReference = full.parse().map_err(|error| {
            Refusal::new(400, "InvalidArtifactReference", format!("{error}.")).at("reference")
        })?;
        let store = &self.api.store;
        let runs = store.runs_that_carried(&reference, SIGHTINGS).await.map_err(unavailable)?;
        let mut value = Vec::new();
        for run in runs {
            let parts = store.parts(&run.execution).await.map_err(unavailable)?;
            let Some(response) = run_view(&run, Some(&parts)).properties.response else { continue };
            let name = reference.to_string();
            let is = |artifact: &transship_api::ArtifactProgress| {
                artifact.artifact == name || artifact.imported_as.as_ref() == Some(&name)
            };
            let Some(artifact) = response.artifacts.into_iter().find(is) else { continue };
            value.push(ArtifactSighting {
                run: run.id.to_string(),
                status: response.status,
                start_time: response.start_time,
                artifact,
                stages: response.stages,
            });
        }
        Ok(json(StatusCode::OK, &Page { value, next_link: None }))
    }

    async fn seen(&self, blob: SeenBlob) -> Result<SeenBlobView, Refusal> {
        let (verdict, run, reason, until) = match blob.verdict {
            SeenVerdict::Imported { run, note } => ("Imported", Some(run), note, None),
            SeenVerdict::Waiting { reason, until_ms } => {
                ("Waiting", None, Some(reason), Some(shown(until_ms)))
            }
            SeenVerdict::Ignored { reason } => ("Ignored", None, Some(reason), None),
        };
        let stands = match run.as_deref().map(str::parse) {
            Some(Ok(id)) => self.api.store.run_stands(&id).await.map_err(unavailable)?,
            _ => None,
        };
        let (run_status, reason) = match (&run, stands.map(|run| run.state)) {
            (None, _) => (None, reason),
            (Some(_), None) => (Some("Deleted"), Some(with_note(AGAIN, reason))),
            (Some(_), Some(RunState::Waiting { .. })) => (Some("Waiting"), reason),
            (Some(_), Some(RunState::Running)) => (Some("Running"), reason),
            (Some(_), Some(RunState::Succeeded { .. })) => (Some("Succeeded"), reason),
            (Some(_), Some(RunState::Failed { message, .. })) => {
                (Some("Failed"), Some(with_note(&format!("{message}; {AGAIN}"), reason)))
            }
        };
        Ok(SeenBlobView {
            blob: blob.blob.to_string(),
            etag: blob.etag,
            length: blob.length,
            verdict: verdict.to_owned(),
            run,
            run_status: run_status.map(str::to_owned),
            reason,
            until,
            first_seen: shown(blob.first_ms),
            changed: shown(blob.changed_ms),
        })
    }
}

fn dead_letter(letter: DeadLetterLine) -> DeadLetterView {
    DeadLetterView {
        id: letter.id,
        queue: letter.queue.name().to_owned(),
        message_id: letter.message_id,
        kind: letter.kind,
        execution: letter.execution,
        runs: letter.runs,
        reason: letter.reason,
        body_bytes: letter.body_bytes,
        at: shown(letter.at_ms),
        requeued_at: letter.requeued_ms.map(shown),
    }
}

/// What a person does about a bundle whose run did not import it.
const AGAIN: &str = "a hint that names this blob has it imported once more";

fn with_note(reason: &str, note: Option<String>) -> String {
    note.map_or_else(|| reason.to_owned(), |note| format!("{reason} ({note})"))
}
