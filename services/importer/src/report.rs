//! What an import says of itself: its results as facts, its failures as one failure, and a message for a person.

use transship_messages::{ArtifactOutcome, ArtifactResult, FactBody, ImportRequested};
use transship_model::{Counters, Digest, Failure};

use crate::ledger::{Ledger, Standing};
use crate::{ImportPlan, PlannedArtifact};

/// The most bytes of results in one fact, roughly.
const FACT_BYTES: usize = 48 << 10;

/// The most artifacts that a message names.
const NAMED: usize = 10;

/// The longest text of one failure in characters, and of a message.
const TEXT: usize = 500;
const MESSAGE: usize = 8 << 10;

/// The facts of an import that is done.
pub(crate) fn facts(
    work: &ImportRequested,
    catalog_digest: &Digest,
    plan: &ImportPlan,
    ledger: &Ledger,
    counters: Counters,
    message: Option<String>,
) -> Vec<FactBody> {
    let results =
        plan.artifacts.iter().zip(&ledger.standings).map(|(artifact, standing)| result(artifact, standing));
    let imported = |results| FactBody::ArtifactImported { container: work.container.clone(), results };
    let mut facts: Vec<FactBody> = chunks(results).into_iter().map(imported).collect();
    facts.push(bundle_imported(work, Some(catalog_digest.clone()), counters, message));
    facts
}

/// The fact that ends an import. It says which bundle that was, where the bundle was seen.
pub(crate) fn bundle_imported(
    work: &ImportRequested,
    catalog_digest: Option<Digest>,
    counters: Counters,
    message: Option<String>,
) -> FactBody {
    FactBody::BundleImported {
        pipeline: work.pipeline.clone(),
        container: work.container.clone(),
        blob: work.blob.clone(),
        catalog_digest,
        counters,
        message,
    }
}

fn result(artifact: &PlannedArtifact, standing: &Standing) -> ArtifactResult {
    let outcome = match standing {
        Standing::Wanted => ArtifactOutcome::Moved,
        Standing::Present => {
            ArtifactOutcome::Skipped { reason: "the target already has it under this name".to_owned() }
        }
        Standing::Failed(failure) => ArtifactOutcome::Failed {
            code: failure.code,
            message: cut(&failure.message, TEXT),
            hint: failure.hint.as_deref().map(|hint| cut(hint, TEXT)),
        },
    };
    ArtifactResult {
        reference: artifact.reference.clone(),
        imported_as: (artifact.target != artifact.reference).then(|| artifact.target.clone()),
        digest: Some(artifact.digest.clone()),
        outcome,
    }
}

/// Groups results so that each group fits a message.
fn chunks(results: impl Iterator<Item = ArtifactResult>) -> Vec<Vec<ArtifactResult>> {
    let mut chunks: Vec<Vec<ArtifactResult>> = Vec::new();
    let mut bytes = FACT_BYTES;
    for result in results {
        let size = size(&result);
        if bytes + size > FACT_BYTES {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(result);
        }
    }
    chunks
}

/// Roughly the encoded size of a result, names of fields included; never less.
fn size(result: &ArtifactResult) -> usize {
    let text = match &result.outcome {
        ArtifactOutcome::Moved => 0,
        ArtifactOutcome::Skipped { reason } => reason.len(),
        ArtifactOutcome::Failed { message, hint, .. } => message.len() + hint.as_ref().map_or(0, String::len),
    };
    let name = result.reference.to_string().len();
    let other = result.imported_as.as_ref().map_or(0, |name| name.to_string().len());
    let digest = result.digest.as_ref().map_or(0, |digest| digest.to_string().len());
    name + other + digest + text + 200
}

/// The failure of an import in which some artifacts failed: it says what the first one says of itself, and
/// names up to ten. `None` where none failed.
pub(crate) fn failure(plan: &ImportPlan, ledger: &Ledger) -> Option<Failure> {
    let mut failed = failed(plan, ledger);
    let (artifact, first) = failed.next()?;
    let count = 1 + failed.count();
    if count == 1 {
        return Some(first.clone().while_doing(&artifact.target));
    }
    let message =
        format!("{count} of {} artifacts cannot be imported: {}", plan.artifacts.len(), names(plan, ledger));
    Some(Failure { message: cut(&message, MESSAGE), ..first.clone() })
}

/// What a person should know of an import that is done.
pub(crate) fn message(plan: &ImportPlan, ledger: &Ledger) -> Option<String> {
    let mut parts = Vec::new();
    let count = failed(plan, ledger).count();
    if count > 0 {
        parts.push(format!("{count} of {} artifacts failed: {}", plan.artifacts.len(), names(plan, ledger)));
    }
    parts.extend(ledger.notes.iter().take(NAMED).cloned());
    if ledger.notes.len() > NAMED {
        parts.push(format!("and {} more", ledger.notes.len() - NAMED));
    }
    (!parts.is_empty()).then(|| cut(&parts.join("; "), MESSAGE))
}

