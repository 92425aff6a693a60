//! One look at a container, or at one blob in it, for one pipeline.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt as _, stream};
use transship_api::ResourceId;
use transship_model::{BlobName, Execution, Failure, Part, Stage};
use transship_storage::{Container, ETag, ListedBlob};

use super::decide::{Decision, Rules, Sight, decide_blob};
use super::inspect::{Look, inspect};
use super::memory::{Listing, Memory};
use super::run::{Automatic, Imported};
use crate::clock::now_ms;
use crate::dispatch::Wake;
use crate::fold::with_hint;
use crate::state::{
    NewExecution, Origin, PipelineSnapshot, RunState, SeenBlob, SeenVerdict, Store, StoreError,
};

/// The most pages of 5,000 blobs that one look takes.
const MAX_PAGES: usize = 50;

/// How many blobs are looked at in parallel.
const LOOKS: usize = 4;

/// How many rows of the visible list are read, and forgotten, at a time.
const ROWS: u32 = 500;

/// Who starts the runs of triggers, as `systemData` shows it.
const BY: &str = "transship source trigger";

/// A pipeline whose container is looked at.
pub(super) struct Scan<'a> {
    pub(super) store: &'a Store,
    pub(super) dispatch: &'a Wake,
    pub(super) pipeline: &'a ResourceId,
    /// The pipeline's key.
    pub(super) key: &'a str,
    pub(super) snapshot: &'a PipelineSnapshot,
    pub(super) container: Arc<dyn Container>,
    pub(super) rules: Rules,
    pub(super) memory: &'a Mutex<Memory>,
    /// Imports of which the importer says that they are under way.
    pub(super) heard: &'a [(Execution, Part)],
    /// Whether somebody wants the blob imported once more where its run failed or was deleted.
    pub(super) again: bool,
}

/// What a look at everything came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How many blobs there are.
    pub(super) seen: u64,
    /// What a person should know.
    pub(super) problem: Option<String>,
}

