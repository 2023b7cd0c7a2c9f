//! Durations as text: exact in one unit, or in the units that people read.

use std::cell::Cell;

use crate::syntax::spec::UNITS;

thread_local! {
    static READABLE: Cell<bool> = const { Cell::new(true) };
}

/// The form of durations while a program runs. Programs whose stored library predates the readable
/// form keep the exact one, so that their histories replay unchanged.
pub struct Style {
    before: bool,
}

impl Style {
    /// Sets the form until the value is dropped.
    pub fn set(readable: bool) -> Style {
        Style { before: READABLE.replace(readable) }
    }
}

impl Drop for Style {
    fn drop(&mut self) {
        READABLE.set(self.before);
    }
}

/// Returns a duration for people: `1h 30m`, `16.446452ms`. Days, hours and minutes are whole. The
/// rest is in the largest unit that it reaches, with the decimals that it needs.
pub fn duration(nanos: i64) -> String {
    if !READABLE.get() {
        return exact(nanos);
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let mut left = nanos.unsigned_abs();
    if left == 0 {
        return "0s".into();
    }
    let mut parts = Vec::new();
    for (unit, scale) in UNITS.map(|(unit, scale)| (unit, scale.unsigned_abs())) {
        if left < scale {
            continue;
        }
        if matches!(unit, "d" | "h" | "m") {
            parts.push(format!("{}{unit}", left / scale));
            left %= scale;
        } else {
            parts.push(format!("{}{unit}", decimal(left.into(), scale.into(), None)));
            break;
        }
    }
    format!("{sign}{}", parts.join(" "))
}

/// Returns a duration in the largest unit that gives a whole number: `90s`, `1500ms`, `2h`.
pub fn exact(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let (unit, scale) = UNITS.iter().find(|(_, scale)| nanos % scale == 0).unwrap_or(&("ns", 1));
    format!("{}{unit}", nanos / scale)
}

/// Returns a duration in its two largest units, for people: `360d 1m`. Smaller units are dropped.
pub fn about(nanos: i64) -> String {
    let mut left = nanos;
    let mut parts = Vec::new();
    for (unit, size) in UNITS {
        if left >= size && parts.len() < 2 {
            parts.push(format!("{}{unit}", left / size));
            left %= size;
        }
    }
    if parts.is_empty() { duration(nanos) } else { parts.join(" ") }
}

/// Returns `nanos / scale` as a decimal, halves rounded up: with so many decimals, or with at most
/// nine and no zeros at the end.
pub fn decimal(nanos: u128, scale: u128, decimals: Option<usize>) -> String {
    let places = decimals.unwrap_or(9);
    let ten = 10_u128.pow(places as u32);
    let all = (nanos * ten + scale / 2) / scale;
    let (whole, part) = (all / ten, all % ten);
    let text = match places {
        0 => whole.to_string(),
        places => format!("{whole}.{part:0places$}"),
    };
    match decimals {
        Some(_) => text,
        None => text.trim_end_matches('0').trim_end_matches('.').to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable_and_exact() {
        let cases = [
            (0, "0s", "0s"),
            (16_446_452, "16.446452ms", "16446452ns"),
            (250_000_000, "250ms", "250ms"),
            (1_500_000_000, "1.5s", "1500ms"),
            (90_000_000_000, "1m 30s", "90s"),
            (5_400_000_000_000, "1h 30m", "90m"),
            (86_400_000_000_001, "1d 1ns", "86400000000001ns"),
            (-1_500_000, "-1.5ms", "-1500us"),
            (i64::MIN, "-106751d 23h 47m 16.854775808s", "-9223372036854775808ns"),
        ];
        for (nanos, readable, in_one_unit) in cases {
            assert_eq!((&*duration(nanos), &*exact(nanos)), (readable, in_one_unit));
        }
        let style = Style::set(false);
        assert_eq!(duration(1_500_000_000), "1500ms");
        drop(style);
        assert_eq!(duration(1_500_000_000), "1.5s");
    }
}
