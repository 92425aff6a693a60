//! The list of referrers at a registry that does not keep it itself: the index under the fallback tag
//! (distribution specification, "Referrers Tag Schema"). The source's index goes unchanged where that is
//! enough; only where both sides know more, or where the source had none, an index is written: the only
//! manifest that transship ever writes.

use std::collections::BTreeSet;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use transship_bundle::Location;
use transship_model::{Code, Digest, Failure, MAX_MANIFEST_BYTES, MediaType, Repository, Selector, Tag};
use transship_registry::{Manifest, RegistryError};

use crate::ledger::Ledger;
use crate::run::Import;
use crate::tags::{Referrals, Wanted};

/// How often an index is written again where another writer came between.
const TRIES: usize = 3;

type Json = Map<String, Value>;

/// An index of referrers, with everything that its entries say.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    manifests: Vec<Json>,
    #[serde(default)]
    annotations: Option<Json>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a Json>,
}

/// What to do about the index of one subject.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The target lists every referrer already.
    Nothing,
    /// The source's index says it all.
    Unchanged,
    /// These bytes do.
    Write(Vec<u8>),
}

impl Index {
    fn digests(&self) -> impl Iterator<Item = &str> {
        self.manifests.iter().filter_map(digest_of)
    }
}

fn digest_of(entry: &Json) -> Option<&str> {
    entry.get("digest").and_then(Value::as_str)
}

/// Decides. `listed` is what the target lists by whatever way, `target` and `source` are the indexes under the
/// fallback tag there, and `carried` are the entries of the referrers that are at the target now.
pub(crate) fn decide_fallback(
    listed: &BTreeSet<String>,
    target: Option<&Index>,
    source: Option<&Index>,
    carried: &[Json],
) -> Decision {
    let carried_digests = || carried.iter().filter_map(digest_of);
    if carried_digests().all(|digest| listed.contains(digest)) {
        return Decision::Nothing;
    }
    if let Some(source) = source {
        let known: BTreeSet<&str> = source.digests().collect();
        let mut needed = target.into_iter().flat_map(Index::digests).chain(carried_digests());
        if needed.all(|digest| known.contains(digest)) {
            return Decision::Unchanged;
        }
    }
    Decision::Write(union(target, source, carried))
}

/// An index of everything, each once; what stands first stays.
fn union(target: Option<&Index>, source: Option<&Index>, carried: &[Json]) -> Vec<u8> {
    let indexes = [target, source];
    let entries = indexes.iter().flatten().flat_map(|index| &index.manifests).chain(carried);
    let mut seen = BTreeSet::new();
    let written = Written {
        schema_version: 2,
        media_type: MediaType::OCI_INDEX,
        manifests: entries
            .filter(|entry| digest_of(entry).is_some_and(|digest| seen.insert(digest)))
            .collect(),
        annotations: indexes.iter().flatten().find_map(|index| index.annotations.as_ref()),
    };
    serde_json::to_vec(&written).expect("maps of JSON values always serialise")
}

/// Sees to it that the target lists every referrer that was imported.
///
/// # Errors
/// The first failure that ends the attempt.
pub(crate) async fn put_fallbacks(
    import: &Import<'_>,
    wanted: &Wanted,
    ledger: &mut Ledger,
) -> Result<(), Failure> {
    if ledger.keeps_referrers {
        return Ok(());
    }
    let mut lists = Vec::new();
    for ((repository, subject), referrals) in &wanted.subjects {
        let is_there = |digest: &&Digest| ledger.failure(repository, digest).is_none();
        let there: Vec<&Digest> = referrals.referrers.iter().filter(is_there).collect();
        if !there.is_empty() {
            lists.push(List { import, repository, subject, referrals, there });
        }
    }
    let mut updates = import.each(lists, |list| Box::pin(list.updated()));
    while let Some((list, result)) = updates.next().await {
        let (repository, subject) = (list.repository, list.subject);
        match result {
            Ok(Updated::Complete) => {}
            Ok(Updated::Contested) => ledger.leave(format!(
                "the list of referrers of {subject} in {repository} may lack some, since other writers keep \
                 changing it: import the bundle again"
            )),
            Err(failure) => {
                let what = format!("listing the referrers of {subject} in {repository}");
                let failure = ledger.tolerate(failure.while_doing(what))?;
                for referrer in &list.there {
                    ledger.fail(repository, referrer, failure.clone());
                }
            }
        }
    }
    Ok(())
}

/// How a list of referrers stands after it was looked at.
enum Updated {
    /// It has every referrer that was imported.
    Complete,
    /// Other writers changed it each time that it was written.
    Contested,
}

/// The list of one subject's referrers.
struct List<'a> {
    import: &'a Import<'a>,
    repository: &'a Repository,
    subject: &'a Digest,
    referrals: &'a Referrals,
    /// The referrers that are at the target.
    there: Vec<&'a Digest>,
}

