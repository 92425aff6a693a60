//! Small blobs that are bundles, or are not.

use bytes::Bytes;
use transship_bundle::{BILL_BYTES, Bill, TABLE_VERSION, Table, encode_head};
use transship_model::{Execution, Part};

/// A bundle of transship that holds nothing, and that no other one equals.
pub(crate) fn bundle(execution: &str) -> Bytes {
    let execution = Execution { id: execution.parse().expect("an identity"), generation: 1 };
    let mut table = Table {
        version: TABLE_VERSION,
        manifests_offset: 0,
        content_offset: 0,
        artifacts: Vec::new(),
        discovered: Vec::new(),
        manifests: Vec::new(),
        content: Vec::new(),
    };
    let (mut bytes, _) = encode_head(&mut table, &Bill::new(&execution, Part::ONLY, None), 0);
    assert!(bytes.len() > BILL_BYTES);
    bytes.resize(bytes.len() + 1024, 0);
    bytes.into()
}

/// An OCI archive that another tool could have written: `index.json` first, and no table.
pub(crate) fn archive() -> Bytes {
    let mut tar = Vec::new();
    entry(&mut tar, "index.json", br#"{"schemaVersion":2,"manifests":[]}"#);
    entry(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar.resize(tar.len() + 1024, 0);
    tar.into()
}

/// A tar that is something else.
pub(crate) fn other_tar() -> Bytes {
    let mut tar = Vec::new();
    entry(&mut tar, "etc/passwd", b"root");
    tar.resize(tar.len() + 1024, 0);
    tar.into()
}

/// One file of a tar (POSIX ustar).
fn entry(tar: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
