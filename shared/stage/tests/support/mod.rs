//! The work that tests hand out.

use transship_messages::ImportRequested;
use transship_model::{Counters, Execution, Part};

pub(crate) fn work() -> ImportRequested {
    ImportRequested {
        execution: Execution { id: "run-1".parse().unwrap(), generation: 1 },
        part: Part::ONLY,
        pipeline: "default".parse().unwrap(),
        container: "file:///memory/target".parse().unwrap(),
        blob: "bundle".parse().unwrap(),
        etag: None,
        slice: 0,
        carried: Counters::default(),
        destination: None,
        catalog_digest: None,
        sealed_upload: None,
    }
}
