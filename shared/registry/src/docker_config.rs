//! Credentials from the usual Docker configuration file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use transship_model::Secret;

use crate::docker_helper::ask_helper;
use crate::quirks::{HUB_KEY, is_hub};
use crate::{CredentialError, CredentialSource, Credentials};

/// The largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads `config.json` as Docker, Podman and others write it: `credHelpers`, `credsStore`, `auths` with `auth`,
/// `username` and `password`, `identitytoken` or `registrytoken`. A file that is missing means anonymous.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    path: Option<PathBuf>,
    search_path: Option<OsString>,
}

impl DockerConfig {
    /// The user's file: in the directory `DOCKER_CONFIG`, else `~/.docker/config.json`.
    pub fn from_environment() -> Self {
        let directory =
            std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = directory.or_else(|| Some(std::env::home_dir()?.join(".docker")));
        Self { path: directory.map(|directory| directory.join("config.json")), search_path: None }
    }

    /// The file `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), search_path: None }
    }

    /// Looks for credential helpers in these directories (as in `PATH`) instead of the process's own.
    #[must_use]
    pub fn with_search_path(mut self, search_path: impl Into<OsString>) -> Self {
        self.search_path = Some(search_path.into());
        self
    }

    async fn read(&self) -> Result<File, CredentialError> {
        let Some(path) = &self.path else { return Ok(File::default()) };
        let name = || path.display().to_string();
        let file = match tokio::fs::File::open(path).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(File::default()),
            Err(error) => return Err(CredentialError::Unreadable(name(), error.kind().to_string())),
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| CredentialError::Unreadable(name(), error.kind().to_string()))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(CredentialError::Invalid(name(), format!("more than {MAX_FILE} bytes")));
        }
        // What serde says of a value may repeat the value, so only the place is told.
        let place = |error: serde_json::Error| format!("line {}, column {}", error.line(), error.column());
        serde_json::from_slice(&bytes).map_err(|error| CredentialError::Invalid(name(), place(error)))
    }
}

#[async_trait]
impl CredentialSource for DockerConfig {
    async fn credentials(&self, host: &str) -> Result<Credentials, CredentialError> {
        let file = self.read().await?;
        let key = if is_hub(host) { HUB_KEY } else { host };
        let helper = file.credential_helpers.get(host).or_else(|| file.credential_helpers.get(key));
        if let Some(helper) = helper.or(file.credentials_store.as_ref()).filter(|helper| !helper.is_empty())
            && let Some(found) = ask_helper(helper, key, self.search_path.as_deref()).await?
        {
            return Ok(found);
        }
        match file.entry(host) {
            Some(entry) => entry.credentials().map_err(|reason| {
                let name = self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
                CredentialError::Invalid(name, format!("the entry of {host} {reason}"))
            }),
            None => Ok(Credentials::anonymous()),
        }
    }
}

/// The fields that matter.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credsStore")]
    credentials_store: Option<String>,
    #[serde(rename = "credHelpers")]
    credential_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
    registrytoken: Option<Secret>,
}

impl File {
    /// The entry of `host`: under its exact name, else under an address that has that host.
    fn entry(&self, host: &str) -> Option<&Entry> {
        let same = |key: &str| match host_of(key) {
            found if is_hub(host) => is_hub(found),
            found => found == host,
        };
        let exact = if is_hub(host) { self.auths.get(HUB_KEY) } else { self.auths.get(host) };
        exact.or_else(|| self.auths.iter().find(|(key, _)| same(key)).map(|(_, entry)| entry))
    }
}

/// The host and port in a key, which may be a whole address.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

impl Entry {
    fn credentials(&self) -> Result<Credentials, &'static str> {
        let full = |secret: &&Secret| !secret.expose().is_empty();
        if let Some(token) = self.identitytoken.as_ref().filter(full) {
            return Ok(Credentials::refresh_token(token.clone()));
        }
        if let Some(token) = self.registrytoken.as_ref().filter(full) {
            return Ok(Credentials::bearer(token));
        }
        if let Some(auth) = self.auth.as_ref().filter(full) {
            let decoded = STANDARD.decode(auth.expose()).map_err(|_| "is not base64")?;
            let text = String::from_utf8(decoded).map_err(|_| "is not text")?;
            // Docker pads with NUL, and a password may hold colons.
            let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or("has no password")?;
            return Ok(Credentials::basic(user, &Secret::new(password)));
        }
        match (&self.username, &self.password) {
            (Some(user), Some(password)) if !user.is_empty() => Ok(Credentials::basic(user, password)),
            // `docker login` leaves an empty entry where a store keeps the secret.
            _ => Ok(Credentials::anonymous()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look_up(json: &str, host: &str) -> Result<Credentials, CredentialError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        DockerConfig::at(path).credentials(host).await
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::basic(user, &Secret::new(password))
    }

    #[tokio::test]
    async fn every_form_of_entry_is_read() {
        let auth = |text: &str| STANDARD.encode(text);
        let token = Secret::new("t");
        for (json, host, expected) in [
            (
                format!(r#"{{"auths":{{"r:5000":{{"auth":"{}"}}}}}}"#, auth("u:p:q")),
                "r:5000",
                basic("u", "p:q"),
            ),
            (
                format!(r#"{{"auths":{{"https://r/v2/":{{"auth":"{}"}}}}}}"#, auth("u:p\0\0")),
                "r",
                basic("u", "p"),
            ),
            (r#"{"auths":{"r":{"username":"u","password":"p"}}}"#.to_owned(), "r", basic("u", "p")),
            (
                r#"{"auths":{"r":{"identitytoken":"t","auth":""}}}"#.to_owned(),
                "r",
                Credentials::refresh_token(token.clone()),
            ),
            (r#"{"auths":{"r":{"registrytoken":"t"}}}"#.to_owned(), "r", Credentials::bearer(&token)),
            (
                format!(r#"{{"auths":{{"{HUB_KEY}":{{"auth":"{}"}}}}}}"#, auth("u:p")),
                "registry-1.docker.io",
                basic("u", "p"),
            ),
            (
                format!(r#"{{"auths":{{"docker.io":{{"auth":"{}"}}}}}}"#, auth("u:p")),
                "registry-1.docker.io",
                basic("u", "p"),
            ),
            (r#"{"auths":{"r":{}}}"#.to_owned(), "r", Credentials::anonymous()),
            (
                r#"{"auths":{"r:5000":{"username":"u","password":"p"}}}"#.to_owned(),
                "r",
                Credentials::anonymous(),
            ),
            (r#"{"HttpHeaders":{"x":"y"}}"#.to_owned(), "r", Credentials::anonymous()),
        ] {
            assert_eq!(look_up(&json, host).await.unwrap(), expected, "{host} {json}");
        }
    }

    #[tokio::test]
    async fn a_missing_file_is_anonymous_and_a_broken_one_is_an_error_without_its_content() {
        assert!(DockerConfig::at("/nonexistent/config.json").credentials("r").await.unwrap().is_anonymous());
        for json in [
            r#"{"auths":{"r":{"auth":"CANARY!"}}}"#,
            r#"{"auths":{"r":{"auth":["CANARY"]}}}"#,
            r#"{"auths":"CANARY"}"#,
            "CANARY",
            &format!("{{\"auths\":{{\"r\":{{\"auth\":\"{}\"}}}}}}", STANDARD.encode("CANARY")),
            &" ".repeat(MAX_FILE as usize + 1),
        ] {
            let error = look_up(json, "r").await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
        }
    }
}
