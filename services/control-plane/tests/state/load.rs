//! Many at once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use transship_control_plane::state::{Folded, Store};

use crate::scene::{Scene, container, export, exported, part_states, registry, start};

/// Makes runs, many at a time; how long the slowest one took.
async fn make(store: &Store, count: usize) -> Result<Duration> {
    let one = |number: usize| async move {
        let started = Instant::now();
        start(store, export(&format!("load{number}"), 1_000)).await?;
        anyhow::Ok(started.elapsed())
    };
    let took = try_join_all((0..count).map(one)).await?;
    took.into_iter().max().context("some were made")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_runs_at_once_are_made_within_seconds() -> Result<()> {
    let scene = Scene::sqlite().await?;
    let started = Instant::now();
    let slowest = make(&scene.store, 2_000).await?;
    let took = started.elapsed();
    println!("2000 runs in {took:?}: {:.0} a second, the slowest {slowest:?}", 2_000.0 / took.as_secs_f64());
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(scene.store.runs(&registry(), 0, 5_000).await?.len(), 2_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_runs_of_one_part_are_folded_within_seconds() -> Result<()> {
    let scene = Scene::sqlite().await?;
    let store = &scene.store;
    make(store, 1_000).await?;
    let runs = store.runs(&registry(), 0, 1_000).await?;
    try_join_all(runs.iter().map(|run| async {
        anyhow::ensure!(store.begin_run(&run.execution, part_states(1)?, vec![], 1_000).await?);
        Ok(())
    }))
    .await?;
    let started = Instant::now();
    let folded = try_join_all(runs.iter().map(|run| store.fold(exported(&run.execution, 1), 2_000))).await?;
    let took = started.elapsed();
    println!("1000 facts of 1000 runs in {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(folded.iter().all(|folded| matches!(folded, Folded::Applied { ended } if ended.len() == 1)));
    assert_eq!(store.unfinished_runs(0, 10).await?, vec![]);
    Ok(())
}

/// Progress touches the small rows of a part and of its run; the artifacts are read, and not written.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_forty_parts_of_250_artifacts_is_folded_within_seconds() -> Result<()> {
    let scene = Scene::sqlite().await?;
    let store = &scene.store;
    let run = start(store, export("large", 1_000)).await?;
    let name = |i: u32| format!("{}/{i}:{}", "r".repeat(40), "t".repeat(20)).parse();
    let part = || {
        anyhow::Ok(transship_control_plane::fold::PartState::new(
            (0..250).map(name).collect::<Result<Vec<_>, _>>()?,
        ))
    };
    let parts = (1..=40).map(|number| Ok((number, part()?))).collect::<Result<Vec<_>>>()?;
    assert!(store.begin_run(&run.execution, parts, vec![], 1_000).await?);

    let started = Instant::now();
    let progress = |round: u64| {
        let run = &run;
        (1..=40).map(move |part| store.fold(crate::scene::progress(&run.execution, part, round), 2_000))
    };
    for round in 0..10 {
        try_join_all(progress(round)).await?;
    }
    let took = started.elapsed();
    println!("400 facts of 40 parts in {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(store.parts(&run.execution).await?.len(), 40);
    assert_eq!(scene.run("large").await?.pipeline.container, container("outbox"));
    Ok(())
}

pub(crate) async fn lists_neither_miss_nor_repeat_a_run_while_others_are_made(scene: &Scene) -> Result<()> {
    let store = scene.store.clone();
    let making = tokio::spawn(async move { make(&store, 300).await });
    let (mut seen, mut after) = (Vec::new(), 0);
    // A client that pages while runs are made, and goes on where it was until all of them were there.
    while seen.len() < 300 {
        let page = scene.store.runs(&registry(), after, 7).await?;
        if let Some(last) = page.last() {
            after = last.seq;
        } else {
            tokio::task::yield_now().await;
        }
        seen.extend(page.into_iter().map(|run| run.seq));
        anyhow::ensure!(
            !making.is_finished()
                || seen.len() == 300
                || !scene.store.runs(&registry(), after, 1).await?.is_empty(),
            "a run was missed: {} of 300",
            seen.len()
        );
    }
    making.await??;
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (300, 300));
    assert_eq!(scene.store.runs(&registry(), after, 7).await?, vec![]);
    Ok(())
}
