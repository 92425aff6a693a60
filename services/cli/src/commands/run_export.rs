//! `transship run export`: the services do the work, through their broker.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use transship_bus::{Bus, BusError, BusSettings, BusState, Destination, Outgoing, RabbitMq, Subscription};
use transship_model::{Execution, SecretName, Stage};
use transship_secrets::FixedSecrets;
use transship_storage::{Access, Container, Containers, ReadContainer};
use transship_telemetry::{MessageSpan, inject, send_span};

use super::export::{bundle_rows, facts_of, work};
use crate::args::{OutputFormat, RunExportArgs};
use crate::conclusion::{Conclusion, contents_of};
use crate::endpoints::{ContainerEndpoint, Endpoints};
use crate::exit::{Exit, Problem};
use crate::hints::Doer;
use crate::identity::now_ms;
use crate::ledger::{Goal, Ledger};
use crate::plan::RunPlan;
use crate::report::units::counted;
use crate::report::{SCHEMA_VERSION, json};
use crate::rows::{transfer_rows, written};
use crate::sas::Store;
use crate::screen::Screen;
use crate::split::split;
use crate::watch::{Watch, publish, unavailable};
use crate::{interrupt, references};

/// How long the broker may take to answer for the first time.
const CONNECT: Duration = Duration::from_secs(15);

