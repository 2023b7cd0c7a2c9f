//! Logs in memory, for fuzzing: bytes by chance fit no checksum.

use xxhash_rust::xxh3::xxh3_64;

use super::super::change::{Change, Writes, pack};
use super::super::record::bytes;
use super::rescue::rescue;
use super::{CAPACITY, FRAME_HEAD, Found, HEAD, MAGIC, check, read_bytes};
use crate::compress::compress;

/// What keys became.
pub type Written = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The bytes of a log that is being made.
pub struct Log {
    pub bytes: Vec<u8>,
    seed: u64,
    /// Where the next frame goes.
    pub end: usize,
    last: Vec<u8>,
    writes: Writes,
}

impl Log {
    pub fn new(seed: u64) -> Log {
        let mut bytes = vec![0; CAPACITY];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&seed.to_le_bytes());
        let check = xxh3_64(&bytes[..16]).to_le_bytes();
        bytes[16..HEAD].copy_from_slice(&check);
        Log { bytes, seed, end: HEAD, last: Vec::new(), writes: Writes::new() }
    }

    /// Adds a frame with these bytes in the place of its changes, if there is room.
    pub fn frame(&mut self, generation: u64, number: u64, is_packed: bool, changes: &[u8]) {
        let mut rest = bytes(&(generation, number, is_packed));
        rest.extend(changes);
        let length = (rest.len() as u32).to_le_bytes();
        let frame = [&check(&rest, self.seed).to_le_bytes()[..], &length, &rest].concat();
        if let Some(place) = self.bytes.get_mut(self.end..self.end + frame.len()) {
            place.copy_from_slice(&frame);
            self.end += frame.len();
        }
    }

    /// Adds a frame that writes as the store does, if there is room.
    pub fn write(&mut self, generation: u64, number: u64, written: &Written) {
        let (mut writes, mut changes) = (self.writes.clone(), Vec::new());
        for (key, value) in written {
            changes.push(Change::of(&writes, key, value.as_deref()));
            writes.insert(key.clone(), value.clone());
        }
        let plain = pack(&changes, &self.last);
        let packed = compress(&plain);
        let before = self.end;
        self.frame(generation, number, packed.is_some(), &packed.unwrap_or(plain));
        if self.end > before {
            self.writes = writes;
            if let Some((key, _)) = written.last() {
                self.last.clone_from(key);
            }
        }
    }

    /// What has become of the keys that were written.
    pub fn written(&self) -> Written {
        self.writes.clone().into_iter().collect()
    }
}

/// How many frames of a generation a log has, and what they make of their keys; none when it was just being made. At least so many
/// must be there, if any. An error says what is wrong with it.
pub fn read(
    bytes: &[u8],
    generation: u64,
    expected: Option<u64>,
) -> Result<Option<(u64, Written)>, &'static str> {
    let found = read_bytes(Some(bytes), generation, expected)?;
    Ok(found.map(|Found { frames, .. }| (frames.count, frames.writes.into_iter().collect())))
}

/// What can be saved of a log that is damaged, and what can't.
pub fn save(bytes: Vec<u8>, generation: u64) -> (Written, Vec<String>) {
    let (writes, lost) = rescue(bytes, generation);
    (writes.into_iter().collect(), lost)
}

/// Bytes of a frame before its numbers.
pub const BEFORE: usize = FRAME_HEAD;
