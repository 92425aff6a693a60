//! Azure Storage through its maker's crate (Blob service REST API).

mod answer;
mod bearer;
mod read;
mod retry;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::policies::Policy;
use azure_core::http::{ClientOptions, Etag, RequestContent, RetryOptions, Transport};
use azure_core::time::OffsetDateTime;
use azure_storage_blob::models::{
    BlobClientDeleteOptions, BlobClientGetPropertiesResultHeaders as _, BlobContainerClientListBlobsOptions,
    BlockBlobClientCommitBlockListOptions, BlockBlobClientCommitBlockListResultHeaders as _,
    BlockBlobClientStageBlockFromUrlOptions, BlockListType, BlockLookupList, CopyStatus, ListBlobsResponse,
};
use azure_storage_blob::{BlobClient, BlobContainerClient, BlobContainerClientOptions, BlockBlobClient};
use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use tracing::warn;
use transship_model::{BlobName, ContainerUrl, Secret};

use self::answer::{Question, answer_of};
use self::bearer::BearerTokens;
pub use self::bearer::IdentityAccess;
use self::retry::ShortRetries;
use self::transport::PooledTransport;
use crate::limits::{check_block, check_id, check_metadata};
use crate::{
    BlobPage, BlobProperties, Block, BlockId, Condition, CopySource, DeleteBlob, ETag, ListedBlob, Metadata,
    Operation, ReadContainer, SasToken, StorageError, WriteContainer,
};

/// The version of the service that every request names. The crate's own is newer than what Azurite and older
/// Azure Stack installations know, and nothing that it adds is used here.
const SERVICE_VERSION: &str = "2025-11-05";

/// The most entries of a page that the service gives.
const PAGE: i32 = 5_000;

/// How patient the adapter is. The defaults fit a service across the internet.
#[derive(Debug, Clone, Copy)]
pub struct AzureSettings {
    /// How often a request is sent at most, the first time included.
    pub tries: u32,
    /// No try begins later than this after the first one ended.
    pub retry_budget: Duration,
    /// How long the service may be silent: before its answer begins (an upload is given time for its bytes on
    /// top), and between two pieces of an answer.
    pub patience: Duration,
}

impl Default for AzureSettings {
    fn default() -> Self {
        Self { tries: 5, retry_budget: Duration::from_secs(30), patience: Duration::from_secs(60) }
    }
}

/// A container of an Azure Storage account. All containers of the process share one pool of connections.
pub struct AzureContainer {
    url: ContainerUrl,
    rights: Rights,
    client: BlobContainerClient,
}

/// What opens the container.
#[derive(Debug)]
enum Rights {
    /// A SAS token in each URL; nothing for a container that is open to all.
    Sas(Option<SasToken>),
    /// A token of an identity in each request.
    Identity(IdentityAccess),
}

impl AzureContainer {
    /// The container at `url`, with the rights of `sas`. Nothing is sent.
    ///
    /// # Errors
    /// [`StorageError::Refused`] where the address is not one of a container, or TLS cannot be set up.
    pub fn new(
        url: ContainerUrl,
        sas: Option<SasToken>,
        settings: AzureSettings,
    ) -> Result<Self, StorageError> {
        Self::build(url, Rights::Sas(sas), settings)
    }

    /// The container at `url`, with the roles of an identity. Nothing is sent, and no token is asked for yet.
    /// Whether the host may get a token is for the caller to know ([`crate::Containers`] does).
    ///
    /// Such a container has no [`ReadContainer::copy_source`]: another service could read it only with a token
    /// of its own beside the URL (`x-ms-copy-source-authorization`), so copies from it are streamed.
    ///
    /// # Errors
    /// [`StorageError::Refused`] where the address is not one of a container, or TLS cannot be set up.
    pub fn with_identity(
        url: ContainerUrl,
        access: IdentityAccess,
        settings: AzureSettings,
    ) -> Result<Self, StorageError> {
        Self::build(url, Rights::Identity(access), settings)
    }

