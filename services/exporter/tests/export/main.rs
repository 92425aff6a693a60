//! The verb over twins: what is in the bundle, what is not, and what happens twice.

mod resume;
mod slices;
mod streamed;
mod support;
mod wrong_sizes;

use futures::FutureExt;
use serde_json::json;
use support::*;
use transship_bundle::{Absence, Discovery, Location};
use transship_model::*;
use transship_registry::{MemoryRegistry, Operation as Call, RegistryError};
use transship_stage::{ByteBudget, Context, FollowUp, Outcome, Verb};
use transship_storage::{BlockId, Operation, ReadContainer, StorageError, WriteContainer};
use transship_telemetry::Metrics;

#[tokio::test]
async fn an_index_with_images_is_carried_byte_for_byte_and_handed_on_to_its_route() {
    let world = World::new();
    let (amd, arm) =
        (world.image("team/web", None, &[100, 20 * MIB]), world.image("team/web", None, &[0, 3 * MIB]));
    let child = |digest: &Digest| json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest.to_string(), "size": 1});
    let index = world.put("team/web", Some("v1"), &json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [child(&amd), child(&arm)]}));
    let outcome = world.export(&world.work(&["team/web:v1"])).await.unwrap();
    let catalog = world.verified().await;
    assert_eq!(catalog.artifacts[0].digest, index);
    assert_eq!(catalog.artifacts[0].name.as_deref(), Some("team/web:v1"));
    assert!(catalog.locations.contains_key(&amd) && catalog.locations.contains_key(&arm));
    let (counters, _) = exported(&outcome);
    assert_eq!(
        counters.bytes_discovered,
        counters.bytes_moved + counters.bytes_skipped + counters.bytes_failed
    );
    assert_eq!((counters.artifacts_moved, counters.bytes_skipped), (1, 0));
    let Outcome::Done { next, .. } = &outcome else { unreachable!() };
    let [FollowUp::Copy(copy)] = &next[..] else { panic!("{next:?}") };
    assert_eq!((&copy.route, &copy.blob), (&world.routes[0], &blob_name()));
    assert_eq!(copy.length, world.container.content(&blob_name()).unwrap().len() as u64);
}

#[tokio::test]
async fn a_part_that_is_delivered_again_finds_its_bundle_and_says_the_same() {
    let world = World::new();
    world.image("a", Some("1"), &[9 * MIB]);
    let first = world.export(&world.work(&["a:1"])).await.unwrap();
    let staged = world.container.staged_count();
    let second = world.export(&world.work(&["a:1"])).await.unwrap();
    assert_eq!(world.container.staged_count(), staged);
    assert_eq!(exported(&first).1, exported(&second).1);
    let next = |outcome| match outcome {
        Outcome::Done { next, .. } => next,
        other => panic!("{other:?}"),
    };
    assert_eq!(next(first), next(second));
}

#[tokio::test]
async fn equal_artifacts_have_an_equal_catalog_digest_in_another_execution() {
    let digest_of = async |generation| {
        let world = World::new();
        world.image("a", Some("1"), &[100, 5 * MIB]);
        let mut work = world.work(&["a:1"]);
        work.execution.generation = generation;
        exported(&world.export(&work).await.unwrap()).1
    };
    assert_eq!(digest_of(1).await, digest_of(2).await);
}

#[tokio::test]
async fn whoever_owns_the_blob_decides_what_an_export_may_do() {
    let world = World::new();
    world.image("a", Some("1"), &[100]);
    world.export(&world.work(&["a:1"])).await.unwrap();
    let mut other = world.work(&["a:1"]);
    other.execution = Execution { id: "other".parse().unwrap(), generation: 6 };
    let failure = world.export(&other).await.unwrap_err();
    assert_eq!(failure.code, Code::BlobExists);
    assert!(failure.hint.unwrap().contains("OverwriteBlobs"));
    other.options.overwrite_blobs = true;
    world.export(&other).await.unwrap();
    let mut older = world.work(&["a:1"]);
    older.options.overwrite_blobs = true;
    assert_eq!(world.export(&older).await.unwrap(), Outcome::Superseded);
}

