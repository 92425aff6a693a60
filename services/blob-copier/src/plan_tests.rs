#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges are meant, never the numbers in one")]

use super::*;

const ANY: u64 = u64::MAX;

fn container() -> ContainerUrl {
    "https://a.example/c".parse().unwrap()
}

fn name() -> BlobName {
    "nightly".parse().unwrap()
}

/// An identifier as the exporter makes them.
fn id(number: u8) -> BlockId {
    BlockId::new(BlockIdentity { owner: [number; 19], index: 0, before: [7; 32] }.to_bytes())
}

fn blocks(list: &[(u8, u64)]) -> Vec<Block> {
    list.iter().map(|(number, length)| Block { id: id(*number), length: *length }).collect()
}

fn plan_of(
    etag: &str,
    length: u64,
    listed: &[Block],
    present: &[Block],
    largest: u64,
) -> Result<CopyPlan, PlanError> {
    let (container, blob, etag) = (container(), name(), ETag(etag.to_owned()));
    plan_copy(
        &SourceVersion { container: &container, blob: &blob, etag: &etag, length },
        listed,
        present,
        largest,
    )
}

fn ranges(plan: &CopyPlan) -> Vec<Range<u64>> {
    plan.missing.iter().map(|block| block.range.clone()).collect()
}

#[test]
fn a_listed_block_of_the_same_length_does_not_move() {
    let listed = blocks(&[(1, 10), (2, 20), (3, 5)]);
    for (present, moving, bytes) in [
        (vec![], vec![0..10, 10..30, 30..35], 0),
        (blocks(&[(2, 20)]), vec![0..10, 30..35], 20),
        (blocks(&[(2, 19)]), vec![0..10, 10..30, 30..35], 0),
        // The later one counts: what is staged takes the place of what was committed.
        (blocks(&[(2, 20), (2, 19)]), vec![0..10, 10..30, 30..35], 0),
        (blocks(&[(2, 19), (2, 20)]), vec![0..10, 30..35], 20),
        (blocks(&[(3, 5), (1, 10), (2, 20), (9, 1)]), vec![], 35),
    ] {
        let plan = plan_of("e", 35, &listed, &present, ANY).unwrap();
        assert_eq!(ranges(&plan), moving, "{present:?}");
        assert_eq!(plan.present_bytes, bytes, "{present:?}");
        assert_eq!(plan.order, [id(1), id(2), id(3)], "the order is the source's");
    }
}

#[test]
fn a_block_that_stands_in_the_list_twice_moves_once_and_is_committed_twice() {
    let plan = plan_of("e", 30, &blocks(&[(1, 10), (2, 10), (1, 10)]), &[], ANY).unwrap();
    assert_eq!(plan.order, [id(1), id(2), id(1)]);
    assert_eq!(ranges(&plan), [0..10, 10..20]);
    assert_eq!(plan.present_bytes, 10);
}

#[test]
fn a_list_that_does_not_add_up_is_of_another_version() {
    for length in [29, 31, 0] {
        let error = plan_of("e", length, &blocks(&[(1, 10), (2, 20)]), &[], ANY).unwrap_err();
        assert_eq!(error, PlanError::Uneven { listed: 30, length });
    }
    let huge = plan_of("e", 5, &blocks(&[(1, u64::MAX), (2, u64::MAX)]), &[], ANY).unwrap_err();
    assert_eq!(huge, PlanError::Uneven { listed: u64::MAX, length: 5 });
}

#[test]
fn a_blob_without_blocks_is_cut_into_ranges_of_eight_mebibytes() {
    for (length, expected) in [
        (0, vec![]),
        (1, vec![0..1]),
        (8 * MIB, vec![0..8 * MIB]),
        (20 * MIB, vec![0..8 * MIB, 8 * MIB..16 * MIB, 16 * MIB..20 * MIB]),
    ] {
        let plan = plan_of("e", length, &[], &[], ANY).unwrap();
        assert_eq!(ranges(&plan), expected, "{length}");
        assert_eq!(plan.order.len(), expected.len());
        assert!(plan.order.iter().all(|id| id.as_bytes().len() == transship_bundle::BLOCK_ID_BYTES));
    }
}

#[test]
fn own_identifiers_are_those_of_one_version_alone() {
    let first = plan_of("e1", 20 * MIB, &[], &[], ANY).unwrap();
    let staged: Vec<_> =
        first.missing.iter().map(|block| Block { id: block.id.clone(), length: block.length() }).collect();
    assert!(plan_of("e1", 20 * MIB, &[], &staged, ANY).unwrap().missing.is_empty(), "a repetition resumes");
    for (etag, length, largest) in
        [("e2", 20 * MIB, ANY), ("e1", 20 * MIB - 1, ANY), ("e1", 20 * MIB, 4 * MIB)]
    {
        let other = plan_of(etag, length, &[], &staged, largest).unwrap();
        assert_eq!(other.present_bytes, 0, "{etag} {length} {largest}");
    }
}

#[test]
fn identifiers_from_elsewhere_are_not_trusted_to_say_what_is_in_a_block() {
    let foreign = |id: &[u8]| Block { id: BlockId::new(id), length: 10 };
    for listed in [
        vec![foreign(b"000001"), foreign(b"000002")],
        vec![foreign(&[9; 56]), foreign(&[8; 56])],
        [foreign(b"000001")].into_iter().chain(blocks(&[(1, 10)])).collect(),
    ] {
        let plan = plan_of("e", 20, &listed, &listed, ANY).unwrap();
        assert_eq!(ranges(&plan), [0..20], "{listed:?}");
    }
}

#[test]
fn a_blob_with_a_block_that_does_not_fit_into_memory_is_cut_anew() {
    let listed = blocks(&[(1, 100 * MIB), (2, MIB)]);
    let kept = plan_of("e", 101 * MIB, &listed, &[], 100 * MIB).unwrap();
    assert_eq!(kept.order, [id(1), id(2)]);
    let cut = plan_of("e", 101 * MIB, &listed, &[], 64 * MIB).unwrap();
    assert_eq!(cut.order.len(), 13);
    assert!(cut.missing.iter().all(|block| block.length() <= 8 * MIB));
}

#[test]
fn ranges_grow_with_the_blob_and_never_beyond_what_fits() {
    const TIB: u64 = 1 << 40;
    for (length, largest, size) in [
        (300 << 30, 64 * MIB, 8 * MIB),
        (TIB, 64 * MIB, 21 * MIB),
        (3 * TIB, 64 * MIB, 63 * MIB),
        (MIB, MIB, MIB),
        (100, 100, 100),
        (16 * MIB, 4 * MIB, 4 * MIB),
    ] {
        let plan = plan_of("e", length, &[], &[], largest).unwrap();
        assert_eq!(plan.missing[0].length(), size, "{length} {largest}");
        assert!(plan.order.len() as u64 <= MOST_BLOCKS);
        assert_eq!(plan.missing.iter().map(PlannedBlock::length).sum::<u64>(), length);
    }
    let error = plan_of("e", 4 * TIB, &[], &[], 64 * MIB).unwrap_err();
    assert_eq!(error, PlanError::TooLarge { needed: 84 * MIB, largest: 64 * MIB });
}
