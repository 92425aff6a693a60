//! What a run's silence means, and what to do about it: pure functions.

use std::time::Duration;

use transship_bus::{FACTS_QUEUE, HoldDelay, QueueLook};
use transship_model::{Code, Failure, Stage};

use super::WatchSettings;
use crate::fold::{PartSummary, RunSummary, StageStatus, copies};
use crate::state::{PartRecord, RunRecord};

/// What the broker shows of the queue that a run's work is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// It does not answer, and why.
    Away(String),
    /// The queue.
    Queue(QueueLook),
}

/// What a run's silence means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// There is a reason for it, which the run says where it is one to wait for.
    Excused(Option<String>),
    /// Other work stands before it, which the run says where it waits for its turn. That is no reason for ever: lost
    /// work has no turn.
    Busy(Option<String>),
    /// There is none: it counts.
    Counts,
}

/// What to do about a run whose silence counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchAction {
    /// Nothing yet.
    Nothing,
    /// Dispatch these parts again.
    DispatchAgain(Vec<u32>),
    /// It fails.
    Fail(Failure),
}

/// What a run's silence means, by what the broker shows of the queue of `stage`.
pub fn decide_silence(run: &RunRecord, stage: Stage, sight: &Sight) -> Silence {
    match sight {
        Sight::Away(reason) => Silence::Excused(Some(format!("the broker: {reason}"))),
        Sight::Queue(look) if look.consumers == 0 => {
            Silence::Excused(Some(format!("no {stage} is connected to the broker")))
        }
        Sight::Queue(look) if look.ready > 0 => {
            let heard = serde_json::from_str::<RunSummary>(&run.summary);
            let is_new = heard.is_ok_and(|summary| {
                summary.stages.iter().all(|row| row.stage != stage.name() || row.status == "Waiting")
            });
            let turn = || format!("its turn: {} messages wait for the {stage}s", look.ready);
            Silence::Busy(is_new.then(turn))
        }
        Sight::Queue(_) => Silence::Counts,
    }
}

/// What to do about a run that was silent for so long, and whose work was dispatched again `times` times since it
/// was last heard of. Where its queue `is_busy` it has more time, and does not fail: its turn may still come.
///
/// `stage` is the one that the run ends with; of an export that is over, the blob-copier.
pub fn decide_watch(
    run: &RunRecord,
    stage: Stage,
    parts: &[PartRecord],
    silent: Duration,
    is_busy: bool,
    times: u32,
    settings: &WatchSettings,
) -> WatchAction {
    let covered = parts.iter().filter(|part| run.view.covers(part.number));
    let is_open = |part: &&PartRecord| match stage {
        Stage::BlobCopier => copies(&part.summary).next().is_some(),
        _ => !run.view.is_over(&part.summary),
    };
    let open: Vec<&PartRecord> = covered.filter(is_open).collect();
    let held = open.iter().filter_map(|part| hold(run, stage, &part.summary)).max().unwrap_or_default();
    if open.is_empty() || silent < settings.patience(is_busy) + held {
        return WatchAction::Nothing;
    }
    let numbers: Vec<u32> = open.iter().map(|part| part.number).collect();
    if settings.waits_on(stage, is_busy, times) {
        return WatchAction::Nothing;
    }
    if times < settings.most(stage, is_busy) {
        return WatchAction::DispatchAgain(numbers);
    }
    let what = match (&numbers[..], run.parts) {
        (_, 0 | 1) => "the work".to_owned(),
        ([one], count) => format!("part {one} of {count}"),
        (many, count) => format!("{} of {count} parts, the first is part {},", many.len(), many[0]),
    };
    let message = format!(
        "{what} was sent to the {stage}s {} times and not heard of for {} min each time, though their queue is empty",
        times + 1,
        settings.lost_after.as_secs() / 60
    );
    let hint = format!(
        "look at the logs of the {stage}s, and whether their facts reach {FACTS_QUEUE}; then run again with another \
         forceUpdateTag"
    );
    WatchAction::Fail(Failure::permanent(Code::Internal, message).with_hint(hint))
}

/// How long the next attempt of a part may be held. A failure that waits for a person is held half an hour from
/// its second attempt on, whatever the others are.
///
/// A copy may be held for as long as its storage asks for, and is too large to be done twice for nothing.
fn hold(run: &RunRecord, stage: Stage, part: &PartSummary) -> Option<Duration> {
    if stage == Stage::BlobCopier {
        let mut held = copies(part).filter(|row| row.status == StageStatus::Retrying);
        return held.next().map(|_| HoldDelay::TwoHours.duration());
    }
    let retrying = run.view.row(part).filter(|row| row.status == StageStatus::Retrying)?;
    let step = (retrying.attempt as usize).saturating_sub(1).min(HoldDelay::ALL.len() - 1);
    Some(HoldDelay::ALL[step].max(HoldDelay::HalfHour).duration())
}

#[cfg(test)]
mod tests {
    use transship_messages::{Fact, FactBody};
    use transship_model::{ContainerUrl, Counters, Part};

