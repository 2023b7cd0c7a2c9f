//! Durations from text.

use crate::syntax::spec::UNITS;

/// The digits after the point that are read. More are no nanoseconds, even of days.
const MOST_DECIMALS: usize = 18;

/// Reads a duration: numbers with units, the largest first, such as `90s`, `1h30m`, `1h 30m`,
/// `1.5h` and `-2d`. A part of a nanosecond is refused.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut total: i128 = 0;
    let mut last = i128::MAX;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = if unit == "µs" { "us" } else { unit };
        let scale = i128::from(UNITS.iter().find(|(name, _)| *name == unit)?.1);
        if scale >= last {
            return None;
        }
        last = scale;
        total = total.checked_add(scaled(number, scale)?)?;
        rest = after.trim_start_matches(' ');
        if rest.is_empty() {
            return i64::try_from(sign * total).ok();
        }
    }
}

/// Returns a number of units in nanoseconds, if it is a whole number of them.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > MOST_DECIMALS {
        return None;
    }
    let below = 10_i128.pow(part.len() as u32);
    let nanos = part.parse::<i128>().ok()?.checked_mul(scale)?;
    if nanos % below != 0 {
        return None;
    }
    whole.parse::<i128>().ok()?.checked_mul(scale)?.checked_add(nanos / below)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_with_units_add_up() {
        for (text, nanos) in [
            ("90s", 90_000_000_000),
            ("1h30m", 5_400_000_000_000),
            (" 1h 30m ", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("-2d", -172_800_000_000_000),
            ("16.446452ms", 16_446_452),
            ("1us", 1_000),
            ("1µs 5ns", 1_005),
            ("0s", 0),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "5",
            "s",
            "5x",
            "1m1h",
            "1h1h",
            "1.s",
            ".5s",
            "1..5s",
            "1.5.5s",
            "0.1ns",
            "- 5s",
            "+5s",
            "5 s",
            "1h,30m",
            "9223372036854775808ns",
            "99999999999999999999999999999999999999999999d",
            "1e3s",
            "--5s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
