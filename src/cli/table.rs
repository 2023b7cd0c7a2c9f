//! Tables for people.

/// Returns rows under headings. Each column is as wide as its widest cell, and the last one is not
/// padded.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut out = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count().min(*width)));
        }
        format!("{}\n", out.trim_end())
    };
    let mut out = line(headings.to_vec());
    for row in rows {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}

/// Returns a time for people: RFC 3339 with milliseconds.
pub fn time(nanos: i64) -> String {
    let millis = nanos.div_euclid(1_000_000);
    crate::machine::format::instant(millis.saturating_mul(1_000_000))
}

/// Returns an elapsed time for people.
pub fn took(nanos: i64) -> String {
    match nanos {
        n if n < 1_000_000 => format!("{}us", n / 1_000),
        n if n < 1_000_000_000 => format!("{:.1}ms", n as f64 / 1e6),
        n if n < 60_000_000_000 => format!("{:.2}s", n as f64 / 1e9),
        n => crate::machine::format::duration(n / 1_000_000_000 * 1_000_000_000),
    }
}

/// The reason why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoDuration {
    Unreadable,
    TooLong,
    Negative,
}

impl NoDuration {
    /// Returns the title of the problem, and its hint.
    pub fn told(self, text: &str) -> (String, &'static str) {
        match self {
            NoDuration::Unreadable => (format!("`{text}` is not a duration"), "write 30s, 5m, 2h or 7d"),
            NoDuration::TooLong => (
                format!("`{text}` is too long for a duration"),
                "the longest duration is 292 years, or 106751d",
            ),
            NoDuration::Negative => (format!("`{text}` is before now"), "a duration here is not negative"),
        }
    }
}

/// Reads a duration such as `90s` or `1h30m`, in nanoseconds.
pub fn duration(text: &str) -> Result<i64, NoDuration> {
    if let Some(rest) = text.strip_prefix('-') {
        return Err(duration(rest).map_or_else(|why| why, |_| NoDuration::Negative));
    }
    let mut all = 0i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let nanos = unit_of(unit).filter(|_| digits > 0).ok_or(NoDuration::Unreadable)?;
        let part = number.parse::<i64>().ok().and_then(|number| number.checked_mul(nanos));
        all = part.and_then(|part| all.checked_add(part)).ok_or(NoDuration::TooLong)?;
        rest = after;
    }
    if text.is_empty() { Err(NoDuration::Unreadable) } else { Ok(all) }
}

fn unit_of(name: &str) -> Option<i64> {
    Some(match name {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "w" => 604_800_000_000_000,
        _ => return None,
    })
}

/// Reads a time in RFC 3339, or a duration before `now`; in nanoseconds since 1970.
pub fn instant(text: &str, now: i64) -> Option<i64> {
    if let Ok(ago) = duration(text) {
        return Some(now.saturating_sub(ago));
    }
    let instant: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(instant.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_or_say_why_not() {
        assert_eq!(duration("90s"), Ok(90_000_000_000));
        assert_eq!(duration("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(duration("0s"), Ok(0));
        assert_eq!(duration("106751d"), Ok(106_751 * 86_400_000_000_000));
        for text in ["400000d", "99999999999999999999s", "106751d24h"] {
            assert_eq!(duration(text), Err(NoDuration::TooLong), "{text}");
        }
        for text in ["", "5", "s", "-", "5 s", "5x", "é", "5s5"] {
            assert_eq!(duration(text), Err(NoDuration::Unreadable), "{text}");
        }
        assert_eq!(duration("-5s"), Err(NoDuration::Negative));
    }
}