fn failed<'a>(
    plan: &'a ImportPlan,
    ledger: &'a Ledger,
) -> impl Iterator<Item = (&'a PlannedArtifact, &'a Failure)> {
    plan.artifacts.iter().zip(&ledger.standings).filter_map(|(artifact, standing)| match standing {
        Standing::Failed(failure) => Some((artifact, failure)),
        Standing::Wanted | Standing::Present => None,
    })
}

fn names(plan: &ImportPlan, ledger: &Ledger) -> String {
    let one = |(artifact, failure): (&PlannedArtifact, &Failure)| {
        format!("{}: {}", artifact.target, cut(&failure.message, TEXT))
    };
    let mut names: Vec<String> = failed(plan, ledger).take(NAMED).map(one).collect();
    let more = failed(plan, ledger).count().saturating_sub(NAMED);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join("; ")
}

fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use transship_messages::{Fact, encode_fact};
    use transship_model::{Code, Execution, Part, Stage};

    use super::*;

    fn plan(count: usize) -> ImportPlan {
        let artifact = |i: usize| {
            let name = format!("{}/{i}:{}", "r".repeat(200), "t".repeat(100)).parse().unwrap();
            PlannedArtifact {
                reference: name,
                target: format!("x/{i}:1").parse().unwrap(),
                digest: Digest::sha256(&i.to_be_bytes()),
                attached: Default::default(),
                failure: None,
            }
        };
        ImportPlan { artifacts: (0..count).map(artifact).collect(), ..ImportPlan::default() }
    }

    fn ledger(standings: Vec<Standing>) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.standings = standings;
        ledger
    }

    fn work() -> ImportRequested {
        ImportRequested {
            execution: Execution { id: "run".parse().unwrap(), generation: 1 },
            part: Part::ONLY,
            pipeline: "p".parse().unwrap(),
            container: "file:///c".parse().unwrap(),
            blob: "b".parse().unwrap(),
            etag: None,
            slice: 0,
            carried: Counters::default(),
            destination: None,
            catalog_digest: None,
            sealed_upload: None,
        }
    }

    fn failure_of(i: usize) -> Standing {
        Standing::Failed(
            Failure::permanent(Code::TagExists, format!("{i} {}", "x".repeat(5_000)))
                .with_hint("h".repeat(5_000)),
        )
    }

    #[test]
    fn every_fact_fits_a_message_and_no_result_is_lost() {
        for standing in [|_| Standing::Wanted, |_| Standing::Present, failure_of as fn(usize) -> Standing] {
            let plan = plan(1_000);
            let ledger = ledger((0..1_000).map(standing).collect());
            let (catalog, told) = (Digest::sha256(b"index"), message(&plan, &ledger));
            let facts = facts(&work(), &catalog, &plan, &ledger, Counters::default(), told);
            let mut results = 0;
            for body in facts {
                if let FactBody::ArtifactImported { results: some, .. } = &body {
                    results += some.len();
                }
                let execution = work().execution;
                let fact = Fact {
                    execution,
                    part: Part::ONLY,
                    stage: Stage::Importer,
                    attempt: 1,
                    target: None,
                    at_ms: 0,
                    body,
                };
                let bytes = encode_fact(&fact).len();
                assert!(bytes <= FACT_BYTES + 1024, "{bytes}");
            }
            assert_eq!(results, 1_000);
        }
    }

    #[test]
    fn a_failure_says_what_the_first_says_and_names_ten() {
        let standings =
            |failed: usize| (0..20).map(move |i| if i < failed { failure_of(i) } else { Standing::Wanted });
        let of = |failed| failure(&plan(20), &ledger(standings(failed).collect()));
        assert_eq!(of(0), None);
        let one = of(1).unwrap();
        assert!(one.message.starts_with("x/0:1: 0 ") && one.code == Code::TagExists);
        let many = of(12).unwrap();
        assert!(
            many.message.starts_with("12 of 20 artifacts cannot be imported: x/0:1: 0 "),
            "{}",
            many.message
        );
        assert!(many.message.contains("x/9:1") && !many.message.contains("x/10:1"));
        assert!(many.message.ends_with("and 2 more") && many.message.len() < MESSAGE);
        assert!(many.hint.is_some());
    }

    #[test]
    fn a_message_tells_only_what_there_is_to_tell() {
        let mut quiet = ledger(vec![Standing::Wanted, Standing::Present]);
        assert_eq!(message(&plan(2), &quiet), None);
        quiet.notes = (0..12).map(|i| format!("note {i}")).collect();
        let told = message(&plan(2), &quiet).unwrap();
        assert!(told.starts_with("note 0; ") && told.ends_with("note 9; and 2 more"), "{told}");
    }
}
