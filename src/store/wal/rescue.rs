//! The rescue of writes from a damaged log.
//!
//! The work is bounded, whatever the bytes are: in a log made for it, a long frame could begin at
//! each byte. Honest logs do not come near the bounds.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use super::super::change::{Writes, replay_after_gap};
use super::flips::{self, BLOCK};
use super::{CAPACITY, FRAME_HEAD, Frame, HEAD, candidate, check, frame, seed};

/// The bytes that are hashed in search of whole frames.
const SEARCHED: usize = 1024 * CAPACITY;
/// The steps of mending frames: each bit of a full log can be tried.
const MENDED: usize = 8 * CAPACITY * (CAPACITY / BLOCK);
/// The bytes that are hashed in a step.
const STEP: usize = 64;

/// The part of a damaged log that was readable.
pub(super) struct Rescued {
    /// The writes of all frames that are whole, or that become whole when one bit is flipped.
    pub writes: Writes,
    /// Descriptions of the losses.
    pub lost: Vec<String>,
    /// The bytes that the work is worth, as if each step hashed [`STEP`] bytes.
    pub hashed: usize,
}

impl Rescued {
    /// Returns the writes and the descriptions of the losses.
    pub fn taken(self) -> (Writes, Vec<String>) {
        (self.writes, self.lost)
    }
}

/// A number of bytes or steps that may be spent.
struct Budget {
    left: usize,
    spent: usize,
}

impl Budget {
    fn new(left: usize) -> Budget {
        Budget { left, spent: 0 }
    }

    /// Spends a part of the budget, or returns `None` if that is more than is left.
    fn spend(&mut self, amount: usize) -> Option<()> {
        self.left = self.left.checked_sub(amount)?;
        self.spent += amount;
        Some(())
    }
}

/// Rescues the writes of a log whose database has at least `commits` commits.
pub(super) fn rescue(mut bytes: Vec<u8>, commits: u64) -> Rescued {
    let mut rescued = Rescued { writes: Writes::new(), lost: Vec::new(), hashed: 0 };
    if bytes.iter().all(|byte| *byte == 0) {
        return rescued;
    }
    bytes.resize(CAPACITY, 0);
    let Some(seed) = mended_seed(&mut bytes) else {
        rescued.lost.push("the beginning of the write-ahead log is not readable".into());
        return rescued;
    };
    let Rescued { writes, lost, hashed } = &mut rescued;
    let mut whole = whole_frames(&bytes, seed, commits, hashed, lost);
    // Frames of earlier generations may lie behind those of the last one.
    let generation = whole.values().map(|frame| frame.generation).max().unwrap_or(commits);
    whole.retain(|_, frame| frame.generation == generation);
    let mut budget = Budget::new(MENDED);
    let (mut at, mut number) = (HEAD, 0);
    let mut last = Some(Vec::new());
    // Before the first gap, every value counts as written as a whole.
    let mut fresh: Option<BTreeSet<Vec<u8>>> = None;
    while at < CAPACITY {
        let found = whole.remove(&at).or_else(|| mend(&mut bytes, at, seed, generation, &mut budget));
        let Some(found) = found.filter(|frame| frame.generation == generation) else {
            let Some((&next, _)) = whole.range(at + 1..).next() else { break };
            lost.push(format!("{} bytes at byte {at} of the write-ahead log are not readable", next - at));
            (at, last) = (next, None);
            fresh = Some(BTreeSet::new());
            continue;
        };
        if found.number < number {
            break;
        }
        (number, at) = (found.number + 1, found.rest.end);
        let replayed = found.changes(&bytes).and_then(|changes| match &mut fresh {
            Some(fresh) => replay_after_gap(writes, &mut last, fresh, &changes),
            None => super::replay(writes, last.get_or_insert_with(Vec::new), &changes),
        });
        if replayed.is_none() {
            lost.push(format!("frame {} of the write-ahead log does not fit those before it", found.number));
        }
    }
    *hashed += budget.spent * STEP;
    rescued
}

