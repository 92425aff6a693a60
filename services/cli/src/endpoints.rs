//! Where a stack is that runs on this machine: the file that `make up` writes.

use std::path::Path;

use serde::Deserialize;
use transship_model::{ContainerUrl, Secret};

use crate::exit::{Exit, Problem};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A stack. Fields that this command does not need are left out.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoints {
    /// The container that bundles are exported to.
    pub(crate) source_container: ContainerEndpoint,
    /// The container that they are copied to.
    pub(crate) target_container: ContainerEndpoint,
    /// The broker.
    pub(crate) rabbitmq: BrokerEndpoint,
}

/// A container and its token.
#[derive(Debug, Deserialize)]
pub(crate) struct ContainerEndpoint {
    /// The container.
    pub(crate) url: ContainerUrl,
    /// Its SAS token.
    pub(crate) sas: Secret,
}

/// A broker.
#[derive(Debug, Deserialize)]
pub(crate) struct BrokerEndpoint {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST`.
    pub(crate) url: Secret,
}

impl Endpoints {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// Where there is none, or it says something else. No message repeats what is in it.
    pub(crate) fn read(path: &Path) -> Result<Self, Problem> {
        let shown = path.display();
        let text = std::fs::metadata(path)
            .and_then(|found| match found.len() {
                0..=MAX_FILE => std::fs::read_to_string(path),
                _ => Err(std::io::Error::other(format!("it has more than {MAX_FILE} bytes"))),
            })
            .map_err(|error| {
                Problem::usage(format!("{shown} cannot be read, which says where the stack is"))
                    .caused_by(&error)
                    .hint("start the stack with `make up`, or name another file with --endpoints")
            })?;
        serde_json::from_str(&text).map_err(|error| {
            // What serde says may repeat a value, so only the place is told.
            let place = format!("line {}, column {}", error.line(), error.column());
            Problem::new(Exit::Usage, format!("{shown} does not describe a stack: {place}"))
                .hint("it is written by `make up`; start the stack again")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Endpoints, Problem> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endpoints.json");
        std::fs::write(&path, text).unwrap();
        Endpoints::read(&path)
    }

    #[test]
    fn the_file_is_read_and_its_secrets_are_not_shown() {
        let text = r#"{
            "source_registry": {"url": "http://127.0.0.1:1"},
            "source_container": {"url": "http://127.0.0.1:2/a/c", "sas": "sig=CANARY"},
            "target_container": {"url": "http://127.0.0.1:3/a/c", "sas": "sig=CANARY"},
            "rabbitmq": {"url": "amqp://u:CANARY@127.0.0.1:4/v", "management_url": "http://u:CANARY@127.0.0.1:5"},
            "services": [{"name": "exporter", "pid": 1, "metrics_url": "http://127.0.0.1:6/metrics", "log": "x"}]
        }"#;
        let endpoints = read(text).unwrap();
        assert_eq!(endpoints.source_container.url.to_string(), "http://127.0.0.1:2/a/c");
        assert!(!format!("{endpoints:?}").contains("CANARY"));
        for broken in [text.replace("\"sig=CANARY\"", "[\"CANARY\"]"), "CANARY".to_owned()] {
            let problem = read(&broken).map(drop).unwrap_err();
            assert!(!format!("{problem} {problem:?}").contains("CANARY"), "{problem}");
        }
    }
}
