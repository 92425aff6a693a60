//! Blocks, ranges, names, metadata, listings.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::{Span, Timestamp};
use transship_model::BlobName;
use transship_storage::{
    BlobPage, Block, BlockId, Condition, Container, CopySource, ETag, Metadata, StorageError,
};

use crate::adapters::Fixture;

pub(crate) fn name(text: &str) -> BlobName {
    text.parse().expect("a name in a test")
}

pub(crate) fn id(number: u32) -> BlockId {
    BlockId::new(number.to_be_bytes())
}

/// Bytes in which every position tells itself apart from its neighbours.
pub(crate) fn pattern(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

pub(crate) async fn stage(
    container: &dyn Container,
    blob: &BlobName,
    number: u32,
    bytes: &'static str,
) -> Result<()> {
    Ok(container.stage(blob, &id(number), Bytes::from_static(bytes.as_bytes())).await?)
}

/// Stages and commits a blob that is not there yet.
pub(crate) async fn write(container: &dyn Container, blob: &BlobName, bytes: &'static str) -> Result<ETag> {
    stage(container, blob, 1, bytes).await?;
    Ok(container.commit(blob, &[id(1)], &Metadata::new(), &Condition::Absent).await?)
}

pub(crate) async fn content(container: &dyn Container, blob: &BlobName) -> Result<Bytes> {
    let properties = container.properties(blob).await?.expect("the blob is there");
    Ok(container.read(blob, 0..properties.length, Some(&properties.etag)).await?)
}

/// The names of a page, with their lengths.
pub(crate) fn lengths(page: BlobPage) -> Vec<(BlobName, u64)> {
    page.blobs.into_iter().map(|blob| (blob.name, blob.length)).collect()
}

fn block(number: u32, length: u64) -> Block {
    Block { id: id(number), length }
}

/// In the order of their identifiers: services list staged blocks in none.
fn sorted(mut blocks: Vec<Block>) -> Vec<Block> {
    blocks.sort_by(|a, b| a.id.cmp(&b.id));
    blocks
}

pub(crate) async fn blocks_are_committed_in_the_order_of_the_list(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("dir/b"));
    for (number, bytes) in [(3, "three"), (1, "one"), (2, "two")] {
        stage(container, &blob, number, bytes).await?;
    }
    container.commit(&blob, &[id(2), id(3), id(1)], &Metadata::new(), &Condition::Absent).await?;
    assert_eq!(content(container, &blob).await?, "twothreeone");
    let listed = container.committed_blocks(&blob).await?;
    assert_eq!(listed, [block(2, 3), block(3, 5), block(1, 3)]);
    assert_eq!(container.staged_blocks(&blob).await?, []);
    Ok(())
}

pub(crate) async fn staging_an_identifier_again_replaces_the_block(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    for bytes in ["a longer first", "second", "second"] {
        stage(container, &blob, 1, bytes).await?;
    }
    assert_eq!(container.staged_blocks(&blob).await?, [block(1, 6)]);
    container.commit(&blob, &[id(1)], &Metadata::new(), &Condition::Absent).await?;
    assert_eq!(content(container, &blob).await?, "second");
    Ok(())
}

pub(crate) async fn a_blob_of_staged_blocks_alone_is_not_there(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("dir/b"));
    stage(container, &blob, 1, "one").await?;
    stage(container, &blob, 2, "two!").await?;
    assert_eq!(container.properties(&blob).await?, None);
    assert_eq!(container.committed_blocks(&blob).await?, []);
    assert_eq!(container.list("", None).await?.blobs, []);
    assert_eq!(sorted(container.staged_blocks(&blob).await?), [block(1, 3), block(2, 4)]);
    let read = container.read(&blob, 0..1, None).await;
    // Azurite answers to a read of such a blob that the range is wrong.
    ensure!(
        matches!(read, Err(StorageError::BlobNotFound { .. } | StorageError::RangeNotSatisfiable { .. })),
        "{read:?}"
    );
    assert_eq!(container.staged_blocks(&name("dir/other")).await?, []);
    Ok(())
}

