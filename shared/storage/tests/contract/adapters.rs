//! A fresh container of each kind.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use transship_model::{ContainerUrl, Secret};
use transship_rig::{Azurite, Side};
use transship_storage::{Container, DirectoryContainer, MemoryContainer, open};

/// What a case works with.
pub(crate) struct Fixture {
    /// An empty container.
    pub(crate) container: Arc<dyn Container>,
    /// A container that does not exist.
    pub(crate) missing: Arc<dyn Container>,
    /// The folder of the container, where it is one: many blobs are quicker put there than committed.
    pub(crate) folder: Option<PathBuf>,
    /// What must live as long as the test.
    _held: Box<dyn Any>,
}

/// The twin.
pub(crate) async fn memory() -> anyhow::Result<Fixture> {
    let named = |name: &str| format!("https://memory.example/{name}").parse::<ContainerUrl>();
    let missing = MemoryContainer::new(named("missing")?);
    missing.remove();
    Ok(Fixture {
        container: Arc::new(MemoryContainer::new(named("c")?)),
        missing: Arc::new(missing),
        folder: None,
        _held: Box::new(()),
    })
}

/// A temporary folder.
pub(crate) async fn directory() -> anyhow::Result<Fixture> {
    let folder = tempfile::tempdir()?;
    Ok(Fixture {
        container: Arc::new(DirectoryContainer::new(ContainerUrl::of_directory(folder.path())?)?),
        missing: Arc::new(DirectoryContainer::new(ContainerUrl::of_directory(
            &folder.path().join("missing"),
        )?)?),
        folder: Some(folder.path().to_owned()),
        _held: Box::new(folder),
    })
}

/// A container of a real Azurite, by a SAS token of its own.
pub(crate) async fn azurite() -> anyhow::Result<Fixture> {
    let azurite = Azurite::shared(Side::Target).await?;
    let made = azurite.container("contract").await?;
    let mut missing = made.clone();
    missing.name = format!("{}-missing", made.name);
    missing.url = format!("{}-missing", made.url);
    let expires = SystemTime::now() + Duration::from_secs(3600);
    let opened = |container: &transship_rig::Container| -> anyhow::Result<Arc<dyn Container>> {
        let sas = Secret::new(&container.sas("rwdl", expires));
        open(&container.url.parse().context("the rig's address")?, Some(sas)).context("opening")
    };
    Ok(Fixture {
        container: opened(&made)?,
        missing: opened(&missing)?,
        folder: None,
        _held: Box::new(azurite),
    })
}
