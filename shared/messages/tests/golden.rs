//! Golden files: what was once written can always be read, and today's writer writes today's file.

use std::path::PathBuf;

use transship_messages::*;
use transship_model::*;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Compares with the file; `UPDATE_GOLDEN=1` writes a file that does not exist yet, and never one that does.
fn same_as_file(name: &str, written: &[u8]) {
    let path = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, written).expect("write a new golden file");
    }
    let file = std::fs::read(&path).expect("the golden file; UPDATE_GOLDEN=1 writes a new one");
    assert!(file == written, "{name}: the writer changed. Raise VERSION, and add a file for it");
}

fn execution() -> Execution {
    Execution { id: "run-1".parse().unwrap(), generation: 1_795_000_000_000 }
}

fn counters() -> Counters {
    Counters { artifacts_discovered: 2, bytes_moved: 5 << 30, ..Counters::default() }
}

fn route() -> Route {
    Route {
        source: "https://a.blob.core.windows.net/out".parse().unwrap(),
        pattern: NamePattern::new("nightly*"),
        target: "https://b.blob.core.windows.net/in".parse().unwrap(),
        target_secret: Some("target-sas".parse().unwrap()),
        overwrite: true,
        import_pipeline: Some("default".parse().unwrap()),
        import_destination: None,
    }
}

/// A route as version 2 may write it.
fn route_with_destination() -> Route {
    Route {
        target_secret: Some("https://v.vault.azure.net/secrets/in-sas".parse().unwrap()),
        import_destination: Some(destination()),
        ..route()
    }
}

fn destination() -> ImportDestination {
    ImportDestination {
        registry: "target".parse().unwrap(),
        credential: Some("identity:system".parse().unwrap()),
        options: ImportOptions { overwrite_tags: true, ..ImportOptions::default() },
    }
}

fn export_part() -> ExportPart {
    ExportPart {
        execution: execution(),
        part: Part { number: 2, count: 40 },
        registry: "source".parse().unwrap(),
        container: "https://a.blob.core.windows.net/out".parse().unwrap(),
        container_secret: Some("source-sas".parse().unwrap()),
        blob: "nightly".parse().unwrap(),
        artifacts: vec![
            "team/web:1.0".parse().unwrap(),
            format!("team/web@{}", Digest::sha256(b"x")).parse().unwrap(),
        ],
        options: ExportOptions { overwrite_blobs: true, continue_on_errors: false },
        routes: Some(vec![route()]),
        slice: 1,
        carried: counters(),
    }
}

fn copy_requested() -> CopyRequested {
    CopyRequested {
        execution: execution(),
        part: Part::ONLY,
        source_secret: None,
        blob: "nightly".parse().unwrap(),
        etag: "\"0x8D\"".into(),
        length: 7 << 40,
        artifacts: 250,
        catalog_digest: Digest::sha256(b"index"),
        route: route(),
        slice: 0,
        carried: Counters::default(),
    }
}

fn import_requested() -> ImportRequested {
    ImportRequested {
        execution: execution(),
        part: Part::ONLY,
        pipeline: "default".parse().unwrap(),
        destination: None,
        container: "https://b.blob.core.windows.net/in".parse().unwrap(),
        blob: "nightly".parse().unwrap(),
        etag: Some("\"0x8D\"".into()),
        catalog_digest: None,
        slice: 0,
        carried: Counters::default(),
        sealed_upload: None,
    }
}

/// The work items with everything that version 2 added.
fn newest() -> (ExportPart, CopyRequested, ImportRequested) {
    let export = ExportPart {
        container_secret: Some("https://v.vault.azure.net/secrets/out-sas/0123".parse().unwrap()),
        routes: Some(vec![route_with_destination()]),
        ..export_part()
    };
    let copy = CopyRequested { route: route_with_destination(), ..copy_requested() };
    let import = ImportRequested {
        destination: Some(destination()),
        catalog_digest: Some(Digest::sha256(b"index")),
        sealed_upload: Some(vec![0, 1, 2].into()),
        ..import_requested()
    };
    (export, copy, import)
}

fn facts() -> Vec<(&'static str, Fact)> {
    let container: ContainerUrl = "https://b.blob.core.windows.net/in".parse().unwrap();
    let blob: BlobName = "nightly".parse().unwrap();
    let failed = ArtifactResult {
        reference: "team/web:1.0".parse().unwrap(),
        imported_as: Some("mirror/web:1.0".parse().unwrap()),
        digest: Some(Digest::sha256(b"x")),
        outcome: ArtifactOutcome::Failed {
            code: Code::TagExists,
            message: "the tag exists".into(),
            hint: Some("set OverwriteTags".into()),
        },
    };
    let moved = ArtifactResult { outcome: ArtifactOutcome::Moved, ..failed.clone() };
    let skipped =
        ArtifactResult { outcome: ArtifactOutcome::Skipped { reason: "there".into() }, ..failed.clone() };
    let bodies = vec![
        ("fact-part-planned", FactBody::PartPlanned { counters: counters() }),
        (
            "fact-bundle-exported",
            FactBody::BundleExported {
                container: container.clone(),
                blob: blob.clone(),
                etag: "e".into(),
                length: 1,
                catalog_digest: Digest::sha256(b"index"),
                counters: counters(),
                failed: vec![failed.clone()],
                routes: vec![RouteTaken {
                    target: container.clone(),
                    import_pipeline: Some("default".parse().unwrap()),
                }],
            },
        ),
        (
            "fact-bundle-copied",
            FactBody::BundleCopied {
                container: container.clone(),
                blob: blob.clone(),
                etag: "e".into(),
                length: 1,
                mode: CopyMode::ServerSide,
                counters: counters(),
            },
        ),
        (
            "fact-artifact-imported",
            FactBody::ArtifactImported {
                container: container.clone(),
                results: vec![moved, skipped, failed],
            },
        ),
        (
            "fact-bundle-imported",
            FactBody::BundleImported {
                pipeline: "default".parse().unwrap(),
                container: container.clone(),
                blob,
                catalog_digest: None,
                counters: counters(),
                message: None,
            },
        ),
        (
            "fact-progress",
            FactBody::Progress { counters: counters(), in_flight: vec!["team/web:1.0".into()] },
        ),
        (
            "fact-failed",
            FactBody::Failed {
                code: Code::SasExpired,
                message: "the SAS token expired".into(),
                hint: None,
                terminal: false,
                container: Some(container),
            },
        ),
    ];
    let fact = |body| Fact {
        execution: execution(),
        part: Part::ONLY,
        stage: Stage::BlobCopier,
        attempt: 3,
        target: None,
        at_ms: 1_795_000_000_123,
        body,
    };
    bodies.into_iter().map(|(name, body)| (name, fact(body))).collect()
}