    fn build(url: ContainerUrl, rights: Rights, settings: AzureSettings) -> Result<Self, StorageError> {
        let refused = |code: String| StorageError::Refused { container: url.clone(), code };
        let mut endpoint = url.as_url().clone();
        if endpoint.scheme() == "file" {
            return Err(refused("not the address of a storage account".to_owned()));
        }
        let mut on_each_try: Vec<Arc<dyn Policy>> = Vec::new();
        match &rights {
            Rights::Sas(sas) => endpoint.set_query(sas.as_ref().map(|sas| sas.query().expose())),
            // Not the SDK's credential, whose audience is fixed and which other clouds do not share.
            Rights::Identity(access) => on_each_try.push(Arc::new(BearerTokens(access.clone()))),
        }
        let is_loopback = endpoint.scheme() == "http";
        let transport = PooledTransport::new(is_loopback, settings.patience)
            .map_err(|fault| refused(fault.to_string()))?;
        let options = BlobContainerClientOptions {
            client_options: ClientOptions {
                transport: Some(Transport::new(transport)),
                // Ours stands around the SDK's, which is therefore off.
                retry: RetryOptions::none(),
                per_call_policies: vec![Arc::new(ShortRetries {
                    tries: settings.tries,
                    budget: settings.retry_budget,
                })],
                per_try_policies: on_each_try,
                ..ClientOptions::default()
            },
            version: SERVICE_VERSION.to_owned(),
        };
        // Its errors show the URL.
        let client = BlobContainerClient::new(endpoint, None, Some(options))
            .map_err(|_| refused("not the address of a container".to_owned()))?;
        Ok(Self { url, rights, client })
    }

    fn blob(&self, blob: &BlobName) -> BlobClient {
        self.client.blob_client(blob.as_str())
    }

    fn block_blob(&self, blob: &BlobName) -> BlockBlobClient {
        self.blob(blob).block_blob_client()
    }

    fn question<'a>(&'a self, operation: Operation, blob: Option<&'a BlobName>) -> Question<'a> {
        let (sas, identity) = match &self.rights {
            Rights::Sas(sas) => (sas.as_ref(), None),
            Rights::Identity(access) => (None, Some(&access.identity)),
        };
        Question { operation, container: &self.url, blob, sas, identity }
    }

    /// Turns an error of the SDK into ours. Always used: the SDK's errors may show the URL.
    fn explain<'a>(
        &'a self,
        operation: Operation,
        blob: &'a BlobName,
    ) -> impl Fn(azure_core::Error) -> StorageError + use<'a> {
        move |error| self.question(operation, Some(blob)).error(&error)
    }

    async fn blocks(&self, operation: Operation, blob: &BlobName) -> Result<Vec<Block>, StorageError> {
        let kind = match operation {
            Operation::StagedBlocks => BlockListType::Uncommitted,
            _ => BlockListType::Committed,
        };
        let explain = self.explain(operation, blob);
        let listed = match self.block_blob(blob).get_block_list(kind, None).await {
            Ok(response) if is_document(response.body(), "BlockList") => {
                response.into_model().map_err(explain)?
            }
            Ok(_) => return Err(self.unusable("an answer that is not a block list")),
            Err(error) if has_no_blocks(&error) => return Ok(Vec::new()),
            Err(error) => match explain(error) {
                StorageError::BlobNotFound { .. } => return Ok(Vec::new()),
                error => return Err(error),
            },
        };
        let blocks = match operation {
            Operation::StagedBlocks => listed.uncommitted_blocks,
            _ => listed.committed_blocks,
        };
        blocks.unwrap_or_default().into_iter().map(|block| self.block(block)).collect()
    }

    fn block(&self, block: azure_storage_blob::models::Block) -> Result<Block, StorageError> {
        match (block.name, block.size.map(u64::try_from)) {
            (Some(name), Some(Ok(length))) => Ok(Block { id: BlockId::new(name), length }),
            _ => Err(self.unusable("a block without an identifier or a length")),
        }
    }

    /// The service answered with success and something that cannot be.
    fn unusable(&self, what: &str) -> StorageError {
        StorageError::Unavailable { container: self.url.clone(), reason: what.to_owned(), retry_after: None }
    }

    fn page(&self, listing: ListBlobsResponse) -> Result<BlobPage, StorageError> {
        let mut page = BlobPage { blobs: Vec::with_capacity(listing.blob_items.len()), next: None };
        for item in listing.blob_items {
            let name = item.name.ok_or_else(|| self.unusable("a blob without a name"))?;
            let properties = item.properties.unwrap_or_default();
            match name.parse() {
                Ok(name) => page.blobs.push(ListedBlob {
                    name,
                    length: properties.content_length.unwrap_or_default(),
                    etag: properties.etag.map(|etag| quoted(etag.as_ref())),
                    modified: properties.last_modified.and_then(timestamp),
                    copying: properties.copy_status == Some(CopyStatus::Pending),
                }),
                // It cannot be a bundle of ours, and must not hide those that are.
                Err(error) => warn!(container = %self.url, %error, "a blob is left out of the listing"),
            }
        }
        page.next = listing.next_marker.filter(|marker| !marker.is_empty());
        Ok(page)
    }
}

