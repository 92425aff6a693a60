//! Files that a person names, of a size that is known.

use std::io;
use std::path::Path;

/// The text of a file of at most `most` bytes.
///
/// # Errors
/// Where it cannot be read, or is larger.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let found = std::fs::metadata(path)?;
    if found.len() > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    std::fs::read_to_string(path)
}
