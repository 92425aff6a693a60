//! **Owns** the bundle format: an OCI image layout in a POSIX tar that is laid out as the blocks of one blob;
//! its segments, its head, the identifiers of its blocks; planning, writing, reading and verifying it; and
//! reading OCI archives that other tools wrote.
//! **May know** tar, the OCI image layout and SHA-256 chaining values.
//! **Never knows** where the bytes live: it turns bytes into bytes, and says which bytes it needs.

mod archive;
mod bill;
mod blocks;
mod catalog;
mod chain;
mod head;
mod identity;
mod layout;
mod open;
mod resume;
mod segment;
mod table;
mod tar;

pub use archive::{ArchiveScan, ScanError, Step};
pub use bill::{BILL_BYTES, Bill, LeftOut};
pub use blocks::{
    BLOCK_ID_BYTES, BlockIdentity, MAX_BLOCKS, block_size, end_block, end_block_id, group_id, head_blocks,
};
pub use catalog::{Catalog, CatalogArtifact, CatalogError, Location};
pub use chain::{ChainValue, ChainedHash};
pub use head::{Head, HeadError, HeadParse, encode_head};
pub use identity::{Precedence, announce, announced_to, bundle_metadata, execution_of, part_of, precedence};
pub use layout::{ContentPlan, GROUP_LIMIT, PlannedBlob, SMALL_LIMIT, plan_content};
pub use open::{OpenError, Opened, open};
pub use resume::{Resume, resume_blob};
pub use segment::{BlobBlock, Segment};
pub use table::{
    Absence, Discovered, Discovery, StoredBlob, StoredManifest, TABLE_VERSION, Table, TableArtifact,
};
