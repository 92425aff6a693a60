//! Docker's credential helpers: a program that is given a host and prints credentials.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use transship_model::Secret;

use crate::{CredentialError, Credentials};

/// How long a helper may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most that a helper may print, in bytes.
const MAX_OUTPUT: u64 = 64 * 1024;

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: Secret,
}

/// Asks `docker-credential-NAME` for the credentials of `key`. `None` where it has none.
pub(crate) async fn ask_helper(
    name: &str,
    key: &str,
    search_path: Option<&OsStr>,
) -> Result<Option<Credentials>, CredentialError> {
    let helper: String = format!("docker-credential-{name}").chars().take(100).collect();
    let failed = |reason: &str| {
        let (helper, host) = (helper.clone(), key.to_owned());
        CredentialError::Helper { helper, host, reason: reason.to_owned() }
    };
    // The name becomes that of a program: it must not lead to another directory.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.len() > 64 || !name.bytes().all(is_plain) {
        return Err(failed("that is not the name of a helper"));
    }
    let mut command = Command::new(&helper);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    if let Some(search_path) = search_path {
        command.env("PATH", search_path);
    }
    let child =
        command.spawn().map_err(|error| failed(&format!("it cannot be started: {}", error.kind())))?;
    let talk = tokio::time::timeout(TIMEOUT, converse(child, key));
    let (output, success) = match talk.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(failed(&error.kind().to_string())),
        Err(_) => return Err(failed("it did not answer within 10 seconds")),
    };
    if !success {
        // Helpers have no exit code for this, only their sentence.
        let said = String::from_utf8_lossy(&output).to_ascii_lowercase();
        let has_none = said.contains("credentials not found");
        return if has_none { Ok(None) } else { Err(failed("it ended with an error")) };
    }
    let answer: Answer = serde_json::from_slice(&output).map_err(|_| failed("it printed something else"))?;
    Ok(Some(match answer.username.as_str() {
        "" => Credentials::bearer(&answer.secret),
        user => Credentials::basic(user, &answer.secret),
    }))
}

async fn converse(mut child: Child, key: &str) -> std::io::Result<(Vec<u8>, bool)> {
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read what it is told may still answer.
        let _ = stdin.write_all(key.as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT).read_to_end(&mut output).await?;
    }
    Ok((output, child.wait().await?.success()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{CredentialSource as _, DockerConfig};

    fn helpers(scripts: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, body) in scripts {
            let path = directory.path().join(format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        directory
    }

    async fn look_up(
        directory: &tempfile::TempDir,
        json: &str,
        host: &str,
    ) -> Result<Credentials, CredentialError> {
        let path = directory.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        let search = format!("{}:/usr/bin:/bin", directory.path().display());
        DockerConfig::at(path).with_search_path(search).credentials(host).await
    }

    #[tokio::test]
    async fn a_helper_is_asked_before_the_file() {
        let directory = helpers(&[
            (
                "echo",
                r#"read host; printf '{"ServerURL":"%s","Username":"%s","Secret":"of %s"}' "$host" "$1" "$host""#,
            ),
            ("token", r#"printf '{"Username":"<token>","Secret":"t"}'"#),
            ("none", "echo 'credentials not found in native keychain'; exit 1"),
        ]);
        let basic = |user: &str, password: &str| Credentials::basic(user, &Secret::new(password));
        let both = r#"{"credsStore":"token","credHelpers":{"r:5000":"echo"},"auths":{"r:5000":{}}}"#;
        assert_eq!(look_up(&directory, both, "r:5000").await.unwrap(), basic("get", "of r:5000"));
        assert_eq!(
            look_up(&directory, both, "other").await.unwrap(),
            Credentials::refresh_token(Secret::new("t"))
        );
        let hub = r#"{"credsStore":"echo"}"#;
        let found = look_up(&directory, hub, "registry-1.docker.io").await.unwrap();
        assert_eq!(found, basic("get", "of https://index.docker.io/v1/"));
        let none = r#"{"credsStore":"none","auths":{"r":{"username":"u","password":"p"}}}"#;
        assert_eq!(look_up(&directory, none, "r").await.unwrap(), basic("u", "p"));
        assert!(look_up(&directory, none, "other").await.unwrap().is_anonymous());
    }

    #[tokio::test]
    async fn a_helper_that_fails_is_an_error_and_never_anonymous() {
        let directory = helpers(&[
            ("broken", "echo 'CANARY is wrong'; exit 1"),
            ("talks", "echo CANARY"),
            ("floods", "exec head -c 100000000 /dev/zero"),
        ]);
        for name in ["broken", "talks", "floods", "missing", "../talks", ""] {
            let found = look_up(&directory, &format!(r#"{{"credHelpers":{{"r":"{name}"}}}}"#), "r").await;
            if name.is_empty() {
                assert!(found.unwrap().is_anonymous(), "an empty name is no helper");
                continue;
            }
            let error = found.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{name}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_that_hangs_is_given_up() {
        let directory = helpers(&[("hangs", "exec sleep 600")]);
        let error = look_up(&directory, r#"{"credsStore":"hangs"}"#, "r").await.unwrap_err();
        assert!(error.to_string().contains("10 seconds"), "{error}");
    }
}
