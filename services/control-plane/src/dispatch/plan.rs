//! What a run comes to: its parts and the work items for them. Pure, and the same whenever it is asked, so that
//! work that was lost sight of can be dispatched again under the same message ids.

use transship_bus::MAX_BODY_BYTES;
use transship_messages::{ExportPart, ImportRequested, WorkItem};
use transship_model::{ArtifactReference, BlobName, Code, Counters, Digest, Failure, Part};

use crate::fold::BundleFound;
use crate::state::{Action, OutboxItem, PartRecord, Queue, RunRecord};

/// A bundle that an import run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Which part of its export it is.
    pub part: Part,
    /// Its blob.
    pub blob: BlobName,
    /// Its entity tag, where it is known; another one is another bundle.
    pub etag: Option<String>,
}

/// The parts of an export: its artifacts split by count alone, at most `most` a part and never more than
/// [`Part::MAX_ARTIFACTS`].
///
/// # Errors
/// A pipeline that does not export, an artifact or a blob's name that cannot be one, more parts than can be
/// counted, a work item that is larger than a message may be.
pub fn plan_export(run: &RunRecord, most: usize) -> Result<Vec<ExportPart>, Failure> {
    let artifacts = run.request.artifacts.iter().map(|text| {
        text.parse()
            .map_err(|error| Failure::permanent(Code::ConfigurationInvalid, format!("{text}: {error}")))
    });
    let artifacts: Vec<_> = artifacts.collect::<Result<_, Failure>>()?;
    plan_parts(run, artifacts.chunks(most.clamp(1, Part::MAX_ARTIFACTS)))
}

/// The parts of an export that was split into `chunks`.
///
/// # Errors
/// As of [`plan_export`].
pub fn plan_parts<'a>(
    run: &RunRecord,
    chunks: impl ExactSizeIterator<Item = &'a [ArtifactReference]>,
) -> Result<Vec<ExportPart>, Failure> {
    let Action::Export { options, routes } = &run.pipeline.action else { return Err(wrong_pipeline(run)) };
    let count = u32::try_from(chunks.len()).map_err(|_| {
        Failure::permanent(Code::LimitExceeded, "the run names more artifacts than can be counted")
    })?;
    if count == 0 {
        return Err(Failure::permanent(Code::ConfigurationInvalid, "the run names no artifact"));
    }
    let part = |(number, chunk): (u32, &[ArtifactReference])| {
        let part = Part { number, count };
        // Whether the part's name is one is known now, not in the middle of the run.
        run.blob.of_part(part).map_err(|error| {
            Failure::permanent(Code::LimitExceeded, format!("the blob of part {part}: {error}"))
                .with_hint("choose a shorter name for the blob")
        })?;
        let work = ExportPart {
            execution: run.execution.clone(),
            part,
            registry: run.pipeline.registry.clone(),
            container: run.pipeline.container.clone(),
            container_secret: run.pipeline.credential.clone(),
            blob: run.blob.clone(),
            artifacts: chunk.to_vec(),
            options: *options,
            routes: routes.clone(),
            slice: 0,
            carried: Counters::default(),
        };
        let size = work.encode().len();
        if size > MAX_BODY_BYTES {
            let message = format!("part {part} needs a message of {size} bytes, more than {MAX_BODY_BYTES}");
            return Err(Failure::permanent(Code::LimitExceeded, message).with_hint(
                "let fewer routes begin at the pipeline's container, or export fewer artifacts a part",
            ));
        }
        Ok(work)
    };
    (1..).zip(chunks).map(part).collect()
}

/// The imports of the bundles that a run found.
///
/// # Errors
/// A pipeline that does not import, or a catalog digest that is none.
pub fn plan_import(run: &RunRecord, bundles: &[Bundle]) -> Result<Vec<ImportRequested>, Failure> {
    let Action::Import { pipeline, destination } = &run.pipeline.action else {
        return Err(wrong_pipeline(run));
    };
    let digest = |text: &String| {
        text.parse::<Digest>().map_err(|error| {
            Failure::permanent(Code::ConfigurationInvalid, format!("catalogDigest {text}: {error}"))
        })
    };
    let digest = run.request.catalog_digest.as_ref().map(digest).transpose()?;
    let import = |bundle: &Bundle| ImportRequested {
        execution: run.execution.clone(),
        part: bundle.part,
        pipeline: pipeline.clone(),
        destination: Some(destination.clone()),
        container: run.pipeline.container.clone(),
        blob: bundle.blob.clone(),
        etag: bundle.etag.clone(),
        // Every part has a digest of its own; a run names that of the first.
        catalog_digest: digest.clone().filter(|_| bundle.part.number == 1),
        slice: 0,
        carried: Counters::default(),
        sealed_upload: None,
    };
    Ok(bundles.iter().map(import).collect())
}