#[tokio::test]
async fn a_missing_artifact_fails_the_part_by_name_or_is_left_out() {
    let world = World::new();
    world.image("a", Some("1"), &[100]);
    let mut work = world.work(&["a:1", "a:nope"]);
    let failure = world.export(&work).await.unwrap_err();
    assert_eq!(failure.code, Code::ArtifactNotFound);
    assert!(failure.message.contains("a:nope"), "{failure}");
    assert!(world.container.content(&blob_name()).is_none());
    work.options.continue_on_errors = true;
    let (counters, _) = exported(&world.export(&work).await.unwrap());
    assert_eq!((counters.artifacts_moved, counters.artifacts_failed), (1, 1));
    assert_eq!(world.verified().await.artifacts.len(), 1);
    let mut none = world.work(&["a:nope", "b:nope"]);
    none.options.continue_on_errors = true;
    none.blob = "other".parse().unwrap();
    assert_eq!(world.export(&none).await.unwrap_err().code, Code::ArtifactNotFound);
}

#[tokio::test]
async fn a_part_that_is_delivered_after_its_commit_repeats_why_artifacts_were_left_out() {
    let world = World::new();
    world.image("a", Some("1"), &[100]);
    world.image("a", Some("bad"), &[300]);
    let damaged = Digest::sha256(&content("layer 300", 300));
    world.registry.put_blob_as(&repository("a"), damaged, content("wrong", 300));
    let mut work = world.work(&["a:1", "a:nope", "a:bad"]);
    work.options.continue_on_errors = true;
    let first = world.export(&work).await.unwrap();
    let second = world.export(&work).await.unwrap();
    assert_eq!(left_out(&first), left_out(&second));
    let codes: Vec<_> = left_out(&first).into_iter().map(|(name, code, _)| (name, code)).collect();
    assert_eq!(
        codes,
        [("a:nope".to_owned(), Code::ArtifactNotFound), ("a:bad".to_owned(), Code::DigestMismatch)]
    );
    // An artifact that never was there leaves no trace but in the bill.
    let (alone, beside) = (World::new(), World::new());
    for world in [&alone, &beside] {
        world.image("a", Some("1"), &[100]);
    }
    let mut missing = beside.work(&["a:1", "a:nope"]);
    missing.options.continue_on_errors = true;
    let catalog_digest = |outcome| exported(&outcome).1;
    assert_eq!(
        catalog_digest(alone.export(&alone.work(&["a:1"])).await.unwrap()),
        catalog_digest(beside.export(&missing).await.unwrap())
    );
}

#[tokio::test]
async fn bytes_with_another_digest_never_become_part_of_a_bundle() {
    for size in [100, 20 * MIB] {
        let world = World::new();
        world.image("a", Some("good"), &[300]);
        let digest = world.image("a", Some("bad"), &[size]);
        let right = Digest::sha256(&content(&format!("layer {size}"), size));
        world.registry.put_blob_as(&repository("a"), right.clone(), content("wrong", size));
        let mut work = world.work(&["a:good", "a:bad"]);
        let failure = world.export(&work).await.unwrap_err();
        assert_eq!(failure.code, Code::DigestMismatch);
        let wrong = Digest::sha256(&content("wrong", size));
        assert!(failure.message.contains(&right.to_string()) && failure.message.contains(&wrong.to_string()));
        assert!(world.container.content(&blob_name()).is_none());
        work.options.continue_on_errors = true;
        world.export(&work).await.unwrap();
        let catalog = world.verified().await;
        assert_eq!(catalog.artifacts.len(), 1);
        assert!(!catalog.locations.contains_key(&digest) && !catalog.locations.contains_key(&right));
    }
}