/// The broker, the containers and the run.
struct Sent {
    bus: RabbitMq,
    plan: RunPlan,
    work: BTreeMap<u32, Outgoing>,
    facts: Option<Subscription>,
    containers: [Arc<dyn Container>; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SentReport<'a> {
    schema_version: u32,
    command: &'static str,
    outcome: &'static str,
    execution: &'a Execution,
    blobs: Vec<&'a str>,
}

/// Runs the command.
pub(crate) async fn run_export(
    args: &RunExportArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let started = Instant::now();
    let interrupted = interrupt::watch(screen)?;
    let sending = send(args);
    let sent = tokio::select! {
        () = interrupted.cancelled() => return Err(Problem::interrupted("the run may have been sent, or not; another one starts anew")),
        sent = sending => sent?,
    };
    let Sent { bus, mut facts, .. } = sent;
    let sent = Sent { bus, facts: None, ..sent };
    match facts.take() {
        None => {
            sent.bus.close().await;
            tell(&sent.plan, format, screen);
            Ok(Exit::Done)
        }
        Some(facts) => wait(args, sent, facts, started, &interrupted, format, screen).await,
    }
}

async fn send(args: &RunExportArgs) -> Result<Sent, Problem> {
    let endpoints = Endpoints::read(&args.endpoints)?;
    let references = references::gather(&args.artifacts, args.artifacts_file.as_deref())?;
    let parts = split(&references, args.options.part_size, &args.blob)?;
    let execution = execution();
    let plan = RunPlan { execution, blob: args.blob.clone(), parts, already: Default::default() };
    let (containers, store) = open_containers(&endpoints).await?;
    let settings = BusSettings::new(endpoints.rabbitmq.url.clone(), "transship run");
    settings.check().map_err(|error| Problem::usage("the broker cannot be reached").caused_by(&error))?;
    let bus = RabbitMq::connect(settings);
    connected(&bus).await?;
    // Bound before anything is published, so that no fact is missed.
    let facts = match args.wait {
        true => Some(bus.subscribe(&facts_of(&plan)).await.map_err(|error| unavailable(&error))?),
        false => None,
    };
    let messages = work(&plan, &store, &args.options, args.continue_on_errors, None);
    let root = tracing::info_span!("run export", execution = %plan.execution.id);
    let messages: Vec<Outgoing> = root.in_scope(|| messages.into_iter().map(traced).collect());
    publish(&bus, messages.clone()).await?;
    let work = plan.parts.iter().map(|part| part.part.number).zip(messages).collect();
    Ok(Sent { bus, plan, work, facts, containers })
}

/// Waits until the broker is there; a person at a terminal does not wait for long.
async fn connected(bus: &RabbitMq) -> Result<(), Problem> {
    let mut state = bus.state();
    // What it answers says nothing that the state does not say.
    let _ = timeout(CONNECT, state.wait_for(|state| matches!(state, BusState::Ready))).await;
    let reason = match &*state.borrow() {
        BusState::Ready => return Ok(()),
        BusState::Connecting { reason } if reason.is_empty() => format!("no answer within {CONNECT:?}"),
        BusState::Connecting { reason } | BusState::Blocked { reason } => reason.clone(),
    };
    Err(unavailable(&BusError::Unavailable(reason)))
}

/// A run of its own each time: the time, and something that no other command has at the same time.
fn execution() -> Execution {
    let generation = now_ms();
    let random = RandomState::new().hash_one(std::process::id());
    let id = format!("run-{generation:x}-{random:016x}").parse().expect("letters, digits and hyphens");
    Execution { id, generation }
}

/// The message with the trace context under which the services go on.
fn traced(mut message: Outgoing) -> Outgoing {
    if let Destination::Work(queue) = &message.destination {
        let span = send_span(&MessageSpan {
            exchange: "",
            routing_key: queue.name(),
            message_id: &message.message_id,
            correlation_id: &message.correlation_id,
            body_bytes: message.body.len(),
        });
        message.headers.extend(inject(&span));
    }
    message
}

/// The source container and the target container, to look into, and the first as the work names it.
async fn open_containers(endpoints: &Endpoints) -> Result<([Arc<dyn Container>; 2], Store), Problem> {
    let (source, target) = (&endpoints.source_container, &endpoints.target_container);
    let names: [SecretName; 2] =
        ["source-sas", "target-sas"].map(|name| name.parse().expect("constants that are names"));
    let secrets = names.iter().cloned().zip([source.sas.clone(), target.sas.clone()]);
    let containers = Containers::new(Arc::new(FixedSecrets::new(secrets)));
    let open = async |endpoint: &ContainerEndpoint, name: &SecretName| {
        let secret = Some(name.clone().into()).filter(|_| endpoint.url.directory().is_none());
        containers.open(&endpoint.url, secret.as_ref(), Access::READ).await
    };
    let opened = [open(source, &names[0]).await?, open(target, &names[1]).await?];
    Ok((opened, Store::new("source-sas", source.url.clone(), None, "--endpoints", &[])))
}

fn tell(plan: &RunPlan, format: OutputFormat, screen: &Screen) {
    let blobs: Vec<&str> = plan.parts.iter().map(|part| part.blob.as_str()).collect();
    screen.data(&match format {
        OutputFormat::Json => json(&SentReport {
            schema_version: SCHEMA_VERSION,
            command: "run export",
            outcome: "sent",
            execution: &plan.execution,
            blobs,
        }),
        OutputFormat::Table => format!(
            "execution {} is sent: {}, {}\n",
            plan.execution.id,
            counted(blobs.len() as u64, "part"),
            plan.blob
        ),
    });
}

async fn wait(
    args: &RunExportArgs,
    sent: Sent,
    facts: Subscription,
    started: Instant,
    interrupted: &CancellationToken,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    let Sent { bus, plan, work, containers, .. } = sent;
    screen.note(&format!("execution {} is sent; waiting for its end", plan.execution.id));
    let mut ledger = Ledger::new(plan.execution.clone(), Goal::Everywhere, plan.parts.iter().map(|p| p.part));
    let readers: [&dyn ReadContainer; 2] = [&*containers[0], &*containers[1]];
    let watch = Watch {
        bus: &bus,
        execution: &plan.execution,
        parts: &plan.parts,
        work: &work,
        containers: readers,
        screen,
        interrupted,
        keep_going: args.continue_on_errors,
    };
    let ended = watch.follow(facts, &mut ledger).await;
    bus.close().await;
    let contents = contents_of(&containers[0], &written(&plan.parts, ledger.parts())).await;
    Conclusion {
        command: "run export",
        bundles: bundle_rows(&plan, &ledger, &containers[0]),
        artifacts: transfer_rows(&plan, ledger.parts(), &contents),
        execution: plan.execution,
        started,
        ledger: &ledger,
        stages: &[Stage::Exporter, Stage::BlobCopier, Stage::Importer],
        doer: Doer::Services,
        keeps_going: args.continue_on_errors,
    }
    .write(ended, format, screen)
}
