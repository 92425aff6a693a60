use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};

use transship_control_plane::api::LimitsConfig;

use crate::scene::{REGISTRY, Scene, With, export_run};

/// Runs that are put, how many at a time, and how long one may take.
const RUNS: usize = 1000;
const AT_A_TIME: usize = 16;
const P99: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_thousand_runs_are_accepted_quickly_and_listed_whole() {
    let limits = LimitsConfig { requests_per_second: 0, ..LimitsConfig::default() };
    let scene = Scene::with(With { limits, ..With::default() }).await;
    scene.pipelines().await;
    let began = Instant::now();
    let put = |n: usize| {
        let scene = &scene;
        async move {
            let began = Instant::now();
            let path = format!("{REGISTRY}/pipelineRuns/run{n:05}");
            let answer = scene.put(&path, &export_run(&["hello:1"])).await;
            (answer.status, began.elapsed())
        }
    };
    let answers: Vec<(u16, Duration)> =
        stream::iter((0..RUNS).map(put)).buffer_unordered(AT_A_TIME).collect().await;
    let took = began.elapsed();
    let mut times: Vec<Duration> =
        answers.iter().filter(|(status, _)| *status == 201).map(|(_, took)| *took).collect();
    times.sort();
    assert_eq!(times.len(), RUNS, "{:?}", answers.iter().find(|(status, _)| *status != 201));
    let p99 = times[RUNS * 99 / 100];
    println!("{RUNS} runs in {took:?}, p50 {:?}, p99 {p99:?}", times[RUNS / 2]);
    assert!(p99 <= P99 && took <= Duration::from_secs(60), "{took:?} {p99:?}");
    let mut next = Some(format!("{REGISTRY}/pipelineRuns"));
    let mut seen = std::collections::BTreeSet::new();
    while let Some(link) = next {
        let page = scene.get(&link).await;
        for run in page.body["value"].as_array().unwrap() {
            assert!(seen.insert(run["name"].as_str().unwrap().to_owned()), "a run is repeated");
        }
        next = page.body["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(seen.len(), RUNS);
}
