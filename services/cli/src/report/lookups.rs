//! Where an artifact is, and what a trigger sees, as tables.

use transship_api::{ArtifactSighting, SeenBlobView};

use super::resources::{last_segment, or_dash};
use super::units::bytes;
use super::{numbers, plain, short, text};
use crate::screen::clean;

/// The runs that carried an artifact, the newest first, and how far it came in each.
pub(crate) fn sightings(sightings: &[ArtifactSighting]) -> String {
    let mut table = plain(["RUN", "STARTED", "STATUS", "RESULT", "STAGE", "DIGEST", "MESSAGE"]);
    for ArtifactSighting { run, status, start_time, artifact, .. } in sightings {
        table.add_row([
            clean(last_segment(run)),
            clean(start_time.get(..19).unwrap_or(start_time)),
            clean(status),
            clean(&artifact.result),
            clean(&artifact.stage),
            artifact.digest.as_deref().map_or("-".to_owned(), |digest| clean(&short(digest))),
            or_dash(artifact.message.as_deref()),
        ]);
    }
    text(&table)
}

/// What a trigger sees, and why it does what it does.
pub(crate) fn seen_blobs(blobs: &[SeenBlobView]) -> String {
    let mut table = plain(["BLOB", "BYTES", "VERDICT", "RUN", "REASON"]);
    numbers(&mut table, 1);
    for blob in blobs {
        table.add_row([
            clean(&blob.blob),
            bytes(blob.length),
            match blob.run_status.as_deref() {
                // What went well needs no second word.
                None | Some("Succeeded") => clean(&blob.verdict),
                Some(status) => clean(&format!("{} ({status})", blob.verdict)),
            },
            or_dash(blob.run.as_deref().map(last_segment)),
            or_dash(blob.reason.as_deref()),
        ]);
    }
    text(&table)
}
