//! What a process may do with a container, known before anything is sent to it: which host gets a token, and
//! what the token grants.

use jiff::Timestamp;
use transship_model::{Class, Code, ContainerUrl, Failure, Secret, StorageCredential};
use transship_secrets::{Keyring, StorageReach, host_of, is_loopback};

use crate::{IdentityAccess, SasToken, StorageError};

/// What a stage is going to do with a container: the letters that a SAS token must grant, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    letters: &'static str,
    purpose: &'static str,
}

impl Access {
    /// Reading blobs.
    pub const READ: Self = Self { letters: "r", purpose: "reading blobs" };
    /// Reading blobs and deleting them when they are imported.
    pub const READ_DELETE: Self =
        Self { letters: "rd", purpose: "reading blobs and deleting them once imported" };
    /// Looking for blobs and writing them.
    pub const WRITE: Self = Self { letters: "rw", purpose: "looking for blobs and writing them" };
    /// Listing the container and reading what arrived: for the trigger of an import pipeline.
    pub const LIST: Self = Self { letters: "rl", purpose: "listing the container and reading what arrived" };
}

/// What opens a container now.
pub(crate) enum Admitted {
    /// Nothing: a directory, or a container that is open to all.
    Anyone,
    /// A SAS token that grants what is needed.
    Sas(Secret),
    /// An identity that gives tokens.
    Identity(IdentityAccess),
}

/// Finds out what opens `url` by `credential`, and checks it. Nothing is sent to the container, and to nobody
/// else where its host is not one that gets tokens. A directory, where one may be a container, needs no token: a secret that is named must be
/// there all the same, so that a mistake shows, and an identity is not asked.
pub(crate) async fn admit(
    keyring: &Keyring,
    url: &ContainerUrl,
    credential: Option<&StorageCredential>,
    access: Access,
) -> Result<Admitted, Failure> {
    let is_directory = url.directory().is_some();
    if is_directory && !keyring.storage.directories {
        let message = format!("{url} is a directory, which this process takes for no container");
        return Err(Failure::new(Class::Parked, Code::EgressDenied, message).with_hint(
            "name a container of a storage account; or, where who sends messages may read and write the files of \
             this process, set `local_containers = true` in its section `[secrets]`",
        ));
    }
    if !is_directory {
        // Also without a credential of its own: what is sent to a container may be addressed by another one's.
        let of_identity = matches!(credential, Some(StorageCredential::Identity(_)));
        decide_host(&keyring.storage, url, of_identity)
            .map_err(|reason| StorageError::HostNotAllowed { container: url.clone(), reason })?;
    }
    let Some(credential) = credential else { return Ok(Admitted::Anyone) };
    let token = match credential {
        StorageCredential::Secret(name) => keyring.secrets.secret(name).await?,
        StorageCredential::Vault(secret) => keyring.vaults.vault_secret(secret).await?,
        StorageCredential::Identity(_) if is_directory => return Ok(Admitted::Anyone),
        StorageCredential::Identity(identity) => {
            let (tokens, audience) = (keyring.tokens.clone(), keyring.storage.audience.clone());
            let access = IdentityAccess { identity: identity.clone(), tokens, audience };
            let failed = |source| StorageError::NoToken { container: url.clone(), source };
            access.token().await.map_err(failed)?;
            return Ok(Admitted::Identity(access));
        }
    };
    if is_directory {
        return Ok(Admitted::Anyone);
    }
    let sas = SasToken::parse(&token).map_err(|error| {
        Failure::new(Class::Parked, Code::ConfigurationInvalid, error.to_string())
            .while_doing(format_args!("the SAS token for {url}"))
            .with_hint(format!("put a SAS token of the container into the secret {credential}"))
    })?;
    sas.check(Timestamp::now(), access.letters, access.purpose, url)?;
    Ok(Admitted::Sas(token))
}

/// Whether the host of `url` gets requests, and a token with them; else why not. A SAS token is good for one account, and a token of an
/// identity for all of them: the latter only goes where the list says so.
fn decide_host(reach: &StorageReach, url: &ContainerUrl, of_identity: bool) -> Result<(), String> {
    let url = url.as_url();
    let host = host_of(url);
    let listed = reach.hosts.as_ref().is_some_and(|hosts| hosts.allows(&host));
    if !of_identity && (reach.hosts.is_none() || is_loopback(url)) {
        return Ok(());
    }
    if of_identity && url.scheme() != "https" && !reach.plain_http_to_loopback {
        return Err("a token of an identity is sent over https only".to_owned());
    }
    match &reach.hosts {
        _ if listed => Ok(()),
        Some(hosts) => Err(format!("{host} is not a storage service at {}", hosts.listed())),
        None => Err("this process sends tokens of an identity to no host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use transship_secrets::{AllowedHosts, STORAGE_AUDIENCE, STORAGE_SUFFIXES};

    use super::*;

    #[test]
    fn a_token_goes_to_listed_hosts_only() {
        let reach = |hosts: Option<&[&str]>, plain_http_to_loopback| StorageReach {
            hosts: hosts.map(|hosts| AllowedHosts::new(hosts).unwrap()),
            audience: STORAGE_AUDIENCE.to_owned(),
            plain_http_to_loopback,
            directories: false,
        };
        let azure = Some(&STORAGE_SUFFIXES[..]);
        let local = Some(&["127.0.0.1:1"][..]);
        for (hosts, plain, url, sas, identity) in [
            (azure, false, "https://a.blob.core.windows.net/c", true, true),
            (azure, false, "https://a.blob.core.usgovcloudapi.net/c", true, true),
            (azure, false, "https://a.blob.core.chinacloudapi.cn/c", true, true),
            (azure, false, "https://a.z01.blob.storage.azure.net/c", true, true),
            (azure, false, "https://blob.core.windows.net.evil.example/c", false, false),
            (azure, false, "https://a.blob.core.windows.net.evil.example/c", false, false),
            (azure, false, "https://a.queue.core.windows.net/c", false, false),
            (azure, true, "http://127.0.0.1:1/a/c", true, false),
            (local, false, "http://127.0.0.1:1/a/c", true, false),
            (local, true, "http://127.0.0.1:1/a/c", true, true),
            (local, true, "http://127.0.0.1:2/a/c", true, false),
            (local, false, "https://127.0.0.1:1/a/c", true, true),
            (None, true, "https://a.example/c", true, false),
        ] {
            let (reach, url) = (reach(hosts, plain), url.parse().unwrap());
            let decided = [decide_host(&reach, &url, false).is_ok(), decide_host(&reach, &url, true).is_ok()];
            assert_eq!(decided, [sas, identity], "{url} {hosts:?} {plain}");
        }
    }
}
