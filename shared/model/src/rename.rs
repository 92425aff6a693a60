//! Rules that give imported repositories other names.

use serde::{Deserialize, Serialize};

use crate::{ReferenceError, Repository};

/// One rule: a repository that is `from`, or lies below it, is imported as `to`, or below that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameRule {
    /// The repository or the prefix of whole path components; empty matches every repository.
    #[serde(default)]
    pub from: String,
    /// What takes its place; empty removes the prefix.
    #[serde(default)]
    pub to: String,
}

/// The rules of a pipeline, in order. The first that matches decides; where none does, the name stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RenameRules(pub Vec<RenameRule>);

/// A rule made a name that is not a repository's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rename rule {from:?} → {to:?} makes {repository} into something that is not a repository name")]
pub struct RenameError {
    from: String,
    to: String,
    repository: Repository,
    #[source]
    source: ReferenceError,
}

impl RenameRules {
    /// The name under which `repository` is imported.
    ///
    /// # Errors
    /// Where the rule that matches makes a name outside the grammar.
    pub fn apply(&self, repository: &Repository) -> Result<Repository, RenameError> {
        let text = repository.as_str();
        for rule in &self.0 {
            let rest = match text.strip_prefix(rule.from.trim_end_matches('/')) {
                Some("") => "",
                Some(rest) if rule.from.is_empty() => rest,
                Some(rest) => match rest.strip_prefix('/') {
                    Some(rest) => rest,
                    None => continue,
                },
                None => continue,
            };
            let to = rule.to.trim_end_matches('/');
            let separator = if to.is_empty() || rest.is_empty() { "" } else { "/" };
            return format!("{to}{separator}{rest}").parse().map_err(|source| RenameError {
                from: rule.from.clone(),
                to: rule.to.clone(),
                repository: repository.clone(),
                source,
            });
        }
        Ok(repository.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_whole_components_decides() {
        let rule = |from: &str, to: &str| RenameRule { from: from.into(), to: to.into() };
        let rules = RenameRules(vec![rule("team/a", "mirror/a"), rule("team", ""), rule("", "all")]);
        for (name, expected) in [
            ("team/a", "mirror/a"),
            ("team/a/web", "mirror/a/web"),
            ("team/ab", "ab"),
            ("teams/x", "all/teams/x"),
        ] {
            assert_eq!(rules.apply(&name.parse().unwrap()).unwrap().as_str(), expected, "{name}");
        }
        assert!(rules.apply(&"team".parse().unwrap()).is_err(), "removing everything leaves no name");
    }
}
