//! Runs.

use std::collections::BTreeSet;

use transship_api::{Kind, PipelineRunProperties, ResourceId, RunEnd, RunRequest};
use transship_model::{ArtifactReference, BlobName, Digest, Part};

use super::shown;
use crate::refusal::{Faults, Refusal};
use crate::state::RunKind;

/// A run's request that makes sense by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckedRun {
    /// The pipeline.
    pub(crate) pipeline: ResourceId,
    /// Whether it exports or imports.
    pub(crate) kind: RunKind,
    /// The blob.
    pub(crate) blob: BlobName,
    /// The request in the form that requests are kept and compared in.
    pub(crate) request: RunRequest,
}

/// Checks the properties of a run below `registry`. `max_artifacts` is the most that one run may name; 0 is no
/// limit.
pub(crate) fn run(
    registry: &ResourceId,
    properties: PipelineRunProperties,
    max_artifacts: usize,
) -> Result<CheckedRun, Refusal> {
    let mut faults = Faults::default();
    let mut request = properties.request;
    let pipeline = pipeline(registry, request.pipeline_resource_id.as_deref(), &mut faults);
    for (name, end) in [("source", &mut request.source), ("target", &mut request.target)] {
        // Templates fill in the half that they do not use with empty strings.
        *end = end.take().filter(|end| end.name.is_some() || end.storage_type.is_some());
        check_type(end.as_ref(), name, &mut faults);
    }
    let Some((pipeline, kind)) = pipeline else { return Err(faults.refused().expect(TOLD)) };
    let blob = match kind {
        RunKind::Export => export(&mut request, max_artifacts, &mut faults),
        RunKind::Import => import(&request, &mut faults),
    };
    match faults.refused() {
        Some(refusal) => Err(refusal),
        None => Ok(CheckedRun { pipeline, kind, blob: blob.expect(TOLD), request }),
    }
}

const TOLD: &str = "where something is missing, its fault was added";

fn pipeline(registry: &ResourceId, id: Option<&str>, faults: &mut Faults) -> Option<(ResourceId, RunKind)> {
    let target = "properties.request.pipelineResourceId";
    let Some(id) = id else {
        let message =
            "The pipeline is missing: set pipelineResourceId to the id of an export or import pipeline.";
        faults.add("MissingPipelineResourceId", target, message);
        return None;
    };
    let pipeline = match id.parse::<ResourceId>() {
        Ok(pipeline) => pipeline,
        Err(error) => {
            faults.add("InvalidPipelineResourceId", target, format!("{error}."));
            return None;
        }
    };
    let kind = match pipeline.resource {
        Some((Kind::ExportPipeline, _)) => RunKind::Export,
        Some((Kind::ImportPipeline, _)) => RunKind::Import,
        _ => {
            let message = "A run needs an export pipeline (…/exportPipelines/NAME) or an import pipeline \
                           (…/importPipelines/NAME).";
            faults.add("InvalidPipelineResourceId", target, message);
            return None;
        }
    };
    if pipeline.parent() != registry.parent() {
        let message = format!(
            "The pipeline {} belongs to the registry {}; a run uses pipelines of its own registry, {}. Put the run \
             below the pipeline's registry.",
            shown(pipeline.name()),
            shown(&pipeline.registry),
            shown(&registry.registry)
        );
        faults.add("PipelineOfAnotherRegistry", target, message);
        return None;
    }
    Some((pipeline, kind))
}

fn check_type(end: Option<&RunEnd>, name: &str, faults: &mut Faults) {
    let kind = end.and_then(|end| end.storage_type.as_deref());
    if let Some(kind) = kind.filter(|kind| !kind.eq_ignore_ascii_case("AzureStorageBlob")) {
        let message = format!("The type {:?} is not known: use \"AzureStorageBlob\".", shown(kind));
        faults.add("InvalidStorageType", format!("properties.request.{name}.type"), message);
    }
}

fn export(request: &mut RunRequest, max_artifacts: usize, faults: &mut Faults) -> Option<BlobName> {
    if has_name(request.source.as_ref()) {
        let message = "An export writes a bundle: name its blob in target.name and leave source.name out.";
        faults.add("UnexpectedSource", "properties.request.source.name", message);
    }
    if request.catalog_digest.is_some() {
        let message = "A catalog digest is for imports, where it says which bundle is meant: leave it out.";
        faults.add("UnexpectedCatalogDigest", "properties.request.catalogDigest", message);
    }
    let count = request.artifacts.len();
    let target = "properties.request.artifacts";
    if count == 0 {
        let message = "Name at least one artifact, as repository:tag or repository@sha256:….";
        faults.add("NoArtifacts", target, message);
    } else if max_artifacts > 0 && count > max_artifacts {
        let message = format!(
            "The run names {count} artifacts; at most {max_artifacts} are allowed. Split it into several runs, or \
             raise limits.artifacts_per_run in the control plane's configuration."
        );
        faults.add("TooManyArtifacts", target, message);
        return None;
    }
    references(&mut request.artifacts, faults);
    let parts = u32::try_from(count.div_ceil(Part::MAX_ARTIFACTS)).unwrap_or(u32::MAX);
    blob(request.target.as_ref(), "target", parts, faults)
}

/// Puts each reference into its full form: `repository` means `repository:latest`.
fn references(artifacts: &mut [String], faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, artifact) in artifacts.iter_mut().enumerate() {
        if !artifact.contains([':', '@']) {
            artifact.push_str(":latest");
        }
        let target = format!("properties.request.artifacts[{index}]");
        match artifact.parse::<ArtifactReference>() {
            Err(error) => faults.add("InvalidArtifactReference", target, format!("{error}.")),
            Ok(reference) => {
                if !seen.insert(reference.to_string()) {
                    let message = format!("{reference} is named twice: name each artifact once.");
                    faults.add("DuplicateArtifact", target, message);
                }
            }
        }
    }
}

fn import(request: &RunRequest, faults: &mut Faults) -> Option<BlobName> {
    if has_name(request.target.as_ref()) {
        let message = "An import reads a bundle: name its blob in source.name and leave target.name out.";
        faults.add("UnexpectedTarget", "properties.request.target.name", message);
    }
    if !request.artifacts.is_empty() {
        let message = "An import takes everything in its bundle: leave artifacts out.";
        faults.add("UnexpectedArtifacts", "properties.request.artifacts", message);
    }
    if let Some(Err(error)) = request.catalog_digest.as_deref().map(str::parse::<Digest>) {
        let message = format!("The catalog digest is not valid: {error}.");
        faults.add("InvalidCatalogDigest", "properties.request.catalogDigest", message);
    }
    blob(request.source.as_ref(), "source", 1, faults)
}

fn has_name(end: Option<&RunEnd>) -> bool {
    end.is_some_and(|end| end.name.is_some())
}

/// The blob of the half `name`, which must be there, and fit its numbered parts too.
fn blob(end: Option<&RunEnd>, name: &str, parts: u32, faults: &mut Faults) -> Option<BlobName> {
    let target = format!("properties.request.{name}.name");
    let Some(text) = end.and_then(|end| end.name.as_deref()) else {
        let code = if name == "source" { "MissingSourceName" } else { "MissingTargetName" };
        faults.add(
            code,
            target,
            format!("The blob is missing: set {name}.name to its name in the container."),
        );
        return None;
    };
    let blob = text.parse::<BlobName>().and_then(|blob| {
        blob.of_part(Part { number: parts.max(1), count: parts.max(1) })?;
        Ok(blob)
    });
    blob.map_err(|error| faults.add("InvalidBlobName", target, format!("{error}."))).ok()
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
