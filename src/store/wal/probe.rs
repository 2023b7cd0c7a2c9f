//! Logs in memory, for fuzzing: random bytes do not fit a checksum.

use xxhash_rust::xxh3::xxh3_64;

use super::super::change::{Change, Writes, pack};
use super::super::record::bytes;
use super::rescue::rescue;
use super::{CAPACITY, FRAME_HEAD, Found, HEAD, MAGIC, check, read_bytes};
use crate::compress::compress;

/// Keys with their new values, or `None` for removed keys.
pub type Written = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The bytes of a log under construction.
pub struct Log {
    pub bytes: Vec<u8>,
    seed: u64,
    /// The place of the next frame.
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

    /// Adds a frame with the given bytes as its changes, if there is room.
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

    /// Adds a frame with writes, encoded like the store's own frames, if there is room.
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

    /// Returns the writes of all frames so far.
    pub fn written(&self) -> Written {
        self.writes.clone().into_iter().collect()
    }
}

/// Returns the number of frames of a generation and the writes that they stand for, or `None` if
/// the log is unfinished. `expected` is the least number of frames, if there must be a log. An
/// error says what is wrong with the log.
pub fn read(
    bytes: &[u8],
    generation: u64,
    expected: Option<u64>,
) -> Result<Option<(u64, Written)>, &'static str> {
    let found = read_bytes(Some(bytes), generation, expected)?;
    Ok(found.map(|Found { frames, .. }| (frames.count, frames.writes.into_iter().collect())))
}

/// Returns the readable writes of a damaged log, and descriptions of the losses.
pub fn save(bytes: Vec<u8>, generation: u64) -> (Written, Vec<String>) {
    let (writes, lost) = rescue(bytes, generation).taken();
    (writes.into_iter().collect(), lost)
}

/// The number of bytes before a frame's numbers.
pub const BEFORE: usize = FRAME_HEAD;
