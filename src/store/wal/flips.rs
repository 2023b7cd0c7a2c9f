//! The search for the one flipped bit of a frame.
//!
//! Hashing a frame anew for each of its bits costs the square of its length. xxh3 keeps eight
//! numbers, *lanes*, and takes 64 bytes, a *stripe*, at a time. A word of a stripe is added to two
//! lanes. After each *block* of sixteen stripes every lane is scrambled by itself. So a flipped bit
//! changes two lanes, and only these are computed anew, from the sums of each block.

use xxhash_rust::const_xxh3::const_custom_default_secret;

use super::check;

const STRIPE: usize = 64;
const LANES: usize = 8;
const STRIPES_A_BLOCK: usize = 16;
pub(super) const BLOCK: usize = STRIPE * STRIPES_A_BLOCK;
/// The length up to which xxh3 has other rules.
const SHORT: usize = 240;

/// Places within the secret: of the scrambling, of the last stripe, and of the end.
const SCRAMBLE: usize = 192 - STRIPE;
const LAST_STRIPE: usize = 192 - STRIPE - 7;
const MERGE: usize = 11;

const PRIME32_1: u64 = 0x9E37_79B1;
const PRIME64_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_AVALANCHE: u64 = 0x1656_6791_9E37_79F9;
/// The lanes before the first stripe.
const BEGIN: [u64; LANES] = [
    0xC2B2_AE3D,
    PRIME64_1,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0x85EB_CA77_C2B2_AE63,
    0x85EB_CA77,
    0x27D4_EB2F_1656_67C5,
    PRIME32_1,
];

/// Returns the bit of `bytes` that must be flipped so that their checksum is `wanted`.
pub(super) fn flipped_bit(bytes: &[u8], seed: u64, wanted: u64) -> Option<usize> {
    if bytes.len() > SHORT {
        return Lanes::of(bytes, seed).flipped_bit(wanted);
    }
    let mut tried = bytes.to_vec();
    (0..bytes.len() * 8).find(|bit| {
        tried[bit / 8] ^= 1 << (bit % 8);
        let fits = check(&tried, seed) == wanted;
        tried[bit / 8] ^= 1 << (bit % 8);
        fits
    })
}

/// The state of the checksum of some bytes.
struct Lanes<'a> {
    bytes: &'a [u8],
    secret: [u8; 192],
    /// The lanes before each block.
    before: Vec<[u64; LANES]>,
    /// The sums that each block adds to the lanes. The last block may have fewer stripes.
    sums: Vec<[u64; LANES]>,
    /// The sums that the last 64 bytes add once more.
    last: [u64; LANES],
    /// The lanes at the end.
    end: [u64; LANES],
}

