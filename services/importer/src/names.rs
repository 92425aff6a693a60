//! The names that artifacts get at the target. They come from the bundle, through the pipeline's rules, or
//! from the one who asks; never from a message.

use std::collections::BTreeMap;

use transship_bundle::CatalogArtifact;
use transship_model::{ArtifactReference, Digest, Failure, RenameRules, Selector};

use crate::ImportError;

/// An artifact with its two names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// As the bundle names it, or as it was asked for where the bundle does not.
    pub(crate) reference: ArtifactReference,
    /// At the target.
    pub(crate) target: Result<ArtifactReference, Failure>,
    /// The manifest.
    pub(crate) digest: Digest,
}

/// Names the `artifacts` of a bundle.
///
/// # Errors
/// Where an artifact has no name at all, and where `name_as` does not fit. What is wrong with the name of one
/// artifact stands beside it.
pub(crate) fn name_artifacts(
    artifacts: &[&CatalogArtifact],
    rename: &RenameRules,
    name_as: Option<&ArtifactReference>,
) -> Result<Vec<Named>, ImportError> {
    if let Some(name) = name_as {
        return Ok(vec![name_one(artifacts, name)?]);
    }
    let mut named = Vec::with_capacity(artifacts.len());
    for artifact in artifacts {
        let reference = artifact.reference.clone().ok_or_else(|| ImportError::NameMissing {
            digest: artifact.digest.clone(),
            name: artifact.name.clone(),
        })?;
        let repository =
            rename.apply(&reference.repository).map_err(|error| ImportError::Rename(error).into());
        let target = repository.map(|name| ArtifactReference::new(name, reference.selector.clone()));
        let digest = artifact.digest.clone();
        named.push(Named { reference, target, digest });
    }
    refuse_collisions(&mut named);
    Ok(named)
}

/// The only artifact of a bundle, under the name that was asked for.
fn name_one(artifacts: &[&CatalogArtifact], name: &ArtifactReference) -> Result<Named, ImportError> {
    let [artifact] = artifacts else {
        return Err(ImportError::NameForSeveral { name: name.clone(), count: artifacts.len() });
    };
    match &name.selector {
        Selector::Digest(digest) if *digest != artifact.digest => {
            Err(ImportError::NameOfAnother { name: name.clone(), digest: artifact.digest.clone() })
        }
        _ => Ok(Named {
            reference: artifact.reference.clone().unwrap_or_else(|| name.clone()),
            target: Ok(name.clone()),
            digest: artifact.digest.clone(),
        }),
    }
}