/// The bundles of an import that was begun: each as it was found then. Of one that was adopted only the name is known,
/// which is that of its part where it is about one.
///
/// # Errors
/// A name that a part cannot have.
pub fn bundles_of(run: &RunRecord, parts: &[PartRecord]) -> Result<Vec<Bundle>, Failure> {
    let bundle = |known: &PartRecord| {
        let part = Part { number: known.number, count: run.parts };
        if let Some(BundleFound { blob, etag }) = &known.state.artifacts.bundle {
            return Ok(Bundle { part, blob: blob.clone(), etag: etag.clone() });
        }
        let blob = if run.view.part.is_some() { Ok(run.blob.clone()) } else { run.blob.of_part(part) };
        blob.map(|blob| Bundle { part, blob, etag: None })
            .map_err(|error| Failure::permanent(Code::ConfigurationInvalid, error.to_string()))
    };
    parts.iter().filter(|part| run.view.covers(part.number)).map(bundle).collect()
}

/// The outbox row that publishes `work` under the run's trace.
pub fn publish_item<W: WorkItem>(work: &W, queue: Queue, traceparent: &str) -> OutboxItem {
    OutboxItem::Publish {
        queue,
        message_id: work.message_id(),
        kind: W::KIND.to_owned(),
        headers: [("traceparent".to_owned(), traceparent.to_owned())].into(),
        body: work.encode(),
    }
}

fn wrong_pipeline(run: &RunRecord) -> Failure {
    let message = format!("the pipeline {} does not do what the run asks for", run.pipeline.id);
    Failure::permanent(Code::ConfigurationInvalid, message)
}

#[cfg(test)]
mod tests {
    use transship_model::{ContainerUrl, ImportDestination, Route};

    use super::*;
    use crate::fold::PartState;
    use crate::state::RunKind;
    use crate::testing::run_record;

    fn export(artifacts: usize) -> RunRecord {
        let mut run = run_record("nightly");
        run.request.artifacts = (0..artifacts).map(|n| format!("team/app:{n}")).collect();
        run
    }

    fn import() -> RunRecord {
        let mut run = RunRecord { kind: RunKind::Import, ..run_record("import") };
        let destination = ImportDestination {
            registry: "t".parse().unwrap(),
            credential: None,
            options: Default::default(),
        };
        run.pipeline.action = Action::Import { pipeline: "r.inbox".parse().unwrap(), destination };
        run
    }