pub(crate) async fn a_commit_drops_the_staged_blocks_that_it_does_not_name(fixture: &Fixture) -> Result<()> {
    let (container, blob, other) = (&*fixture.container, name("b"), name("other"));
    for number in 1..=3 {
        stage(container, &blob, number, "x").await?;
        stage(container, &other, number, "x").await?;
    }
    container.commit(&blob, &[id(2)], &Metadata::new(), &Condition::Absent).await?;
    assert_eq!(container.staged_blocks(&blob).await?, []);
    assert_eq!(container.staged_blocks(&other).await?.len(), 3, "another blob's blocks are its own");
    Ok(())
}

pub(crate) async fn committed_blocks_may_be_committed_again_among_new_ones(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    for (number, bytes) in [(1, "one"), (2, "two"), (3, "three")] {
        stage(container, &blob, number, bytes).await?;
    }
    let etag = container.commit(&blob, &[id(1), id(2), id(3)], &Metadata::new(), &Condition::Absent).await?;
    stage(container, &blob, 4, "four").await?;
    // Staged again: the newer one counts.
    stage(container, &blob, 3, "3").await?;
    let list = [id(3), id(4), id(1)];
    container.commit(&blob, &list, &Metadata::new(), &Condition::Matches(etag)).await?;
    assert_eq!(content(container, &blob).await?, "3fourone");
    assert_eq!(container.committed_blocks(&blob).await?, [block(3, 1), block(4, 4), block(1, 3)]);
    Ok(())
}

pub(crate) async fn a_block_that_is_not_there_makes_the_list_invalid(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    stage(container, &blob, 1, "one").await?;
    let list = [id(1), id(9)];
    let refused = container.commit(&blob, &list, &Metadata::new(), &Condition::Absent).await;
    ensure!(matches!(refused, Err(StorageError::InvalidBlockList { .. })), "{refused:?}");
    assert_eq!(container.properties(&blob).await?, None);
    Ok(())
}

pub(crate) async fn identifiers_of_two_lengths_are_refused(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    stage(container, &blob, 1, "one").await?;
    let refused = container.stage(&blob, &BlockId::new([1, 2, 3]), Bytes::from_static(b"two")).await;
    ensure!(matches!(refused, Err(StorageError::InvalidBlockList { .. })), "{refused:?}");
    container.stage(&name("other"), &BlockId::new([1, 2, 3]), Bytes::from_static(b"two")).await?;
    Ok(())
}

pub(crate) async fn staged_blocks_change_nothing_before_the_commit(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    let etag = write(container, &blob, "old").await?;
    stage(container, &blob, 2, "new").await?;
    stage(container, &blob, 1, "NEW").await?;
    assert_eq!(container.properties(&blob).await?.expect("the blob is there").etag, etag);
    assert_eq!(content(container, &blob).await?, "old");
    assert_eq!(container.committed_blocks(&blob).await?, [block(1, 3)]);
    Ok(())
}

pub(crate) async fn a_range_is_read_exactly_or_not_at_all(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    stage(container, &blob, 1, "01234").await?;
    stage(container, &blob, 2, "56789").await?;
    container.commit(&blob, &[id(1), id(2)], &Metadata::new(), &Condition::Absent).await?;
    for (range, expected) in [(0..10, "0123456789"), (3..7, "3456"), (9..10, "9"), (0..1, "0"), (4..4, "")] {
        assert_eq!(container.read(&blob, range, None).await?, expected);
    }
    assert_eq!(container.read(&blob, 99..99, None).await?, "", "no byte is nowhere");
    #[expect(clippy::reversed_empty_ranges, reason = "what a caller must not get away with")]
    for range in [0..11, 5..11, 10..11, 20..30, 7..3] {
        let refused = container.read(&blob, range.clone(), None).await;
        ensure!(matches!(refused, Err(StorageError::RangeNotSatisfiable { .. })), "{range:?}: {refused:?}");
    }
    Ok(())
}