/// Two different artifacts of one name at the target: neither is right.
fn refuse_collisions(named: &mut [Named]) {
    let mut taken: BTreeMap<ArtifactReference, Digest> = BTreeMap::new();
    let mut collisions: BTreeMap<ArtifactReference, (Digest, Digest)> = BTreeMap::new();
    for artifact in named.iter() {
        let Ok(target) = &artifact.target else { continue };
        let first = taken.entry(target.clone()).or_insert_with(|| artifact.digest.clone());
        if *first != artifact.digest {
            let pair = (first.clone(), artifact.digest.clone());
            collisions.entry(target.clone()).or_insert(pair);
        }
    }
    for artifact in named {
        let collision = artifact.target.as_ref().ok().and_then(|name| Some((name, collisions.get(name)?)));
        if let Some((name, (first, second))) = collision {
            let (first, second, name) = (first.clone(), second.clone(), name.clone());
            artifact.target = Err(ImportError::Collision { first, second, name }.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use transship_model::{Code, MediaType, RenameRule};

    use super::*;

    fn artifact(name: Option<&str>, content: &[u8]) -> CatalogArtifact {
        CatalogArtifact {
            name: name.map(str::to_owned),
            reference: name.and_then(|name| name.parse().ok()),
            digest: Digest::sha256(content),
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            size: 1,
        }
    }

    fn name(
        artifacts: &[CatalogArtifact],
        rules: &[(&str, &str)],
        name_as: Option<&str>,
    ) -> Result<Vec<Named>, ImportError> {
        let rule = |(from, to): &(&str, &str)| RenameRule { from: (*from).into(), to: (*to).into() };
        let rules = RenameRules(rules.iter().map(rule).collect());
        let artifacts: Vec<_> = artifacts.iter().collect();
        name_artifacts(&artifacts, &rules, name_as.map(|name| name.parse().unwrap()).as_ref())
    }

    fn targets(named: &[Named]) -> Vec<String> {
        named
            .iter()
            .map(|named| named.target.as_ref().map_or_else(|f| f.code.to_string(), ToString::to_string))
            .collect()
    }

    #[test]
    fn a_name_comes_from_the_bundle_through_the_rules() {
        let by_digest = format!("team/c@{}", Digest::sha256(b"c"));
        let bundle = [
            artifact(Some("team/a:1"), b"a"),
            artifact(Some("docker.io/library/b:2"), b"b"),
            artifact(Some(&by_digest), b"c"),
        ];
        assert_eq!(
            targets(&name(&bundle, &[], None).unwrap()),
            ["team/a:1", "docker.io/library/b:2", &by_digest]
        );
        let rules = [("docker.io/library", ""), ("team", "mirror")];
        let renamed = targets(&name(&bundle, &rules, None).unwrap());
        assert_eq!(renamed, ["mirror/a:1", "b:2", &by_digest.replace("team", "mirror")]);
    }

    #[test]
    fn an_archive_without_a_repository_name_needs_one() {
        for (named, shown) in
            [(None, "nothing"), (Some("latest"), "\"latest\""), (Some("127.0.0.1:5000/a:1"), "5000")]
        {
            let bundle = [artifact(named, b"a")];
            let error = name(&bundle, &[], None).unwrap_err();
            assert!(error.to_string().contains(shown), "{error}");
            assert!(Failure::from(error).hint.unwrap().contains("--as"));
            assert_eq!(targets(&name(&bundle, &[("team", "x")], Some("team/b:2")).unwrap()), ["team/b:2"]);
        }
    }

    #[test]
    fn one_name_is_for_one_artifact_and_not_for_another_digest() {
        let bundle = [artifact(Some("a:1"), b"a"), artifact(Some("b:1"), b"b")];
        assert!(matches!(name(&bundle, &[], Some("c:1")), Err(ImportError::NameForSeveral { count: 2, .. })));
        let other = format!("c@{}", Digest::sha256(b"other"));
        assert!(matches!(name(&bundle[..1], &[], Some(&other)), Err(ImportError::NameOfAnother { .. })));
        let own = format!("c@{}", Digest::sha256(b"a"));
        assert_eq!(targets(&name(&bundle[..1], &[], Some(&own)).unwrap()), [own]);
    }

    #[test]
    fn two_artifacts_of_one_name_both_fail_and_the_same_one_twice_does_not() {
        let bundle = [artifact(Some("a:1"), b"a"), artifact(Some("b:1"), b"b"), artifact(Some("c:1"), b"c")];
        let named = name(&bundle, &[("a", "x"), ("b", "x")], None).unwrap();
        assert_eq!(targets(&named), ["ConfigurationInvalid", "ConfigurationInvalid", "c:1"]);
        assert_eq!(named[0].target.as_ref().unwrap_err().code, Code::ConfigurationInvalid);
        let twice = [artifact(Some("a:1"), b"a"), artifact(Some("a:1"), b"a")];
        assert_eq!(targets(&name(&twice, &[], None).unwrap()), ["a:1", "a:1"]);
    }

    #[test]
    fn a_rule_that_makes_no_name_fails_its_artifact_only() {
        let bundle = [artifact(Some("team:1"), b"a"), artifact(Some("b:1"), b"b")];
        assert_eq!(targets(&name(&bundle, &[("team", "")], None).unwrap()), ["ConfigurationInvalid", "b:1"]);
    }
}
