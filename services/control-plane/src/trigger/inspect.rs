//! A closer look at a blob: its metadata, and as many of its first bytes as tell what it is.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use transship_api::ResourceId;
use transship_bundle::{OpenError, announced_to, execution_of, open, part_of};
use transship_model::{BlobName, Execution, Part};
use transship_storage::{BlobProperties, Container, StorageError};

use super::decide::{Head, Inspected, is_announced_to, is_stripped};

/// How much of a blob is kept while it is looked at, in bytes: entries of small archives lie close together.
const WINDOW: u64 = 512 << 10;

/// The two records that end every tar archive, in bytes.
const SMALLEST: u64 = 1024;

/// The most bytes that are read of one blob. A bundle with a larger head is one by its beginning.
const MAX_BYTES: u64 = 16 << 20;

/// The most requests for one blob. An archive that was right so far is taken for one; the importer reads all of it.
const MAX_READS: u32 = 200;

/// What a look found, and whose bundle it is.
#[derive(Debug)]
pub(super) struct Look {
    /// For the decision.
    pub(super) inspected: Inspected,
    /// The execution and the part that made it, as its metadata says.
    pub(super) made_by: Option<(Execution, Part)>,
}

/// Looks at the version of a blob that `properties` describe. `pipeline` is the one whose trigger looks.
///
/// # Errors
/// Where the container cannot be read, or the blob changed meanwhile.
pub(super) async fn inspect(
    container: &dyn Container,
    blob: &BlobName,
    properties: &BlobProperties,
    pipeline: &ResourceId,
) -> Result<Look, StorageError> {
    let head = head(container, blob, properties).await?;
    let metadata = &properties.metadata;
    let inspected = Inspected {
        announced: announced_to(metadata).is_some_and(|name| is_announced_to(&name, pipeline)),
        heard: false,
        stripped: is_stripped(&head, metadata),
        head,
    };
    let made_by =
        execution_of(metadata).map(|execution| (execution, part_of(metadata).unwrap_or(Part::ONLY)));
    Ok(Look { inspected, made_by })
}

/// Why reading ended.
enum Stop {
    Storage(StorageError),
    /// Enough was read; whether it all was one head at the beginning.
    Enough {
        of_the_head: bool,
    },
}

/// The window, and what was read so far.
struct Reader<'a> {
    container: &'a dyn Container,
    blob: &'a BlobName,
    properties: &'a BlobProperties,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the window begins, and its bytes.
    window: Option<(u64, Bytes)>,
    reads: u32,
    bytes: u64,
}

impl Reader<'_> {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, Stop> {
        let wanted = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = state.window.as_ref().and_then(|window| within(window, &range)) {
                return Ok(bytes);
            }
            let end = range.end.max((range.start + WINDOW).min(self.properties.length));
            state.reads += 1;
            state.bytes += end - range.start;
            if state.reads > MAX_READS || state.bytes > MAX_BYTES {
                return Err(Stop::Enough { of_the_head: range.start == 0 });
            }
            range.start..end
        };
        let bytes = self.container.read(self.blob, wanted.clone(), Some(&self.properties.etag)).await;
        let bytes = bytes.map_err(Stop::Storage)?;
        let answer = bytes.slice(..(range.end - range.start) as usize);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).window = Some((wanted.start, bytes));
        Ok(answer)
    }
}

fn within((begin, bytes): &(u64, Bytes), range: &Range<u64>) -> Option<Bytes> {
    let end = begin + bytes.len() as u64;
    (*begin <= range.start && range.end <= end)
        .then(|| bytes.slice((range.start - begin) as usize..(range.end - begin) as usize))
}

async fn head(
    container: &dyn Container,
    blob: &BlobName,
    properties: &BlobProperties,
) -> Result<Head, StorageError> {
    if properties.length < SMALLEST {
        return Ok(Head::Other("it is shorter than any archive".to_owned()));
    }
    let reader = Reader { container, blob, properties, state: Mutex::default() };
    match open(properties.length, |range| reader.read(range)).await {
        Ok(opened) if opened.head.is_some() => Ok(Head::Bundle),
        Ok(_) => Ok(Head::Archive),
        Err(OpenError::Read(Stop::Storage(error))) => Err(error),
        Err(OpenError::Read(Stop::Enough { of_the_head: true })) => Ok(Head::Bundle),
        Err(OpenError::Read(Stop::Enough { of_the_head: false })) => Ok(Head::Archive),
        Err(OpenError::Head(error)) => Ok(Head::Other(error.to_string())),
        Err(OpenError::Scan(error)) => Ok(Head::Other(error.to_string())),
        Err(OpenError::Catalog(error)) => Ok(Head::Other(error.to_string())),
    }
}
