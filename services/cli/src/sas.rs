//! Where the SAS tokens of a command come from: a file that an option names, or the environment. Never a flag's
//! value, which other users of the machine could read.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use transship_model::{Class, Code, ContainerUrl, Failure, Secret, SecretName, StorageCredential};
use transship_secrets::{SecretDirectory, SecretError, Secrets};
use transship_storage::Containers;

use crate::exit::Problem;

/// The environment variable with the token of the container that bundles are exported to.
pub(crate) const SOURCE_SAS: &str = "TRANSSHIP_SOURCE_SAS";

/// The environment variable with the token of the container that bundles are imported from.
pub(crate) const TARGET_SAS: &str = "TRANSSHIP_TARGET_SAS";

/// A container of a command, and how its token is found.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// The container.
    pub(crate) url: ContainerUrl,
    /// The name under which the stages ask for its token; `None` for a directory.
    pub(crate) secret: Option<SecretName>,
    /// What a person does to give another token.
    pub(crate) advice: String,
    file: Option<PathBuf>,
    variables: &'static [&'static str],
}

impl Store {
    /// The container at `url`, whose token is in `file`, which `option` names, or in the first of `variables`
    /// that is set. `name` tells it from the command's other containers.
    pub(crate) fn new(
        name: &str,
        url: ContainerUrl,
        file: Option<&Path>,
        option: &str,
        variables: &'static [&'static str],
    ) -> Self {
        let is_directory = url.directory().is_some();
        Self {
            secret: (!is_directory).then(|| name.parse().expect("our own names are configured names")),
            advice: format!("the file of {option}, or into {}", variables.join(" or ")),
            url,
            file: file.map(Path::to_owned),
            variables,
        }
    }

    /// How the stages get access to the container; `None` for a directory.
    pub(crate) fn credential(&self) -> Option<StorageCredential> {
        self.secret.clone().map(StorageCredential::Secret)
    }

    fn find(&self) -> Result<Source<'_>, Problem> {
        if let Some(file) = &self.file {
            return Ok(Source::File(file));
        }
        let full = |name: &&str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        match self.variables.iter().find_map(full) {
            Some(token) => Ok(Source::Environment(Secret::new(&token))),
            None => Err(Problem::from(Failure::new(
                Class::Parked,
                Code::StorageForbidden,
                format!("there is no SAS token for {}", self.url),
            ))
            .hint(format!("put one into {}", self.advice))),
        }
    }
}

enum Source<'a> {
    File(&'a Path),
    Environment(Secret),
}

/// The tokens of a command. Files are read at each use, so that a token that was replaced works at once.
struct Tokens(Vec<(SecretName, Where)>);

enum Where {
    File { directory: SecretDirectory, name: SecretName },
    Environment(Secret),
}

#[async_trait]
impl Secrets for Tokens {
    async fn secret(&self, name: &SecretName) -> Result<Secret, SecretError> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, Where::File { directory, name })) => directory.secret(name).await,
            Some((_, Where::Environment(token))) => Ok(token.clone()),
            None => Err(SecretError::NotGiven { name: name.clone() }),
        }
    }
}

/// The containers of a command, with their tokens.
///
/// # Errors
/// Where a container needs a token and there is none, or where the name of its file is not one of a secret.
pub(crate) fn containers(stores: &[&Store]) -> Result<Containers, Problem> {
    let mut tokens = Vec::new();
    for store in stores {
        let Some(secret) = &store.secret else { continue };
        let place = match store.find()? {
            Source::Environment(token) => Where::Environment(token),
            Source::File(path) => {
                let (directory, name) = split(path)?;
                Where::File { directory: SecretDirectory::new(directory), name }
            }
        };
        tokens.push((secret.clone(), place));
    }
    Ok(Containers::new(std::sync::Arc::new(Tokens(tokens))))
}

/// A file as a directory of secrets and the name of one.
fn split(path: &Path) -> Result<(PathBuf, SecretName), Problem> {
    let refused =
        || Problem::usage(format!("{} cannot be the name of a file with a SAS token", path.display()));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(refused)?;
    let name = name.parse().map_err(|error| refused().caused_by(&error))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((directory.to_owned(), name))
}

#[cfg(test)]
mod tests {
    use transship_storage::Access;

    use super::*;

    const NONE: &[&str] = &["TRANSSHIP_TEST_UNSET"];

    fn store(url: &str, file: Option<&Path>) -> Store {
        Store::new("source-sas", url.parse().unwrap(), file, "--to-sas-file", NONE)
    }

    #[test]
    fn a_directory_needs_no_token_and_a_container_does() {
        assert!(containers(&[&store("file:///srv/out", None)]).is_ok());
        let problem = containers(&[&store("https://a.example/c", None)]).map(drop).unwrap_err();
        assert_eq!(problem.exit.code(), 4);
        assert!(problem.hint.unwrap().contains("--to-sas-file"));
    }

    #[tokio::test]
    async fn a_token_that_is_replaced_in_its_file_works_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("out.sas");
        let store = store("https://a.example/c", Some(&file));
        let containers = containers(&[&store]).unwrap();
        let credential = store.credential();
        let open = || containers.open(&store.url, credential.as_ref(), Access::WRITE);
        assert!(open().await.is_err(), "the file is not there yet");
        std::fs::write(&file, "sv=1&sr=c&sp=r&sig=x").unwrap();
        assert_eq!(open().await.map(drop).unwrap_err().code, Code::SasPermission);
        std::fs::write(&file, "sv=1&sr=c&sp=rw&sig=x\n").unwrap();
        assert!(open().await.is_ok());
    }
}