/// Returns the whole frames of generations from `least` on, by their places. Short ones are looked
/// for first.
fn whole_frames(
    bytes: &[u8],
    seed: u64,
    least: u64,
    hashed: &mut usize,
    lost: &mut Vec<String>,
) -> BTreeMap<usize, Frame> {
    let candidates = (HEAD..CAPACITY).filter_map(|at| candidate(bytes, at, least));
    let mut places: Vec<(usize, usize)> =
        candidates.map(|frame| (frame.rest.len(), frame.rest.start - FRAME_HEAD)).collect();
    places.sort_unstable();
    let mut budget = Budget::new(SEARCHED);
    let mut whole = BTreeMap::new();
    for (length, at) in places {
        if budget.spend(length).is_none() {
            lost.push(format!(
                "the write-ahead log has too many places that look like frames; those of {length} bytes \
                 and more were not looked for"
            ));
            break;
        }
        whole.extend(frame(bytes, at, seed, least).map(|frame| (at, frame)));
    }
    *hashed += budget.spent;
    whole
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

/// Flips the one bit that makes a frame fit its checksum, and returns the frame. Returns `None` if
/// there is no such bit, or if the search costs more than the budget has.
fn mend(bytes: &mut [u8], at: usize, seed: u64, generation: u64, budget: &mut Budget) -> Option<Frame> {
    let head = bytes.get(at..at + FRAME_HEAD)?;
    let known = u64::from_le_bytes(*head.first_chunk::<8>()?);
    let length = u32::from_le_bytes(*head.last_chunk::<4>()?);
    let rest = &bytes[at + FRAME_HEAD..];
    let mut differs = |length: u32| {
        let rest = rest.get(..length as usize).filter(|rest| !rest.is_empty())?;
        budget.spend(rest.len() / STEP + 1)?;
        Some(check(rest, seed) ^ known)
    };
    let difference = differs(length);
    if difference == Some(0) {
        // A whole frame, of an earlier generation.
        return None;
    }
    // The flipped bit may be in the checksum or in the length.
    if let Some(flipped) = difference.filter(|flipped| flipped.count_ones() == 1) {
        bytes[at..at + 8].copy_from_slice(&(known ^ flipped).to_le_bytes());
    } else if let Some(bit) = (0..32).find(|bit| length != 0 && differs(length ^ (1 << bit)) == Some(0)) {
        bytes[at + 8..at + FRAME_HEAD].copy_from_slice(&(length ^ (1 << bit)).to_le_bytes());
    } else {
        difference?;
        let rest = &rest[..length as usize];
        budget.spend(cost(rest.len()))?;
        let bit = flips::flipped_bit(rest, seed, known)?;
        bytes[at + FRAME_HEAD + bit / 8] ^= 1 << (bit % 8);
    }
    frame(bytes, at, seed, generation)
}

/// Returns the steps of trying each bit of some bytes: on average, half of the blocks follow a bit.
fn cost(length: usize) -> usize {
    8 * length * (length / (2 * BLOCK) + 2)
}

#[cfg(test)]
mod tests {
    use super::super::probe::Log;
    use super::*;

    /// The most that a rescue may cost, in hashed bytes.
    const MOST: usize = SEARCHED + MENDED * STEP;

    /// Returns a byte that looks random.
    fn random(at: usize) -> u8 {
        let mixed = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 56) as u8
    }

    /// A log that costs as much as possible: at each place, a long frame seems to begin.
    fn full_of_heads(period: &[u8]) -> Vec<u8> {
        let mut bytes = Log::new(7).bytes;
        for (at, byte) in bytes.iter_mut().enumerate().skip(HEAD) {
            // Random bits in between, so that no two frames are alike.
            *byte = period[at % period.len()] | if period.len() > 1 { random(at) & 1 } else { 0 };
        }
        bytes
    }

    #[test]
    fn a_log_full_of_heads_costs_no_more_than_the_budget() {
        for period in [&[0, 0, 1, 0][..], &[1, 1, 0, 0], &[0, 1, 0], &[1], &[0x20, 0x40, 0, 0]] {
            let rescued = rescue(full_of_heads(period), 0);
            assert!(rescued.hashed <= MOST, "{period:?}: {} bytes", rescued.hashed);
            assert_eq!(rescued.writes, Writes::new());
        }
    }

    /// Whole frames between heads of long frames that can't be mended: each gap is tried, until the
    /// budget is spent. The whole frames are saved.
    #[test]
    fn gaps_that_can_not_be_mended_cost_no_more_than_the_budget() {
        let mut log = Log::new(7);
        let mut count = 0;
        while log.end + 64 < CAPACITY {
            log.write(3, count, &vec![(count.to_be_bytes().to_vec(), Some(b"value".to_vec()))]);
            count += 1;
            // A head with a length that leads almost to the end of the log.
            let length = (CAPACITY - log.end - FRAME_HEAD) as u32;
            log.bytes[log.end..][..8].copy_from_slice(&count.to_le_bytes());
            log.bytes[log.end + 8..][..4].copy_from_slice(&length.to_le_bytes());
            log.bytes[log.end + 12..][..3].copy_from_slice(&[3, 1, 0]);
            log.end += 15;
        }
        let rescued = rescue(log.bytes, 3);
        assert!(rescued.hashed <= MOST, "{} bytes", rescued.hashed);
        assert!(count > 2000 && rescued.lost.len() as u64 >= count - 1, "{count} frames, {:?}", rescued.lost);
        // After a gap, a change to a key that shares bytes with the one before is not known.
        assert!(!rescued.writes.is_empty());
    }

    /// One flipped bit is mended in a frame of any length, and costs little more than the frame.
    #[test]
    fn a_flipped_bit_of_the_longest_frame_is_mended() {
        let mut log = Log::new(7);
        let value: Vec<u8> = (0..CAPACITY - 100).map(random).collect();
        log.write(0, 0, &vec![(b"key".to_vec(), Some(value.clone()))]);
        let frames = log.end - HEAD;
        assert!(frames > CAPACITY / 2, "the value is not compressed: {frames} bytes");
        for bit in [8 * HEAD + 3, 8 * (HEAD + 9), 8 * (HEAD + 400) + 7, 8 * log.end - 1] {
            let mut bytes = log.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let rescued = rescue(bytes, 0);
            assert_eq!(rescued.lost, Vec::<String>::new(), "bit {bit}");
            assert_eq!(rescued.writes.get(&b"key"[..]), Some(&Some(value.clone())), "bit {bit}");
            assert!(rescued.hashed <= MOST);
        }
    }
}