fn reads_back<T: WorkItem + PartialEq + std::fmt::Debug>(version: u16, item: &T) {
    let name = format!("v{version}-{}.msgpack", T::KIND);
    if version == VERSION {
        same_as_file(&name, &item.encode());
    }
    assert_eq!(T::decode(&std::fs::read(golden(&name)).unwrap()).unwrap(), *item);
}

#[test]
fn every_work_item_of_version_1_still_reads_back() {
    reads_back(1, &export_part());
    reads_back(1, &copy_requested());
    reads_back(1, &import_requested());
}

#[test]
fn every_work_item_of_version_2_is_written_as_its_golden_file_and_reads_back() {
    let (export, copy, import) = newest();
    reads_back(2, &export);
    reads_back(2, &copy);
    reads_back(2, &import);
}

#[test]
fn every_fact_of_version_1_still_reads_back() {
    for (name, fact) in facts() {
        let file = std::fs::read(golden(&format!("v1-{name}.msgpack"))).unwrap();
        assert_eq!(decode_fact(&file).unwrap(), fact);
    }
}

#[test]
fn every_fact_of_version_2_is_written_as_its_golden_file_and_reads_back() {
    for (name, mut fact) in facts() {
        fact.target = Some("https://b.blob.core.windows.net/in".parse().unwrap());
        if let FactBody::BundleImported { catalog_digest, .. } = &mut fact.body {
            *catalog_digest = Some(Digest::sha256(b"index"));
        }
        let name = format!("v2-{name}.msgpack");
        same_as_file(&name, &encode_fact(&fact));
        assert_eq!(decode_fact(&std::fs::read(golden(&name)).unwrap()).unwrap(), fact);
    }
}

/// Changes a text of the envelope in place.
fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the text is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn a_newer_version_is_told_from_poison() {
    // `v` is a one-byte text, and 2 a positive fixint.
    let newer = patched(&import_requested().encode(), b"\xa1v\x02", b"\xa1v\x03");
    assert!(matches!(ImportRequested::decode(&newer), Err(DecodeError::Newer { found: 3 })));
}

#[test]
fn unknown_fields_are_tolerated() {
    // A map of three becomes a map of four, with one more entry at its end.
    let mut message = import_requested().encode();
    assert_eq!(message[0], 0x83);
    message[0] = 0x84;
    message.extend_from_slice(b"\xa5later\xc3");
    assert_eq!(ImportRequested::decode(&message).unwrap(), import_requested());
}

#[test]
fn hostile_messages_are_refused_without_a_panic() {
    let good = import_requested().encode();
    let deep = [vec![0x91; 200_000], vec![0xc0]].concat();
    let lies = [0xdd, 0xff, 0xff, 0xff, 0xff];
    let trailing = [good.as_slice(), b"\xc0"].concat();
    let wrong_kind = copy_requested().encode();
    let hostile_name = patched(&good, b"nightly", b"../ight");
    for (what, bytes) in [
        ("empty", &b""[..]),
        ("not MessagePack", b"hello"),
        ("depth", &deep),
        ("length", &lies),
        ("trailing", &trailing),
        ("kind", &wrong_kind),
        ("cut", &good[..good.len() - 1]),
        ("name", &hostile_name),
        ("large", &vec![0xc0; MAX_BYTES + 1]),
    ] {
        assert!(ImportRequested::decode(bytes).is_err(), "{what}");
        assert!(decode_fact(bytes).is_err(), "{what}");
    }
}

#[test]
fn a_part_of_250_long_references_fits_the_bus() {
    let mut part = export_part();
    let long: ArtifactReference =
        format!("{}:{}", "a/".repeat(120) + "end", "t".repeat(128)).parse().unwrap();
    part.artifacts = vec![long; Part::MAX_ARTIFACTS];
    assert!(part.encode().len() <= MAX_BYTES);
    assert_eq!(ExportPart::decode(&part.encode()).unwrap(), part);
}

#[test]
fn two_routes_of_one_bundle_have_two_identities_and_a_repetition_has_one() {
    let mut other = copy_requested();
    assert_eq!(other.message_id(), copy_requested().message_id());
    other.route.target = "https://c.blob.core.windows.net/in".parse().unwrap();
    assert_ne!(other.message_id(), copy_requested().message_id());
}