    #[test]
    fn an_export_is_split_by_count_alone() {
        for (artifacts, most, expected) in [
            (1, 250, vec![1]),
            (250, 250, vec![250]),
            (251, 250, vec![250, 1]),
            (5, 2, vec![2, 2, 1]),
            (600, 9_999, vec![250, 250, 100]),
            (2, 0, vec![1, 1]),
        ] {
            let parts = plan_export(&export(artifacts), most).unwrap();
            let sizes: Vec<usize> = parts.iter().map(|part| part.artifacts.len()).collect();
            assert_eq!(sizes, expected, "{artifacts} by {most}");
            let count = u32::try_from(expected.len()).unwrap();
            let numbers: Vec<Part> = parts.iter().map(|part| part.part).collect();
            assert_eq!(numbers, (1..=count).map(|number| Part { number, count }).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_export_that_was_split_is_planned_again_as_it_was_split_then() {
        let run = export(5);
        let then = plan_export(&run, 2).unwrap();
        let given: Vec<_> = then.iter().map(|part| part.artifacts.clone()).collect();
        assert_eq!(plan_parts(&run, given.iter().map(|part| &part[..])).unwrap(), then);
    }

    #[test]
    fn the_largest_part_fits_a_message() {
        let mut run = run_record("large");
        let repository = "a".repeat(127);
        let name = |n: usize| format!("{repository}/{repository}@sha256:{n:064x}");
        run.request.artifacts = (0..Part::MAX_ARTIFACTS).map(name).collect();
        let parts = plan_export(&run, Part::MAX_ARTIFACTS).unwrap();
        assert!(parts.len() == 1 && parts[0].encode().len() <= MAX_BODY_BYTES, "{}", parts[0].encode().len());
    }

    #[test]
    fn what_cannot_be_exported_is_said_before_anything_moves() {
        let long = export(300);
        let long = RunRecord { blob: "x".repeat(1020).parse().unwrap(), ..long };
        let mut routed = export(1);
        let source: ContainerUrl = "https://a.example/c".parse().unwrap();
        let route = |n: usize| Route {
            source: source.clone(),
            pattern: Default::default(),
            target: format!("https://a.example/{}{n}", "t".repeat(200)).parse().unwrap(),
            target_secret: None,
            overwrite: false,
            import_pipeline: None,
            import_destination: None,
        };
        let routes = Some((0..1_000).map(route).collect());
        routed.pipeline.action = Action::Export { options: Default::default(), routes };
        for (run, code, part) in [
            (export(0), Code::ConfigurationInvalid, "no artifact"),
            (import(), Code::ConfigurationInvalid, "does not do"),
            (long, Code::LimitExceeded, "1 of 2"),
            (routed, Code::LimitExceeded, "bytes"),
        ] {
            let failure = plan_export(&run, 250).unwrap_err();
            assert!(failure.code == code && failure.message.contains(part), "{failure}");
        }
    }

    #[test]
    fn planning_again_gives_the_same_message_ids() {
        let ids = |run: &RunRecord| -> Vec<String> {
            plan_export(run, 2).unwrap().iter().map(WorkItem::message_id).collect()
        };
        assert_eq!(ids(&export(5)), ids(&export(5)));
    }

    fn known(parts: &[(u32, PartState)]) -> Vec<PartRecord> {
        let record = |(number, state): &(u32, PartState)| PartRecord {
            number: *number,
            state: state.clone(),
            summary: state.summary(),
        };
        parts.iter().map(record).collect()
    }

    #[test]
    fn an_import_is_planned_again_with_the_bundles_that_it_was_begun_with() {
        let run = RunRecord { parts: 2, ..import() };
        let bundle = |number: u32| Bundle {
            part: Part { number, count: 2 },
            blob: format!("blob-000{number}-of-0002").parse().unwrap(),
            etag: Some(format!("0x{number}")),
        };
        let begun = [bundle(1), bundle(2)];
        let state = |Bundle { part, blob, etag }: &Bundle| {
            (part.number, PartState::of_bundle(blob.clone(), etag.clone()))
        };
        let parts = known(&begun.each_ref().map(state));
        assert_eq!(bundles_of(&run, &parts).unwrap(), begun);
        // One that was adopted is the importer's: its parts are named after it, or it is one of them.
        let none = known(&[(1, PartState::default()), (2, PartState::default())]);
        let names = |run: &RunRecord| {
            let bundles = bundles_of(run, &none).unwrap();
            bundles.iter().map(|bundle| format!("{} {}", bundle.part, bundle.blob)).collect::<Vec<_>>()
        };
        assert_eq!(names(&run), ["1 of 2 blob-0001-of-0002", "2 of 2 blob-0002-of-0002"]);
        let mut one = RunRecord { blob: "blob-0002-of-0002".parse().unwrap(), ..run };
        one.view.part = Some(2);
        assert_eq!(names(&one), ["2 of 2 blob-0002-of-0002"]);
    }

    #[test]
    fn an_import_names_its_catalog_digest_for_the_first_part() {
        let mut run = RunRecord { parts: 2, ..import() };
        let digest = Digest::sha256(b"index");
        run.request.catalog_digest = Some(digest.to_string());
        let parts = known(&[(1, PartState::default()), (2, PartState::default())]);
        let work = plan_import(&run, &bundles_of(&run, &parts).unwrap()).unwrap();
        assert_eq!(work.iter().map(|w| w.catalog_digest.clone()).collect::<Vec<_>>(), [Some(digest), None]);
        assert_eq!(work[0].pipeline.as_str(), "r.inbox");
        assert!(work[0].destination.is_some());
        run.request.catalog_digest = Some("CANARY".to_owned());
        assert!(plan_import(&run, &[]).is_err());
        assert!(plan_import(&export(1), &[]).is_err());
    }

    #[test]
    fn the_message_carries_the_runs_trace() {
        let run = export(1);
        let work = &plan_export(&run, 1).unwrap()[0];
        let OutboxItem::Publish { queue, message_id, kind, headers, body } =
            publish_item(work, Queue::ExporterParts, &run.traceparent)
        else {
            panic!("a message")
        };
        assert_eq!(
            (queue, message_id, kind.as_str()),
            (Queue::ExporterParts, work.message_id(), "export.part")
        );
        assert_eq!(headers["traceparent"], run.traceparent);
        assert_eq!(&ExportPart::decode(&body).unwrap(), work);
    }
}