impl List<'_> {
    async fn updated(self) -> (Self, Result<Updated, Failure>) {
        let result = self.update().await;
        (self, result)
    }

    async fn update(&self) -> Result<Updated, Failure> {
        // Two workers of this process must not write over each other; another process may, which the next
        // look finds out.
        let _turn = self.import.memory.turn(self.subject).await;
        let carried = self.carried().await?;
        let source = self.source().await?;
        for _ in 0..TRIES {
            let current = self.import.target.referrers(self.repository, self.subject).await?;
            let listed = current.descriptors.iter().map(|one| one.digest.to_string()).collect();
            let target = current.fallback.as_ref().and_then(|manifest| read_index(&manifest.bytes));
            let source_index = source.as_ref().map(|(_, index)| index);
            match decide_fallback(&listed, target.as_ref(), source_index, &carried) {
                Decision::Nothing => return Ok(Updated::Complete),
                Decision::Unchanged => {
                    let Some((manifest, _)) = &source else { return Ok(Updated::Complete) };
                    self.put_or_without_source(manifest, target.as_ref(), &carried).await?;
                }
                Decision::Write(bytes) => {
                    self.put_or_without_source(&written(bytes)?, target.as_ref(), &carried).await?;
                }
            }
            fail::fail_point!("importer.fallback_put");
        }
        Ok(Updated::Contested)
    }

    /// Puts the index. The source's may list what its registry has lost; a registry that refuses it for that
    /// gets one of what is there.
    async fn put_or_without_source(
        &self,
        manifest: &Manifest,
        target: Option<&Index>,
        carried: &[Json],
    ) -> Result<(), Failure> {
        match self.put(manifest).await {
            Err(error) if error.is_blob_unknown() => {
                tracing::warn!(repository = %self.repository, subject = %self.subject, "the source's list of referrers names more than the target has; a list of what is there takes its place");
                Ok(self.put(&written(union(target, None, carried))?).await?)
            }
            result => Ok(result?),
        }
    }

    async fn put(&self, manifest: &Manifest) -> Result<(), RegistryError> {
        let tag = Selector::Tag(Tag::referrers_fallback(self.subject));
        let media_type = manifest.content_type.as_ref().unwrap_or(&INDEX);
        self.import.target.put_manifest(self.repository, &tag, media_type, manifest).await?;
        Ok(())
    }

    /// The source's index, with its bytes as they are.
    async fn source(&self) -> Result<Option<(Manifest, Index)>, Failure> {
        let Some(digest) = &self.referrals.index else { return Ok(None) };
        let Some(view) = self.import.contents.views().get(digest) else { return Ok(None) };
        let Some(bytes) = self.read(digest).await? else { return Ok(None) };
        let Some(index) = read_index(&bytes) else { return Ok(None) };
        let content_type = Some(view.media_type.clone());
        Ok(Some((Manifest { digest: digest.clone(), content_type, bytes }, index)))
    }

    /// The entries of the referrers that are at the target.
    async fn carried(&self) -> Result<Vec<Json>, Failure> {
        let mut entries = Vec::with_capacity(self.there.len());
        for digest in &self.there {
            let Some(view) = self.import.contents.views().get(*digest) else { continue };
            let Some(bytes) = self.read(digest).await? else { continue };
            entries.push(entry(digest, view, &bytes));
        }
        Ok(entries)
    }

    /// The bytes of a manifest, copied: nothing of the budget is held while the registry is spoken to.
    async fn read(&self, digest: &Digest) -> Result<Option<bytes::Bytes>, Failure> {
        let Some(Location::Stored { offset, size }) = self.import.contents.catalog().locations.get(digest)
        else {
            return Ok(None);
        };
        let bytes = self.import.bundle.read(*offset..offset + size).await?;
        Ok(digest.matches(&bytes).then(|| bytes::Bytes::copy_from_slice(&bytes)))
    }
}

static INDEX: std::sync::LazyLock<MediaType> =
    std::sync::LazyLock::new(|| MediaType::OCI_INDEX.parse().expect("the constant is a media type"));

/// A manifest of our own.
fn written(bytes: Vec<u8>) -> Result<Manifest, Failure> {
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        let message = format!("the list would have {} bytes, more than registries accept", bytes.len());
        return Err(Failure::permanent(Code::LimitExceeded, message));
    }
    Ok(Manifest { digest: Digest::sha256(&bytes), content_type: Some(INDEX.clone()), bytes: bytes.into() })
}

fn read_index(bytes: &[u8]) -> Option<Index> {
    serde_json::from_slice(bytes).ok()
}

/// The descriptor of a referrer (distribution specification, "Listing Referrers").
fn entry(digest: &Digest, view: &transship_model::ManifestView, bytes: &[u8]) -> Json {
    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: Option<Json>,
    }
    let config = || view.blobs.first().filter(|_| view.media_type.as_str() == MediaType::OCI_MANIFEST);
    let named = view.artifact_type.clone().filter(|name| !name.is_empty());
    let artifact_type = named.or_else(|| config().map(|config| config.media_type.to_string()));
    let mut entry = Json::new();
    entry.insert("mediaType".to_owned(), view.media_type.as_str().into());
    entry.insert("digest".to_owned(), digest.to_string().into());
    entry.insert("size".to_owned(), bytes.len().into());
    if let Some(artifact_type) = artifact_type {
        entry.insert("artifactType".to_owned(), artifact_type.into());
    }
    let annotated = serde_json::from_slice::<Annotated>(bytes).ok();
    if let Some(annotations) = annotated.and_then(|annotated| annotated.annotations).filter(|a| !a.is_empty())
    {
        entry.insert("annotations".to_owned(), annotations.into());
    }
    entry
}

#[cfg(test)]
#[path = "fallback_tests.rs"]
mod tests;
