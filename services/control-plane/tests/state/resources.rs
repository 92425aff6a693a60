//! Pipelines and routes.

use anyhow::{Context, Result};
use transship_api::{Kind, ResourceId};
use transship_control_plane::state::{Claim, SeenBlob, SeenVerdict, TagState};

use crate::scene::{Scene, registry, run_id};

pub(crate) async fn a_resource_is_made_replaced_and_deleted_whatever_the_case_of_its_id(
    scene: &Scene,
) -> Result<()> {
    let store = &scene.store;
    let id = registry().child(Kind::ExportPipeline, "Outgoing");
    assert_eq!(store.resource(&id).await?, None);
    let made = store.put_resource(&id, Kind::ExportPipeline, "{1}".into(), "ada", 10).await?;
    assert_eq!((&*made.body, &*made.created_by, made.created_ms), ("{1}", "ada", 10));

    let shouted: ResourceId = id.to_string().to_uppercase().parse()?;
    let replaced = store.put_resource(&shouted, Kind::ExportPipeline, "{2}".into(), "bob", 20).await?;
    assert_eq!(replaced.id.to_string(), id.to_string(), "the first spelling stays");
    assert_eq!((replaced.seq, replaced.created_ms, &*replaced.created_by), (made.seq, 10, "ada"));
    assert_eq!((&*replaced.body, replaced.modified_ms, &*replaced.modified_by), ("{2}", 20, "bob"));
    assert_eq!(store.resource(&shouted).await?, Some(replaced));

    assert!(store.delete_resource(&shouted).await?);
    assert!(!store.delete_resource(&id).await?);
    assert_eq!(store.resource(&id).await?, None);
    Ok(())
}

pub(crate) async fn resources_are_listed_oldest_first_by_registry_and_by_kind(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let other = ResourceId::registry("s", "g", "fabrikam");
    for (registry, kind, name) in [
        (registry(), Kind::ExportPipeline, "zeta1"),
        (other.clone(), Kind::ExportPipeline, "other"),
        (registry(), Kind::ImportPipeline, "incoming"),
        (registry(), Kind::ExportPipeline, "alpha"),
        (registry(), Kind::ExportPipeline, "mid01"),
    ] {
        store.put_resource(&registry.child(kind, name), kind, "{}".into(), "ada", 1).await?;
    }
    let names = |found: &[transship_control_plane::state::ResourceRecord]| {
        found.iter().map(|record| record.id.name().to_owned()).collect::<Vec<_>>()
    };
    let shouted: ResourceId = registry().to_string().to_uppercase().parse()?;
    let first = store.resources(&shouted, Kind::ExportPipeline, 0, 2).await?;
    assert_eq!(names(&first), ["zeta1", "alpha"]);
    let after = first.last().context("two")?.seq;
    assert_eq!(names(&store.resources(&registry(), Kind::ExportPipeline, after, 2).await?), ["mid01"]);
    assert_eq!(
        names(&store.every_resource(Kind::ExportPipeline, None).await?),
        ["zeta1", "other", "alpha", "mid01"]
    );
    assert_eq!(names(&store.every_resource(Kind::Route, None).await?), Vec::<String>::new());
    Ok(())
}

pub(crate) async fn a_pipeline_that_is_deleted_takes_along_what_its_trigger_and_schedule_remember(
    scene: &Scene,
) -> Result<()> {
    let store = &scene.store;
    let run = run_id("trigger");
    for name in ["incoming", "another"] {
        let id = registry().child(Kind::ImportPipeline, name);
        store.put_resource(&id, Kind::ImportPipeline, "{}".into(), "ada", 1).await?;
        let seen = SeenBlob {
            pipeline: id.key(),
            blob: "b".parse()?,
            etag: "e".into(),
            length: 1,
            verdict: SeenVerdict::Ignored { reason: "why not".into() },
            first_ms: 1,
            changed_ms: 1,
        };
        store.put_seen_blob(seen).await?;
        store.claim_import(&id.key(), "https://a.example/c/b", "e", &run).await?;
        let tag = TagState { digest: "d".into(), run: "r".into() };
        store.put_tag_states(&id.key(), "app", vec![("1".into(), tag)]).await?;
    }
    let gone = registry().child(Kind::ImportPipeline, "Incoming");
    assert!(store.delete_resource(&gone).await?);
    assert_eq!(store.seen_blobs(&gone.key(), None, 10).await?, vec![]);
    assert!(store.tag_state(&gone.key(), "app").await?.is_empty());
    let newer = run_id("newer");
    assert_eq!(store.claim_import(&gone.key(), "https://a.example/c/b", "e", &newer).await?, Claim::Mine);
    let stays = registry().child(Kind::ImportPipeline, "another");
    assert_eq!(store.seen_blobs(&stays.key(), None, 10).await?.len(), 1);
    assert_eq!(store.tag_state(&stays.key(), "app").await?.len(), 1);
    Ok(())
}

pub(crate) async fn a_deployment_is_kept_as_it_ended_last(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    assert_eq!(store.deployment("/d").await?, None);
    assert!(store.put_deployment("/d", "{1}".into()).await?);
    assert!(!store.put_deployment("/d", "{2}".into()).await?);
    assert!(store.put_deployment("/e", "{3}".into()).await?);
    assert_eq!(store.deployment("/d").await?.as_deref(), Some("{2}"));
    Ok(())
}
