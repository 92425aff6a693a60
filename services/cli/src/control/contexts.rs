//! Contexts: the control planes that a person has, in a file of theirs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Problem};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A control plane, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its address.
    pub(crate) url: String,
    /// The file with the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The file with certificate authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subscription: Option<String>,
    /// The resource group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// The registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) registry: Option<String>,
}

/// All contexts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that commands use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// Each by its name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Reads the file of contexts; none where there is no file.
    ///
    /// # Errors
    /// Where it cannot be read, or says something else.
    pub(crate) fn read() -> Result<Self, Problem> {
        match path() {
            Some(path) => Self::read_from(&path),
            None => Ok(Self::default()),
        }
    }

    fn read_from(path: &Path) -> Result<Self, Problem> {
        let shown = path.display();
        let size = match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            found => found.map(|found| found.len()),
        };
        let text = size.and_then(|size| match size {
            0..=MAX_FILE => std::fs::read_to_string(path),
            _ => Err(std::io::Error::other(format!("it has more than {MAX_FILE} bytes"))),
        });
        let text =
            text.map_err(|error| Problem::usage(format!("{shown} cannot be read")).caused_by(&error))?;
        toml::from_str(&text).map_err(|error| {
            let problem = Problem::usage(format!("{shown} does not hold contexts")).caused_by(&error);
            problem.hint(
                "correct the file, or delete it and make the contexts again with `transship context set`",
            )
        })
    }

    /// Writes the file of contexts, as a whole or not at all. Only its owner can read it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn write(&self) -> Result<(), Problem> {
        let path = path().ok_or_else(|| {
            Problem::usage("there is no place for contexts").hint("set HOME or XDG_CONFIG_HOME")
        })?;
        self.write_to(&path)
    }

    fn write_to(&self, path: &Path) -> Result<(), Problem> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Problem::new(Exit::Failed, format!("{} cannot be written", path.display())).caused_by(error)
        };
        let text = toml::to_string(self).map_err(|error| failed(&error))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let temporary = folder.join(format!(".contexts.toml.{}", std::process::id()));
            let mut file = private(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        write().map_err(|error| failed(&error))
    }

    /// The context of this name.
    ///
    /// # Errors
    /// Where there is none; the hint names those that there are.
    pub(crate) fn named(&self, name: &str) -> Result<&Context, Problem> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let problem = Problem::usage(format!("there is no context {name:?}"));
            match names.is_empty() {
                true => problem.hint("make one with `transship context set NAME --url URL`"),
                false => problem.hint(format!("there are: {}", names.join(", "))),
            }
        })
    }
}

fn private(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Where contexts are kept, by the XDG base directory specification: a relative path counts for nothing.
fn path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("transship").join("contexts.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/contexts.toml");
        assert_eq!(Contexts::read_from(&path), Ok(Contexts::default()));
        let context = Context {
            url: "https://h.example".to_owned(),
            registry: Some("contoso".to_owned()),
            ..Context::default()
        };
        let contexts =
            Contexts { current: Some("a".to_owned()), contexts: [("a".to_owned(), context)].into() };
        contexts.write_to(&path).unwrap();
        contexts.write_to(&path).unwrap();
        assert_eq!(Contexts::read_from(&path), Ok(contexts));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn a_file_that_says_something_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contexts.toml");
        for text in ["current = 1", "[contexts.a]\nurl = \"x\"\ntoken = \"CANARY\"", "["] {
            std::fs::write(&path, text).unwrap();
            let problem = Contexts::read_from(&path).unwrap_err();
            assert!(problem.message.contains("contexts.toml") && problem.exit.code() == 2, "{problem}");
        }
    }

    #[test]
    fn a_context_that_is_not_there_names_those_that_are() {
        let none = Contexts::default().named("x").unwrap_err();
        assert!(none.hint.unwrap().contains("context set"));
        let contexts = ["b", "a"].map(|name| (name.to_owned(), Context::default())).into();
        let some = Contexts { current: None, contexts }.named("x").unwrap_err();
        assert_eq!(some.hint.unwrap(), "there are: a, b");
    }
}
