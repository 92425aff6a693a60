//! What is said of the artifacts that a part could not carry (`ContinueOnErrors`): at once, and again where the
//! part is delivered after its bundle was committed. Pure.

use std::collections::BTreeSet;

use transship_bundle::{Bill, CatalogArtifact, LeftOut};
use transship_messages::{ArtifactOutcome, ArtifactResult};
use transship_model::{ArtifactReference, Code, Failure};

/// The most bytes of results in one fact, roughly.
const FACT_BYTES: usize = 48 << 10;

/// The bytes of a result beside its texts: the names of its fields.
const RESULT_BYTES: usize = 128;

/// What the facts say: as many artifacts as fit into one of them. The counters say how many there are.
pub(crate) fn results(left_out: Vec<LeftOut>) -> Vec<ArtifactResult> {
    let mut bytes = 0;
    let fits = |entry: &LeftOut| {
        let texts = entry.message.len() + entry.hint.as_ref().map_or(0, String::len);
        bytes += entry.reference.to_string().len() + texts + RESULT_BYTES;
        bytes <= FACT_BYTES
    };
    left_out.into_iter().take_while(fits).map(result).collect()
}

fn result(LeftOut { reference, code, message, hint }: LeftOut) -> ArtifactResult {
    let outcome = ArtifactOutcome::Failed { code, message, hint };
    ArtifactResult { reference, imported_as: None, digest: None, outcome }
}

/// What a committed bundle says of what was left out of it: first what its bill names, with the reasons, then
/// whatever else was requested and is not in it.
pub(crate) fn told_again(
    requested: &[ArtifactReference],
    carried: &[CatalogArtifact],
    bill: Option<&Bill>,
) -> Vec<LeftOut> {
    let mut left_out = bill.map(|bill| bill.left_out.clone()).unwrap_or_default();
    let known: BTreeSet<String> = carried
        .iter()
        .filter_map(|artifact| artifact.reference.as_ref())
        .chain(left_out.iter().map(|entry| &entry.reference))
        .map(ToString::to_string)
        .collect();
    let unknown = requested.iter().filter(|reference| !known.contains(&reference.to_string()));
    left_out.extend(unknown.map(|reference| LeftOut::new(reference.clone(), &unrecorded())));
    left_out
}

/// The reason of an artifact whose reason is not in the bill.
fn unrecorded() -> Failure {
    Failure::permanent(
        Code::Internal,
        "it is not in the bundle, and the bundle's bill has no room for the reason",
    )
    .with_hint("look into the exporter's log at the time when the bundle was made")
}

#[cfg(test)]
mod tests {
    use super::*;
    use transship_model::{Digest, Execution, MediaType, Part};

    fn reference(text: &str) -> ArtifactReference {
        text.parse().unwrap()
    }

    fn left_out(text: &str, message: &str) -> LeftOut {
        LeftOut::new(
            reference(text),
            &Failure::permanent(Code::ArtifactNotFound, message).with_hint("push it"),
        )
    }

    fn carried(text: &str) -> CatalogArtifact {
        CatalogArtifact {
            name: Some(text.to_owned()),
            reference: Some(reference(text)),
            digest: Digest::sha256(b""),
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            size: 1,
        }
    }

    #[test]
    fn what_was_left_out_is_told_again_with_its_reason_where_the_bill_has_it() {
        let requested = ["a:1", "a:2", "a:3"].map(reference);
        let execution = Execution { id: "run".parse().unwrap(), generation: 1 };
        let bill = Bill::new(&execution, Part::ONLY, None).leaving_out(&[left_out("a:2", "gone")]);
        let all = [carried("a:1"), carried("a:2"), carried("a:3")];
        let other = |text: &str| LeftOut::new(reference(text), &unrecorded());
        for (carried, bill, expected) in [
            (&all[..], None, vec![]),
            (&all[..1], Some(&bill), vec![left_out("a:2", "gone"), other("a:3")]),
            (&all[..1], None, vec![other("a:2"), other("a:3")]),
        ] {
            assert_eq!(told_again(&requested, carried, bill), expected);
        }
    }

    #[test]
    fn the_results_of_a_whole_part_fit_a_fact() {
        let many: Vec<LeftOut> = (0..250).map(|i| left_out(&format!("a:{i}"), &"x".repeat(500))).collect();
        let told = results(many);
        assert!((60..250).contains(&told.len()), "{}", told.len());
        assert!(serde_json::to_vec(&told).unwrap().len() <= FACT_BYTES);
        assert_eq!(results(vec![left_out("a:1", "gone")]).len(), 1);
    }
}