pub(crate) async fn metadata_comes_back_with_lower_case_keys(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    let of = |pairs: &[(&str, &str)]| -> Metadata {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let first = of(&[("Category", "acr-transfer-blob"), ("generation", "7"), ("x_1", "a b=c;\"d\"")]);
    let etag = container.commit(&blob, &[], &first, &Condition::Absent).await?;
    let properties = container.properties(&blob).await?.expect("the blob is there");
    let expected = of(&[("category", "acr-transfer-blob"), ("generation", "7"), ("x_1", "a b=c;\"d\"")]);
    assert_eq!((properties.metadata, &properties.etag), (expected, &etag));
    container.commit(&blob, &[], &of(&[("other", "1")]), &Condition::Matches(etag)).await?;
    let properties = container.properties(&blob).await?.expect("the blob is there");
    assert_eq!(properties.metadata, of(&[("other", "1")]), "a commit replaces all of it");
    Ok(())
}

pub(crate) async fn a_blob_without_blocks_has_no_bytes(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    let etag = container.commit(&blob, &[], &Metadata::new(), &Condition::Absent).await?;
    let properties = container.properties(&blob).await?.expect("the blob is there");
    assert_eq!((properties.length, &properties.etag), (0, &etag));
    assert_eq!(container.read(&blob, 0..0, Some(&etag)).await?, "");
    assert_eq!(container.committed_blocks(&blob).await?, []);
    assert_eq!(lengths(container.list("", None).await?), [(blob.clone(), 0)]);
    let refused = container.read(&blob, 0..1, None).await;
    ensure!(matches!(refused, Err(StorageError::RangeNotSatisfiable { .. })), "{refused:?}");
    Ok(())
}

pub(crate) async fn a_listing_holds_committed_blobs_with_the_prefix(fixture: &Fixture) -> Result<()> {
    let container = &*fixture.container;
    let names = ["a/1", "a/2", "a/b/c", "a-1", "B", "weird ü%20 +&?#=.tar", "x<&>'\"y"];
    for text in names {
        write(container, &name(text), "12345").await?;
        assert_eq!(content(container, &name(text)).await?, "12345", "{text}");
    }
    let listed = |page: BlobPage| {
        assert_eq!(page.next, None);
        assert!(page.blobs.iter().all(|blob| blob.length == 5));
        page.blobs.into_iter().map(|blob| blob.name.to_string()).collect::<Vec<_>>()
    };
    let all = listed(container.list("", None).await?);
    assert_eq!(all.iter().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(names));
    for (prefix, expected) in [
        ("a/", vec!["a/1", "a/2", "a/b/c"]),
        ("a/b", vec!["a/b/c"]),
        ("weird ü%20 +&", vec!["weird ü%20 +&?#=.tar"]),
        ("nothing", vec![]),
    ] {
        assert_eq!(listed(container.list(prefix, None).await?), expected, "{prefix}");
    }
    Ok(())
}

pub(crate) async fn a_listing_and_the_blob_say_the_same_version_and_time(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("dir/b"));
    let before = Timestamp::now();
    write(container, &blob, "12345").await?;
    let properties = container.properties(&blob).await?.expect("the blob is there");
    let page = container.list("dir/", None).await?;
    let [listed] = page.blobs.as_slice() else { anyhow::bail!("{page:?}") };
    assert_eq!(listed.etag.as_ref(), Some(&properties.etag));
    assert_eq!(listed.modified, properties.modified);
    let modified = listed.modified.expect("a time");
    // Services say whole seconds.
    let (earliest, latest) = (before - Span::new().seconds(2), Timestamp::now() + Span::new().seconds(2));
    ensure!((earliest..latest).contains(&modified), "{modified}");
    assert!(!listed.copying && !properties.copying);
    Ok(())
}