    use super::super::settings::LOST_AFTER;
    use super::*;
    use crate::fold::PartState;
    use crate::state::RunState;
    use crate::testing::{copied, exported, fact, run_record};

    fn part(number: u32, told: Option<FactBody>, attempt: u32) -> PartRecord {
        let mut state = PartState::default();
        if let Some(body) = told {
            let (execution, part) = (run_record("nightly").execution, Part { number, count: 3 });
            state.apply(&Fact {
                execution,
                part,
                stage: Stage::Exporter,
                attempt,
                target: None,
                at_ms: 1,
                body,
            });
        }
        let summary = state.summary();
        PartRecord { number, state, summary }
    }

    fn failed(terminal: bool) -> Option<FactBody> {
        let (code, message) = (Code::RegistryUnavailable, "busy".to_owned());
        Some(FactBody::Failed { code, message, hint: None, terminal, container: None })
    }

    fn working() -> Option<FactBody> {
        Some(FactBody::Progress { counters: Counters::default(), in_flight: Vec::new() })
    }

    #[test]
    fn silence_is_excused_by_what_the_broker_shows() {
        let look = |ready, consumers| Sight::Queue(QueueLook { ready, consumers });
        let waits = |on: &str| Silence::Excused(Some(on.to_owned()));
        let turn = || Silence::Busy(Some("its turn: 7 messages wait for the exporters".to_owned()));
        let unheard = || RunRecord { summary: "{}".to_owned(), ..run_record("nightly") };
        let mut waiting = unheard();
        let nothing = crate::fold::summarise(&waiting.view, 1, &[], &RunState::Running);
        waiting.summary = serde_json::to_string(&nothing).unwrap();
        let mut heard = unheard();
        let state = part(1, working(), 1);
        let summary = crate::fold::summarise(&heard.view, 1, &[(1, state.summary)], &RunState::Running);
        heard.summary = serde_json::to_string(&summary).unwrap();
        for (run, sight, expected) in [
            (unheard(), Sight::Away("refused".to_owned()), waits("the broker: refused")),
            (unheard(), look(0, 0), waits("no exporter is connected to the broker")),
            (unheard(), look(7, 0), waits("no exporter is connected to the broker")),
            (unheard(), look(7, 1), turn()),
            (waiting, look(7, 1), turn()),
            (heard.clone(), look(7, 1), Silence::Busy(None)),
            (unheard(), look(0, 1), Silence::Counts),
            (heard, look(0, 1), Silence::Counts),
        ] {
            assert_eq!(decide_silence(&run, Stage::Exporter, &sight), expected, "{sight:?}");
        }
    }

    #[test]
    fn what_is_lost_is_dispatched_again_three_times_and_then_fails() {
        let run = RunRecord { parts: 3, ..run_record("nightly") };
        let settings = WatchSettings::default();
        let again = |parts: &[u32]| WatchAction::DispatchAgain(parts.to_vec());
        let unheard = || (1..=3).map(|number| part(number, None, 1)).collect::<Vec<_>>();
        for (parts, minutes, times, expected) in [
            (unheard(), 44, 0, WatchAction::Nothing),
            (unheard(), 45, 0, again(&[1, 2, 3])),
            (unheard(), 45, 2, again(&[1, 2, 3])),
            (vec![part(1, working(), 1), part(2, failed(true), 1)], 45, 0, again(&[1])),
            (vec![part(1, failed(true), 1)], 9_999, 0, WatchAction::Nothing),
            // The next attempt may be held.
            (vec![part(1, failed(false), 1)], 74, 0, WatchAction::Nothing),
            (vec![part(1, failed(false), 1)], 75, 0, again(&[1])),
            (vec![part(1, failed(false), 6)], 164, 0, WatchAction::Nothing),
            (vec![part(1, failed(false), 6)], 165, 0, again(&[1])),
        ] {
            let silent = Duration::from_secs(minutes * 60);
            let action = decide_watch(&run, Stage::Exporter, &parts, silent, false, times, &settings);
            assert_eq!(action, expected, "{minutes} min, {times} times, {} parts", parts.len());
        }
        let silent = settings.lost_after;
        for (parts, expected) in [
            (unheard(), "3 of 3 parts, the first is part 1,"),
            (vec![part(2, None, 1)], "part 2 of 3 was sent to the exporters 4 times"),
        ] {
            let WatchAction::Fail(failure) =
                decide_watch(&run, Stage::Exporter, &parts, silent, false, 3, &settings)
            else {
                panic!("a failure")
            };
            assert!(failure.message.contains(expected) && failure.hint.is_some(), "{failure}");
        }
    }

