//! Writes OCI archives as other tools do: any order, `./` prefixes, directories.

use transship_bundle::Segment;

use super::bundle::BundleBuilder;

/// The header of an entry in the ustar format (POSIX.1-2001), with the name of another tool's choice.
fn header(name: &str, size: u64, kind: u8) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn file(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut entry = header(name, bytes.len() as u64, b'0');
    entry.extend_from_slice(bytes);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// An archive of what `bundle` holds, with this `index.json`.
pub(crate) fn encode(bundle: &BundleBuilder, index: &serde_json::Value) -> Vec<u8> {
    let mut entries =
        vec![header("./", 0, b'5'), header("./blobs/", 0, b'5'), header("./blobs/sha256/", 0, b'5')];
    for (digest, bytes) in &bundle.blobs {
        entries.push(file(&format!("./blobs/sha256/{}", digest.hex()), bytes));
    }
    for (item, bytes) in &bundle.manifests {
        entries.push(Segment::new(&item.digest, item.size).encode(bytes));
    }
    entries.push(file("./index.json", &serde_json::to_vec(index).unwrap()));
    entries.push(file("./oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#));
    entries.push(vec![0; 1024]);
    entries.concat()
}
