//! What a blob that was found means for the copy: pure functions.

use transship_bundle::{Precedence, precedence};
use transship_messages::CopyRequested;
use transship_storage::{BlobProperties, Condition, ETag};

/// What the target container says about the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetDecision {
    /// The copy is there.
    Done(ETag),
    /// A newer execution owns the name.
    Superseded,
    /// The service itself still copies something to the name: the blob has its metadata and length, not its bytes.
    Copying,
    /// A blob that may not be replaced has the name.
    Exists,
    /// Copy, and commit under this condition.
    Write(Condition),
}

/// What the source container says about the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceDecision {
    /// The bundle is the one that was exported.
    Copy,
    /// A newer execution took its name.
    Superseded,
    /// There is none.
    Missing,
    /// There is another one.
    Changed,
}

/// Decides from the blob that has the wanted name at the target.
///
/// A blob of this execution whose length is not the bundle's is none that a copier committed: somebody brought
/// a part of it. It is this execution's to replace.
pub fn decide_target(found: Option<&BlobProperties>, work: &CopyRequested) -> TargetDecision {
    let Some(found) = found else { return TargetDecision::Write(Condition::Absent) };
    match precedence(&found.metadata, &work.execution, work.route.overwrite) {
        Precedence::Done | Precedence::Replace if found.copying => TargetDecision::Copying,
        Precedence::Done if found.length == work.length => TargetDecision::Done(found.etag.clone()),
        Precedence::Superseded => TargetDecision::Superseded,
        Precedence::Exists => TargetDecision::Exists,
        Precedence::Done | Precedence::Replace => {
            TargetDecision::Write(Condition::Matches(found.etag.clone()))
        }
    }
}

/// Decides from the blob that has the bundle's name at the source.
pub fn decide_source(found: Option<&BlobProperties>, work: &CopyRequested) -> SourceDecision {
    let Some(found) = found else { return SourceDecision::Missing };
    if found.etag.0 == work.etag && found.length == work.length {
        return SourceDecision::Copy;
    }
    // Whatever wrote over it was allowed to: all that counts is whose it is now.
    match precedence(&found.metadata, &work.execution, true) {
        Precedence::Superseded => SourceDecision::Superseded,
        _ => SourceDecision::Changed,
    }
}

#[cfg(test)]
mod tests {
    use transship_bundle::bundle_metadata;
    use transship_model::{Counters, Digest, Execution, Part, Route};

    use super::*;

    fn execution(id: &str, generation: u64) -> Execution {
        Execution { id: id.parse().unwrap(), generation }
    }

    fn work(overwrite: bool) -> CopyRequested {
        let route = Route {
            source: "https://s.example/c".parse().unwrap(),
            pattern: Default::default(),
            target: "https://t.example/c".parse().unwrap(),
            target_secret: None,
            overwrite,
            import_pipeline: None,
            import_destination: None,
        };
        CopyRequested {
            execution: execution("run", 5),
            part: Part::ONLY,
            source_secret: None,
            blob: "nightly".parse().unwrap(),
            etag: "e1".into(),
            length: 100,
            artifacts: 1,
            catalog_digest: Digest::sha256(b""),
            route,
            slice: 0,
            carried: Counters::default(),
        }
    }

    fn blob(id: &str, generation: u64, etag: &str, length: u64) -> BlobProperties {
        let metadata = bundle_metadata(&execution(id, generation), Part::ONLY, &Digest::sha256(b""));
        let etag = ETag(etag.into());
        BlobProperties { length, etag, metadata, content_md5: None, modified: None, copying: false }
    }

    fn copying(blob: BlobProperties) -> BlobProperties {
        BlobProperties { copying: true, ..blob }
    }

    #[test]
    fn a_blob_at_the_target_is_done_superseding_in_the_way_or_replaceable() {
        let replace = || TargetDecision::Write(Condition::Matches(ETag("t".into())));
        for (found, overwrite, expected) in [
            (None, false, TargetDecision::Write(Condition::Absent)),
            (None, true, TargetDecision::Write(Condition::Absent)),
            (Some(blob("run", 5, "t", 100)), false, TargetDecision::Done(ETag("t".into()))),
            (Some(blob("run", 5, "t", 99)), false, replace()),
            (Some(copying(blob("run", 5, "t", 100))), false, TargetDecision::Copying),
            (Some(copying(blob("run", 4, "t", 100))), false, TargetDecision::Copying),
            (Some(copying(blob("run", 6, "t", 100))), false, TargetDecision::Superseded),
            (Some(copying(blob("other", 1, "t", 100))), false, TargetDecision::Exists),
            (Some(blob("run", 4, "t", 100)), false, replace()),
            (Some(blob("run", 6, "t", 100)), false, TargetDecision::Superseded),
            (Some(blob("other", 1, "t", 100)), false, TargetDecision::Exists),
            (Some(blob("other", 1, "t", 100)), true, replace()),
            (Some(blob("other", 9, "t", 100)), true, TargetDecision::Superseded),
        ] {
            assert_eq!(decide_target(found.as_ref(), &work(overwrite)), expected, "{found:?} {overwrite}");
        }
    }

    #[test]
    fn a_blob_at_the_source_is_the_bundle_only_with_its_entity_tag_and_length() {
        for (found, expected) in [
            (None, SourceDecision::Missing),
            (Some(blob("run", 5, "e1", 100)), SourceDecision::Copy),
            (Some(blob("run", 5, "e2", 100)), SourceDecision::Changed),
            (Some(blob("run", 5, "e1", 101)), SourceDecision::Changed),
            (Some(blob("run", 4, "e2", 100)), SourceDecision::Changed),
            (Some(blob("run", 6, "e2", 100)), SourceDecision::Superseded),
            (Some(blob("other", 6, "e2", 100)), SourceDecision::Superseded),
            (Some(blob("other", 4, "e2", 100)), SourceDecision::Changed),
        ] {
            assert_eq!(decide_source(found.as_ref(), &work(false)), expected, "{found:?}");
        }
    }
}
