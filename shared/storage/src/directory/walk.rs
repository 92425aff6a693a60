//! Listing: a walk that keeps one page in memory, however many files there are.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use transship_model::BlobName;

use crate::{BlobPage, ListedBlob, StorageError};

use super::layout::{Layout, is_reserved};

/// The most entries of a page, as on Azure.
const PAGE: usize = 5_000;

/// The deepest folder that is walked: a name has at most 254 segments.
const DEPTH: usize = 254;

impl Layout {
    pub(super) fn list(&self, prefix: &str, marker: Option<&str>) -> Result<BlobPage, StorageError> {
        self.page(prefix, marker, PAGE)
    }

    /// The first `limit` names with the prefix that come after `marker`, which is the last name of the page
    /// before.
    pub(super) fn page(
        &self,
        prefix: &str,
        marker: Option<&str>,
        limit: usize,
    ) -> Result<BlobPage, StorageError> {
        self.check_root()?;
        let mut found: BTreeMap<BlobName, u64> = BTreeMap::new();
        // Folders to walk, as the beginning of the names in them: empty, or ending with a slash.
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(self.root.join(&folder)) {
                Ok(entries) => entries,
                // Deleted while we walk.
                Err(error) if error.kind() == ErrorKind::NotFound && !folder.is_empty() => continue,
                Err(error) => return Err(self.fault(&error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| self.fault(&error))?;
                let Some(name) = entry.file_name().to_str().map(|name| format!("{folder}{name}")) else {
                    continue;
                };
                if folder.is_empty() && is_reserved(&name) {
                    continue;
                }
                // `DirEntry::metadata` does not follow links, so they are neither files nor folders.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    let inside = format!("{name}/");
                    if may_hold(&inside, prefix, marker) && inside.matches('/').count() <= DEPTH {
                        folders.push(inside);
                    }
                } else if metadata.is_file()
                    && name.starts_with(prefix)
                    && marker.is_none_or(|marker| name.as_str() > marker)
                    && let Ok(name) = name.parse()
                {
                    found.insert(name, metadata.len());
                    if found.len() > limit + 1 {
                        found.pop_last();
                    }
                }
            }
        }
        let is_last = found.len() <= limit;
        let blobs: Vec<_> =
            found.into_iter().take(limit).map(|(name, length)| self.listed(name, length)).collect();
        let next = blobs.last().filter(|_| !is_last).map(|blob| blob.name.to_string());
        Ok(BlobPage { blobs, next })
    }

    /// What a listing says of a file. One that cannot be opened now is listed all the same.
    fn listed(&self, name: BlobName, length: u64) -> ListedBlob {
        let properties = self.find(&name).ok().flatten().map(|found| found.properties());
        let length = properties.as_ref().map_or(length, |properties| properties.length);
        let modified = properties.as_ref().and_then(|properties| properties.modified);
        ListedBlob {
            name,
            length,
            etag: properties.map(|properties| properties.etag),
            modified,
            copying: false,
        }
    }
}

/// Whether names that begin with `folder` may belong to the page.
fn may_hold(folder: &str, prefix: &str, marker: Option<&str>) -> bool {
    let by_prefix = folder.starts_with(prefix) || prefix.starts_with(folder);
    let by_marker = marker.is_none_or(|marker| folder > marker || marker.starts_with(folder));
    by_prefix && by_marker
}

#[cfg(test)]
mod tests {
    use transship_model::ContainerUrl;

    use super::*;

    #[test]
    fn folders_that_cannot_hold_a_name_of_the_page_are_not_walked() {
        for (folder, prefix, marker, expected) in [
            ("a/", "", None, true),
            ("a/", "a", None, true),
            ("a/", "a/b", None, true),
            ("a/", "b", None, false),
            ("ab/", "a/", None, false),
            ("a/", "", Some("a/x"), true),
            ("a/", "", Some("b"), false),
            ("b/", "", Some("a/x"), true),
        ] {
            assert_eq!(may_hold(folder, prefix, marker), expected, "{folder} {prefix} {marker:?}");
        }
    }

    #[test]
    fn pages_follow_each_other_in_lexical_order_across_folders() {
        let root = tempfile::tempdir().unwrap();
        let names = ["a", "b-1", "b/1", "b/2", "b0", "c/d/e", "c/d/f"];
        for name in names.iter().chain(&[".transship/blobs/x", "bad\\name"]) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.path().join("link")).unwrap();
        let layout = Layout::new(ContainerUrl::of_directory(root.path()).unwrap(), root.path().to_owned());
        for limit in 1..=8 {
            let (mut listed, mut marker) = (Vec::new(), None);
            loop {
                let page = layout.page("", marker.as_deref(), limit).unwrap();
                assert!(page.blobs.len() <= limit);
                listed.extend(page.blobs.into_iter().map(|blob| blob.name.to_string()));
                marker = page.next;
                if marker.is_none() {
                    break;
                }
            }
            assert_eq!(listed, names, "{limit}");
        }
        let below = layout.page("b/", None, 10).unwrap();
        assert_eq!(below.blobs.len(), 2);
        assert_eq!(below.next, None);
    }
}
