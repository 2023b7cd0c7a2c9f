//! Compression by LZ4, of what may come from a damaged file.

use lz4_flex::block::{compress_prepend_size, uncompressed_size};

/// What is shorter than this is not worth it, in bytes.
const LONG: usize = 256;

/// As much as a compressed byte can stand for at most.
const MOST_A_BYTE: usize = 255;

/// The compressed form of bytes, when they are long and it is shorter.
pub fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    let packed = (bytes.len() >= LONG).then(|| compress_prepend_size(bytes))?;
    (packed.len() < bytes.len()).then_some(packed)
}

/// The bytes of a compressed form. None when it is no such form; it takes no memory that it doesn't stand for.
pub fn decompress(packed: &[u8]) -> Option<Vec<u8>> {
    let (size, rest) = uncompressed_size(packed).ok()?;
    let is_possible = size <= rest.len().saturating_mul(MOST_A_BYTE);
    is_possible.then(|| lz4_flex::block::decompress(rest, size).ok())?
}
