//! Opens a container by its address.

use std::sync::Arc;

use transship_model::{ContainerUrl, Secret};

use crate::{
    AzureContainer, AzureSettings, DeleteBlob, DirectoryContainer, SasToken, StorageError, WriteContainer,
};

/// A container that can be read, written and deleted from. What a caller may do it says by what it keeps:
/// an `Arc<dyn Container>` turns into an `Arc<dyn ReadContainer>` by assignment.
pub trait Container: WriteContainer + DeleteBlob {}

impl<T: WriteContainer + DeleteBlob> Container for T {}

/// Opens the container at `url`: a directory for `file:`, Azure Storage for the rest. Nothing is sent.
///
/// # Errors
/// [`StorageError::Forbidden`] where `sas` is not a SAS token, [`StorageError::Refused`] where the address is
/// not one of a container.
pub fn open(url: &ContainerUrl, sas: Option<Secret>) -> Result<Arc<dyn Container>, StorageError> {
    if url.directory().is_some() {
        return Ok(Arc::new(DirectoryContainer::new(url.clone())?));
    }
    let sas = sas
        .map(|secret| SasToken::parse(&secret))
        .transpose()
        .map_err(|error| StorageError::Forbidden { container: url.clone(), code: error.to_string() })?;
    Ok(Arc::new(AzureContainer::new(url.clone(), sas, AzureSettings::default())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadContainer;

    #[test]
    fn the_address_decides_which_adapter_opens_it() {
        let directory = open(&"file:///nowhere/at/all".parse().unwrap(), None).unwrap();
        assert!(directory.copy_source(&"b".parse().unwrap()).is_none());
        let azure = "https://a.blob.core.windows.net/c".parse().unwrap();
        let azure: Arc<dyn ReadContainer> = open(&azure, Some(Secret::new("?sr=c&sp=r&sig=a%2B"))).unwrap();
        let source = azure.copy_source(&"d/ü ?.tar".parse().unwrap()).unwrap();
        assert_eq!(
            source.expose(),
            "https://a.blob.core.windows.net/c/d%2F%C3%BC%20%3F.tar?sr=c&sp=r&sig=a%2B"
        );
    }

    #[test]
    fn a_secret_that_is_not_a_token_is_said_to_be_none() {
        let url = "https://a.blob.core.windows.net/c".parse().unwrap();
        let error = open(&url, Some(Secret::new("AccountKey=CANARY"))).map(drop).unwrap_err();
        assert!(error.to_string().contains("SAS token") && !error.to_string().contains("CANARY"), "{error}");
    }
}
