//! The storage end of a pipeline: container, secret, access mode, identity.

use transship_api::{ExportTarget, IdentityProperties};
use transship_model::{ContainerUrl, Identity, StorageCredential, VaultSecret};

use super::shown;
use crate::refusal::Faults;

/// The type of a pipeline's storage end.
const CONTAINER: &str = "AzureStorageBlobContainer";
/// The access modes.
const MODES: [&str; 2] = ["SasToken", "ManagedIdentity"];
/// The types of an identity.
const IDENTITIES: [&str; 4] = ["SystemAssigned", "UserAssigned", "SystemAssigned, UserAssigned", "None"];

/// Whether the container is accessed by an identity, with no SAS token at all.
fn is_identity_mode(end: &ExportTarget) -> bool {
    end.storage_access_mode.as_deref().and_then(is_identity_mode_word) == Some(true)
}

/// Whether the access mode `word` means an identity; `None` where it is not known.
pub(super) fn is_identity_mode_word(word: &str) -> Option<bool> {
    MODES.iter().position(|known| known.eq_ignore_ascii_case(word)).map(|index| index == 1)
}

/// Puts words into the case that clients know and fills in defaults; tells what is wrong.
pub(super) fn normalise(
    end: &mut ExportTarget,
    identity: &mut Option<IdentityProperties>,
    at: &str,
    faults: &mut Faults,
) {
    let kind = end.storage_type.take().unwrap_or_else(|| CONTAINER.to_owned());
    if !kind.eq_ignore_ascii_case(CONTAINER) {
        let message = format!("The type {:?} is not known: use \"{CONTAINER}\".", shown(&kind));
        faults.add("InvalidStorageType", format!("{at}.type"), message);
    }
    end.storage_type = Some(CONTAINER.to_owned());
    let mode = end.storage_access_mode.take().unwrap_or_else(|| MODES[0].to_owned());
    match MODES.iter().find(|known| known.eq_ignore_ascii_case(&mode)) {
        Some(known) => end.storage_access_mode = Some((*known).to_owned()),
        None => faults.add(
            "InvalidStorageAccessMode",
            format!("{at}.storageAccessMode"),
            format!("The access mode {:?} is not known: use SasToken or ManagedIdentity.", shown(&mode)),
        ),
    }
    normalise_identity(identity, is_identity_mode(end), faults);
    let Some(container) = container(end, at, faults) else { return };
    vault(end, &container, at, faults);
}

fn container(end: &ExportTarget, at: &str, faults: &mut Faults) -> Option<ContainerUrl> {
    let target = format!("{at}.uri");
    let Some(uri) = &end.uri else {
        let message = "The container is missing: set it to https://ACCOUNT.blob.core.windows.net/CONTAINER.";
        faults.add("MissingContainerUri", target, message);
        return None;
    };
    match uri.parse::<ContainerUrl>() {
        Ok(container) => Some(container),
        // The address itself is not repeated: a SAS token may be in it.
        Err(error) => {
            let message = format!("The container's address is not valid: {error}.");
            faults.add("InvalidContainerUri", target, message);
            None
        }
    }
}

/// The secret must be there and well-formed where a SAS token is to be used. With an identity it is tolerated,
/// since templates fill it in whatever the mode.
fn vault(end: &ExportTarget, container: &ContainerUrl, at: &str, faults: &mut Faults) {
    if is_identity_mode(end) || container.directory().is_some() {
        return;
    }
    let target = format!("{at}.keyVaultUri");
    match &end.key_vault_uri {
        None => faults.add(
            "MissingKeyVaultUri",
            target,
            "The secret is missing: set keyVaultUri to https://VAULT.vault.azure.net/secrets/NAME, whose value is \
             the container's SAS token, or set storageAccessMode to ManagedIdentity.",
        ),
        Some(uri) => {
            if let Err(error) = uri.parse::<VaultSecret>() {
                faults.add("InvalidKeyVaultUri", target, format!("The secret's address is not valid: {error}."));
            }
        }
    }
}

fn normalise_identity(identity: &mut Option<IdentityProperties>, needed: bool, faults: &mut Faults) {
    let Some(given) = identity else { return };
    let kind = given.identity_type.take().unwrap_or_else(|| {
        // What is listed is meant.
        let users = !given.user_assigned_identities.is_empty();
        IDENTITIES[usize::from(users)].to_owned()
    });
    let spaceless = |text: &str| text.replace(' ', "").to_ascii_lowercase();
    let Some(known) = IDENTITIES.iter().find(|known| spaceless(known) == spaceless(&kind)) else {
        let message =
            format!("The identity type {:?} is not known: use {}.", shown(&kind), IDENTITIES.join(" or "));
        return faults.add("InvalidIdentityType", "identity.type", message);
    };
    given.identity_type = Some((*known).to_owned());
    let users: Vec<&String> = given.user_assigned_identities.keys().collect();
    let takes_users = known.contains("UserAssigned");
    let target = "identity.userAssignedIdentities";
    if takes_users && users.is_empty() {
        faults.add(
            "MissingUserAssignedIdentity",
            target,
            "Name the user-assigned identity by its resource id.",
        );
    }
    if takes_users && users.len() > 1 && needed {
        let message = "Name exactly one user-assigned identity: the one that accesses the storage.";
        faults.add("AmbiguousUserAssignedIdentity", target, message);
    }
    if let Some(bad) = users.iter().find(|id| format!("identity:resource:{id}").parse::<Identity>().is_err())
    {
        let message = format!("{:?} is not the resource id of an identity.", shown(bad));
        faults.add("InvalidUserAssignedIdentity", target, message);
    }
    if known == &"None" && needed {
        let message = "ManagedIdentity needs an identity: use SystemAssigned or UserAssigned.";
        faults.add("MissingIdentity", "identity.type", message);
    }
}

/// How the container of a checked pipeline is accessed. A directory needs nothing.
pub(crate) fn credential(
    end: &ExportTarget,
    identity: Option<&IdentityProperties>,
    container: &ContainerUrl,
) -> Option<StorageCredential> {
    if container.directory().is_some() {
        return None;
    }
    if !is_identity_mode(end) {
        let vault = end.key_vault_uri.as_deref()?;
        return vault.parse().ok().map(StorageCredential::Vault);
    }
    let user = identity.and_then(|identity| identity.user_assigned_identities.keys().next());
    let identity = user.and_then(|id| format!("identity:resource:{id}").parse().ok());
    Some(StorageCredential::Identity(identity.unwrap_or(Identity::System)))
}
