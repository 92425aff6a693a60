//! The section `[secrets]`: where secrets, vaults and tokens of identities come from, and which hosts get them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use transship_model::{Code, Failure, Identity};
use transship_secrets::{
    AllowedHosts, KeyVault, Keyring, Platform, PlatformError, PlatformTokens, STORAGE_AUDIENCE,
    STORAGE_SUFFIXES, SecretDirectory, StorageReach, Tokens, VAULT_SUFFIXES, VaultDirectories, VaultSettings,
};

/// Where secrets are, and who gets them.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// A directory with one file for each secret, named like it. Default `/run/secrets/transship`.
    pub directory: PathBuf,
    /// Vaults that are directories: the vault's host, and a directory with one file for each secret, named like
    /// it (`NAME.VERSION` for one version). Such a vault is never asked over the network. Default none.
    pub vaults: BTreeMap<String, PathBuf>,
    /// Hosts of vaults that are asked: `.suffix`, `host` or `host:port`. No other host gets a request. Default:
    /// the vaults of the public cloud, of US Government and of China.
    pub vault_suffixes: Vec<String>,
    /// Hosts of storage accounts that get a token: `.suffix`, `host` or `host:port`. SAS tokens go to this machine
    /// as well. Default: the blob endpoints of the public cloud, of US Government, of China, and of DNS zones.
    pub storage_suffixes: Vec<String>,
    /// The identity that reads vaults: `identity:system`, `identity:client:ID` or `identity:resource:ID`. Default
    /// `identity:system`, which is the workload identity in a pod that has one.
    pub vault_identity: Identity,
    /// Microsoft Entra, for workload identities. Default: `AZURE_AUTHORITY_HOST`, which the platform sets, else
    /// `https://login.microsoftonline.com`.
    pub authority_host: Option<String>,
    /// The service that tokens for vaults are for. Default: what the vault says, which must be a service that the
    /// vault's host belongs to.
    pub vault_audience: Option<String>,
    /// The service that tokens for storage accounts are for. Default `https://storage.azure.com`, in all clouds.
    pub storage_audience: String,
    /// Whether vaults, storage accounts and the authority may be plain http where they are on this machine, and
    /// listed: for tests. Default false.
    pub plain_http_to_loopback: bool,
    /// Whether messages may name directories of this machine (`file:`) as containers: whoever may write to the queue
    /// then reads and writes what this process can. Default false.
    pub local_containers: bool,
}

impl Default for SecretsConfig {
    fn default() -> Self {
        let owned = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect();
        Self {
            directory: PathBuf::from("/run/secrets/transship"),
            vaults: BTreeMap::new(),
            vault_suffixes: owned(&VAULT_SUFFIXES),
            storage_suffixes: owned(&STORAGE_SUFFIXES),
            vault_identity: Identity::System,
            authority_host: None,
            vault_audience: None,
            storage_audience: STORAGE_AUDIENCE.to_owned(),
            plain_http_to_loopback: false,
            local_containers: false,
        }
    }
}

impl SecretsConfig {
    /// What is wrong with the section, as key and problem.
    pub fn check(&self) -> Vec<(String, String)> {
        self.check_in(&environment)
    }

    fn check_in(&self, variable: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, problem: String| faults.push((format!("secrets.{key}"), problem));
        for (key, hosts) in
            [("vault_suffixes", &self.vault_suffixes), ("storage_suffixes", &self.storage_suffixes)]
        {
            if let Err(error) = AllowedHosts::new(hosts) {
                fault(key, error.to_string());
            }
        }
        for host in self.vaults.keys() {
            if host.starts_with('.') || AllowedHosts::new([host]).is_err() {
                fault("vaults", format!("{host:?} is not the host of a vault, as in team.vault.azure.net"));
            }
        }
        let audiences = [
            ("vault_audience", self.vault_audience.as_deref()),
            ("storage_audience", Some(&*self.storage_audience)),
        ];
        for (key, audience) in audiences {
            let is_service = |text: &str| text.starts_with("https://") && text.len() > "https://".len();
            if !audience.is_none_or(is_service) {
                fault(key, "must be an address of https, as in https://vault.azure.net".to_owned());
            }
        }
        if let Err(error) = self.platform(variable) {
            fault("authority_host", error.to_string());
        }
        faults
    }

