//! The twin does what the real one does, and what only a twin can.

use transship_model::{Digest, Repository};
use transship_registry::{
    MemoryRegistry, Mount, Operation, RegistryError, ResumableTarget as _, Source as _, Target as _,
};

use crate::{Memory, contract, read};

#[tokio::test]
async fn the_twin_holds_the_contract() {
    contract::holds(&MemoryRegistry::new("twin.example"), "contract").await;
    contract::holds(&MemoryRegistry::new("twin.example").without_referrers_api(), "contract").await;
}

#[tokio::test]
async fn the_twin_counts_and_fails_when_told() {
    let twin = MemoryRegistry::new("twin.example");
    let repository: Repository = "a".parse().unwrap();
    let digest = Digest::sha256(b"blob");
    twin.inject(|operation, number| {
        let fails = operation == Operation::Upload && number == 1;
        fails.then(|| RegistryError::Protocol {
            host: "twin.example".to_owned(),
            reason: "injected".to_owned(),
        })
    });
    let content = Memory(b"blob"[..].into());
    assert!(twin.upload(&repository, &digest, &content).await.is_err());
    assert!(twin.blob_bytes(&repository, &digest).is_none(), "a fault comes before the effect");
    twin.upload(&repository, &digest, &content).await.unwrap();
    twin.heal();
    assert_eq!(read(twin.clone().blob(&repository, &digest, Some(1..3)).await.unwrap()).await, b"lo");
    assert_eq!(
        (twin.count(Operation::Upload), twin.count(Operation::Blob), twin.count(Operation::Tags)),
        (2, 1, 0)
    );
    assert_eq!((twin.bytes_uploaded(), twin.bytes_read()), (4, 2));
    let session = twin.begin_upload(&repository, &digest).await.unwrap();
    assert_eq!(twin.open_sessions(), 1);
    twin.cancel_upload(&session).await;
    assert_eq!(twin.open_sessions(), 0);

    let other: Repository = "b".parse().unwrap();
    let without = MemoryRegistry::new("twin.example").without_mounts();
    without.put_blob(&repository, "blob");
    assert_eq!(without.mount(&other, &digest, &repository).await.unwrap(), Mount::NotMounted);
    twin.remove(&repository, &digest);
    assert!(!twin.has_blob(&repository, &digest).await.unwrap());
    assert_eq!(twin.repositories(), [repository]);
}
