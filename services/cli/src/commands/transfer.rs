//! `transship transfer`: export, copy and import in one process.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use transship_blob_copier::{Copier, CopySettings};
use transship_bundle::execution_of;
use transship_model::{BlobName, Failure, NamePattern, Route, Stage};
use transship_registry::RegistryClient;
use transship_storage::{Access, Container, Containers};

use super::export::{bundle_rows, exporter, facts_of, work};
use super::import::{importer, pipeline};
use crate::args::{OutputFormat, TransferArgs};
use crate::conclusion::{Conclusion, contents_of, delete_all, is_whole, may_delete};
use crate::exit::{Exit, Problem};
use crate::hints::{Doer, of_store, reword};
use crate::identity::{Wishes, short_hash};
use crate::ledger::{Goal, Ledger};
use crate::place::{of_directory, parse_place};
use crate::plan::{Resolved, RunPlan, look_up, plan, unless_interrupted};
use crate::process::{Process, TARGET};
use crate::rows::{transfer_rows, written};
use crate::sas::{SOURCE_SAS, Store, TARGET_SAS, containers};
use crate::screen::Screen;
use crate::staging::Staging;
use crate::{interrupt, references, registry};

/// Where the bundles of a transfer are.
struct Way {
    /// Where they are written.
    via: Store,
    /// Where they are copied to before they are imported from there.
    copy_to: Option<Store>,
    /// The directory of our own, where no place was named.
    staging: Option<Staging>,
    containers: Arc<Containers>,
    /// The container of `via`, then that of `copy_to`.
    open: Vec<Arc<dyn Container>>,
}

/// Runs the command.
pub(crate) async fn transfer(
    args: &TransferArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let started = Instant::now();
    let references =
        references::gather(&args.references.references, args.references.artifacts_file.as_deref())?;
    let source = registry::connect(&args.from_registry, &args.reach)?;
    let target = registry::connect(&args.to_registry, &args.reach)?;
    let interrupted = interrupt::watch(screen)?;
    let looking = look_up(&source, &references, args.continue_on_errors);
    let resolved = unless_interrupted(&interrupted, looking)
        .await
        .map_err(|problem| reword(problem, Doer::Command(&[])))?;
    let way = Way::open(args, &resolved).await?;
    let planning = way.plan(args, &resolved);
    let plan = unless_interrupted(&interrupted, planning)
        .await
        .map_err(|problem| reword(problem, Doer::Command(&way.stores())))?;
    let process = way.process(args, [source, target], interrupted, screen, plan.parts.len());
    let mut ledger = Ledger::new(plan.execution.clone(), Goal::Everywhere, plan.parts.iter().map(|p| p.part));
    let route = way.route(args.export.overwrite_blobs);
    let work = work(&plan, &way.via, &args.export, args.continue_on_errors, Some(vec![route]));
    let mut ended = process.run(work, &facts_of(&plan), &mut ledger, args.continue_on_errors).await;
    let contents = contents_of(&way.open[0], &written(&plan.parts, ledger.parts())).await;
    let artifacts = transfer_rows(&plan, ledger.parts(), &contents);
    let bundles = bundle_rows(&plan, &ledger, &way.open[0]);
    if ended.is_ok() && args.import.delete_source_blob && may_delete(&ledger, &artifacts, screen) {
        ended = way.delete(&plan).await;
    }
    let is_done = ended.is_ok() && is_whole(&ledger, &artifacts);
    let exit = Conclusion {
        command: "transfer",
        // A directory of our own that is removed is not worth a line.
        bundles: if way.staging.is_some() { Vec::new() } else { bundles },
        artifacts,
        execution: plan.execution,
        started,
        ledger: &ledger,
        stages: &way.stages(),
        doer: Doer::Command(&way.stores()),
        keeps_going: args.continue_on_errors,
    }
    .write(ended, format, screen);
    way.close(is_done);
    exit
}

