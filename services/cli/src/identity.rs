//! Who a command is, so that it knows its own bundle when it is repeated: an identity made of its arguments and of
//! the digests that they resolve to, and a generation that suits what is there.

use std::time::{SystemTime, UNIX_EPOCH};

use transship_model::{ArtifactReference, Digest, Execution, ExecutionId};

/// The identity made of `texts`. Equal texts in equal order give an equal identity; nothing else does.
pub(crate) fn execution_id<'a>(texts: impl IntoIterator<Item = &'a str>) -> ExecutionId {
    format!("cli-{}", short_hash(texts)).parse().expect("hexadecimal digits are letters and digits")
}

/// 32 hexadecimal digits that name `texts`.
pub(crate) fn short_hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    Digest::sha256(&bytes).hex()[..32].to_owned()
}

/// The artifacts of a run and what they are now, as texts for an identity.
pub(crate) fn artifact_texts(artifacts: &[(ArtifactReference, Option<Digest>)]) -> Vec<String> {
    let text = |(reference, digest): &(ArtifactReference, Option<Digest>)| match digest {
        Some(digest) => format!("{reference} {digest}"),
        None => format!("{reference} -"),
    };
    artifacts.iter().map(text).collect()
}

/// Milliseconds since the Unix epoch: a generation that nobody had before, as far as clocks go.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// What a command found under the names that it wants to write, and how it may deal with that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    /// Replace what others wrote.
    pub(crate) overwrite: bool,
    /// Write again what this command wrote.
    pub(crate) force: bool,
}

/// The generation of `id`: that of its own newest bundle, so that what is there counts as done; a new one where
/// there is none, where it is to be forced, or where an owner with a higher one is to be replaced.
pub(crate) fn generation(id: &ExecutionId, owners: &[Execution], wishes: Wishes, now: u64) -> u64 {
    let highest = |ours: bool| {
        owners.iter().filter(|owner| (owner.id == *id) == ours).map(|owner| owner.generation).max()
    };
    let after = |generation: u64| now.max(generation.saturating_add(1));
    let own = match highest(true) {
        Some(own) if wishes.force => after(own),
        Some(own) => own,
        None => now,
    };
    match highest(false).filter(|_| wishes.overwrite) {
        Some(other) if other > own => after(other),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_follows_from_its_texts_alone() {
        let id = execution_id(["a", "bc"]);
        assert_eq!(id, execution_id(["a", "bc"]));
        assert_ne!(id, execution_id(["ab", "c"]), "the borders of texts count");
        assert_ne!(id, execution_id(["bc", "a"]));
    }

    #[test]
    fn a_tag_that_moved_makes_another_command() {
        let reference: ArtifactReference = "a:1".parse().unwrap();
        let of = |digest: Option<Digest>| artifact_texts(&[(reference.clone(), digest)]);
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        assert_ne!(of(Some(one.clone())), of(Some(two)));
        assert_ne!(of(Some(one)), of(None));
    }

    #[test]
    fn the_generation_suits_what_is_there() {
        let id: ExecutionId = "me".parse().unwrap();
        let owner = |name: &str, generation| Execution { id: name.parse().unwrap(), generation };
        for (what, owners, overwrite, force, expected) in [
            ("nothing is there", vec![], false, false, 100),
            ("our own bundle", vec![owner("me", 7)], false, false, 7),
            ("our own parts of two attempts", vec![owner("me", 7), owner("me", 9)], false, false, 9),
            ("our own, forced", vec![owner("me", 7)], false, true, 100),
            ("our own of the future, forced", vec![owner("me", 200)], false, true, 201),
            ("another's that stays", vec![owner("other", 200)], false, false, 100),
            ("another's that goes", vec![owner("other", 50)], true, false, 100),
            ("another's of the future that goes", vec![owner("other", 200)], true, false, 201),
            ("ours and a newer one that goes", vec![owner("me", 7), owner("other", 8)], true, false, 100),
            ("ours and an older one that goes", vec![owner("me", 7), owner("other", 6)], true, false, 7),
        ] {
            assert_eq!(generation(&id, &owners, Wishes { overwrite, force }, 100), expected, "{what}");
        }
    }
}
