//! Decisions about tags: pure.

use transship_model::Digest;

/// What to do with a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TagDecision {
    /// Put it, once everything below is in.
    Put,
    /// It points there already.
    Keep,
    /// It points to something else, and may not be moved.
    Conflict(Digest),
}

/// Decides from what the tag points to now and what it should point to.
pub(crate) fn decide_tag(existing: Option<&Digest>, wanted: &Digest, overwrite: bool) -> TagDecision {
    match existing {
        Some(existing) if existing == wanted => TagDecision::Keep,
        Some(existing) if !overwrite => TagDecision::Conflict(existing.clone()),
        _ => TagDecision::Put,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_moves_only_where_it_may() {
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        for (existing, overwrite, expected) in [
            (None, false, TagDecision::Put),
            (None, true, TagDecision::Put),
            (Some(&a), false, TagDecision::Keep),
            (Some(&a), true, TagDecision::Keep),
            (Some(&b), false, TagDecision::Conflict(b.clone())),
            (Some(&b), true, TagDecision::Put),
        ] {
            assert_eq!(decide_tag(existing, &a, overwrite), expected, "{existing:?} {overwrite}");
        }
    }
}