impl Way {
    async fn open(args: &TransferArgs, resolved: &Resolved) -> Result<Self, Problem> {
        let (via, staging) = match &args.via {
            Some(place) => (parse_place(place)?, None),
            None => {
                let staging = Staging::open(&short_hash(texts(args, resolved)))?;
                (of_directory(&staging.place())?, Some(staging))
            }
        };
        let via =
            Store::new("source-sas", via, args.via_sas_file.as_deref(), "--via-sas-file", &[SOURCE_SAS]);
        let file = args.copy_to_sas_file.as_deref();
        let copy = |place| Store::new("target-sas", place, file, "--copy-to-sas-file", &[TARGET_SAS]);
        let copy_to = args.copy_to.as_deref().map(parse_place).transpose()?.map(copy);
        let stores: Vec<&Store> = [&via].into_iter().chain(&copy_to).collect();
        let containers = Arc::new(containers(&stores)?);
        let mut open = Vec::new();
        for store in stores {
            let opened = containers.open(&store.url, store.credential().as_ref(), Access::WRITE).await;
            open.push(opened.map_err(|failure| of_store(failure, store))?);
            if args.import.delete_source_blob {
                // Known before anything moves, rather than at the end.
                let deletes =
                    containers.open(&store.url, store.credential().as_ref(), Access::READ_DELETE).await;
                deletes.map_err(|failure| of_store(failure, store))?;
            }
        }
        Ok(Self { via, copy_to, staging, containers, open })
    }

    /// The three stages.
    fn process(
        &self,
        args: &TransferArgs,
        [source, target]: [RegistryClient; 2],
        interrupted: CancellationToken,
        screen: &Screen,
        parts: usize,
    ) -> Process {
        let pipeline = pipeline(self.last(), &args.import, args.continue_on_errors);
        let mut process = Process::new(interrupted, screen, parts);
        process.add(exporter(source, &self.containers));
        let copier = Copier::new(Arc::clone(&self.containers), CopySettings::default());
        match self.copy_to {
            Some(_) => process.add(copier),
            None => process.add_hidden(copier),
        }
        process.add(importer(target, &self.containers, pipeline));
        process
    }

    fn stores(&self) -> Vec<&Store> {
        [&self.via].into_iter().chain(&self.copy_to).collect()
    }

    /// Where the bundles are imported from.
    fn last(&self) -> &Store {
        self.copy_to.as_ref().unwrap_or(&self.via)
    }

    /// The stages whose counters say something: without a copy, the copier only finds what is there.
    fn stages(&self) -> Vec<Stage> {
        let all = [Stage::Exporter, Stage::BlobCopier, Stage::Importer];
        all.into_iter().filter(|stage| self.copy_to.is_some() || *stage != Stage::BlobCopier).collect()
    }

    /// Where nothing is copied, the route leads from the container to itself: the copier finds the bundle there,
    /// and hands it on to the importer.
    fn route(&self, overwrite: bool) -> Route {
        Route {
            source: self.via.url.clone(),
            pattern: NamePattern::default(),
            target: self.last().url.clone(),
            target_secret: self.last().credential(),
            overwrite,
            import_pipeline: Some(TARGET.parse().expect("a constant that is a name")),
            import_destination: None,
        }
    }

    async fn plan(&self, args: &TransferArgs, resolved: &Resolved) -> Result<RunPlan, Problem> {
        let wishes = Wishes { overwrite: args.export.overwrite_blobs, force: args.force };
        let made = || format!("transfer-{}", &short_hash(texts(args, resolved))[..16]);
        let blob = match &args.blob {
            Some(blob) => blob.clone(),
            None => made().parse::<BlobName>().expect("letters, digits and hyphens"),
        };
        let place = self.via.url.to_string();
        plan(resolved, &blob, args.export.part_size, &place, &self.open, wishes).await
    }

    /// Removes the directory of our own where the transfer is done; an unfinished one needs it to resume.
    fn close(self, is_done: bool) {
        if let Some(staging) = self.staging.filter(|_| is_done) {
            staging.remove();
        }
    }

    /// Deletes the bundles wherever this transfer put them, but none that another command has put there since.
    async fn delete(&self, plan: &RunPlan) -> Result<(), Problem> {
        for container in &self.open {
            let mut blobs = Vec::new();
            for part in &plan.parts {
                let found = container.properties(&part.blob).await.map_err(Failure::from)?;
                let own =
                    found.filter(|found| execution_of(&found.metadata).as_ref() == Some(&plan.execution));
                blobs.extend(own.map(|found| (part.blob.clone(), found.etag)));
            }
            delete_all(container, blobs).await?;
        }
        Ok(())
    }
}

/// What makes a transfer the same one when it is repeated.
fn texts<'a>(args: &'a TransferArgs, resolved: &'a Resolved) -> impl Iterator<Item = &'a str> {
    let blob = args.blob.as_ref().map(BlobName::as_str).unwrap_or_default();
    let copy = args.copy_to.as_deref().unwrap_or_default();
    [args.to_registry.as_str(), copy, blob].into_iter().chain(resolved.texts.iter().map(String::as_str))
}
