//! The tar headers that a bundle is made of (POSIX.1-2001 ustar and PAX), written deterministically and read
//! strictly. Entries are never unpacked.

use crate::archive::ScanError;

/// A tar record: headers and content are padded to it.
pub(crate) const RECORD: u64 = 512;

/// The largest size that the octal field of a ustar header holds: 8 GiB − 1.
const LARGEST_OCTAL: u64 = 0o77_777_777_777;

/// The bytes that follow content of `size` bytes up to the next record.
pub(crate) fn padding(size: u64) -> usize {
    // Less than a record, so it fits.
    (size.next_multiple_of(RECORD) - size) as usize
}

/// The header of a regular file: one record, or three where name or size need PAX.
pub(crate) fn file_header(name: &str, size: u64) -> Vec<u8> {
    let mut records = String::new();
    if name.len() > 100 {
        pax_record(&mut records, "path", name);
    }
    if size > LARGEST_OCTAL {
        pax_record(&mut records, "size", &size.to_string());
    }
    if records.is_empty() {
        return ustar(name, size, b'0').to_vec();
    }
    // Fixed length, so that where a segment's content begins follows from its name and size alone.
    let mut bytes = ustar("PaxHeaders/entry", records.len() as u64, b'x').to_vec();
    bytes.extend_from_slice(records.as_bytes());
    bytes.resize(2 * RECORD as usize, 0);
    let short: String = name.chars().take(100).collect();
    bytes.extend_from_slice(&ustar(&short, size.min(LARGEST_OCTAL), b'0'));
    bytes
}

/// A PAX record is `LENGTH KEY=VALUE\n`, and the length counts itself.
fn pax_record(records: &mut String, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.push_str(&format!("{length} {key}={value}\n"));
}

fn ustar(name: &str, size: u64, kind: u8) -> [u8; RECORD as usize] {
    let mut header = [0u8; RECORD as usize];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum = checksum(&header);
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The sum of a header's bytes, its own field taken as spaces.
fn checksum(header: &[u8]) -> u64 {
    header.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) }).sum()
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawHeader {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) kind: u8,
}

/// Reads one header record; `None` is a record of zeros, which ends an archive.
pub(crate) fn read_header(record: &[u8]) -> Result<Option<RawHeader>, ScanError> {
    if record.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    if octal(&record[148..156]) != Some(checksum(record)) {
        return Err(ScanError::NotATar);
    }
    let text = |from: usize, to: usize| {
        let field = &record[from..to];
        let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
        std::str::from_utf8(&field[..end]).map_err(|_| ScanError::NotATar)
    };
    let (name, prefix) = (text(0, 100)?, if &record[257..262] == b"ustar" { text(345, 500)? } else { "" });
    let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    Ok(Some(RawHeader {
        name,
        size: number(&record[124..136]).ok_or(ScanError::NotATar)?,
        kind: record[156],
    }))
}

/// A number in octal, or in base 256 where the first bit is set (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 == 0 {
        return octal(field);
    }
    let (high, low) = field.split_at(field.len() - 8);
    let high_is_zero = high[0] == 0x80 && high[1..].iter().all(|b| *b == 0);
    high_is_zero.then(|| low.iter().fold(0, |value, b| value << 8 | u64::from(*b)))
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// The `path` and `size` records of a PAX header; others say nothing that matters here.
pub(crate) fn read_pax(mut records: &[u8]) -> Result<(Option<String>, Option<u64>), ScanError> {
    let (mut path, mut size) = (None, None);
    while !records.is_empty() {
        let space = records.iter().position(|b| *b == b' ').ok_or(ScanError::NotATar)?;
        let length: usize = std::str::from_utf8(&records[..space])
            .ok()
            .and_then(|t| t.parse().ok())
            .ok_or(ScanError::NotATar)?;
        let record = records.get(space + 1..length).ok_or(ScanError::NotATar)?;
        let record = record.strip_suffix(b"\n").ok_or(ScanError::NotATar)?;
        let record = std::str::from_utf8(record).map_err(|_| ScanError::NotATar)?;
        match record.split_once('=').ok_or(ScanError::NotATar)? {
            ("path", value) => path = Some(value.to_owned()),
            ("size", value) => size = Some(value.parse().map_err(|_| ScanError::NotATar)?),
            _ => {}
        }
        records = &records[length..];
    }
    Ok((path, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let record = file_header("blobs/sha256/abc", 1234);
        let header = read_header(&record).unwrap().unwrap();
        assert_eq!(header, RawHeader { name: "blobs/sha256/abc".into(), size: 1234, kind: b'0' });
    }

    #[test]
    fn what_does_not_fit_ustar_stands_in_a_pax_header() {
        let name = format!("blobs/sha512/{}", "a".repeat(128));
        let bytes = file_header(&name, 9 << 30);
        assert_eq!(bytes.len(), 3 * 512);
        let extended = read_header(&bytes[..512]).unwrap().unwrap();
        let records = &bytes[512..512 + extended.size as usize];
        assert_eq!(extended.kind, b'x');
        assert_eq!(read_pax(records).unwrap(), (Some(name), Some(9 << 30)));
    }

    #[test]
    fn a_damaged_header_is_not_a_tar() {
        let mut record = file_header("a", 1);
        record[0] ^= 1;
        assert!(read_header(&record).is_err());
        assert_eq!(read_header(&[0; 512]).unwrap(), None);
        for pax in [&b"5 a"[..], b"999 path=x\n", b"x path=y\n", b"9 size=-\n", b"8 path=x"] {
            assert!(read_pax(pax).is_err(), "{}", String::from_utf8_lossy(pax));
        }
    }

    #[test]
    fn gnu_sizes_in_base_256_are_read() {
        let mut field = [0u8; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&(10u64 << 30).to_be_bytes());
        assert_eq!(number(&field), Some(10 << 30));
    }
}