impl Scan<'_> {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at every blob of the container, and prunes the visible list.
    pub(super) async fn everything(&self) -> Result<Outcome, Failure> {
        let began_ms = now_ms();
        let (mut outcome, mut listing, mut marker) = (Outcome::default(), Listing::default(), None::<String>);
        for _ in 0..MAX_PAGES {
            let page = self.container.list("", marker.as_deref()).await?;
            outcome.seen += page.blobs.len() as u64;
            page.blobs.iter().for_each(|blob| self.memory().list(&mut listing, &blob.name));
            self.page(page.blobs, &mut outcome).await?;
            match page.next {
                Some(next) if marker.as_ref() != Some(&next) => marker = Some(next),
                _ => {
                    if self.memory().keep(&listing) {
                        self.prune(&listing, began_ms).await?;
                    }
                    return Ok(outcome);
                }
            }
        }
        let many = format!(
            "the container has more than {} blobs, and those behind them are not seen (delete bundles once they are \
             imported: DeleteSourceBlobOnSuccess)",
            outcome.seen
        );
        outcome.problem.get_or_insert(many);
        Ok(outcome)
    }

    async fn page(&self, blobs: Vec<ListedBlob>, outcome: &mut Outcome) -> Result<(), Failure> {
        let mut looks = stream::iter(blobs)
            .map(|blob| async move {
                let name = blob.name.clone();
                (name, self.listed(blob).await)
            })
            .buffer_unordered(LOOKS);
        let mut failed = 0_u32;
        while let Some((name, looked)) = looks.next().await {
            if let Err(failure) = looked {
                // One blob must not keep the others from being imported.
                failed += 1;
                let first = with_hint(&failure.message, failure.hint.as_deref());
                outcome.problem.get_or_insert(format!("blob {name}: {first}; it is looked at again"));
                if failed > 100 {
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// Looks at one blob that somebody named.
    pub(super) async fn one(&self, blob: &BlobName) -> Result<(), Failure> {
        let Some(properties) = self.container.properties(blob).await? else { return Ok(()) };
        let listed = ListedBlob {
            name: blob.clone(),
            length: properties.length,
            etag: Some(properties.etag),
            modified: properties.modified,
            copying: properties.copying,
        };
        self.listed(listed).await
    }

    /// Decides on a blob, and does what was decided.
    async fn listed(&self, blob: ListedBlob) -> Result<(), Failure> {
        let ListedBlob { name, length, etag, modified, copying } = blob;
        let etag = match etag {
            Some(etag) => etag,
            // A listing that does not say it.
            None => match self.container.properties(&name).await? {
                Some(properties) => properties.etag,
                None => return Ok(()),
            },
        };
        if !self.again && self.memory().is_settled(&name, &etag.0) {
            return Ok(());
        }
        let before = self.store.seen_blob(self.key, &name, &etag.0).await.map_err(Failure::from)?;
        let owner = before.as_ref().and_then(|seen| match &seen.verdict {
            SeenVerdict::Imported { run, .. } => Some(run.clone()),
            _ => None,
        });
        if let Some(run) = &owner
            && !(self.again && self.did_not_deliver(run).await.map_err(Failure::from)?)
        {
            self.memory().settle(&name, &etag.0);
            return Ok(());
        }
        let modified_ms = modified.map(|modified| modified.as_millisecond());
        let first_ms = before.as_ref().map_or(self.rules.now_ms, |seen| seen.first_ms);
        let sight = Sight { length, modified_ms, copying, first_ms, inspected: None };
        let (decision, look) = match (owner, decide_blob(&sight, &self.rules)) {
            // What was a bundle is one.
            (Some(run), _) => {
                let note = format!("once more, since the run {run} did not import it");
                (Decision::Import { note: Some(note) }, None)
            }
            (None, Decision::Inspect) => {
                let Some(look) = self.look(&name, &etag).await? else { return Ok(()) };
                (decide_blob(&Sight { inspected: Some(&look.inspected), ..sight }, &self.rules), Some(look))
            }
            (None, decision) => (decision, None),
        };
        let made_by = look.and_then(|look| look.made_by);
        let Some(verdict) = self.act(&name, &etag.0, decision, made_by).await? else { return Ok(()) };
        let stands = !matches!(verdict, SeenVerdict::Waiting { .. });
        if before.is_none_or(|seen| seen.verdict != verdict) {
            let (pipeline, blob, etag) = (self.key.to_owned(), name.clone(), etag.0.clone());
            let seen = SeenBlob { pipeline, blob, etag, length, verdict, first_ms, changed_ms: now_ms() };
            self.store.put_seen_blob(seen).await.map_err(Failure::from)?;
        }
        if stands {
            self.memory().settle(&name, &etag.0);
        }
        Ok(())
    }

    /// A closer look; `None` where the blob changed or went meanwhile, and is looked at next time.
    async fn look(&self, name: &BlobName, etag: &ETag) -> Result<Option<Look>, Failure> {
        let Some(properties) = self.container.properties(name).await? else { return Ok(None) };
        if properties.etag != *etag {
            return Ok(None);
        }
        let mut look = inspect(&*self.container, name, &properties, self.pipeline).await?;
        if look.inspected.announced
            && let Some((execution, part)) = &look.made_by
        {
            look.inspected.heard = self.has_begun(execution, *part).await?;
        }
        Ok(Some(look))
    }

    /// Whether the importer has said something of this part, read from this container.
    async fn has_begun(&self, execution: &Execution, part: Part) -> Result<bool, Failure> {
        if self.heard.iter().any(|(heard, of)| heard == execution && *of == part) {
            return Ok(true);
        }
        let parts = self.store.parts(execution).await.map_err(Failure::from)?;
        let here = Some(self.container.url());
        let mut stages =
            parts.iter().filter(|known| known.number == part.number).flat_map(|known| &known.state.stages);
        Ok(stages.any(|stage| stage.stage == Stage::Importer && stage.target.as_ref() == here))
    }

    async fn act(
        &self,
        name: &BlobName,
        etag: &str,
        decision: Decision,
        made_by: Option<(Execution, Part)>,
    ) -> Result<Option<SeenVerdict>, Failure> {
        Ok(Some(match decision {
            Decision::Inspect => return Ok(None),
            Decision::Wait { reason, until_ms } => SeenVerdict::Waiting { reason, until_ms },
            Decision::Ignore { reason } => SeenVerdict::Ignored { reason },
            Decision::Import { note } => {
                let run = self.start(name, etag, Automatic::own_execution()).await?;
                SeenVerdict::Imported { run, note }
            }
            Decision::Adopt => {
                let Some((execution, part)) = made_by else { return Ok(None) };
                let only = (part.count > 1).then_some(part.number);
                let adopted = NewExecution::Adopted { execution, parts: part.count, only };
                let note = Some("a copier announced it".to_owned());
                SeenVerdict::Imported { run: self.start(name, etag, adopted).await?, note }
            }
        }))
    }

    /// Starts the run of a blob, or finds the one that has it: the run's resource id.
    async fn start(&self, name: &BlobName, etag: &str, execution: NewExecution) -> Result<String, Failure> {
        let now_ms = now_ms();
        let automatic = Automatic {
            pipeline: self.pipeline.clone(),
            snapshot: self.snapshot.clone(),
            blob: name.clone(),
            artifacts: Vec::new(),
            origin: Origin::SourceTrigger { found_ms: now_ms },
            execution,
            by: BY,
            now_ms,
        };
        let put = async |instead_of| {
            automatic.clone().put_import(self.store, etag, instead_of).await.map_err(Failure::from)
        };
        let run = match put(None).await? {
            Imported::By(run) => run,
            Imported::ByAnother(owner) => {
                if !(self.again && self.did_not_deliver(&owner).await.map_err(Failure::from)?) {
                    return Ok(owner);
                }
                match put(Some(owner)).await? {
                    Imported::By(run) => run,
                    Imported::ByAnother(run) => return Ok(run),
                }
            }
        };
        self.dispatch.wake();
        tracing::info!(pipeline = %self.pipeline, blob = %name, run = run.name(), "a bundle has arrived");
        Ok(run.to_string())
    }

    /// Whether a run is over, or was deleted, and did not import its bundle as far as anybody knows.
    async fn did_not_deliver(&self, run: &str) -> Result<bool, StoreError> {
        let Ok(id) = run.parse() else { return Ok(true) };
        let run = self.store.run_stands(&id).await?;
        Ok(run.is_none_or(|run| matches!(run.state, RunState::Failed { .. })))
    }

    /// Forgets what the visible list says of blobs that are gone. What was seen since the listing began stays.
    async fn prune(&self, listing: &Listing, began_ms: i64) -> Result<(), Failure> {
        let mut after: Option<String> = None;
        loop {
            let rows =
                self.store.seen_blobs(self.key, after.as_deref(), ROWS).await.map_err(Failure::from)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.blob.to_string());
            let is_gone =
                |seen: &&SeenBlob| seen.first_ms < began_ms && !self.memory().is_listed(listing, &seen.blob);
            let gone: Vec<BlobName> = rows.iter().filter(is_gone).map(|seen| seen.blob.clone()).collect();
            if !gone.is_empty() {
                self.store.forget_seen_blobs(self.key, gone).await.map_err(Failure::from)?;
            }
        }
    }
}
