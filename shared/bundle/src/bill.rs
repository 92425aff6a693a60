//! The bill: who made a bundle, for what, and which artifacts had to be left out. It is the only part of the
//! head that differs between bundles of equal artifacts.

use serde::{Deserialize, Deserializer, Serialize};
use transship_model::{ArtifactReference, Code, Execution, ExecutionId, Failure, Part};

/// The bill always has this many bytes, padded with spaces, so that the bytes below it do not depend on it.
pub const BILL_BYTES: usize = 16 * 1024;

/// The version that is written.
const BILL_VERSION: u32 = 1;

/// The longest text of one reason, in characters: what a person reads, not what a server sent.
const LONGEST_TEXT: usize = 500;

/// Who made the bundle, and for what: the part of the head that differs between equal bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bill {
    /// The version of the bill.
    pub version: u32,
    /// The execution.
    pub execution: ExecutionId,
    /// Its generation.
    pub generation: u64,
    /// Which part of the execution this bundle is.
    pub part: Part,
    /// The W3C trace context of the export, so that the far side can name the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Artifacts that were requested and are not in the bundle (`ContinueOnErrors`), as many as fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out_more: u64,
}

/// An artifact that is not in the bundle, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// The artifact, as it was requested.
    pub reference: ArtifactReference,
    /// The stable code. One that only a newer transship knows reads as [`Code::Internal`].
    #[serde(deserialize_with = "known_code")]
    pub code: Code,
    /// Operation and subject, at most 500 characters.
    pub message: String,
    /// What to do next, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A reader of an older version must still be able to import.
fn known_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(Code::ALL.iter().copied().find(|code| code.as_str() == text).unwrap_or(Code::Internal))
}

impl LeftOut {
    /// The artifact `reference`, which could not be carried because of `failure`.
    pub fn new(reference: ArtifactReference, failure: &Failure) -> Self {
        let (message, hint) = (cut(&failure.message), failure.hint.as_deref().map(cut));
        Self { reference, code: failure.code, message, hint }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Bill {
    /// The bill of a part of which nothing was left out.
    pub fn new(execution: &Execution, part: Part, traceparent: Option<String>) -> Self {
        Self {
            version: BILL_VERSION,
            execution: execution.id.clone(),
            generation: execution.generation,
            part,
            traceparent,
            left_out: Vec::new(),
            left_out_more: 0,
        }
    }

    /// Says what was left out: the first of them that fit into the bill, and how many more there are.
    #[must_use]
    pub fn leaving_out(mut self, left_out: &[LeftOut]) -> Self {
        self.left_out_more = u64::MAX;
        // The frame with the longest possible count; then each entry and the comma before it.
        let mut bytes = self.encoded().len() + r#","leftOut":[]"#.len();
        let fit = left_out.iter().take_while(|entry| {
            bytes += json(entry).len() + 1;
            bytes <= BILL_BYTES
        });
        self.left_out = fit.cloned().collect();
        self.left_out_more = (left_out.len() - self.left_out.len()) as u64;
        self
    }

    /// The bill as JSON, without the padding.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        json(self)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types, of text, numbers and lists, always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill() -> Bill {
        let execution = Execution { id: "run-1".parse().unwrap(), generation: u64::MAX };
        Bill::new(
            &execution,
            Part::ONLY,
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        )
    }

    fn left_out(number: usize, message: &str) -> LeftOut {
        let failure = Failure::permanent(Code::ArtifactNotFound, message).with_hint("push it");
        LeftOut::new(format!("team/image:{number}").parse().unwrap(), &failure)
    }

    #[test]
    fn every_reason_is_in_the_bill_or_counted_and_the_bill_keeps_its_size() {
        for (count, message) in [(0, "gone"), (3, "gone"), (250, "gone"), (250, "\"\n\u{1}"), (9, "x")] {
            let all: Vec<LeftOut> = (0..count).map(|number| left_out(number, &message.repeat(600))).collect();
            let bill = bill().leaving_out(&all);
            assert!(bill.encoded().len() <= BILL_BYTES, "{count} of {message:?}");
            assert_eq!(bill.left_out.len() + bill.left_out_more as usize, count);
            assert_eq!(bill.left_out, all[..bill.left_out.len()]);
            let read: Bill = serde_json::from_slice(&bill.encoded()).unwrap();
            assert_eq!(read, bill);
        }
        let few: Vec<LeftOut> = (0..50).map(|number| left_out(number, "no such tag")).collect();
        assert_eq!(bill().leaving_out(&few).left_out_more, 0);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let entry = left_out(1, &"ü".repeat(501));
        assert_eq!(entry.message, format!("{}…", "ü".repeat(500)));
        assert_eq!(left_out(1, &"ü".repeat(500)).message, "ü".repeat(500));
    }

    #[test]
    fn a_bill_of_an_older_version_and_a_reason_of_a_newer_one_are_read() {
        let older = r#"{"version":1,"execution":"run-1","generation":4,"part":{"number":1,"count":1}}"#;
        let bill: Bill = serde_json::from_str(older).unwrap();
        assert_eq!((bill.left_out.len(), bill.left_out_more), (0, 0));
        let newer = r#"{"reference":"a:1","code":"NotYetKnown","message":"m","more":1}"#;
        let entry: LeftOut = serde_json::from_str(newer).unwrap();
        assert_eq!((entry.code, entry.hint), (Code::Internal, None));
    }
}
