//! PostgreSQL: the same cases, and what only several replicas can show.

use std::collections::BTreeSet;

use anyhow::Result;
use futures::future::try_join_all;
use transship_control_plane::state::{Claim, Folded, PutOutcome, RunDecision, RunRecord, Store};
use transship_model::Secret;
use transship_rig::Postgres;

use crate::scene::{Scene, export, exported, part_states, registry, run_id, start};

#[tokio::test(flavor = "multi_thread")]
async fn every_case_holds_on_postgresql() -> Result<()> {
    crate::on_postgres(&Postgres::start().await?).await
}

/// Two stores on one database.
async fn replicas(server: &Postgres) -> Result<(Scene, Store)> {
    let one = Scene::postgres(server).await?;
    let other = Store::open(&Secret::new(&one.url)).await?;
    Ok((one, other))
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_work_and_decide_each_run_once() -> Result<()> {
    let server = Postgres::start().await?;
    let (scene, other) = replicas(&server).await?;
    let stores = [&scene.store, &other];

    // The same run is asked for at both, many times over.
    let asks = (0..200).map(|number| {
        let new = export(&format!("run{}", number / 4), 1_000);
        let store = stores[number % 2];
        async move {
            let id = new.id.clone();
            let decide = move |known: Option<&RunRecord>| match known {
                None => RunDecision::Start(Box::new(new)),
                Some(_) => RunDecision::Same,
            };
            store.put_run(&id, decide).await
        }
    });
    let outcomes = try_join_all(asks).await?;
    let started = outcomes.iter().filter(|outcome| matches!(outcome, PutOutcome::Started(_))).count();
    assert_eq!(started, 50);
    let runs = scene.store.runs(&registry(), 0, 1_000).await?;
    let generations: BTreeSet<_> = runs.iter().map(|run| run.execution.generation).collect();
    assert_eq!((runs.len(), generations.len()), (50, 50));

    // Each start goes to one of them; what one leaves lying comes back.
    let (mut ours, theirs) =
        tokio::try_join!(scene.store.outbox_due(2_000, 25), other.outbox_due(2_000, 25))?;
    assert_eq!((ours.len(), theirs.len()), (25, 25));
    ours.extend(theirs);
    let ids: BTreeSet<_> = ours.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), 50);
    assert_eq!(scene.store.outbox_due(2_000, 100).await?, vec![]);
    assert_eq!(other.outbox_due(2_000 + 60_000, 100).await?.len(), 50);

    // Facts of one run at both.
    let run = &runs[0];
    scene.store.begin_run(&run.execution, part_states(40)?, vec![], 3_000).await?;
    let facts = (1..=40).map(|part| stores[part as usize % 2].fold(exported(&run.execution, part), 4_000));
    let ended = try_join_all(facts)
        .await?
        .into_iter()
        .filter(|folded| matches!(folded, Folded::Applied { ended } if !ended.is_empty()));
    assert_eq!(ended.count(), 1);
    other.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_leads_until_its_lease_ends_and_one_owns_an_import() -> Result<()> {
    let server = Postgres::start().await?;
    let (scene, other) = replicas(&server).await?;
    assert!(scene.store.lease("trigger", "one", 1_000, 10).await?);
    assert!(!other.lease("trigger", "two", 10_999, 10).await?);
    assert!(scene.store.lease("trigger", "one", 10_999, 10).await?, "it renews");
    assert!(!other.lease("trigger", "two", 11_000, 10).await?);
    assert!(other.lease("schedule", "two", 11_000, 10).await?, "another name");
    assert!(other.lease("trigger", "two", 20_999, 10).await?);
    assert!(!scene.store.lease("trigger", "one", 21_000, 10).await?);

    let claim = |store: Store, run: &'static str| async move {
        store.claim_import("/p", "https://a.example/c/b", "e", &run_id(run)).await
    };
    let (one, two) = tokio::try_join!(claim(scene.store.clone(), "one01"), claim(other.clone(), "two02"))?;
    assert_eq!([one, two].iter().filter(|claim| **claim == Claim::Mine).count(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_outlives_its_server() -> Result<()> {
    let server = Postgres::start().await?;
    let scene = Scene::postgres(&server).await?;
    let run = start(&scene.store, export("before", 1_000)).await?;
    server.kill().await?;
    start(&scene.store, export("while", 2_000)).await.expect_err("nobody answers");
    server.start_again().await?;
    start(&scene.store, export("after", 3_000)).await?;
    assert_eq!(scene.store.runs(&registry(), 0, 1).await?, vec![run]);
    Ok(())
}
