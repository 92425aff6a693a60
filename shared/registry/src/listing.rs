//! Lists that come in pages: tags, repositories, and referrers.

use std::collections::{BTreeSet, HashSet};

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use transship_model::{
    Descriptor, Digest, MAX_MANIFEST_BYTES, ManifestKind, ManifestView, MediaType, Repository, Selector, Tag,
};
use url::Url;

use crate::answer::content_type;
use crate::call::{Call, Scopes};
use crate::client::Inner;
use crate::link::next_page;
use crate::transport::Fault;
use crate::wire::Fetched;
use crate::{Manifest, Referrers, RegistryError};

/// The tags that are asked for in one page. Larger pages are refused by some registries.
const PAGE: usize = 1000;
/// The largest page, in bytes. Some registries send all tags in one.
const MAX_PAGE_BYTES: u64 = 16 * 1024 * 1024;
/// The most pages of one list.
const MAX_PAGES: usize = 10_000;
/// The most pages in a row that bring nothing new.
const MAX_BARREN: usize = 16;
/// The most tags of one repository.
const MAX_TAGS: usize = 1_000_000;
/// The most repositories of one registry.
const MAX_REPOSITORIES: usize = 100_000;
/// The most referrers of one manifest.
const MAX_REFERRERS: usize = 10_000;

/// The pages of one list. No registry can make it endless, and an empty page does not end it.
struct Pages {
    seen: HashSet<Url>,
    barren: usize,
}

impl Pages {
    fn from(first: &Url) -> Self {
        Self { seen: HashSet::from([first.clone()]), barren: 0 }
    }

    /// Whether to go on at `next`, after a page that brought something new or did not.
    fn go_on(&mut self, next: &Url, is_barren: bool) -> bool {
        self.barren = if is_barren { self.barren + 1 } else { 0 };
        let is_new = self.seen.insert(next.clone());
        !is_barren || (is_new && self.barren <= MAX_BARREN)
    }

