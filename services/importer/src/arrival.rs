//! What to do with the blob that an import names: decided from what is there now.

use transship_bundle::{Precedence, precedence};
use transship_messages::ImportRequested;
use transship_model::{Digest, Failure};
use transship_storage::{BlobProperties, StorageError};

use crate::ImportError;
use crate::error::add_hint;

/// What the blob means for the import.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival<'a> {
    /// This version of it is imported.
    Import(&'a BlobProperties),
    /// A newer execution has replaced it, and has its own import.
    Superseded,
    /// It is gone, and an earlier delivery of the same work may have imported and deleted it.
    Deleted,
}

/// What may have happened to a blob that this work has not deleted.
const NOT_BY_THIS_WORK: &str = "where another pipeline that deletes what it has imported, or a lifecycle rule, was \
     first: export it again, and give each such pipeline a container of its own";

/// Decides.
///
/// A blob that is gone may have been imported by an earlier delivery of the same work where two things hold: the
/// pipeline `deletes` what it has imported, and the broker says that the work is `redelivered`. Deletion is the
/// last effect of an import, so a process that dies right after it leaves exactly this behind, and a failure
/// would be wrong. The fact that is published then says that nothing was imported now, since a redelivery says
/// little of how far the earlier delivery came. Whoever sees the work for the first time, or again after a
/// failure, which no deletion comes before, has imported nothing: another pipeline on the same container, a
/// person or a lifecycle rule has deleted the blob.
///
/// # Errors
/// Where there is no such blob, or another one than was announced.
pub(crate) fn decide_arrival<'a>(
    properties: Option<&'a BlobProperties>,
    work: &ImportRequested,
    deletes: bool,
    redelivered: bool,
) -> Result<Arrival<'a>, Failure> {
    let (container, blob) = (work.container.clone(), work.blob.clone());
    let Some(properties) = properties else {
        let failure = Failure::from(StorageError::BlobNotFound { container, blob });
        return match (deletes, redelivered) {
            (true, true) => Ok(Arrival::Deleted),
            (true, false) => Err(add_hint(failure, NOT_BY_THIS_WORK)),
            (false, _) => Err(failure),
        };
    };
    match &work.etag {
        Some(etag) if *etag != properties.etag.0 => {
            match precedence(&properties.metadata, &work.execution, true) {
                Precedence::Superseded => Ok(Arrival::Superseded),
                _ => Err(ImportError::BlobChanged { container, blob }.into()),
            }
        }
        _ => Ok(Arrival::Import(properties)),
    }
}

/// Decides whether the bundle is the one that the run names, by the SHA-256 of its `index.json`. A run that
/// names none means whatever is there.
///
/// # Errors
/// [`ImportError::OtherCatalog`], before anything is written.
pub(crate) fn decide_catalog(work: &ImportRequested, actual: &Digest) -> Result<(), ImportError> {
    match &work.catalog_digest {
        Some(expected) if expected != actual => Err(ImportError::OtherCatalog {
            blob: work.blob.clone(),
            expected: expected.clone(),
            actual: actual.clone(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use transship_bundle::bundle_metadata;
    use transship_model::{Class, Code, Counters, Execution, Part};
    use transship_storage::ETag;

    use super::*;

    fn execution(generation: u64) -> Execution {
        Execution { id: "run".parse().unwrap(), generation }
    }

    fn work(etag: Option<&str>) -> ImportRequested {
        ImportRequested {
            execution: execution(5),
            part: Part::ONLY,
            pipeline: "default".parse().unwrap(),
            container: "file:///c".parse().unwrap(),
            blob: "b".parse().unwrap(),
            etag: etag.map(str::to_owned),
            slice: 0,
            carried: Counters::default(),
            destination: None,
            catalog_digest: None,
            sealed_upload: None,
        }
    }

    fn blob(generation: u64) -> BlobProperties {
        BlobProperties {
            length: 1,
            etag: ETag("e1".to_owned()),
            metadata: bundle_metadata(&execution(generation), Part::ONLY, &Digest::sha256(b"")),
            content_md5: None,
            modified: None,
            copying: false,
        }
    }

    #[test]
    fn the_blob_that_was_announced_is_imported_and_no_other() {
        let (same, newer) = (blob(5), blob(6));
        let decide = |found, etag| decide_arrival(Some(found), &work(etag), true, true);
        assert_eq!(decide(&same, Some("e1")), Ok(Arrival::Import(&same)));
        assert_eq!(decide(&newer, None), Ok(Arrival::Import(&newer)));
        assert_eq!(decide(&newer, Some("e0")), Ok(Arrival::Superseded));
        let failure = decide(&same, Some("e0")).unwrap_err();
        assert_eq!((failure.code, failure.class), (Code::SourceChanged, Class::Permanent));
    }

    #[test]
    fn a_blob_that_is_gone_was_imported_only_where_the_pipeline_deletes_and_the_work_is_redelivered() {
        for etag in [None, Some("e1")] {
            for (deletes, redelivered) in [(false, false), (false, true), (true, false)] {
                let failure = decide_arrival(None, &work(etag), deletes, redelivered).unwrap_err();
                assert_eq!(
                    (failure.code, failure.class),
                    (Code::BlobNotFound, Class::Permanent),
                    "{etag:?} {deletes} {redelivered}"
                );
                assert_eq!(failure.hint.unwrap().contains("another pipeline"), deletes);
            }
            assert_eq!(decide_arrival(None, &work(etag), true, true), Ok(Arrival::Deleted));
        }
    }

    #[test]
    fn a_bundle_is_the_one_that_the_run_names_or_any_where_it_names_none() {
        let (this, other) = (Digest::sha256(b"this"), Digest::sha256(b"other"));
        for (named, expected) in [(None, true), (Some(&this), true), (Some(&other), false)] {
            let work = ImportRequested { catalog_digest: named.cloned(), ..work(None) };
            assert_eq!(decide_catalog(&work, &this).is_ok(), expected, "{named:?}");
        }
    }
}
