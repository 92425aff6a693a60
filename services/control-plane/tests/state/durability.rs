//! A process that is killed loses nothing that it answered.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use futures::future::join_all;
use transship_control_plane::state::{PutOutcome, RunDecision, Store};
use transship_model::Secret;

use crate::scene::{Scene, export, part_states, progress, run_id};

/// Names the database to the process that is killed.
const DATABASE: &str = "TRANSSHIP_TEST_STATE";

/// How many of them are killed.
const KILLS: usize = 5;

/// How many answers each of them gives before.
const ANSWERS: usize = 120;

/// Not a test of its own: what the test below starts, and kills. It writes, and says what was answered.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the test that kills it"]
async fn the_process_that_is_killed() -> Result<()> {
    let Ok(url) = std::env::var(DATABASE) else { return Ok(()) };
    let store = Store::open(&Secret::new(&url)).await?;
    let me = std::process::id();
    join_all((0..16).map(|lane| write(&store, format!("p{me}x{lane}")))).await;
    Ok(())
}

/// Makes and begins runs, and folds a fact into each, for ever.
async fn write(store: &Store, lane: String) {
    for number in 0.. {
        let name = format!("{lane}x{number}");
        let new = export(&name, 1_000);
        let put = store.put_run(&new.id.clone(), |_| RunDecision::Start(Box::new(new))).await;
        let Ok(PutOutcome::Started(run)) = put else { panic!("{put:?}") };
        println!("\nanswered {name} made");
        let parts = part_states(1).expect("a part");
        assert!(store.begin_run(&run.execution, parts, vec![], 1_000).await.expect("it begins"));
        println!("\nanswered {name} begun");
        store.fold(progress(&run.execution, 1, 50), 2_000).await.expect("it is folded");
        println!("\nanswered {name} folded");
    }
}

fn kill_after_answers(url: &str) -> Result<Vec<String>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "durability::the_process_that_is_killed", "--ignored", "--nocapture"])
        .env(DATABASE, url)
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
    let mut answered = Vec::new();
    for line in lines {
        let line = line?;
        let Some(answer) = line.strip_prefix("answered ") else { continue };
        answered.push(answer.to_owned());
        if answered.len() == ANSWERS {
            // SIGKILL; what it said before is still in the pipe.
            child.kill()?;
        }
    }
    child.wait()?;
    Ok(answered)
}

#[tokio::test]
async fn what_a_killed_process_answered_is_there_and_the_next_one_goes_on() -> Result<()> {
    let scene = Scene::sqlite().await?;
    scene.store.close().await;
    let mut answered = Vec::new();
    for _ in 0..KILLS {
        let url = scene.url.clone();
        answered.extend(tokio::task::spawn_blocking(move || kill_after_answers(&url)).await??);
    }
    assert!(answered.len() >= KILLS * ANSWERS, "{}", answered.len());
    let store = Store::open(&Secret::new(&scene.url)).await?;
    for answer in &answered {
        let (name, what) = answer.split_once(' ').context("a name and what became of it")?;
        let run = store.run(&run_id(name)).await?.with_context(|| format!("{answer} is lost"))?;
        let parts = store.parts(&run.execution).await?;
        let kept = match what {
            "made" => true,
            "begun" => parts.len() == 1,
            _ => parts[0].state.stages.len() == 1 && run.summary.contains("\"percentage\":50"),
        };
        assert!(kept, "{answer} is lost: {parts:?}");
    }
    println!("{} answers of {KILLS} killed processes are all there", answered.len());
    Ok(())
}