    /// The page of names after one that listed these, if there is one: where the registry says it goes on, or else
    /// after the last name of a full page, for registries that page without saying so.
    fn after(&mut self, next: Option<Url>, first: &Url, listed: &[String], is_barren: bool) -> Option<Url> {
        match (next, listed.last()) {
            (Some(next), _) => self.go_on(&next, is_barren).then_some(next),
            (None, Some(last)) if listed.len() >= PAGE && !is_barren => {
                Some(with_query(first, &[("n", &PAGE.to_string()), ("last", last)]))
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct TagPage {
    // A repository whose tags were all deleted has `null` here.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct CatalogPage {
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ReferrerPage {
    manifests: Option<Vec<Descriptor>>,
}

impl Inner {
    /// All tags, sorted.
    pub(crate) async fn list_tags(&self, repository: &Repository) -> Result<Vec<Tag>, RegistryError> {
        let first = self.address(repository, "tags/list");
        let mut page = with_query(&first, &[("n", &PAGE.to_string())]);
        let (mut tags, mut pages) = (BTreeSet::new(), Pages::from(&page));
        for _ in 0..MAX_PAGES {
            let call =
                Call::new(Method::GET, page, Scopes::pull(repository), format!("list tags of {repository}"));
            let (headers, body) = match self.wire.fetch(&call, MAX_PAGE_BYTES).await? {
                Fetched::Body(headers, body) => (headers, body),
                // Also the answer of a registry that begins a page after the last tag.
                Fetched::Other(answer) if answer.status() == StatusCode::NOT_FOUND => break,
                // There is no such list: it will not come by itself, as what other answers of the kind speak of.
                Fetched::Other(answer) if answer.status() == StatusCode::NOT_IMPLEMENTED => {
                    let (host, operation) = (self.wire.host.clone(), call.operation);
                    return Err(RegistryError::Refused { host, operation, code: "501".to_owned() });
                }
                Fetched::Other(answer) => return Err(self.wire.refused(&call, answer).await),
            };
            let next = self.next(&call, &headers)?;
            let listed = self.parse::<TagPage>(&call, &body)?.tags.unwrap_or_default();
            let before = tags.len();
            // What breaks the grammar of tags cannot be asked for either.
            tags.extend(listed.iter().filter_map(|text| text.parse::<Tag>().ok()));
            if tags.len() > MAX_TAGS {
                return Err(self.wire.protocol(&call, format!("more than {MAX_TAGS} tags")));
            }
            match pages.after(next, &first, &listed, tags.len() == before) {
                Some(next) => page = next,
                None => break,
            }
        }
        Ok(tags.into_iter().collect())
    }

    /// All repositories, sorted, in the same way as tags; `None` where the registry does not list them.
    pub(crate) async fn list_repositories(&self) -> Result<Option<Vec<Repository>>, RegistryError> {
        let mut first = self.base.clone();
        first.set_path("/v2/_catalog");
        let mut page = with_query(&first, &[("n", &PAGE.to_string())]);
        let (mut repositories, mut pages) = (BTreeSet::new(), Pages::from(&page));
        for number in 0..MAX_PAGES {
            let call = Call::new(Method::GET, page, Scopes::Catalog, "list repositories");
            let (headers, body) = match self.wire.fetch(&call, MAX_PAGE_BYTES).await? {
                Fetched::Body(headers, body) => (headers, body),
                Fetched::Other(answer) if matches!(answer.status().as_u16(), 404 | 405 | 501) => {
                    if number == 0 {
                        return Ok(None);
                    }
                    break;
                }
                Fetched::Other(answer) => return Err(self.wire.refused(&call, answer).await),
            };
            let next = self.next(&call, &headers)?;
            let listed = self.parse::<CatalogPage>(&call, &body)?.repositories.unwrap_or_default();
            let before = repositories.len();
            repositories.extend(listed.iter().filter_map(|text| text.parse::<Repository>().ok()));
            if repositories.len() > MAX_REPOSITORIES {
                return Err(self.wire.protocol(&call, format!("more than {MAX_REPOSITORIES} repositories")));
            }
            match pages.after(next, &first, &listed, repositories.len() == before) {
                Some(next) => page = next,
                None => break,
            }
        }
        Ok(Some(repositories.into_iter().collect()))
    }

    /// The referrers by the API, and by the fallback tag, which may stand beside it since before it was there.
    /// Where the caller knows that there is `no_tag`, it is looked for only where there is no API: a list of tags
    /// that leaves some out must not cost referrers.
    pub(crate) async fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        no_tag: bool,
    ) -> Result<Referrers, RegistryError> {
        let (by_api, fallback) = if no_tag {
            let by_api = self.referrers_by_api(repository, subject).await?;
            let fallback = match &by_api {
                Some(_) => None,
                None => self.fallback_index(repository, subject).await?,
            };
            (by_api, fallback)
        } else {
            let by_api = self.referrers_by_api(repository, subject);
            tokio::try_join!(by_api, self.fallback_index(repository, subject))?
        };
        let mut descriptors = by_api.unwrap_or_default();
        if let Some((_, listed)) = &fallback {
            let known: HashSet<Digest> =
                descriptors.iter().map(|descriptor| descriptor.digest.clone()).collect();
            descriptors
                .extend(listed.iter().filter(|descriptor| !known.contains(&descriptor.digest)).cloned());
        }
        if descriptors.len() > MAX_REFERRERS {
            return Err(self.too_many_referrers(subject));
        }
        Ok(Referrers { descriptors, fallback: fallback.map(|(manifest, _)| manifest) })
    }

    /// `None` where the registry has no such API.
    async fn referrers_by_api(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let mut page = self.address(repository, &format!("referrers/{subject}"));
        let mut found: Vec<Descriptor> = Vec::new();
        let (mut known, mut pages) = (HashSet::new(), Pages::from(&page));
        for number in 0..MAX_PAGES {
            let operation = format!("list referrers of {repository}@{subject}");
            let call = Call::new(Method::GET, page, Scopes::pull(repository), operation);
            let call = call.header(ACCEPT, HeaderValue::from_static(MediaType::OCI_INDEX));
            // A page is an index, and so no larger than a manifest may be.
            let (headers, body) = match self.wire.fetch(&call, MAX_MANIFEST_BYTES).await? {
                Fetched::Body(headers, body) => (headers, body),
                Fetched::Other(answer)
                    if number == 0 && matches!(answer.status().as_u16(), 400 | 404 | 405) =>
                {
                    return Ok(None);
                }
                Fetched::Other(answer) => return Err(self.wire.refused(&call, answer).await),
            };
            // Registries without the API may answer an unknown path with a page of their own.
            if content_type(&headers) != Some(MediaType::OCI_INDEX) {
                return match number {
                    0 => Ok(None),
                    _ => Err(self.wire.protocol(&call, "a further page that is no index")),
                };
            }
            let next = self.next(&call, &headers)?;
            let listed = self.parse::<ReferrerPage>(&call, &body)?.manifests.unwrap_or_default();
            let before = found.len();
            found.extend(listed.into_iter().filter(|descriptor| known.insert(descriptor.digest.clone())));
            if found.len() > MAX_REFERRERS {
                return Err(self.too_many_referrers(subject));
            }
            match next {
                Some(next) if pages.go_on(&next, found.len() == before) => page = next,
                _ => break,
            }
        }
        Ok(Some(found))
    }

    /// The index under the fallback tag with what it lists, where there is one that is an index.
    async fn fallback_index(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<(Manifest, Vec<Descriptor>)>, RegistryError> {
        let selector = Selector::Tag(Tag::referrers_fallback(subject));
        let Some(manifest) = self.find_manifest(repository, &selector).await? else { return Ok(None) };
        let content_type = manifest.content_type.as_ref().map(MediaType::as_str);
        match ManifestView::parse(&manifest.bytes, content_type) {
            Ok(view) if view.kind == ManifestKind::Index => Ok(Some((manifest, view.manifests))),
            _ => {
                tracing::warn!(host = %self.wire.host, %repository, %selector, "the fallback tag of referrers is not an index");
                Ok(None)
            }
        }
    }

    /// The next page, which must be on the registry.
    fn next(&self, call: &Call, headers: &HeaderMap) -> Result<Option<Url>, RegistryError> {
        let headers = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let next = next_page(&call.url, headers)
            .map_err(|()| self.wire.protocol(call, "a Link that is no address"))?;
        if let Some(next) = &next {
            let trusted = self.wire.guard.trusted(next);
            trusted.map_err(|denied| Fault::from(denied).into_error(&self.wire.host, &call.operation))?;
        }
        Ok(next)
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, call: &Call, body: &[u8]) -> Result<T, RegistryError> {
        serde_json::from_slice(body).map_err(|_| self.wire.protocol(call, "an answer that is no list"))
    }

    fn too_many_referrers(&self, subject: &Digest) -> RegistryError {
        let reason = format!("{subject} has more than {MAX_REFERRERS} referrers");
        RegistryError::Protocol { host: self.wire.host.clone(), reason }
    }
}

fn with_query(url: &Url, pairs: &[(&str, &str)]) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().extend_pairs(pairs);
    url
}
