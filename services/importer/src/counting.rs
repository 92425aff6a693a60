//! The final counts of an import. They reconcile: what was neither moved nor failed was there already.

use std::collections::BTreeSet;

use transship_model::{Counters, Digest};

use crate::contents::Contents;
use crate::ledger::{Ledger, Standing};
use crate::{ImportPlan, PlannedArtifact};

/// Counts. `carried` is what the slices before have moved.
pub(crate) fn count(plan: &ImportPlan, contents: &Contents, ledger: &Ledger, carried: &Counters) -> Counters {
    let standing =
        |wanted: fn(&Standing) -> bool| ledger.standings.iter().filter(|s| wanted(s)).count() as u64;
    let reached = reached(plan, contents, ledger);
    let mut counters = Counters {
        artifacts_discovered: plan.artifacts.len() as u64,
        artifacts_moved: standing(|s| *s == Standing::Wanted),
        artifacts_skipped: standing(|s| *s == Standing::Present),
        artifacts_failed: standing(|s| matches!(s, Standing::Failed(_))),
        blobs_discovered: plan.everything.len() as u64,
        blobs_moved: carried.blobs_moved,
        blobs_mounted: ledger.mounted.iter().filter(|digest| !ledger.moved.contains(*digest)).count() as u64
            + carried.blobs_mounted,
        bytes_discovered: plan.everything.values().sum(),
        bytes_moved: carried.bytes_moved,
        ..Counters::default()
    };
    let mut blobs_failed = 0;
    for (digest, size) in &plan.everything {
        if ledger.moved.contains(digest) {
            counters.blobs_moved += 1;
            counters.bytes_moved += size;
        } else if ledger.foreign.contains(digest)
            || !(reached.contains(digest) || ledger.mounted.contains(digest))
        {
            blobs_failed += 1;
            counters.bytes_failed += size;
        }
    }
    let rest = |all: u64, moved: u64, failed: u64| all.saturating_sub(moved).saturating_sub(failed);
    let blobs_moved = counters.blobs_moved + counters.blobs_mounted;
    counters.blobs_skipped = rest(counters.blobs_discovered, blobs_moved, blobs_failed);
    counters.bytes_skipped = rest(counters.bytes_discovered, counters.bytes_moved, counters.bytes_failed);
    counters
}

/// Everything at and below the artifacts that did not fail, and below what belongs to them.
fn reached<'a>(plan: &'a ImportPlan, contents: &'a Contents, ledger: &Ledger) -> BTreeSet<&'a Digest> {
    let alive = plan.artifacts.iter().zip(&ledger.standings);
    let alive = alive.filter(|(_, standing)| !matches!(standing, Standing::Failed(_)));
    let roots = alive.flat_map(|(artifact, _)| roots_of(plan, artifact));
    let mut reached = contents.manifests_below(roots);
    let manifests: Vec<&Digest> = reached.iter().copied().collect();
    for manifest in manifests {
        reached.extend(contents.direct(manifest).blobs.into_iter().map(|(blob, _)| blob));
    }
    reached
}

fn roots_of<'a>(plan: &'a ImportPlan, artifact: &'a PlannedArtifact) -> impl Iterator<Item = &'a Digest> {
    let repository = plan.repositories.get(&artifact.target.repository);
    let attached = artifact.attached.iter().filter_map(move |place| repository?.attached.get(*place));
    std::iter::once(&artifact.digest).chain(attached.map(|attached| &attached.digest))
}
