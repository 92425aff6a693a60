//! What triggers and schedules remember.

use anyhow::Result;
use transship_control_plane::state::{Claim, SeenBlob, SeenVerdict, TagState};

use crate::scene::{Scene, run_id};

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
