//! `transship import`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use transship_bus::{Outgoing, WorkQueue};
use transship_importer::{ImportPipeline, ImportSettings, Importer};
use transship_messages::ImportRequested;
use transship_model::{Counters, Execution, ImportOptions, RenameRules, Stage};
use transship_registry::{RegistryClient, Source, Target};
use transship_stage::work_message;
use transship_storage::{Access, Containers};

use crate::args::{ImportArgs, ImportOptionArgs, OutputFormat};
use crate::bundle::{Located, locate_file, locate_in};
use crate::conclusion::{Conclusion, artifacts_of, delete_all, may_delete};
use crate::exit::{Exit, Problem};
use crate::hints::Doer;
use crate::identity::{execution_id, now_ms};
use crate::ledger::{Goal, Ledger};
use crate::place::parse_place;
use crate::plan::unless_interrupted;
use crate::process::{Process, TARGET};
use crate::report::BundleRow;
use crate::rows::{BundleContents, import_rows};
use crate::sas::{Store, TARGET_SAS};
use crate::screen::Screen;
use crate::{interrupt, registry};

/// Runs the command.
pub(crate) async fn import(
    args: &ImportArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let started = Instant::now();
    let client = registry::connect(&args.registry, &args.reach)?;
    let interrupted = interrupt::watch(screen)?;
    let located = unless_interrupted(&interrupted, find(args)).await?;
    if let (Some(name), count @ 2..) = (&args.options.name_as, located.parts.len()) {
        return Err(Problem::usage(format!("the bundle has {count} parts, and {name} names one artifact"))
            .hint("leave out --as, and use --rename"));
    }
    let contents =
        unless_interrupted(&interrupted, async { Ok::<_, Problem>(contents(&located).await) }).await?;
    let execution = execution(&located, client.host());
    let mut process = Process::new(interrupted, screen, located.parts.len());
    process.add(importer(
        client,
        &located.containers,
        pipeline(&located.store, &args.options, args.continue_on_errors),
    ));
    let parts = located.parts.iter().map(|part| part.part);
    let mut ledger = Ledger::new(execution.clone(), Goal::Imported, parts);
    let pattern = format!("{}.#", execution.id);
    let mut ended =
        process.run(work(&located, &execution), &pattern, &mut ledger, args.continue_on_errors).await;
    let artifacts = import_rows(ledger.parts(), &contents);
    let deletes = ended.is_ok() && args.options.delete_source_blob && may_delete(&ledger, &artifacts, screen);
    if deletes {
        let blobs = located.parts.iter().map(|part| (part.blob.clone(), part.properties.etag.clone()));
        ended = delete_all(&located.container, blobs).await;
    }
    let bundles = bundle_rows(&located, &ledger, deletes && ended.is_ok());
    Conclusion {
        command: "import",
        execution,
        started,
        bundles,
        artifacts,
        ledger: &ledger,
        stages: &[Stage::Importer],
        doer: Doer::Command(&[&located.store]),
        keeps_going: args.continue_on_errors,
    }
    .write(ended, format, screen)
}

async fn find(args: &ImportArgs) -> Result<Located, Problem> {
    if let Some(file) = &args.file {
        return locate_file(file).await;
    }
    let (Some(from), Some(blob)) = (&args.from, &args.blob) else {
        return Err(Problem::usage("say where the bundle is: --from PLACE --blob NAME, or --file FILE"));
    };
    let place = parse_place(from)?;
    let store =
        Store::new("target-sas", place, args.from_sas_file.as_deref(), "--from-sas-file", &[TARGET_SAS]);
    let access = if args.options.delete_source_blob { Access::READ_DELETE } else { Access::READ };
    locate_in(store, blob, access).await
}

/// What the bundles hold, for the report. One that cannot be read is for the stage to complain of.
async fn contents(located: &Located) -> BundleContents {
    let mut contents = BundleContents::new();
    for part in &located.parts {
        if let Ok(artifacts) = artifacts_of(&located.container, part).await {
            contents.insert(part.part.number, artifacts);
        }
    }
    contents
}

fn execution(located: &Located, registry: &str) -> Execution {
    let url = located.store.url.to_string();
    let blobs = located.parts.iter().flat_map(|part| [part.blob.as_str(), part.properties.etag.0.as_str()]);
    let id = execution_id(["import", registry, &url].into_iter().chain(blobs));
    Execution { id, generation: now_ms() }
}

/// The importer of a command with one target registry and one pipeline.
pub(super) fn importer(
    client: RegistryClient,
    containers: &Arc<Containers>,
    pipeline: ImportPipeline,
) -> Importer {
    let target: Arc<dyn Target> = Arc::new(client);
    Importer::new(
        BTreeMap::from([(pipeline.registry.clone(), target)]),
        Arc::clone(containers),
        BTreeMap::from([(TARGET.parse().expect("a constant that is a name"), pipeline)]),
        ImportSettings::default(),
    )
}

/// The pipeline from the container of `store`. It never deletes: the command does, once every part is imported,
/// so that one that was interrupted finds all parts again.
pub(super) fn pipeline(
    store: &Store,
    options: &ImportOptionArgs,
    continue_on_errors: bool,
) -> ImportPipeline {
    ImportPipeline {
        registry: TARGET.parse().expect("a constant that is a name"),
        container: store.url.clone(),
        secret: store.credential(),
        options: ImportOptions {
            overwrite_tags: options.overwrite_tags,
            continue_on_errors,
            ..ImportOptions::default()
        },
        rename: RenameRules(options.rename.clone()),
        mount_from: options.mount_from.clone(),
        name_as: options.name_as.clone(),
    }
}

fn work(located: &Located, execution: &Execution) -> Vec<Outgoing> {
    let message = |part: &crate::bundle::BundlePart| {
        let item = ImportRequested {
            execution: execution.clone(),
            part: part.part,
            pipeline: TARGET.parse().expect("a constant that is a name"),
            destination: None,
            container: located.store.url.clone(),
            blob: part.blob.clone(),
            etag: Some(part.properties.etag.0.clone()),
            catalog_digest: None,
            slice: 0,
            carried: Counters::default(),
            sealed_upload: None,
        };
        work_message(&item, WorkQueue::ImporterImports, BTreeMap::new())
    };
    located.parts.iter().map(message).collect()
}

fn bundle_rows(located: &Located, ledger: &Ledger, deleted: bool) -> Vec<BundleRow> {
    let imported = |number| ledger.parts().get(number).is_some_and(|state| !state.imported.is_empty());
    let parts = located.parts.iter().filter(|part| imported(&part.part.number));
    parts
        .map(|part| BundleRow {
            container: located.store.url.to_string(),
            blob: part.blob.to_string(),
            length: part.properties.length,
            catalog_digest: None,
            state: if deleted { "imported and deleted" } else { "imported" },
        })
        .collect()
}
