//! The rescue of writes from a damaged log.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

use super::super::change::{Writes, replay_after_gap};
use super::{CAPACITY, FRAME_HEAD, Frame, HEAD, check, frame, seed};

/// The size in bytes up to which frames are mended: each of their bits is tried.
const MOST_MENDED: usize = 64 << 10;

/// Returns the writes of all frames that are whole, or that become whole when one bit is flipped,
/// and descriptions of the losses. The database has at least `commits` commits.
pub(super) fn rescue(mut bytes: Vec<u8>, commits: u64) -> (Writes, Vec<String>) {
    let (mut writes, mut lost) = (Writes::new(), Vec::new());
    if bytes.iter().all(|byte| *byte == 0) {
        return (writes, lost);
    }
    bytes.resize(CAPACITY, 0);
    let Some(seed) = mended_seed(&mut bytes) else {
        return (writes, vec!["the beginning of the write-ahead log is not readable".into()]);
    };
    // Frames of earlier generations may lie behind those of the last one.
    let all = (HEAD..CAPACITY).filter_map(|at| frame(&bytes, at, seed, commits));
    let generation = all.map(|frame| frame.generation).max().unwrap_or(commits);
    let (mut at, mut number) = (HEAD, 0);
    let mut last = Some(Vec::new());
    // Before the first gap, every value counts as written as a whole.
    let mut fresh: Option<BTreeSet<Vec<u8>>> = None;
    while at < CAPACITY {
        let whole = |bytes: &[u8], at| -> Option<Frame> {
            frame(bytes, at, seed, generation).filter(|frame| frame.generation == generation)
        };
        let found = whole(&bytes, at).or_else(|| mend(&mut bytes, at, seed, generation));
        let Some(found) = found else {
            let next = (at + 1..CAPACITY).find(|at| whole(&bytes, *at).is_some());
            let Some(next) = next else { break };
            lost.push(format!("{} bytes at byte {at} of the write-ahead log are not readable", next - at));
            (at, last) = (next, None);
            fresh = Some(BTreeSet::new());
            continue;
        };
        if found.number < number {
            break;
        }
        (number, at) = (found.number + 1, found.end);
        let replayed = match &mut fresh {
            Some(fresh) => replay_after_gap(&mut writes, &mut last, fresh, &found.changes),
            None => {
                let key = last.get_or_insert_with(Vec::new);
                super::replay(&mut writes, key, &found.changes)
            }
        };
        if replayed.is_none() {
            lost.push(format!("frame {} of the write-ahead log does not fit those before it", found.number));
        }
    }
    (writes, lost)
}

/// Returns the seed of the checksums, and flips one bit of the head if need be.
fn mended_seed(bytes: &mut [u8]) -> Option<u64> {
    if let Some(seed) = seed(bytes) {
        return Some(seed);
    }
    for bit in 0..16 * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Some(seed) = seed(bytes) {
            return Some(seed);
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    // The flipped bit may be in the checksum.
    let (head, rest) = bytes.split_at(16);
    let known = u64::from_le_bytes(*rest.first_chunk::<8>()?);
    let is_near = (known ^ xxh3_64(head)).count_ones() == 1;
    is_near.then(|| head.last_chunk::<8>().map(|seed| u64::from_le_bytes(*seed)))?
}

/// Flips the one bit that makes a frame fit its checksum, and returns the frame.
fn mend(bytes: &mut [u8], at: usize, seed: u64, generation: u64) -> Option<Frame> {
    let head = bytes.get(at..at + FRAME_HEAD)?;
    let known = u64::from_le_bytes(*head.first_chunk::<8>()?);
    let length = u32::from_le_bytes(*head.last_chunk::<4>()?);
    let fits = |bytes: &[u8], length: u32| {
        bytes.get(at + FRAME_HEAD..)?.get(..length as usize).map(|rest| check(rest, seed) ^ known)
    };
    // The flipped bit may be in the checksum or in the length.
    if fits(bytes, length).is_some_and(|differs| differs.count_ones() == 1) {
        let right = known ^ fits(bytes, length)?;
        bytes[at..at + 8].copy_from_slice(&right.to_le_bytes());
    } else if let Some(bit) = (0..32).find(|bit| length != 0 && fits(bytes, length ^ (1 << bit)) == Some(0)) {
        bytes[at + 8..at + FRAME_HEAD].copy_from_slice(&(length ^ (1 << bit)).to_le_bytes());
    } else {
        let length = length as usize;
        if length == 0 || length > MOST_MENDED {
            return None;
        }
        let mut rest = bytes.get(at + FRAME_HEAD..)?.get(..length)?.to_vec();
        let turned = (0..length * 8).find(|bit| {
            rest[bit / 8] ^= 1 << (bit % 8);
            let fits = check(&rest, seed) == known;
            rest[bit / 8] ^= 1 << (bit % 8);
            fits
        })?;
        bytes[at + FRAME_HEAD + turned / 8] ^= 1 << (turned % 8);
    }
    frame(bytes, at, seed, generation)
}