#[tokio::test]
async fn referrers_signatures_and_what_refers_to_them_travel_with_their_artifact() {
    for api in [true, false] {
        let registry = MemoryRegistry::new("source.example");
        let world = World::of(if api { registry } else { registry.without_referrers_api() });
        let image = world.image("a", Some("1"), &[100]);
        let subject = |digest: &Digest| json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest.to_string(), "size": 1});
        let referrer = |of: &Digest, name: &str| {
            let blob = world.blob("a", content(name, 50), "application/vnd.acme.sbom");
            world.put("a", None, &json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": "a/b", "config": blob, "layers": [], "subject": subject(of)}))
        };
        let sbom = referrer(&image, "sbom");
        let signature_of_sbom = referrer(&sbom, "signature of the sbom");
        let cosign = world.image("a", Some(&format!("sha256-{}.sig", image.hex())), &[77]);
        if !api {
            for (of, listed) in [(&image, &sbom), (&sbom, &signature_of_sbom)] {
                let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [subject(listed)]});
                world.put("a", Some(Tag::referrers_fallback(of).as_str()), &index);
            }
        }
        world.export(&world.work(&["a:1"])).await.unwrap();
        let catalog = world.verified().await;
        for digest in [&image, &sbom, &signature_of_sbom, &cosign] {
            assert!(catalog.locations.contains_key(digest), "api {api}");
        }
        let found = |digest: &Digest, of: &Digest| {
            catalog.discovered.iter().any(|d| d.digest == *digest && d.subject == *of)
        };
        assert!(found(&sbom, &image) && found(&signature_of_sbom, &sbom) && found(&cosign, &image));
        let fallbacks =
            catalog.discovered.iter().filter(|d| matches!(d.by, Discovery::FallbackIndex { .. })).count();
        assert_eq!(fallbacks, if api { 0 } else { 2 });
    }
}

#[tokio::test]
async fn odd_content_is_carried_as_it_is() {
    let world = World::new();
    let layer = world.blob("a", content("x", 10), "application/x");
    let empty = world.blob("a", content("", 0), "application/x");
    let many: Vec<_> =
        (0..3000).map(|i| world.blob("a", content(&i.to_string(), 40), "application/x")).collect();
    let with = |config: &serde_json::Value, layers: serde_json::Value| json!({"schemaVersion": 2, "config": config, "layers": layers});
    world.put("a", Some("many"), &with(&layer, many.into()));
    world.put("a", Some("twice"), &with(&layer, json!([layer, layer, empty])));
    let mut wrong_size = world.blob("a", content("large", 5 * MIB), "application/x");
    wrong_size["size"] = 10.into();
    let mut too_large = world.blob("a", content("small", 12), "application/x");
    too_large["size"] = (40 * MIB).into();
    world.put("a", Some("wrong"), &with(&wrong_size, json!([too_large])));
    let foreign = json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": Digest::sha256(b"elsewhere").to_string(), "size": 3 * MIB, "urls": ["http://169.254.169.254/"]});
    world.put("a", Some("foreign"), &with(&layer, json!([foreign])));
    let by_digest = world.image("b", None, &[1]);
    let work = world.work(&["a:many", "a:twice", "a:wrong", "a:foreign", &format!("b@{by_digest}")]);
    let (counters, _) = exported(&world.export(&work).await.unwrap());
    assert_eq!(
        counters.bytes_discovered,
        counters.bytes_moved + counters.bytes_skipped + counters.bytes_failed
    );
    let catalog = world.verified().await;
    assert_eq!(catalog.artifacts.len(), 5);
    assert_eq!(catalog.locations[&Digest::sha256(b"elsewhere")], Location::Absent(Absence::NotDistributable));
    let size_of = |bytes: &[u8]| match &catalog.locations[&Digest::sha256(bytes)] {
        Location::Stored { size, .. } => *size as usize,
        absent => panic!("{absent:?}"),
    };
    assert_eq!(
        (size_of(&content("large", 5 * MIB)), size_of(&content("small", 12)), size_of(b"")),
        (5 * MIB, 12, 0)
    );
}

#[tokio::test]
async fn a_shutdown_interrupts_without_blaming_anybody() {
    let world = World::new();
    world.image("a", Some("1"), &[40 * MIB]);
    let context = context(SLICE);
    context.cancel.cancel();
    let failure = world.exporter.handle(&world.work(&["a:1"]), &context).await.unwrap_err();
    assert_eq!(failure.class, Class::Interrupted);
}

