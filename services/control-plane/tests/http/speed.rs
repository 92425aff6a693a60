use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use transship_control_plane::api::LimitsConfig;

use crate::scene::{REGISTRY, Scene, With, export_run};

/// Runs that are put, how often one is, and how long one may take. What is promised is a third of this rate: a
/// thousand in a minute.
const RUNS: u32 = 1000;
const EVERY: Duration = Duration::from_millis(20);
const P99: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_thousand_runs_are_accepted_quickly_and_listed_whole() {
    let limits = LimitsConfig { requests_per_second: 0, ..LimitsConfig::default() };
    let scene = Scene::with(With { limits, ..With::default() }).await;
    scene.pipelines().await;
    let start = tokio::time::Instant::now();
    let put = |n: u32| {
        let scene = &scene;
        async move {
            // Each has its time, whatever became of the others.
            tokio::time::sleep_until(start + EVERY * n).await;
            let began = Instant::now();
            let path = format!("{REGISTRY}/pipelineRuns/run{n:05}");
            let answer = scene.put(&path, &export_run(&["hello:1"])).await;
            (answer.status, began.elapsed())
        }
    };
    let answers = join_all((0..RUNS).map(put)).await;
    let refused = answers.iter().find(|(status, _)| *status != 201);
    assert_eq!(refused, None);
    let mut times: Vec<Duration> = answers.into_iter().map(|(_, took)| took).collect();
    times.sort();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{RUNS} runs in {:?}, median {median:?}, p99 {p99:?}", start.elapsed());
    assert!(p99 <= P99, "{p99:?}");
    let mut next = Some(format!("{REGISTRY}/pipelineRuns"));
    let mut seen = BTreeSet::new();
    while let Some(link) = next {
        let page = scene.get(&link).await;
        for run in page.body["value"].as_array().unwrap() {
            assert!(seen.insert(run["name"].as_str().unwrap().to_owned()), "a run is repeated");
        }
        next = page.body["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(seen.len(), RUNS as usize);
}
