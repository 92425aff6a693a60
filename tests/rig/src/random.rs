//! Names, passwords and keys that no other run has.

use std::fs::File;
use std::io::Read;

/// Bytes from the kernel.
///
/// # Panics
/// Where the machine has no `/dev/urandom`; the rig is for Linux.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .expect("/dev/urandom is readable");
    bytes
}

/// 2·N hexadecimal digits.
pub(crate) fn hex<const N: usize>() -> String {
    bytes::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}
