//! The control plane of a stack on this machine: the file that `make up` writes.

use std::path::Path;

use serde::Deserialize;
use transship_model::Secret;

use crate::exit::Problem;

/// Where the file is, from the working directory.
pub(crate) const FILE: &str = ".local/endpoints.json";

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What the file says of the control plane, and of what pipelines are made with.
#[derive(Debug, Deserialize)]
pub(crate) struct LocalStack {
    pub(crate) control_plane: Endpoint,
    #[serde(default)]
    pub(crate) source_registry: Named,
    #[serde(default)]
    pub(crate) target_registry: Named,
    #[serde(default)]
    pub(crate) source_container: Located,
    #[serde(default)]
    pub(crate) target_container: Located,
    /// The `keyVaultUri` of the source container's token.
    pub(crate) export_secret: Option<String>,
    /// The `keyVaultUri` of the target container's token.
    pub(crate) import_secret: Option<String>,
}

/// The control plane.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) token: Option<Secret>,
    pub(crate) subscription: Option<String>,
    pub(crate) group: Option<String>,
}

/// A registry.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: Option<String>,
}

/// A container.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Located {
    pub(crate) url: Option<String>,
}

impl LocalStack {
    /// The stack below the working directory; `None` where there is none, or one without a control plane.
    ///
    /// # Errors
    /// Where the file is there and cannot be understood. No message repeats what is in it.
    pub(crate) fn find() -> Result<Option<Self>, Problem> {
        Self::read(Path::new(FILE))
    }

    fn read(path: &Path) -> Result<Option<Self>, Problem> {
        let Ok(found) = std::fs::metadata(path) else { return Ok(None) };
        let broken = |why: &str| {
            Problem::usage(format!("{} does not describe a stack: {why}", path.display()))
                .hint("it is written by `make up`; start the stack again, or name a context with --context")
        };
        if found.len() > MAX_FILE {
            return Err(broken("it is too large"));
        }
        let text =
            std::fs::read_to_string(path).map_err(|error| broken("it cannot be read").caused_by(&error))?;
        // What serde says may repeat a value, so only the place is told.
        let place =
            |error: serde_json::Error| broken(&format!("line {}, column {}", error.line(), error.column()));
        let all: serde_json::Value = serde_json::from_str(&text).map_err(place)?;
        match all.get("control_plane") {
            None => Ok(None),
            Some(_) => serde_json::from_str(&text).map(Some).map_err(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_found_where_it_has_a_control_plane_and_its_secrets_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoints.json");
        assert!(LocalStack::read(&path).unwrap().is_none());
        for (text, expected) in [
            (r#"{"rabbitmq": {"url": "CANARY"}}"#, Some(false)),
            (
                r#"{"control_plane": {"url": "http://127.0.0.1:1", "token": "CANARY", "subscription": "s"},
                 "source_registry": {"name": "source"}, "export_secret": "https://v/secrets/x"}"#,
                Some(true),
            ),
            (r#"{"control_plane": {"url": "http://127.0.0.1:1", "token": ["CANARY"]}}"#, None),
            ("CANARY", None),
        ] {
            std::fs::write(&path, text).unwrap();
            let found = LocalStack::read(&path);
            assert!(!format!("{found:?}").contains("CANARY"), "{found:?}");
            assert_eq!(found.ok().map(|stack| stack.is_some()), expected, "{text}");
        }
    }
}
