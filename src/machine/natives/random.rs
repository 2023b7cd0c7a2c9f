//! Natives that arrange by a number that was drawn. The same number gives the same order in every
//! version, since histories hold the number alone.

use super::super::value::Value;
use super::super::work;
use super::{Native, int, lists};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        // The first `count` elements of a list in an order drawn from a seed.
        "list_shuffled" => |args| {
            let mut numbers = Numbers(int(&args[1])?.cast_unsigned());
            let count = lists::elements("sample", &args[2])?;
            let mut items = lists::take(&mut args[0])?;
            let count = count.min(items.len());
            work::done(count.saturating_mul(16));
            for at in 0..count {
                let other = at + numbers.below((items.len() - at) as u64) as usize;
                items.swap(at, other);
            }
            items.truncate(count);
            Ok(Value::list(items))
        },
        _ => return None,
    })
}

/// A sequence of numbers from a seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `count`, which is at least 1. All are as likely (Lemire, 2019).
    fn below(&mut self, count: u64) -> u64 {
        loop {
            let product = u128::from(self.next()) * u128::from(count);
            if product as u64 >= count.wrapping_neg() % count {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    /// Histories depend on these numbers.
    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut numbers = Numbers(1);
        assert_eq!([numbers.next(), numbers.next()], [0x910a_2dec_8902_5cc1, 0xbeeb_8da1_658e_ec67]);
        let mut numbers = Numbers(0);
        let mut counts = [0; 3];
        for _ in 0..30_000 {
            counts[numbers.below(3) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