#[tokio::test]
async fn an_answer_that_was_lost_to_ones_own_commit_is_not_taken_for_somebody_elses() {
    let conflict = |world: &World| StorageError::ConditionFailed {
        container: world.container.url().clone(),
        blob: blob_name(),
    };
    let world = World::new();
    world.image("a", Some("1"), &[100]);
    world.container.lose_answer_of_next(Operation::Commit, conflict(&world));
    let outcome = world.export(&world.work(&["a:1"])).await.unwrap();
    assert_eq!(exported(&outcome).1, world.verified().await.catalog_digest);
    // And where it is somebody else's, the failure says whose name it is, and what to do.
    let world = World::new();
    world.image("a", Some("1"), &[100]);
    world.container.fail_next(Operation::Commit, conflict(&world));
    let failure = world.export(&world.work(&["a:1"])).await.unwrap_err();
    assert!(matches!(failure.class, Class::Transient { .. }), "{failure}");
    for named in [blob_name().to_string(), world.container.url().to_string()] {
        assert!(failure.message.contains(&named), "{failure}");
    }
    assert!(failure.hint.unwrap().contains("name of its own"));
}

#[tokio::test]
async fn an_account_that_may_pull_and_not_list_exports() {
    let world = World::new();
    let image = world.image("a", Some("1"), &[100]);
    world.registry.inject(|called, _| {
        (called == Call::Tags).then(|| RegistryError::Forbidden {
            host: "source.example".into(),
            repository: "a".into(),
            reason: "403 DENIED".into(),
        })
    });
    world.export(&world.work(&["a:1"])).await.unwrap();
    assert_eq!(world.verified().await.artifacts[0].digest, image);
}

#[tokio::test]
async fn what_the_walk_reads_comes_out_of_the_byte_budget_and_a_small_one_is_enough() {
    for bytes in [1 << 10, ByteBudget::DEFAULT_BYTES] {
        let world = World::new();
        prepare(&world);
        let context = Context::new(ByteBudget::new(bytes), Metrics::new(Stage::Exporter), SLICE);
        let budget = context.budget.clone();
        let least = u64::from(bytes).min(MAX_MANIFEST_BYTES);
        let asks = [Call::Manifest, Call::Tags, Call::Referrers];
        world.registry.inject(move |called, _| {
            assert!(!asks.contains(&called) || budget.used() >= least, "{called:?} with {}", budget.used());
            None
        });
        world.exporter.handle(&world.work(&["a:1", "b:1"]), &context).await.unwrap();
        world.verified().await;
        assert_eq!(context.budget.used(), 0);
    }
}

#[tokio::test]
async fn a_bundle_that_has_another_length_than_what_was_staged_is_no_success() {
    let world = World::new();
    world.image("a", Some("1"), &[100]);
    let container = world.container.clone();
    // Another worker that holds the same part, and stages at the last moment.
    world.container.observe(move |called, _| {
        if called == Operation::Commit {
            let id = BlockId::new(transship_bundle::end_block_id());
            let blob = blob_name();
            let staged = container.stage(&blob, &id, vec![0; 512].into());
            staged.now_or_never().expect("nothing waits in memory")?;
        }
        Ok(())
    });
    let failure = world.export(&world.work(&["a:1"])).await.unwrap_err();
    assert_eq!((failure.class, failure.code), (Class::Permanent, Code::BundleInvalid));
    assert!(failure.hint.unwrap().contains("delete the blob"));
}

#[tokio::test]
async fn what_only_an_artifact_needs_that_cannot_be_carried_is_not_moved() {
    let world = World::new();
    world.image("a", Some("1"), &[100]);
    let child = world.image("a", None, &[20 * MIB]);
    let listed = [child, Digest::sha256(b"missing")]
        .map(|digest| json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest.to_string(), "size": 1}));
    world.put(
        "a",
        Some("broken"),
        &json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": listed}),
    );
    let mut work = world.work(&["a:1", "a:broken"]);
    work.options.continue_on_errors = true;
    let outcome = world.export(&work).await.unwrap();
    assert_eq!(left_out(&outcome).len(), 1);
    assert!(world.registry.bytes_read() < MIB as u64);
    world.verified().await;
}