    fn platform(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Platform, PlatformError> {
        Platform::read(self.authority_host.as_deref(), self.plain_http_to_loopback, variable)
    }

    /// Everything by which a process gets at what its messages name. Nothing is read and nothing is sent yet.
    ///
    /// # Errors
    /// What [`SecretsConfig::check`] finds, or where TLS cannot be set up.
    pub fn keyring(self) -> Result<Keyring, Failure> {
        self.keyring_in(&environment)
    }

    /// The same, where the platform's variables (`AZURE_…`, `IDENTITY_…`) are those that `variable` knows.
    ///
    /// # Errors
    /// As above.
    pub fn keyring_in(self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Keyring, Failure> {
        let refused = |problem: String| {
            Failure::permanent(Code::ConfigurationInvalid, problem).while_doing("the section secrets")
        };
        if let Some((key, problem)) = self.check_in(variable).into_iter().next() {
            return Err(refused(format!("{key}: {problem}")));
        }
        let hosts = |entries| AllowedHosts::new(entries).map_err(|error| refused(error.to_string()));
        let platform = self.platform(variable).map_err(|error| refused(error.to_string()))?;
        let tokens: Arc<dyn Tokens> = Arc::new(PlatformTokens::new(platform).map_err(refused)?);
        let settings = VaultSettings {
            hosts: hosts(self.vault_suffixes)?,
            identity: self.vault_identity,
            audience: self.vault_audience.as_deref().map(audience),
            plain_http_to_loopback: self.plain_http_to_loopback,
        };
        let key_vault = KeyVault::new(settings, Arc::clone(&tokens)).map_err(refused)?;
        Ok(Keyring {
            secrets: Arc::new(SecretDirectory::new(self.directory)),
            vaults: Arc::new(VaultDirectories::new(self.vaults, Arc::new(key_vault))),
            tokens,
            storage: StorageReach {
                hosts: Some(hosts(self.storage_suffixes)?),
                audience: audience(&self.storage_audience),
                plain_http_to_loopback: self.plain_http_to_loopback,
                directories: self.local_containers,
            },
        })
    }
}

fn environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// The service without what some documents write after it.
fn audience(text: &str) -> String {
    text.strip_suffix("/.default").unwrap_or(text).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_section_the_clouds_of_azure_are_reached_and_nothing_else() {
        let config = SecretsConfig::default();
        assert!(config.check().is_empty(), "{:?}", config.check());
        let keyring = config.keyring().unwrap();
        let hosts = keyring.storage.hosts.unwrap();
        assert!(hosts.allows("a.blob.core.windows.net") && hosts.allows("a.blob.core.chinacloudapi.cn"));
        assert!(!hosts.allows("a.example") && !keyring.storage.plain_http_to_loopback);
    }

    #[test]
    fn a_sovereign_cloud_is_a_matter_of_settings() {
        let config: SecretsConfig = serde_json::from_value(serde_json::json!({
            "vault_suffixes": [".vault.cloud.example"],
            "storage_suffixes": [".blob.cloud.example"],
            "vault_identity": "identity:client:c-1",
            "authority_host": "https://login.cloud.example",
            "vault_audience": "https://vault.cloud.example/",
            "storage_audience": "https://storage.cloud.example/.default",
            "vaults": { "team.vault.cloud.example": "/run/vault" },
        }))
        .unwrap();
        assert_eq!(config.vault_identity, Identity::Client("c-1".into()));
        let keyring = config.keyring().unwrap();
        assert_eq!(keyring.storage.audience, "https://storage.cloud.example");
        let hosts = keyring.storage.hosts.unwrap();
        assert!(hosts.allows("a.blob.cloud.example") && !hosts.allows("a.blob.core.windows.net"));
    }

    #[test]
    fn every_fault_is_reported_with_its_key() {
        let config = SecretsConfig {
            vaults: BTreeMap::from([("https://team.vault.azure.net".to_owned(), PathBuf::from("/x"))]),
            vault_suffixes: vec![".net".to_owned()],
            storage_suffixes: vec!["https://x".to_owned()],
            authority_host: Some("http://login.example".to_owned()),
            vault_audience: Some("vault".to_owned()),
            storage_audience: "https://".to_owned(),
            ..SecretsConfig::default()
        };
        let keys: Vec<String> = config.check().into_iter().map(|(key, _)| key).collect();
        let expected = [
            "vault_suffixes",
            "storage_suffixes",
            "vaults",
            "vault_audience",
            "storage_audience",
            "authority_host",
        ];
        assert_eq!(keys, expected.map(|key| format!("secrets.{key}")));
        let failure = config.keyring().map(drop).unwrap_err();
        assert!(failure.message.contains("secrets.vault_suffixes"), "{failure}");
        let identity = serde_json::from_value::<SecretsConfig>(serde_json::json!({ "vault_identity": "me" }));
        assert!(identity.unwrap_err().to_string().contains("identity:system"));
    }
}
