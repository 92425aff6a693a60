//! `transship bundle inspect | list | verify`.

use std::sync::Arc;

use serde::Serialize;
use transship_bundle::{Discovery, Location};
use transship_storage::ReadContainer;

use crate::args::{BundleArgs, BundleCommand, InspectArgs, OutputFormat};
use crate::bundle::{
    Artifact, BundlePart, Contents, Located, Verification, Window, locate, read_contents, verify,
};
use crate::exit::{Exit, Problem};
use crate::hints::of_store;
use crate::report::units::{bytes, counted};
use crate::report::{SCHEMA_VERSION, json, numbers, plain, short, text};
use crate::screen::{Screen, clean};
use crate::view::{Row, View};

/// How far ahead headers and manifests are read, in bytes.
const AHEAD: u64 = 256 << 10;

/// Runs the command.
pub(crate) async fn bundle(
    args: &BundleArgs,
    format: OutputFormat,
    screen: &Screen,
) -> Result<Exit, Problem> {
    match &args.command {
        BundleCommand::Inspect(which) => inspect(which, format, screen).await,
        BundleCommand::List(which) => list(which, format, screen).await,
        BundleCommand::Verify(which) => verify_all(which, format, screen).await,
    }
}

impl Located {
    fn window(&self, part: &BundlePart) -> Window {
        let container: Arc<dyn ReadContainer> = Arc::clone(&self.container) as _;
        Window::new(container, part.blob.clone(), part.properties.clone(), AHEAD)
    }

