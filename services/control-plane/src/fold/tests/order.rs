//! The same facts come to the same state, whatever their order and however often they are heard.

use proptest::prelude::*;
use transship_messages::{ArtifactOutcome, Fact, FactBody};
use transship_model::{Code, Counters, Stage};

use super::super::{PartState, run_state, summarise};
use super::facts::*;
use crate::state::RunState;

fn counters() -> impl Strategy<Value = Counters> {
    (0..4_u64, 0..4_u64, 0..4_u64, 0..3_u64).prop_map(|(discovered, moved, skipped, artifacts)| Counters {
        artifacts_discovered: artifacts,
        artifacts_moved: artifacts,
        ..bytes(discovered, moved, skipped)
    })
}

fn outcome() -> impl Strategy<Value = ArtifactOutcome> {
    prop_oneof![
        Just(ArtifactOutcome::Moved),
        "[ab]".prop_map(|reason| ArtifactOutcome::Skipped { reason }),
        "[ab]".prop_map(|message| ArtifactOutcome::Failed { code: Code::TagExists, message, hint: None }),
    ]
}

fn a_fact() -> impl Strategy<Value = Fact> {
    let stage = prop_oneof![Just(Stage::Exporter), Just(Stage::BlobCopier), Just(Stage::Importer)];
    let target = prop_oneof![Just(None), Just(Some("t")), Just(Some("u"))];
    let attempt = 1..4_u32;
    let named = prop_oneof![Just("t"), Just("u")];
    let one = prop_oneof![
        (stage.clone(), attempt.clone(), target.clone(), counters())
            .prop_map(|(stage, attempt, target, counters)| progress(stage, attempt, target, counters)),
        (attempt.clone(), counters()).prop_map(|(attempt, counters)| {
            fact(Stage::Exporter, attempt, None, FactBody::PartPlanned { counters })
        }),
        (attempt.clone(), counters(), prop::bool::ANY).prop_map(|(attempt, counters, all)| {
            exported(attempt, counters, if all { vec![] } else { vec![refused("a:1")] })
        }),
        (attempt.clone(), named.clone(), counters())
            .prop_map(|(attempt, target, counters)| copied(attempt, target, counters)),
        (attempt.clone(), named.clone(), prop::collection::vec(("a:[12]", outcome()), 0..3)).prop_map(
            |(attempt, target, of)| {
                results(
                    attempt,
                    target,
                    of.into_iter().map(|(name, outcome)| result(&name, outcome)).collect(),
                )
            }
        ),
        (attempt.clone(), named, counters(), prop::option::of("[ab]")).prop_map(
            |(attempt, target, counters, message)| imported(attempt, target, counters, message.as_deref())
        ),
        (stage, attempt, target, prop::bool::ANY).prop_map(|(stage, attempt, target, terminal)| failed(
            stage,
            attempt,
            target,
            terminal,
            Code::SasExpired
        )),
    ];
    (one, 0..3_u64).prop_map(|(mut fact, at_ms)| {
        fact.at_ms = at_ms;
        fact
    })
}

fn folded(facts: &[Fact]) -> PartState {
    part_of(&["a:1", "a:2"], facts)
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_comes_to_the_same_state(
        (facts, heard) in prop::collection::vec(a_fact(), 1..14).prop_flat_map(|facts| {
            let again = prop::collection::vec(0..facts.len(), 0..10);
            let places: Vec<usize> = (0..facts.len()).collect();
            let heard = again.prop_flat_map(move |again| {
                let all: Vec<usize> = places.iter().copied().chain(again).collect();
                Just(all).prop_shuffle()
            });
            (Just(facts), heard)
        })
    ) {
        let heard: Vec<Fact> = heard.into_iter().map(|place| facts[place].clone()).collect();
        let (once, again) = (folded(&facts), folded(&heard));
        prop_assert_eq!(&once, &again);
        let written = serde_json::to_string(&once).unwrap();
        prop_assert_eq!(&serde_json::from_str::<PartState>(&written).unwrap(), &once);
    }

    #[test]
    fn whatever_is_heard_totals_fit_and_what_ended_reconciles(facts in prop::collection::vec(a_fact(), 0..14)) {
        let part = folded(&facts).summary();
        for stage in &part.stages {
            let c = stage.counters;
            let sums = [
                (c.bytes_discovered, c.bytes_moved + c.bytes_skipped + c.bytes_failed),
                (c.artifacts_discovered, c.artifacts_moved + c.artifacts_skipped + c.artifacts_failed),
            ];
            for (discovered, all) in sums {
                prop_assert!(all <= discovered, "{:?}", stage);
                prop_assert!(!stage.status.is_over() || all == discovered, "{:?}", stage);
            }
        }
        for view in [export_view(true), export_view(false), import_view("t")] {
            let known = [(1, part.clone())];
            let state = run_state(&view, 1, &known).unwrap_or(RunState::Running);
            let summary = summarise(&view, 1, &known, &state);
            prop_assert_eq!(summary.percentage == 100, matches!(state, RunState::Succeeded { .. }));
        }
    }
}
