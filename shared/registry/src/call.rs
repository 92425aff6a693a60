//! A request as the rest of the room states it: what, where, and with which access.

use std::fmt;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use transship_model::Repository;
use url::Url;

use crate::pace::Lane;

/// What a token must allow (token specification of distribution, "scope"): sorted, so that equal access is
/// equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scopes {
    /// Access to repositories.
    Repositories(Vec<(Repository, Actions)>),
    /// The list of all repositories.
    Catalog,
}

/// What may be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Actions {
    Pull,
    PullPush,
}

impl Scopes {
    pub(crate) fn pull(repository: &Repository) -> Self {
        Self::Repositories(vec![(repository.clone(), Actions::Pull)])
    }

    pub(crate) fn push(repository: &Repository) -> Self {
        Self::Repositories(vec![(repository.clone(), Actions::PullPush)])
    }

    /// What a mount needs: to write here, and to read there.
    pub(crate) fn mount(repository: &Repository, from: &Repository) -> Self {
        let mut all = vec![(repository.clone(), Actions::PullPush)];
        if from != repository {
            all.push((from.clone(), Actions::Pull));
        }
        all.sort();
        Self::Repositories(all)
    }

    /// The access that includes this one and that a client of the same repository is likely to have.
    pub(crate) fn wider(&self) -> Option<Self> {
        match self {
            Self::Repositories(all) => match all.as_slice() {
                [(repository, Actions::Pull)] => Some(Self::push(repository)),
                _ => None,
            },
            Self::Catalog => None,
        }
    }

    /// The scopes as a token endpoint reads them.
    pub(crate) fn texts(&self) -> impl Iterator<Item = String> {
        let (repositories, catalog) = match self {
            Self::Repositories(all) => (all.as_slice(), None),
            Self::Catalog => (&[][..], Some("registry:catalog:*".to_owned())),
        };
        let texts = repositories.iter().map(|(repository, actions)| match actions {
            Actions::Pull => format!("repository:{repository}:pull"),
            Actions::PullPush => format!("repository:{repository}:pull,push"),
        });
        texts.chain(catalog)
    }
}

/// The repositories, for messages.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Repositories(all) = self else { return f.write_str("the list of repositories") };
        for (index, (repository, _)) in all.iter().enumerate() {
            write!(f, "{}{repository}", if index == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

/// A request whose body can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) scopes: Scopes,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) lane: Lane,
    pub(crate) tries: Option<usize>,
    /// What is done, for messages: `pull manifest team/app:1`.
    pub(crate) operation: String,
}

impl Call {
    pub(crate) fn new(method: Method, url: Url, scopes: Scopes, operation: impl Into<String>) -> Self {
        let (headers, lane, operation) = (HeaderMap::new(), Lane::Small, operation.into());
        let mut call = Self { method, url, scopes, headers, body: None, lane, tries: None, operation };
        if matches!(call.method, Method::POST | Method::PUT | Method::PATCH) {
            // Some registries refuse a request of these kinds that does not say how long it is.
            call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        call
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len() as u64));
        self.body = Some(body);
        self
    }

    pub(crate) fn bulk(mut self) -> Self {
        self.lane = Lane::Bulk;
        self
    }

    /// Not tried again where it fails: nothing depends on it.
    pub(crate) fn once(mut self) -> Self {
        self.tries = Some(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_asks_for_two_scopes_and_a_pull_is_covered_by_a_push() {
        let (a, b): (Repository, Repository) = ("team/a".parse().unwrap(), "b".parse().unwrap());
        let texts: Vec<String> = Scopes::mount(&a, &b).texts().collect();
        assert_eq!(texts, ["repository:b:pull", "repository:team/a:pull,push"]);
        assert_eq!(Scopes::mount(&a, &a), Scopes::push(&a));
        assert_eq!(Scopes::pull(&a).wider(), Some(Scopes::push(&a)));
        assert_eq!(Scopes::push(&a).wider(), None);
        assert_eq!(Scopes::mount(&a, &b).to_string(), "b and team/a");
        assert_eq!(Scopes::Catalog.texts().collect::<Vec<_>>(), ["registry:catalog:*"]);
        assert_eq!(
            (Scopes::Catalog.wider(), Scopes::Catalog.to_string()),
            (None, "the list of repositories".into())
        );
    }
}
