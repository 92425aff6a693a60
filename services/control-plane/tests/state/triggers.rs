//! What triggers and schedules remember.

use anyhow::Result;
use transship_control_plane::state::{Claim, SeenBlob, SeenVerdict, TagState};
use transship_messages::{ArtifactOutcome, ArtifactResult, FactBody};
use transship_model::{Code, Stage};

use crate::scene::{Scene, container, exported, failed, run_id};

fn seen(blob: &str, etag: &str, verdict: SeenVerdict) -> SeenBlob {
    let (pipeline, blob, etag) = ("/p".to_owned(), blob.parse().expect("a name"), etag.to_owned());
    SeenBlob { pipeline, blob, etag, length: 1 << 40, verdict, first_ms: 1, changed_ms: 2 }
}

pub(crate) async fn a_trigger_remembers_the_last_version_of_each_blob(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let waiting = SeenVerdict::Waiting { reason: "it is announced".into(), until_ms: 9 };
    let ignored = || SeenVerdict::Ignored { reason: "too old".into() };
    let imported = SeenVerdict::Imported { run: "r".into(), note: None };
    let first = seen("a/b", "1", waiting);
    store.put_seen_blob(first.clone()).await?;
    for blob in ["B", "a", "_"] {
        store.put_seen_blob(seen(blob, "1", ignored())).await?;
    }
    let name = first.blob.clone();
    assert_eq!(store.seen_blob("/p", &name, "1").await?, Some(first));
    assert_eq!(store.seen_blob("/p", &name, "2").await?, None);
    assert_eq!(store.seen_blob("/q", &name, "1").await?, None);
    let second = seen("a/b", "2", imported);
    store.put_seen_blob(second.clone()).await?;
    assert_eq!(store.seen_blob("/p", &name, "1").await?, None, "an earlier version is forgotten");
    assert_eq!(store.seen_blob("/p", &name, "2").await?, Some(second));

    let names = |found: Vec<SeenBlob>| found.into_iter().map(|s| s.blob.to_string()).collect::<Vec<_>>();
    assert_eq!(names(store.seen_blobs("/p", None, 3).await?), ["B", "_", "a"], "in the order of their bytes");
    assert_eq!(names(store.seen_blobs("/p", Some("a"), 3).await?), ["a/b"]);
    Ok(())
}

pub(crate) async fn an_import_has_one_owner(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let url = "https://a.example/inbox/bundle";
    let (one, two) = (run_id("one01"), run_id("two02"));
    let (first, second) =
        tokio::join!(store.claim_import("/p", url, "e", &one), store.claim_import("/p", url, "e", &two));
    assert_eq!((first?, second?), (Claim::Mine, Claim::Taken { run: one.to_string() }));
    assert_eq!(store.claim_import("/p", url, "e", &one).await?, Claim::Mine, "whoever asks again");
    assert_eq!(store.claim_import("/p", url, "f", &two).await?, Claim::Mine, "another version");
    assert_eq!(store.claim_import("/q", url, "e", &two).await?, Claim::Mine, "another pipeline");
    for (run, pipeline, expected) in [(&one, "/p", Some("e")), (&two, "/p", Some("f")), (&one, "/q", None)] {
        assert_eq!(store.claimed_etag(pipeline, url, run).await?.as_deref(), expected);
    }
    Ok(())
}

pub(crate) async fn a_schedule_remembers_each_tag(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let tag = |name: &str, digest: &str| {
        (name.to_owned(), TagState { digest: digest.to_owned(), run: format!("run of {digest}") })
    };
    assert!(store.tag_state("/p", "app").await?.is_empty());
    store.put_tag_states("/p", "app", vec![tag("1", "a"), tag("2", "b")]).await?;
    store.put_tag_states("/p", "app", vec![tag("2", "c"), tag("3", "d")]).await?;
    store.put_tag_states("/p", "other", vec![tag("1", "z")]).await?;
    let known: Vec<_> = store.tag_state("/p", "app").await?.into_iter().collect();
    assert_eq!(known, [tag("1", "a"), tag("2", "c"), tag("3", "d")]);
    Ok(())
}

pub(crate) async fn a_schedule_forgets_the_tags_that_a_run_did_not_deliver_when_it_is_deleted(
    scene: &Scene,
) -> Result<()> {
    let store = &scene.store;
    // Each run has a part for each of a:1 and a:2.
    let failure =
        || ArtifactOutcome::Failed { code: Code::ArtifactNotFound, message: "gone".into(), hint: None };
    let left_out = || ArtifactResult {
        reference: "a:2".parse().expect("a reference"),
        imported_as: None,
        digest: None,
        outcome: failure(),
    };
    for (name, stays) in [
        ("succeeds", &["1", "2"][..]),
        ("leavesout", &["1"]),
        ("copyfails", &["1"]),
        ("fails", &[]),
        ("runs", &[]),
    ] {
        let run = scene.running(name, 2).await?;
        let (mut facts, execution) = (vec![exported(&run.execution, 1)], &run.execution);
        match name {
            "leavesout" => {
                let mut second = exported(execution, 2);
                if let FactBody::BundleExported { failed, .. } = &mut second.body {
                    failed.push(left_out());
                }
                facts.push(second);
            }
            "copyfails" => {
                let mut copy = failed(execution, 2, Stage::BlobCopier, 4, true);
                copy.target = Some(container("inbox"));
                facts.extend([exported(execution, 2), copy]);
            }
            "fails" => facts.push(failed(execution, 2, Stage::Exporter, 4, true)),
            "runs" => {}
            _ => facts.push(exported(execution, 2)),
        }
        for fact in facts {
            store.fold(fact, 2_000).await?;
        }
        let tag = |tag: &str| (tag.to_owned(), TagState { digest: "d".to_owned(), run: run.id.to_string() });
        let pipeline = format!("/{name}");
        store.put_tag_states(&pipeline, "a", vec![tag("1"), tag("2")]).await?;
        let other = ("3".to_owned(), TagState { digest: "d".to_owned(), run: "another".to_owned() });
        store.put_tag_states(&pipeline, "a", vec![other]).await?;
        assert!(store.delete_run(&run.id).await?);
        let known: Vec<String> = store.tag_state(&pipeline, "a").await?.into_keys().collect();
        assert_eq!(known, [stays, &["3"]].concat(), "{name}");
    }
    Ok(())
}