    #[test]
    fn behind_other_work_a_run_has_three_hours_for_its_turn_and_is_then_dispatched_again_but_never_fails() {
        let (run, settings) = (run_record("nightly"), WatchSettings::default());
        let again = || WatchAction::DispatchAgain(vec![1]);
        for (told, minutes, times, expected) in [
            (None, 179, 0, WatchAction::Nothing),
            (None, 180, 0, again()),
            (None, 180, 2, again()),
            (None, 9_999, 3, WatchAction::Nothing),
            (failed(false), 209, 0, WatchAction::Nothing),
            (failed(false), 210, 0, again()),
        ] {
            let silent = Duration::from_secs(minutes * 60);
            let action =
                decide_watch(&run, Stage::Exporter, &[part(1, told, 1)], silent, true, times, &settings);
            assert_eq!(action, expected, "{minutes} min, {times} times");
        }
    }

    #[test]
    fn a_failure_that_names_no_target_ends_a_part_for_the_watchdog_as_for_the_run() {
        let mut run = run_record("import");
        let target: ContainerUrl = "https://t.example/c".parse().unwrap();
        (run.view.kind, run.view.target) = (crate::state::RunKind::Import, Some(target.clone()));
        let told = |target: Option<&ContainerUrl>, body: FactBody| Fact {
            execution: run.execution.clone(),
            part: Part::ONLY,
            stage: Stage::Importer,
            attempt: 1,
            target: target.cloned(),
            at_ms: 1,
            body,
        };
        let begun = told(Some(&target), working().unwrap());
        let without = |terminal| told(None, failed(terminal).unwrap());
        for (facts, is_over) in [
            (vec![begun.clone()], false),
            (vec![begun.clone(), without(false)], false),
            (vec![begun, without(true)], true),
            (vec![without(true)], true),
        ] {
            let mut state = PartState::default();
            for fact in &facts {
                state.apply(fact);
            }
            let part = PartRecord { number: 1, summary: state.summary(), state };
            let action = decide_watch(
                &run,
                Stage::Importer,
                std::slice::from_ref(&part),
                LOST_AFTER,
                false,
                0,
                &WatchSettings::default(),
            );
            assert_eq!(action == WatchAction::Nothing, is_over, "{facts:?}");
            let ended = crate::fold::run_state(&run.view, 1, &[(1, part.summary)]);
            assert_eq!(ended.is_some_and(|state| state.is_terminal()), is_over, "{facts:?}");
        }
    }

    #[test]
    fn copies_of_an_export_that_is_over_are_watched_like_its_parts() {
        let run = RunRecord { parts: 3, ..run_record("nightly") };
        let target: ContainerUrl = "https://t.example/c".parse().unwrap();
        let after = |number: u32, heard: Option<FactBody>| {
            let mut state = exported(&run, number, std::slice::from_ref(&target));
            if let Some(body) = heard {
                state.apply(&fact(&run, number, Stage::BlobCopier, Some(&target), body));
            }
            PartRecord { number, summary: state.summary(), state }
        };
        let settings = WatchSettings::default();
        let again = |parts: &[u32]| WatchAction::DispatchAgain(parts.to_vec());
        for (heard, minutes, times, expected) in [
            (None, 44, 0, WatchAction::Nothing),
            (None, 45, 2, again(&[1, 2])),
            (Some(copied(&run, 1, &target)), 45, 0, again(&[2])),
            (failed(true), 45, 0, again(&[2])),
            (working(), 45, 0, again(&[1, 2])),
            // The next attempt of the first may be held.
            (failed(false), 164, 0, WatchAction::Nothing),
            (failed(false), 165, 0, again(&[1, 2])),
        ] {
            let parts = [after(1, heard), after(2, None)];
            let silent = Duration::from_secs(minutes * 60);
            let action = decide_watch(&run, Stage::BlobCopier, &parts, silent, false, times, &settings);
            assert_eq!(action, expected, "{minutes} min, {times} times");
        }
        let (parts, silent) = ([after(1, None)], settings.lost_after);
        let action = decide_watch(&run, Stage::BlobCopier, &parts, silent, false, 3, &settings);
        let WatchAction::Fail(failure) = action else { panic!("a failure") };
        assert!(failure.message.contains("sent to the blob-copiers 4 times"), "{failure}");
        // Behind other copies it is sent once more, and then waits for its turn.
        for (minutes, times, expected) in [
            (179, 0, WatchAction::Nothing),
            (180, 0, again(&[1])),
            (180, 1, WatchAction::Nothing),
            (9_999, 3, WatchAction::Nothing),
        ] {
            let silent = Duration::from_secs(minutes * 60);
            let action = decide_watch(&run, Stage::BlobCopier, &parts, silent, true, times, &settings);
            assert_eq!(action, expected, "{minutes} min, {times} times");
        }
    }

    #[test]
    fn a_run_about_one_part_watches_no_other() {
        let mut run = RunRecord { parts: 3, ..run_record("nightly") };
        run.view.part = Some(2);
        let parts: Vec<_> = (1..=3).map(|number| part(number, None, 1)).collect();
        let action =
            decide_watch(&run, Stage::Exporter, &parts, LOST_AFTER, false, 0, &WatchSettings::default());
        assert_eq!(action, WatchAction::DispatchAgain(vec![2]));
    }
}
