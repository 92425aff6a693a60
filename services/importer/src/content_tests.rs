use futures::StreamExt;
use transship_model::{Code, Part};
use transship_stage::ByteBudget;
use transship_storage::{BlockId, Condition, MemoryContainer, Operation, StorageError, WriteContainer};

use super::*;

const MIB: usize = 1 << 20;

/// A blob of `length` bytes somewhere in a bundle, read by ranges of 1 MiB.
struct Scene {
    container: MemoryContainer,
    bytes: Vec<u8>,
    bundle: Arc<ArrivedBundle>,
    budget: ByteBudget,
    progress: Arc<Progress>,
}

const OFFSET: usize = 1_000;

async fn scene(length: usize) -> Scene {
    let container = MemoryContainer::new("file:///c".parse().unwrap());
    let bytes: Vec<u8> = (0..length).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect();
    let blob = "b".parse().unwrap();
    let whole = [vec![9; OFFSET], bytes.clone(), vec![9; 77]].concat();
    let id = BlockId::new(vec![1]);
    container.stage(&blob, &id, whole.clone().into()).await.unwrap();
    let metadata = transship_bundle::bundle_metadata(
        &transship_model::Execution { id: "run".parse().unwrap(), generation: 1 },
        Part::ONLY,
        &Digest::sha256(b""),
    );
    let etag = container.commit(&blob, &[id], &metadata, &Condition::Absent).await.unwrap();
    let budget = ByteBudget::new(3 * MIB as u32);
    let shared = Arc::new(container.clone());
    let bundle = ArrivedBundle::new(shared, blob, etag, whole.len() as u64, budget.clone());
    Scene { container, bytes, bundle: Arc::new(bundle), budget, progress: Arc::default() }
}

impl Scene {
    fn content(&self, digest: Digest) -> BundleContent {
        let settings = ImportSettings { range_bytes: MIB as u64, ..ImportSettings::default() };
        let place = OFFSET as u64..(OFFSET + self.bytes.len()) as u64;
        BundleContent::new(Arc::clone(&self.bundle), digest, place, &settings, Arc::clone(&self.progress))
    }

    /// The bytes that stand in the progress as moved.
    fn moved(&self) -> u64 {
        self.progress.counters().bytes_moved
    }

    fn right(&self) -> BundleContent {
        self.content(Digest::sha256(&self.bytes))
    }
}

async fn read(content: &BundleContent, offset: u64) -> io::Result<Vec<u8>> {
    let mut stream = content.open(offset);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_blob_is_read_whole_and_from_any_offset() {
    for length in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 17] {
        let scene = scene(length).await;
        let content = scene.right();
        assert_eq!(content.length(), length as u64);
        for offset in [0, 1, length / 2, length.saturating_sub(1), length] {
            let offset = offset.min(length);
            assert_eq!(
                read(&content, offset as u64).await.unwrap(),
                scene.bytes[offset..],
                "{length} {offset}"
            );
        }
        assert_eq!(scene.moved(), length as u64, "however often it is read");
        content.uncount();
        assert_eq!(scene.moved(), 0);
        assert_eq!(content.failure(), None);
    }
}

#[tokio::test]
async fn the_last_piece_of_a_blob_with_other_bytes_is_never_handed_out() {
    for length in [1, MIB, 3 * MIB + 5] {
        let scene = scene(length).await;
        let wrong = Digest::sha256(b"something else");
        let content = scene.content(wrong.clone());
        let (mut stream, mut handed) = (content.open(0), 0);
        let error = loop {
            match stream.next().await.unwrap() {
                Ok(piece) => handed += piece.len(),
                Err(error) => break error,
            }
        };
        assert!(handed < length);
        let failure = content.failure().unwrap();
        assert_eq!(failure.code, Code::DigestMismatch);
        for digest in [wrong, Digest::sha256(&scene.bytes)] {
            assert!(
                error.to_string().contains(&digest.to_string())
                    && failure.message.contains(&digest.to_string())
            );
        }
    }
}

#[tokio::test]
async fn an_upload_that_goes_on_in_the_middle_does_not_begin_at_the_start() {
    let scene = scene(20 * MIB).await;
    let content = scene.right();
    let mut stream = content.open(0);
    for _ in 0..15 {
        stream.next().await.unwrap().unwrap();
    }
    drop(stream);
    let before = scene.container.calls(Operation::Read);
    assert_eq!(read(&content, 14 * MIB as u64).await.unwrap(), scene.bytes[14 * MIB..]);
    let reads = scene.container.calls(Operation::Read) - before;
    assert!((6..=7).contains(&reads), "{reads} ranges for the last six");
}

#[tokio::test]
async fn nothing_is_read_before_somebody_asks_and_everything_is_given_back() {
    let scene = scene(8 * MIB).await;
    let content = scene.right();
    let mut stream = content.open(0);
    tokio::task::yield_now().await;
    assert_eq!((scene.container.calls(Operation::Read), scene.budget.used()), (0, 0));
    let piece = stream.next().await.unwrap().unwrap();
    assert!(scene.budget.used() > 0);
    drop((stream, piece));
    let given_back = async {
        while scene.budget.used() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), given_back)
        .await
        .expect("the budget is given back");
}

#[tokio::test]
async fn what_the_container_says_is_what_the_content_failed_with() {
    let scene = scene(3 * MIB).await;
    let (container, expired_at) = ("file:///c".parse().unwrap(), "yesterday".to_owned());
    scene.container.fail_next(Operation::Read, StorageError::SasExpired { container, expired_at });
    let content = scene.right();
    assert!(read(&content, 0).await.is_err());
    assert_eq!(content.failure().unwrap().code, Code::SasExpired);
    assert_eq!(read(&content, 0).await.unwrap(), scene.bytes, "the next try reads from the start");
}

#[tokio::test]
async fn a_blob_goes_on_from_a_chaining_value_and_what_was_before_is_not_read_again() {
    let scene = scene(5 * MIB + 17).await;
    let first = scene.right();
    let at = 3 * MIB as u64;
    let mut stream = first.up_to(at).open(0);
    let mut before = Vec::new();
    while let Some(piece) = stream.next().await {
        before.extend_from_slice(&piece.unwrap());
    }
    assert!(before == scene.bytes[..3 * MIB], "exactly what is before the end");
    assert_eq!(scene.container.calls(Operation::Read), 3, "nothing behind it is read");
    assert_eq!(first.chain_at(at), None, "nobody said that the registry has it");
    first.pin(at);
    let chain = first.chain_at(at).unwrap();

    // In another process.
    let second = scene.right();
    first.uncount();
    assert!(second.resume(at, &chain));
    assert_eq!(scene.moved(), at);
    assert_eq!(second.chain_at(at), Some(chain));
    assert!(read(&second, at).await.unwrap() == scene.bytes[3 * MIB..]);
    assert_eq!((scene.container.calls(Operation::Read), scene.moved()), (6, scene.bytes.len() as u64));
}

#[tokio::test]
async fn a_blob_that_goes_on_from_a_wrong_chaining_value_is_never_handed_out_whole() {
    let scene = scene(2 * MIB).await;
    let content = scene.right();
    assert!(content.resume(MIB as u64, &[7; 32]));
    assert!(read(&content, MIB as u64).await.is_err());
    assert_eq!(content.failure().unwrap().code, Code::DigestMismatch);
    for nowhere in [63, 2 * MIB as u64, u64::MAX - 63] {
        assert!(!scene.right().resume(nowhere, &[7; 32]), "{nowhere}");
    }
}
