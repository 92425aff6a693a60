//! Vaults that are directories of files.

use std::collections::BTreeMap;
use std::sync::Arc;

use transship_model::{Class, Code, Failure, Secret};
use transship_secrets::{FixedSecrets, Keyring, SecretError, VaultDirectories, Vaults as _};

fn vaults(directory: &std::path::Path) -> VaultDirectories {
    let directories = BTreeMap::from([("Team.vault.azure.net".to_owned(), directory.to_owned())]);
    VaultDirectories::new(directories, Keyring::of_secrets(Arc::new(FixedSecrets::default())).vaults)
}

async fn read(vaults: &VaultDirectories, address: &str) -> Result<Secret, SecretError> {
    vaults.vault_secret(&address.parse().unwrap()).await
}

#[tokio::test]
async fn a_mapped_vault_is_a_directory_and_is_read_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let vaults = vaults(folder.path());
    let newest = "https://team.vault.azure.net/secrets/sas";
    for value in ["one", "two"] {
        std::fs::write(folder.path().join("sas"), format!("{value}\n")).unwrap();
        assert_eq!(read(&vaults, newest).await.unwrap().expose(), value);
    }
    let version = "https://team.vault.azure.net/secrets/sas/0a1b";
    assert_eq!(read(&vaults, version).await.unwrap().expose(), "two", "the newest stands for every version");
    std::fs::write(folder.path().join("sas.0a1b"), "old").unwrap();
    assert_eq!(read(&vaults, version).await.unwrap().expose(), "old");
    assert_eq!(read(&vaults, newest).await.unwrap().expose(), "two");
}

#[tokio::test]
async fn a_secret_that_is_not_there_and_a_vault_that_is_not_mapped_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let vaults = vaults(folder.path());
    let missing: Failure =
        read(&vaults, "https://team.vault.azure.net/secrets/sas").await.unwrap_err().into();
    assert_eq!((missing.code, missing.class), (Code::ConfigurationInvalid, Class::Parked));
    assert!(missing.message.contains("sas is missing"), "{missing}");
    for address in
        ["https://other.vault.azure.net/secrets/sas", "https://team.vault.azure.net:8443/secrets/sas"]
    {
        let other: Failure = read(&vaults, address).await.unwrap_err().into();
        assert_eq!((other.code, other.class), (Code::EgressDenied, Class::Parked), "{address}");
    }
    // Key Vault knows such a name, and no directory may.
    let odd: Failure = read(&vaults, "https://team.vault.azure.net/secrets/-x").await.unwrap_err().into();
    assert!(odd.message.contains("there is no secret"), "{odd}");
}
