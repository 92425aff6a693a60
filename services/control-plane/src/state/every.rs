//! All resources of a kind, page by page.

use transship_api::{Kind, ResourceId};

use super::error::StoreError;
use super::records::ResourceRecord;
use super::store::Store;

/// The most resources that are read at a time.
const PAGE: u32 = 500;

impl Store {
    /// Every resource of one kind, oldest first: those below `registry`, or those of all registries.
    ///
    /// # Errors
    /// Where they could not be read.
    pub async fn every_resource(
        &self,
        kind: Kind,
        registry: Option<&ResourceId>,
    ) -> Result<Vec<ResourceRecord>, StoreError> {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let page = match registry {
                Some(registry) => self.resources(registry, kind, after, PAGE).await?,
                None => self.all_resources(kind, after, PAGE).await?,
            };
            let Some(last) = page.last() else { return Ok(found) };
            after = last.seq;
            found.extend(page);
        }
    }
}