impl<'a> Lanes<'a> {
    fn of(bytes: &'a [u8], seed: u64) -> Lanes<'a> {
        let secret = const_custom_default_secret(seed);
        let mut lanes =
            Lanes { bytes, secret, before: vec![BEGIN], sums: Vec::new(), last: [0; LANES], end: BEGIN };
        let covered = (bytes.len() - 1) / STRIPE * STRIPE;
        for block in bytes[..covered].chunks(BLOCK) {
            let mut sums = [0; LANES];
            for (number, stripe) in block.chunks_exact(STRIPE).enumerate() {
                lanes.add(&mut sums, stripe, LANES * number);
            }
            lanes.sums.push(sums);
        }
        // A length that is a multiple of a block has a last block without stripes.
        let blocks = (bytes.len() - 1) / BLOCK;
        lanes.sums.resize(blocks + 1, [0; LANES]);
        for number in 0..blocks {
            let after = std::array::from_fn(|lane| {
                lanes.scrambled(lane, lanes.before[number][lane].wrapping_add(lanes.sums[number][lane]))
            });
            lanes.before.push(after);
        }
        let mut last = [0; LANES];
        lanes.add(&mut last, &bytes[bytes.len() - STRIPE..], LAST_STRIPE);
        lanes.last = last;
        lanes.end = std::array::from_fn(|lane| {
            lanes.before[blocks][lane].wrapping_add(lanes.sums[blocks][lane]).wrapping_add(last[lane])
        });
        lanes
    }

    fn flipped_bit(&self, wanted: u64) -> Option<usize> {
        // The parts of the checksum, by pairs of lanes.
        let folds: [u64; LANES / 2] = std::array::from_fn(|pair| self.fold(pair, &self.end));
        let base = folds
            .iter()
            .fold((self.bytes.len() as u64).wrapping_mul(PRIME64_1), |sum, fold| sum.wrapping_add(*fold));
        (0..self.bytes.len() * 8).find(|bit| {
            let end = self.end_with(*bit);
            let mut sum = base;
            for (pair, before) in folds.iter().enumerate() {
                let is_changed = end[2 * pair..][..2] != self.end[2 * pair..][..2];
                if is_changed {
                    sum = sum.wrapping_sub(*before).wrapping_add(self.fold(pair, &end));
                }
            }
            avalanche(sum) == wanted
        })
    }

    /// Returns the lanes at the end if a bit is flipped.
    fn end_with(&self, bit: usize) -> [u64; LANES] {
        let (place, length) = (bit / 8, self.bytes.len());
        let mut end = self.end;
        if place < (length - 1) / STRIPE * STRIPE {
            let (number, stripe) = (place / BLOCK, place % BLOCK / STRIPE);
            let word = place % STRIPE / 8;
            let begin = place / 8 * 8;
            for (lane, change) in self.change(begin, bit - begin * 8, word, LANES * stripe) {
                let sum = self.before[number][lane].wrapping_add(self.sums[number][lane]);
                let after = self.sums[number + 1..].iter();
                let at_end = after.fold(sum.wrapping_add(change), |sum, next| {
                    self.scrambled(lane, sum).wrapping_add(next[lane])
                });
                end[lane] = at_end.wrapping_add(self.last[lane]);
            }
        }
        if let Some(within) = place.checked_sub(length - STRIPE) {
            let (word, begin) = (within / 8, place - within % 8);
            for (lane, change) in self.change(begin, bit - begin * 8, word, LAST_STRIPE) {
                end[lane] = end[lane].wrapping_add(change);
            }
        }
        end
    }

    /// Adds a stripe to lanes, with the secret from a place on.
    fn add(&self, lanes: &mut [u64; LANES], stripe: &[u8], secret: usize) {
        for word in 0..LANES {
            let value = number(stripe, 8 * word);
            lanes[word ^ 1] = lanes[word ^ 1].wrapping_add(value);
            lanes[word] = lanes[word].wrapping_add(self.product(value, secret + 8 * word));
        }
    }

    /// Returns how the two lanes of a word change if one of its bits is flipped.
    fn change(&self, begin: usize, bit: usize, word: usize, secret: usize) -> [(usize, u64); 2] {
        let old = number(self.bytes, begin);
        let new = old ^ (1 << bit);
        let [before, after] = [old, new].map(|value| self.product(value, secret + 8 * word));
        [(word, after.wrapping_sub(before)), (word ^ 1, new.wrapping_sub(old))]
    }

    fn product(&self, value: u64, secret: usize) -> u64 {
        let keyed = value ^ number(&self.secret, secret);
        (keyed & 0xFFFF_FFFF).wrapping_mul(keyed >> 32)
    }

    fn scrambled(&self, lane: usize, sum: u64) -> u64 {
        (sum ^ (sum >> 47) ^ number(&self.secret, SCRAMBLE + 8 * lane)).wrapping_mul(PRIME32_1)
    }

    fn fold(&self, pair: usize, lanes: &[u64; LANES]) -> u64 {
        let keyed = |lane: usize| lanes[lane] ^ number(&self.secret, MERGE + 8 * lane);
        let product = u128::from(keyed(2 * pair)) * u128::from(keyed(2 * pair + 1));
        product as u64 ^ (product >> 64) as u64
    }
}

/// Returns the word at a place.
fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

fn avalanche(sum: u64) -> u64 {
    let mixed = (sum ^ (sum >> 37)).wrapping_mul(PRIME_AVALANCHE);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checksums of bytes with one flipped bit lead to that bit, at every length at which xxh3 has
    /// a rule of its own.
    #[test]
    fn the_flipped_bit_is_found() {
        let mut random = 1u64;
        let mut next = || {
            random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (random >> 33) as usize
        };
        let lengths = (0..400).step_by(7).chain(960..1100).chain([2047, 2048, 2049, 5000, 16_384, 70_001]);
        for length in lengths.filter(|length| *length > 0) {
            let bytes: Vec<u8> = (0..length).map(|_| next() as u8).collect();
            let seed = next() as u64 * (length as u64 % 2);
            for bit in [0, next() % (length * 8), length * 8 - 1 - next() % length.min(64 * 8)] {
                let mut right = bytes.clone();
                right[bit / 8] ^= 1 << (bit % 8);
                let found = flipped_bit(&bytes, seed, check(&right, seed));
                assert_eq!(found, Some(bit), "{length} bytes, seed {seed}");
            }
            assert_eq!(flipped_bit(&bytes, seed, check(&bytes, seed) ^ 1), None, "{length} bytes");
        }
    }
}
