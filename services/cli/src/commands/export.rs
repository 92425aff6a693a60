//! `transship export`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use transship_bus::WorkQueue;
use transship_exporter::{ExportSettings, Exporter};
use transship_messages::ExportPart;
use transship_model::{Counters, Route, Stage};
use transship_registry::{RegistryClient, Source};
use transship_stage::work_message;
use transship_storage::{Access, Container, Containers};

use crate::args::{ExportArgs, ExportOptionArgs, OutputFormat};
use crate::conclusion::{Conclusion, contents_of};
use crate::exit::{Exit, Problem};
use crate::hints::{Doer, of_store, reword};
use crate::identity::Wishes;
use crate::interrupt;
use crate::ledger::{Goal, Ledger};
use crate::place::parse_place;
use crate::plan::{RunPlan, look_up, plan, unless_interrupted};
use crate::process::{Process, SOURCE};
use crate::report::BundleRow;
use crate::rows::{export_rows, written};
use crate::sas::{SOURCE_SAS, Store, containers};
use crate::screen::Screen;
use crate::{references, registry};

/// Runs the command.
pub(crate) async fn export(
    args: &ExportArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let started = Instant::now();
    let references =
        references::gather(&args.references.references, args.references.artifacts_file.as_deref())?;
    let client = registry::connect(&args.registry, &args.reach)?;
    let place = parse_place(&args.to)?;
    let store = Store::new("source-sas", place, args.to_sas_file.as_deref(), "--to-sas-file", &[SOURCE_SAS]);
    let containers = Arc::new(containers(&[&store])?);
    let container = containers.open(&store.url, store.credential().as_ref(), Access::WRITE).await;
    let container = container.map_err(|failure| of_store(failure, &store))?;
    let interrupted = interrupt::watch(screen)?;
    let planning = async {
        let resolved = look_up(&client, &references, args.continue_on_errors).await?;
        let wishes = Wishes { overwrite: args.options.overwrite_blobs, force: args.force };
        let place = store.url.to_string();
        let stores = [Arc::clone(&container)];
        plan(&resolved, &args.blob, args.options.part_size, &place, &stores, wishes).await
    };
    let plan = unless_interrupted(&interrupted, planning)
        .await
        .map_err(|problem| reword(problem, Doer::Command(&[&store])))?;
    let mut process = Process::new(interrupted, screen, plan.parts.len());
    process.add(exporter(client, &containers));
    let mut ledger = Ledger::new(plan.execution.clone(), Goal::Exported, plan.parts.iter().map(|p| p.part));
    let work = work(&plan, &store, &args.options, args.continue_on_errors, Some(Vec::new()));
    let ended = process.run(work, &facts_of(&plan), &mut ledger, args.continue_on_errors).await;
    let contents = contents_of(&container, &written(&plan.parts, ledger.parts())).await;
    Conclusion {
        command: "export",
        bundles: bundle_rows(&plan, &ledger, &container),
        artifacts: export_rows(&plan, ledger.parts(), &contents),
        execution: plan.execution,
        started,
        ledger: &ledger,
        stages: &[Stage::Exporter],
        doer: Doer::Command(&[&store]),
        keeps_going: args.continue_on_errors,
    }
    .write(ended, format, screen)
}

/// The exporter of a command with one source registry.
pub(super) fn exporter(client: RegistryClient, containers: &Arc<Containers>) -> Exporter {
    let source: Arc<dyn Source> = Arc::new(client);
    let name = SOURCE.parse().expect("a constant that is a name");
    Exporter::new(
        BTreeMap::from([(name, source)]),
        Arc::clone(containers),
        Vec::new(),
        ExportSettings::default(),
    )
}

/// The pattern of the facts of a run.
pub(super) fn facts_of(plan: &RunPlan) -> String {
    format!("{}.#", plan.execution.id)
}

/// The work of a run, a message for each part. Without `routes` the exporter's own are taken.
pub(super) fn work(
    plan: &RunPlan,
    store: &Store,
    options: &ExportOptionArgs,
    continue_on_errors: bool,
    routes: Option<Vec<Route>>,
) -> Vec<transship_bus::Outgoing> {
    let message = |part: &crate::split::PlannedPart| {
        let item = ExportPart {
            execution: plan.execution.clone(),
            part: part.part,
            registry: SOURCE.parse().expect("a constant that is a name"),
            container: store.url.clone(),
            container_secret: store.credential(),
            // The stage makes the part's own name of it.
            blob: plan.blob.clone(),
            artifacts: part.artifacts.clone(),
            options: options.options(continue_on_errors),
            routes: routes.clone(),
            slice: 0,
            carried: Counters::default(),
        };
        work_message(&item, WorkQueue::ExporterParts, BTreeMap::new())
    };
    plan.parts.iter().map(message).collect()
}

/// The bundles that are there by now.
pub(super) fn bundle_rows(plan: &RunPlan, ledger: &Ledger, container: &Arc<dyn Container>) -> Vec<BundleRow> {
    let one = |(number, state): (&u32, &crate::ledger::PartState)| {
        let exported = state.exported.as_ref()?;
        Some(BundleRow {
            container: container.url().to_string(),
            blob: exported.blob.to_string(),
            length: exported.length,
            catalog_digest: Some(exported.catalog_digest.to_string()),
            state: if plan.already.contains(number) { "already there" } else { "written" },
        })
    };
    ledger.parts().iter().filter_map(one).collect()
}
