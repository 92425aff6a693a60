//! The plan of a bundle's content: a pure function of what belongs to it, so that every attempt cuts the same
//! blocks.

use std::collections::BTreeMap;

use transship_model::Digest;

/// Blobs smaller than this, in bytes, share blocks.
pub const SMALL_LIMIT: u64 = 2 << 20;

/// A shared block is closed before it would exceed this many bytes of content.
pub const GROUP_LIMIT: u64 = 8 << 20;

/// A distinct blob of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBlob {
    /// The digest.
    pub digest: Digest,
    /// The size that the manifests declare, in bytes.
    pub declared: u64,
}

/// The content in its order: small blobs in groups, then blobs with blocks of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContentPlan {
    /// Small blobs; each group becomes one block.
    pub groups: Vec<Vec<PlannedBlob>>,
    /// Blobs with blocks of their own, by digest.
    pub large: Vec<PlannedBlob>,
}

/// Plans the content of a bundle. A blob that is named twice is in it once; where its sizes differ, the
/// largest counts, since only one can be right and the bytes will tell.
pub fn plan_content(blobs: impl IntoIterator<Item = PlannedBlob>) -> ContentPlan {
    let mut distinct = BTreeMap::new();
    for blob in blobs {
        let declared = distinct.entry(blob.digest).or_insert(0);
        *declared = blob.declared.max(*declared);
    }
    let mut plan = ContentPlan::default();
    let (mut group, mut bytes) = (Vec::new(), 0);
    for (digest, declared) in distinct {
        let blob = PlannedBlob { digest, declared };
        if declared >= SMALL_LIMIT {
            plan.large.push(blob);
            continue;
        }
        if bytes + declared > GROUP_LIMIT && !group.is_empty() {
            plan.groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        // A record for the header and at most one of padding count too, or a million empty blobs would be one block.
        bytes += declared + 1024;
        group.push(blob);
    }
    if !group.is_empty() {
        plan.groups.push(group);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(name: usize, declared: u64) -> PlannedBlob {
        PlannedBlob { digest: Digest::sha256(&name.to_be_bytes()), declared }
    }

    #[test]
    fn the_plan_does_not_depend_on_the_order_of_discovery() {
        let blobs: Vec<_> = (0..100).map(|i| blob(i, (i as u64) << 16)).collect();
        let reversed: Vec<_> = blobs.iter().rev().cloned().collect();
        assert_eq!(plan_content(blobs), plan_content(reversed));
    }

    #[test]
    fn each_distinct_blob_is_planned_once_with_its_largest_size() {
        let plan = plan_content([blob(1, 10), blob(1, 20), blob(2, 5 << 20), blob(2, 5 << 20)]);
        assert_eq!(plan.groups, vec![vec![blob(1, 20)]]);
        assert_eq!(plan.large, vec![blob(2, 5 << 20)]);
    }

    #[test]
    fn groups_stay_within_their_limit() {
        let plan =
            plan_content((0..3000).map(|i| blob(i, 100_000)).chain((3000..20_000).map(|i| blob(i, 0))));
        for group in &plan.groups {
            assert!(group.iter().map(|b| b.declared + 1024).sum::<u64>() <= GROUP_LIMIT + SMALL_LIMIT);
        }
        assert!(plan.groups.len() > 30);
    }
}
