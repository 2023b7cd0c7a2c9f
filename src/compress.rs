//! Compression by LZ4, safe for bytes from a damaged file.

use lz4_flex::block::{compress_prepend_size, uncompressed_size};

/// The size in bytes from which compression is tried.
const LONG: usize = 256;

/// The largest number of bytes that one compressed byte can stand for.
const MOST_A_BYTE: usize = 255;

/// Returns the compressed form of bytes, or `None` if they are short or do not become shorter.
pub fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    let packed = (bytes.len() >= LONG).then(|| compress_prepend_size(bytes))?;
    (packed.len() < bytes.len()).then_some(packed)
}

/// Returns the bytes of a compressed form, or `None` if `packed` is not one. A false size in
/// `packed` makes it take no more memory than `packed` can stand for.
pub fn decompress(packed: &[u8]) -> Option<Vec<u8>> {
    let (size, rest) = uncompressed_size(packed).ok()?;
    let is_possible = size <= rest.len().saturating_mul(MOST_A_BYTE);
    is_possible.then(|| lz4_flex::block::decompress(rest, size).ok())?
}