/// Whether the answer is the document that was asked for. The SDK takes any document: the page of a proxy
/// would be an empty listing.
fn is_document(body: &[u8], root: &str) -> bool {
    let begin = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    let begin = begin.trim_start_matches('\u{feff}').trim_start();
    let begin = match begin.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")) {
        Some((_, rest)) => rest.trim_start(),
        None => begin,
    };
    let rest = begin.strip_prefix('<').and_then(|begin| begin.strip_prefix(root));
    rest.is_some_and(|rest| rest.starts_with([' ', '>', '/', '\t', '\r', '\n']))
}

/// The entity tag in the form of the header: listings leave the quotation marks out.
fn quoted(etag: &str) -> ETag {
    ETag(if etag.contains('"') { etag.to_owned() } else { format!("\"{etag}\"") })
}

fn timestamp(time: OffsetDateTime) -> Option<Timestamp> {
    Timestamp::from_second(time.unix_timestamp()).ok()
}

/// A page blob or an append blob.
fn has_no_blocks(error: &azure_core::Error) -> bool {
    matches!(answer_of(error), Ok(answer) if answer.code.as_deref() == Some("InvalidBlobType"))
}

impl std::fmt::Debug for AzureContainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureContainer")
            .field("url", &self.url)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ReadContainer for AzureContainer {
    fn url(&self) -> &ContainerUrl {
        &self.url
    }

    async fn properties(&self, blob: &BlobName) -> Result<Option<BlobProperties>, StorageError> {
        let explain = self.explain(Operation::Properties, blob);
        let response = match self.blob(blob).get_properties(None).await.map_err(&explain) {
            Ok(response) => response,
            Err(StorageError::BlobNotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let etag = response
            .etag()
            .map_err(&explain)?
            .ok_or_else(|| self.unusable("a blob without an entity tag"))?;
        let length = response.content_length().map_err(&explain)?;
        let metadata = response.metadata().map_err(&explain)?;
        Ok(Some(BlobProperties {
            length: length.ok_or_else(|| self.unusable("a blob without a length"))?,
            etag: ETag(etag.into()),
            metadata: metadata.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect(),
            content_md5: response.content_md5().map_err(&explain)?,
            modified: response.last_modified().map_err(&explain)?.and_then(timestamp),
            copying: response.copy_status().map_err(&explain)? == Some(CopyStatus::Pending),
        }))
    }

    async fn read(
        &self,
        blob: &BlobName,
        range: std::ops::Range<u64>,
        etag: Option<&ETag>,
    ) -> Result<Bytes, StorageError> {
        self.read_range(blob, range, etag).await
    }

    async fn committed_blocks(&self, blob: &BlobName) -> Result<Vec<Block>, StorageError> {
        self.blocks(Operation::CommittedBlocks, blob).await
    }

    async fn list(&self, prefix: &str, marker: Option<&str>) -> Result<BlobPage, StorageError> {
        let explain = |error| self.question(Operation::List, None).error(&error);
        let options = BlobContainerClientListBlobsOptions {
            prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
            marker: marker.map(str::to_owned),
            maxresults: Some(PAGE),
            ..Default::default()
        };
        let mut pages = self.client.list_blobs(Some(options)).map_err(explain)?.into_pages();
        let page = pages.try_next().await.map_err(explain)?;
        let page = page.ok_or_else(|| self.unusable("a listing without a page"))?;
        if !is_document(page.body(), "EnumerationResults") {
            return Err(self.unusable("an answer that is not a listing"));
        }
        self.page(page.into_model().map_err(explain)?)
    }

    fn copy_source(&self, blob: &BlobName) -> Option<Secret> {
        match self.rights {
            Rights::Sas(_) => Some(Secret::new(self.blob(blob).url().as_str())),
            Rights::Identity(_) => None,
        }
    }
}

#[async_trait]
impl WriteContainer for AzureContainer {
    async fn staged_blocks(&self, blob: &BlobName) -> Result<Vec<Block>, StorageError> {
        self.blocks(Operation::StagedBlocks, blob).await
    }

    async fn stage(&self, blob: &BlobName, id: &BlockId, bytes: Bytes) -> Result<(), StorageError> {
        let length = bytes.len() as u64;
        check_block(&self.url, id, length)?;
        // No Content-MD5: it would cost a pass over the bytes, and guard this hop alone. The SHA-256 of each
        // blob is checked from end to end, and TLS guards the bytes on the way.
        // The body is the caller's buffer, counted up, also where the request is repeated.
        let staged = self.block_blob(blob).stage_block(id.as_bytes(), length, bytes.into(), None).await;
        staged.map_err(self.explain(Operation::Stage, blob)).map(drop)
    }

    async fn stage_from(
        &self,
        blob: &BlobName,
        id: &BlockId,
        source: &CopySource,
    ) -> Result<(), StorageError> {
        let length = source.range.end.saturating_sub(source.range.start);
        check_block(&self.url, id, length)?;
        let options = BlockBlobClientStageBlockFromUrlOptions {
            source_range: Some(source.range.clone().into()),
            // Without it, a source that is overwritten meanwhile would be mixed with its successor.
            source_if_match: Some(Etag::from(source.etag.0.as_str())),
            ..Default::default()
        };
        let url = source.url.expose().to_owned();
        let staged = self.block_blob(blob).stage_block_from_url(id.as_bytes(), 0, url, Some(options)).await;
        staged.map_err(self.explain(Operation::StageFrom, blob)).map(drop)
    }

    async fn commit(
        &self,
        blob: &BlobName,
        blocks: &[BlockId],
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<ETag, StorageError> {
        let explain = self.explain(Operation::Commit, blob);
        blocks.iter().try_for_each(|id| check_id(&self.url, id))?;
        let metadata = check_metadata(&self.url, metadata)?;
        let (if_none_match, if_match) = match condition {
            Condition::Absent => (Some(Etag::from("*")), None),
            Condition::Matches(etag) => (None, Some(Etag::from(etag.0.as_str()))),
        };
        let options = BlockBlobClientCommitBlockListOptions {
            metadata: Some(metadata.into_iter().collect()),
            if_none_match,
            if_match,
            ..Default::default()
        };
        let latest = Some(blocks.iter().map(|id| id.as_bytes().to_vec()).collect());
        let list: RequestContent<_, _> =
            BlockLookupList { latest, ..Default::default() }.try_into().map_err(&explain)?;
        let response =
            self.block_blob(blob).commit_block_list(list, Some(options)).await.map_err(&explain)?;
        let etag = response.etag().map_err(&explain)?;
        Ok(ETag(etag.ok_or_else(|| self.unusable("a commit without an entity tag"))?.into()))
    }
}

#[async_trait]
impl DeleteBlob for AzureContainer {
    async fn delete(&self, blob: &BlobName, etag: &ETag) -> Result<(), StorageError> {
        let options =
            BlobClientDeleteOptions { if_match: Some(Etag::from(etag.0.as_str())), ..Default::default() };
        let deleted = self.blob(blob).delete(Some(options)).await;
        match deleted.map_err(self.explain(Operation::Delete, blob)) {
            Ok(_) | Err(StorageError::BlobNotFound { .. }) => Ok(()),
            // The condition fails on a blob that is gone, too, as when the answer to the first try was lost.
            Err(changed @ StorageError::ConditionFailed { .. }) => match self.properties(blob).await? {
                None => Ok(()),
                Some(_) => Err(changed),
            },
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_known_by_its_root() {
        for (text, expected) in [
            ("<BlockList/>", true),
            ("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList x=\"1\"><A/></BlockList>", true),
            ("\u{feff}<?xml version=\"1.0\"?><BlockList></BlockList>", true),
            ("<BlockLists/>", false),
            ("<html><BlockList/></html>", false),
            ("", false),
        ] {
            assert_eq!(is_document(text.as_bytes(), "BlockList"), expected, "{text}");
        }
    }
}
