//! What tags point to now: asked before anything moves, so that a repeated command knows itself.

use futures::{StreamExt, TryStreamExt, stream};
use transship_model::{ArtifactReference, Class, Digest, Failure, Selector};
use transship_registry::Source;

/// Questions to the registry at once.
const PARALLEL: usize = 16;

/// The artifacts with their digests. One that is named by its digest is not asked for: whether it is there the
/// exporter will see. With `continue_on_errors` one that cannot be read has no digest.
///
/// # Errors
/// The first failure in the order of `references`.
pub(crate) async fn resolve(
    source: &dyn Source,
    references: &[ArtifactReference],
    continue_on_errors: bool,
) -> Result<Vec<(ArtifactReference, Option<Digest>)>, Failure> {
    let one = |reference: ArtifactReference| async move {
        if let Selector::Digest(digest) = &reference.selector {
            let digest = digest.clone();
            return Ok((reference, Some(digest)));
        }
        match source.manifest(&reference.repository, &reference.selector).await.map_err(Failure::from) {
            Ok(manifest) => Ok((reference, Some(manifest.digest))),
            Err(failure) if continue_on_errors && failure.class == Class::Permanent => Ok((reference, None)),
            Err(failure) => Err(failure.while_doing(format_args!("look up {reference}"))),
        }
    };
    stream::iter(references.to_vec()).map(one).buffered(PARALLEL).try_collect().await
}

#[cfg(test)]
mod tests {
    use transship_model::{Code, MediaType};
    use transship_registry::MemoryRegistry;

    use super::*;

    #[tokio::test]
    async fn tags_become_digests_and_a_missing_one_is_named() {
        let registry = MemoryRegistry::new("source.example");
        let media_type: MediaType = MediaType::OCI_INDEX.parse().unwrap();
        let tag = "1".parse().unwrap();
        let bytes = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
        let digest = registry.put_manifest_as(&"a".parse().unwrap(), Some(&tag), &media_type, bytes);
        let by_digest = format!("b@{}", Digest::sha256(b"x"));
        let references = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let found = resolve(&registry, &references(&["a:1", &by_digest]), false).await.unwrap();
        assert_eq!((&found[0].1, &found[1].1), (&Some(digest), &Some(Digest::sha256(b"x"))));
        let missing = references(&["a:1", "a:2"]);
        let failure = resolve(&registry, &missing, false).await.unwrap_err();
        assert!(failure.code == Code::ArtifactNotFound && failure.message.contains("a:2"), "{failure:?}");
        assert_eq!(resolve(&registry, &missing, true).await.unwrap()[1].1, None);
    }
}
