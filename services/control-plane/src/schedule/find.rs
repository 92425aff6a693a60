//! Finds out what a registry has of what a schedule selects, and where it points now.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use transship_model::{Digest, Failure, Repository, Tag};
use transship_registry::Catalog;

use super::Selector;
use super::pending::Tags;
use crate::fold::with_hint;

/// How many questions a registry is asked in parallel.
const QUESTIONS: usize = 8;

/// The most tags that one look resolves.
const MAX_TAGS: usize = 100_000;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The digests of the selected tags.
    pub(super) tags: BTreeMap<Repository, BTreeMap<Tag, Digest>>,
    /// How many tags there are.
    pub(super) seen: u64,
    /// What could not be read, and what to do about it: the first of all.
    pub(super) problem: Option<String>,
    /// The tags of which the registry did not say where they point.
    pub(super) unresolved: Tags,
    /// Whether the tags of some repositories could not be read.
    pub(super) is_partial: bool,
}

impl Found {
    fn note(&mut self, failure: &Failure) {
        let problem = with_hint(&failure.message, failure.hint.as_deref());
        self.problem.get_or_insert(problem);
    }
}

/// Looks at everything that `selector` selects.
///
/// # Errors
/// Where the registry does not say which repositories it has, and patterns need that.
pub(super) async fn find_all(catalog: &dyn Catalog, selector: &Selector) -> Result<Found, Failure> {
    let mut found = Found::default();
    let repositories = match selector.named_repositories() {
        Some(named) => named,
        None => match catalog.list_repositories().await? {
            Some(listed) => listed.into_iter().filter(|name| selector.selects_repository(name)).collect(),
            None => {
                let message = format!("{} does not list its repositories", catalog.host());
                return Err(Failure::permanent(transship_model::Code::RegistryRefused, message)
                    .with_hint("name the repositories of the schedule without * and **"));
            }
        },
    };
    let mut lists = stream::iter(repositories)
        .map(|repository| async move {
            let tags = catalog.tags(&repository).await;
            (repository, tags)
        })
        .buffer_unordered(QUESTIONS);
    let mut wanted = BTreeSet::new();
    while let Some((repository, tags)) = lists.next().await {
        match tags {
            Ok(tags) => {
                let selected = tags.into_iter().filter(|tag| selector.selects_tag(tag));
                wanted.extend(selected.map(|tag| (repository.clone(), tag)));
            }
            // One repository must not keep the others from being carried.
            Err(error) => {
                found.is_partial = true;
                found.note(&error.into());
            }
        }
        if wanted.len() > MAX_TAGS {
            let many =
                format!("more than {MAX_TAGS} tags are selected, and the rest is not seen (select fewer)");
            found.problem.get_or_insert(many);
            break;
        }
    }
    drop(lists);
    Ok(resolve(catalog, wanted.into_iter().take(MAX_TAGS), found).await)
}

/// Looks at these tags.
pub(super) async fn find_tags(catalog: &dyn Catalog, tags: Tags) -> Found {
    resolve(catalog, tags.into_iter(), Found::default()).await
}

async fn resolve(
    catalog: &dyn Catalog,
    tags: impl Iterator<Item = (Repository, Tag)>,
    mut found: Found,
) -> Found {
    let mut digests = stream::iter(tags)
        .map(|(repository, tag)| async move {
            let digest = catalog.current(&repository, &tag).await;
            (repository, tag, digest)
        })
        .buffer_unordered(QUESTIONS);
    while let Some((repository, tag, digest)) = digests.next().await {
        match digest {
            Ok(Some(digest)) => {
                found.seen += 1;
                found.tags.entry(repository).or_default().insert(tag, digest);
            }
            // Deleted since it was listed.
            Ok(None) => {}
            Err(error) => {
                found.note(&error.into());
                found.unresolved.insert((repository, tag));
            }
        }
    }
    drop(digests);
    found
}