pub(crate) async fn a_listing_comes_in_pages_of_5000(fixture: &Fixture) -> Result<()> {
    let container = &*fixture.container;
    let names = (0..5_003).map(|number| format!("p/{number:05}"));
    if let Some(folder) = &fixture.folder {
        std::fs::create_dir(folder.join("p"))?;
        for name in names {
            std::fs::write(folder.join(name), "")?;
        }
    } else {
        stream::iter(names)
            .map(|text| async move {
                container.commit(&name(&text), &[], &Metadata::new(), &Condition::Absent).await
            })
            .buffer_unordered(32)
            .try_for_each(|_| async { Ok(()) })
            .await?;
    }
    let first = container.list("p/", None).await?;
    assert_eq!(first.blobs.len(), 5_000);
    assert!(first.blobs.is_sorted_by_key(|blob| &blob.name));
    let marker = first.next.expect("a second page");
    let second = container.list("p/", Some(&marker)).await?;
    let names: Vec<_> = second.blobs.iter().map(|blob| blob.name.as_str()).collect();
    assert_eq!(names, ["p/05000", "p/05001", "p/05002"]);
    assert_eq!(second.next, None);
    Ok(())
}

pub(crate) async fn a_blob_that_is_not_there_is_named(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("dir/missing"));
    assert_eq!(container.properties(&blob).await?, None);
    assert_eq!(container.committed_blocks(&blob).await?, []);
    assert_eq!(container.staged_blocks(&blob).await?, []);
    let error = container.read(&blob, 0..1, None).await.expect_err("there is nothing to read");
    ensure!(matches!(&error, StorageError::BlobNotFound { blob: named, .. } if *named == blob), "{error}");
    container.delete(&blob, &ETag("\"0x1\"".into())).await?;
    Ok(())
}

pub(crate) async fn a_container_that_is_not_there_is_named(fixture: &Fixture) -> Result<()> {
    let (container, blob, etag) = (&*fixture.missing, name("b"), ETag("\"0x1\"".into()));
    let bytes = Bytes::from_static(b"x");
    let source = CopySource {
        url: transship_model::Secret::new("https://a.example/c/b?sig=x"),
        range: 0..1,
        etag: etag.clone(),
    };
    let results: [Result<(), StorageError>; 8] = [
        container.properties(&blob).await.map(drop),
        container.read(&blob, 0..1, None).await.map(drop),
        container.committed_blocks(&blob).await.map(drop),
        container.staged_blocks(&blob).await.map(drop),
        container.list("", None).await.map(drop),
        container.stage(&blob, &id(1), bytes).await,
        container.commit(&blob, &[], &Metadata::new(), &Condition::Absent).await.map(drop),
        container.delete(&blob, &etag).await,
    ];
    for (number, result) in results.into_iter().enumerate() {
        ensure!(
            matches!(&result, Err(StorageError::ContainerNotFound { container: named }) if named == container.url()),
            "{number}: {result:?}"
        );
    }
    assert!(container.stage_from(&blob, &id(1), &source).await.is_err());
    Ok(())
}

pub(crate) async fn identifiers_are_bytes_of_any_value(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    // In Base64 these have `+`, `/` and padding, in paths they would have separators.
    let raw = [
        vec![0; 56],
        vec![0xff; 56],
        (0..56).map(|byte: u8| byte.wrapping_mul(5)).collect::<Vec<u8>>(),
        vec![b'/'; 56],
    ];
    let ids: Vec<_> = raw.into_iter().map(BlockId::new).collect();
    for (number, id) in ids.iter().enumerate() {
        container.stage(&blob, id, Bytes::from(number.to_string())).await?;
    }
    let staged: BTreeSet<_> =
        container.staged_blocks(&blob).await?.into_iter().map(|block| block.id).collect();
    assert_eq!(staged, ids.iter().cloned().collect());
    container.commit(&blob, &ids, &Metadata::new(), &Condition::Absent).await?;
    assert_eq!(content(container, &blob).await?, "0123");
    let committed: Vec<_> =
        container.committed_blocks(&blob).await?.into_iter().map(|block| block.id).collect();
    assert_eq!(committed, ids);
    Ok(())
}

