use std::collections::BTreeSet;

use serde_json::json;

use crate::scene::{REGISTRY, Scene, export_run};

#[tokio::test]
async fn an_empty_list_is_a_list() {
    let scene = Scene::start().await;
    for kind in ["exportPipelines", "importPipelines", "pipelineRuns", "routes"] {
        let list = scene.get(&format!("{REGISTRY}/{kind}")).await;
        assert_eq!((list.status, &list.body), (200, &json!({ "value": [] })), "{kind}");
    }
}

#[tokio::test]
async fn pages_miss_no_run_and_repeat_none_though_runs_come_and_go() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    let run = |n: usize| format!("{REGISTRY}/pipelineRuns/nightly{n:03}");
    for n in 0..25 {
        assert_eq!(scene.put(&run(n), &export_run(&["a:1"])).await.status, 201);
    }
    let mut next = Some(format!("{REGISTRY}/pipelineRuns?$top=4"));
    let mut seen = Vec::new();
    while let Some(link) = next {
        let page = scene.get(&link).await;
        assert_eq!(page.status, 200, "{page:?}");
        let names =
            page.body["value"].as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap().to_owned());
        seen.extend(names);
        next = page.body["nextLink"].as_str().map(str::to_owned);
        assert!(
            next.as_ref().is_none_or(|link| link.starts_with(&scene.url) && link.contains("api-version"))
        );
        if seen.len() == 8 {
            // One that was seen goes, one that was not seen goes, and one comes.
            assert_eq!(scene.delete(&run(2)).await.status, 200);
            assert_eq!(scene.delete(&run(20)).await.status, 200);
            assert_eq!(scene.put(&run(99), &export_run(&["a:1"])).await.status, 201);
        }
    }
    let expected: Vec<String> =
        (0..25).filter(|n| *n != 20).chain([99]).map(|n| format!("nightly{n:03}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
}

#[tokio::test]
async fn runs_are_listed_newest_first_where_that_is_asked_for_and_nothing_else_is() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    for n in 0..9 {
        let run = format!("{REGISTRY}/pipelineRuns/nightly{n:03}");
        assert_eq!(scene.put(&run, &export_run(&["a:1"])).await.status, 201);
    }
    let newest = "$orderby=systemData/createdAt%20desc";
    let mut next = Some(format!("{REGISTRY}/pipelineRuns?$top=4&{newest}"));
    let mut seen = Vec::new();
    while let Some(link) = next {
        let page = scene.get(&link).await;
        assert_eq!(page.status, 200, "{page:?}");
        let names = page.body["value"].as_array().unwrap().iter();
        seen.extend(names.map(|run| run["name"].as_str().unwrap().to_owned()));
        next = page.body["nextLink"].as_str().map(str::to_owned);
        // One comes while the pages are followed: it is newer than all of them.
        let late = format!("{REGISTRY}/pipelineRuns/late{:03}", seen.len());
        assert_eq!(scene.put(&late, &export_run(&["a:1"])).await.status, 201);
    }
    assert_eq!(seen, (0..9).rev().map(|n| format!("nightly{n:03}")).collect::<Vec<_>>());
    let refused = scene.get(&format!("{REGISTRY}/exportPipelines?{newest}")).await;
    assert_eq!((refused.status, &refused.body["error"]["target"]), (400, &json!("$orderby")), "{refused:?}");
}

#[tokio::test]
async fn a_run_that_runs_again_keeps_its_place() {
    let scene = Scene::start().await;
    scene.pipelines().await;
    for name in ["first", "second"] {
        scene.put(&format!("{REGISTRY}/pipelineRuns/{name}"), &export_run(&["a:1"])).await;
    }
    scene.end("first", transship_control_plane::state::RunState::Succeeded { message: None }).await;
    assert_eq!(scene.put(&format!("{REGISTRY}/pipelineRuns/first"), &export_run(&["a:2"])).await.status, 201);
    let list = scene.get(&format!("{REGISTRY}/pipelineRuns")).await;
    let names: Vec<&str> =
        list.body["value"].as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["first", "second"]);
    // Lists are light: each artifact is told where one run is asked for.
    assert!(list.body["value"][0]["properties"]["response"].get("artifacts").is_none());
}
