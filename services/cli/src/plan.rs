//! Plans a run that writes bundles: what the artifacts are now, how they are split, who this command is, and what
//! is there already.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;
use transship_bundle::execution_of;
use transship_model::{ArtifactReference, BlobName, Digest, Execution, Failure};
use transship_registry::Source;
use transship_storage::Container;

use crate::exit::Problem;
use crate::identity::{Wishes, artifact_texts, execution_id, generation, now_ms};
use crate::resolve::resolve;
use crate::split::{PlannedPart, split};

/// Questions to the storage at once.
const PARALLEL: usize = 16;

/// A run that is to write bundles.
#[derive(Debug)]
pub(crate) struct RunPlan {
    /// Who this command is.
    pub(crate) execution: Execution,
    /// The name that the run was asked for.
    pub(crate) blob: BlobName,
    /// The parts.
    pub(crate) parts: Vec<PlannedPart>,
    /// The numbers of the parts whose bundle this command has written before.
    pub(crate) already: BTreeSet<u32>,
}

/// Artifacts and what they are now.
pub(crate) struct Resolved {
    /// Each with its digest, where it has one.
    pub(crate) artifacts: Vec<(ArtifactReference, Option<Digest>)>,
    /// The same as texts that identities are made of, the registry included.
    pub(crate) texts: Vec<String>,
}

/// Asks the registry what the artifacts are now.
///
/// # Errors
/// The first failure.
pub(crate) async fn look_up(
    source: &dyn Source,
    references: &[ArtifactReference],
    continue_on_errors: bool,
) -> Result<Resolved, Failure> {
    let artifacts = resolve(source, references, continue_on_errors).await?;
    let texts = std::iter::once(source.host().to_owned()).chain(artifact_texts(&artifacts)).collect();
    Ok(Resolved { artifacts, texts })
}

/// Plans the run that writes `resolved` as `blob`, in parts of at most `part_size`, into the first of
/// `containers`; the others get a copy. `place` is the first one as the command names it.
///
/// # Errors
/// Where the storage cannot be asked, or a name is too long.
pub(crate) async fn plan(
    resolved: &Resolved,
    blob: &BlobName,
    part_size: u16,
    place: &str,
    containers: &[Arc<dyn Container>],
    wishes: Wishes,
) -> Result<RunPlan, Problem> {
    let references: Vec<_> = resolved.artifacts.iter().map(|(reference, _)| reference.clone()).collect();
    let parts = split(&references, part_size, blob)?;
    // The size of a part decides what is in it, so it counts where there is more than one.
    let size = if parts.len() > 1 { part_size.to_string() } else { String::new() };
    let texts = resolved.texts.iter().map(String::as_str);
    let id = execution_id([place, blob.as_str(), &size].into_iter().chain(texts));
    let mut owners = Vec::new();
    for container in containers {
        owners.push(owners_of(&**container, &parts).await?);
    }
    let known: Vec<Execution> = owners.iter().flatten().flatten().cloned().collect();
    let execution = Execution { generation: generation(&id, &known, wishes, now_ms()), id };
    let first = owners.first().map(Vec::as_slice).unwrap_or_default();
    let is_ours = |(_, owner): &(&PlannedPart, &Option<Execution>)| owner.as_ref() == Some(&execution);
    let already = parts.iter().zip(first).filter(is_ours).map(|(part, _)| part.part.number).collect();
    Ok(RunPlan { execution, blob: blob.clone(), parts, already })
}

/// Who wrote the blobs that the parts want to have.
async fn owners_of(
    container: &dyn Container,
    parts: &[PlannedPart],
) -> Result<Vec<Option<Execution>>, Failure> {
    let one = |blob: BlobName| async move {
        let properties = container.properties(&blob).await?;
        Ok::<_, Failure>(properties.and_then(|found| execution_of(&found.metadata)))
    };
    let blobs: Vec<BlobName> = parts.iter().map(|part| part.blob.clone()).collect();
    stream::iter(blobs).map(one).buffered(PARALLEL).try_collect().await
}

/// Runs `work` until it ends or the command is interrupted.
///
/// # Errors
/// As `work`, and where the command is interrupted.
pub(crate) async fn unless_interrupted<T, E: Into<Problem>>(
    interrupted: &CancellationToken,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    tokio::select! {
        biased;
        () = interrupted.cancelled() => Err(Problem::interrupted("nothing was moved yet; repeat the command to begin")),
        result = work => result.map_err(Into::into),
    }
}