pub(crate) async fn blocks_of_8_mib_arrive_whole(fixture: &Fixture) -> Result<()> {
    const BLOCK: usize = 8 << 20;
    let (container, blob) = (&*fixture.container, name("b"));
    let blocks = [pattern(1, BLOCK), pattern(2, BLOCK), pattern(3, 12_345)];
    for (number, bytes) in blocks.iter().enumerate() {
        container.stage(&blob, &id(number as u32), bytes.clone()).await?;
    }
    let etag = container.commit(&blob, &[id(0), id(1), id(2)], &Metadata::new(), &Condition::Absent).await?;
    for (number, bytes) in blocks.iter().enumerate() {
        let start = (number * BLOCK) as u64;
        let read = container.read(&blob, start..start + bytes.len() as u64, Some(&etag)).await?;
        ensure!(read == *bytes, "block {number} differs");
    }
    let across = container.read(&blob, BLOCK as u64 - 5..BLOCK as u64 + 5, Some(&etag)).await?;
    assert_eq!(across, [&blocks[0][BLOCK - 5..], &blocks[1][..5]].concat());
    Ok(())
}

pub(crate) async fn three_hundred_blocks_keep_their_order(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    for number in (0..300).rev() {
        container.stage(&blob, &id(number), Bytes::from(format!("{number:04}"))).await?;
    }
    let ids: Vec<_> = (0..300).map(id).collect();
    container.commit(&blob, &ids, &Metadata::new(), &Condition::Absent).await?;
    let expected: String = (0..300).map(|number| format!("{number:04}")).collect();
    assert_eq!(content(container, &blob).await?, expected);
    let listed: Vec<_> = container.committed_blocks(&blob).await?.into_iter().map(|block| block.id).collect();
    assert_eq!(listed, ids);
    Ok(())
}

pub(crate) async fn blocks_are_staged_in_parallel(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    let length = 64 << 10;
    stream::iter(0..64_u32)
        .map(|number| {
            let (blob, id) = (&blob, id(number));
            async move { container.stage(blob, &id, pattern(number.into(), length)).await }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await?;
    let ids: Vec<_> = (0..64).map(id).collect();
    container.commit(&blob, &ids, &Metadata::new(), &Condition::Absent).await?;
    let expected: Vec<u8> = (0..64).flat_map(|number| pattern(number, length)).collect();
    ensure!(content(container, &blob).await? == expected, "the content differs");
    Ok(())
}

pub(crate) async fn what_no_service_takes_is_refused(fixture: &Fixture) -> Result<()> {
    let (container, blob) = (&*fixture.container, name("b"));
    let byte = || Bytes::from_static(b"x");
    let bad = Metadata::from([("a-b".to_owned(), "x".to_owned())]);
    for (number, result) in [
        container.stage(&blob, &id(1), Bytes::new()).await,
        container.stage(&blob, &BlockId::new([0; 65]), byte()).await,
        container.stage(&blob, &BlockId::new([]), byte()).await,
        container
            .commit(&blob, &[BlockId::new([0; 65])], &Metadata::new(), &Condition::Absent)
            .await
            .map(drop),
        container.commit(&blob, &[], &bad, &Condition::Absent).await.map(drop),
    ]
    .into_iter()
    .enumerate()
    {
        ensure!(matches!(result, Err(StorageError::Refused { .. })), "{number}: {result:?}");
    }
    assert_eq!(container.staged_blocks(&blob).await?, []);
    Ok(())
}