    async fn contents(&self, part: &BundlePart) -> Result<Contents, Problem> {
        let contents = read_contents(&self.window(part)).await;
        contents
            .map_err(|failure| of_store(failure.while_doing(format_args!("read {}", part.blob)), &self.store))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspection {
    schema_version: u32,
    container: String,
    parts: Vec<PartInspection>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartInspection {
    blob: String,
    length: u64,
    /// `transship`, or `oci-archive` where another tool wrote it.
    format: &'static str,
    catalog_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bill: Option<transship_bundle::Bill>,
    manifests: usize,
    blobs: usize,
    bytes: u64,
    absent: usize,
    discovered: Vec<DiscoveredRow>,
    artifacts: Vec<Artifact>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiscoveredRow {
    repository: String,
    digest: String,
    subject: String,
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

async fn inspect(args: &InspectArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    let located = locate(&args.bundle, args.sas_file.as_deref()).await?;
    let mut parts = Vec::new();
    for part in &located.parts {
        parts.push(inspect_part(part, located.contents(part).await?));
    }
    let inspection =
        Inspection { schema_version: SCHEMA_VERSION, container: located.store.url.to_string(), parts };
    screen.data(&match format {
        OutputFormat::Json => json(&inspection),
        OutputFormat::Table => inspection.parts.iter().map(shown).collect::<Vec<_>>().join("\n"),
    });
    Ok(Exit::Done)
}

fn inspect_part(part: &BundlePart, contents: Contents) -> PartInspection {
    let catalog = contents.opened.catalog;
    let stored = |location: &Location| match location {
        Location::Stored { size, .. } => Some(*size),
        Location::Absent(_) => None,
    };
    let manifests = contents.views.len();
    let stored_count = catalog.locations.values().filter_map(stored).count();
    PartInspection {
        blob: part.blob.to_string(),
        length: part.properties.length,
        format: if contents.opened.head.is_some() { "transship" } else { "oci-archive" },
        catalog_digest: catalog.catalog_digest.to_string(),
        bill: catalog.bill,
        manifests,
        blobs: stored_count.saturating_sub(manifests),
        bytes: catalog.locations.values().filter_map(stored).sum(),
        absent: catalog.locations.len() - stored_count,
        discovered: catalog.discovered.iter().map(discovered).collect(),
        artifacts: contents.artifacts,
    }
}

fn discovered(found: &transship_bundle::Discovered) -> DiscoveredRow {
    let (by, tag) = match &found.by {
        Discovery::Referrer => ("referrer", None),
        Discovery::FallbackIndex { tag } => ("fallback-index", Some(tag.to_string())),
        Discovery::CosignTag { tag } => ("cosign-tag", Some(tag.to_string())),
    };
    DiscoveredRow {
        repository: found.repository.to_string(),
        digest: found.digest.to_string(),
        subject: found.subject.to_string(),
        by,
        tag,
    }
}

fn shown(part: &PartInspection) -> String {
    let mut lines = vec![
        format!("bundle      {}, {}", clean(&part.blob), bytes(part.length)),
        format!("format      {}", part.format),
        format!("catalog     {}", part.catalog_digest),
    ];
    if let Some(bill) = &part.bill {
        lines.push(format!(
            "execution   {}, generation {}, part {}",
            bill.execution, bill.generation, bill.part
        ));
        lines.extend(bill.traceparent.as_deref().map(|trace| format!("trace       {}", clean(trace))));
    }
    lines.push(format!(
        "holds       {}, {}, {}, {}",
        counted(part.artifacts.len() as u64, "artifact"),
        counted(part.manifests as u64, "manifest"),
        counted(part.blobs as u64, "blob"),
        bytes(part.bytes)
    ));
    if part.absent > 0 {
        lines.push(format!("absent      {}", counted(part.absent as u64, "blob")));
    }
    if !part.discovered.is_empty() {
        lines.push(format!("belongings  {}", counted(part.discovered.len() as u64, "referrer or signature")));
    }
    let artifacts: Vec<_> = part.artifacts.iter().collect();
    format!("{}\n\n{}", lines.join("\n"), table(&artifacts))
}

fn table(artifacts: &[&Artifact]) -> String {
    if artifacts.is_empty() {
        return "the bundle holds no artifact\n".to_owned();
    }
    let mut table = plain(["ARTIFACT", "KIND", "DIGEST", "MANIFESTS", "BLOBS", "BYTES"]);
    (3..6).for_each(|column| numbers(&mut table, column));
    for artifact in artifacts {
        table.add_row([
            clean(artifact.name.as_deref().unwrap_or("-")),
            artifact.kind.to_owned(),
            short(&artifact.digest),
            artifact.manifests.to_string(),
            artifact.blobs.to_string(),
            bytes(artifact.bytes),
        ]);
    }
    text(&table)
}

async fn list(args: &InspectArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    let located = locate(&args.bundle, args.sas_file.as_deref()).await?;
    let mut artifacts = Vec::new();
    for part in &located.parts {
        artifacts.extend(located.contents(part).await?.artifacts);
    }
    screen.data(&match format {
        OutputFormat::Json => json(&artifacts),
        OutputFormat::Table => table(&artifacts.iter().collect::<Vec<_>>()),
    });
    Ok(Exit::Done)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationReport {
    schema_version: u32,
    outcome: &'static str,
    container: String,
    parts: Vec<PartVerification>,
}

#[derive(Serialize)]
struct PartVerification {
    blob: String,
    #[serde(flatten)]
    found: Verification,
}

async fn verify_all(args: &InspectArgs, format: OutputFormat, screen: &Screen) -> Result<Exit, Problem> {
    let located = locate(&args.bundle, args.sas_file.as_deref()).await?;
    let mut parts = Vec::new();
    for part in &located.parts {
        let mut view = View::new(screen);
        let window = located.window(part);
        let show = |done, total| {
            let over = done == total;
            view.show(&[Row {
                label: "verify".to_owned(),
                done,
                total,
                message: part.blob.to_string(),
                over,
            }]);
        };
        let found = verify(&window, show).await;
        drop(view);
        let found = found.map_err(|failure| {
            of_store(failure.while_doing(format_args!("verify {}", part.blob)), &located.store)
        })?;
        parts.push(PartVerification { blob: part.blob.to_string(), found });
    }
    let damaged = parts.iter().filter(|part| !part.found.findings.is_empty()).count();
    let report = VerificationReport {
        schema_version: SCHEMA_VERSION,
        outcome: if damaged == 0 { "verified" } else { "damaged" },
        container: located.store.url.to_string(),
        parts,
    };
    screen.data(&match format {
        OutputFormat::Json => json(&report),
        OutputFormat::Table => report.parts.iter().map(verified).collect(),
    });
    if damaged == 0 { Ok(Exit::Done) } else { Err(damage(&report)) }
}

fn verified(part: &PartVerification) -> String {
    let found = &part.found;
    let mut line = format!(
        "{}: {}, {} hashed, {}",
        clean(&part.blob),
        counted(found.artifacts as u64, "artifact"),
        counted(found.blobs as u64, "blob"),
        bytes(found.bytes)
    );
    if !found.absent.is_empty() {
        line += &format!(", {} absent", found.absent.len());
    }
    if found.unreferenced > 0 {
        line += &format!(", {} that nothing names", found.unreferenced);
    }
    line += if found.findings.is_empty() { ": verified\n" } else { ": DAMAGED\n" };
    for blob in &found.absent {
        line += &format!("  absent {}: {}\n", blob.digest, blob.reason);
    }
    line
}

fn damage(report: &VerificationReport) -> Problem {
    let named = report.parts.iter().flat_map(|part| {
        part.found.findings.iter().map(move |finding| match &finding.digest {
            Some(digest) if !finding.reason.contains(digest) => {
                format!("{}: {digest}: {}", part.blob, finding.reason)
            }
            _ => format!("{}: {}", part.blob, finding.reason),
        })
    });
    let mut causes: Vec<String> = named.take(51).collect();
    if causes.len() > 50 {
        causes.pop();
        causes.push("and more, which -o json lists".to_owned());
    }
    Problem { causes, ..Problem::new(Exit::Failed, "the bundle is damaged") }
        .hint("copy it again from where it came from, or export it again")
}
